//! `TKTROT_` variables, each a line `NAME=value`, and what a C program says instead.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use tktrot::capi::config::{from_c, tkt_config};
use tktrot::config::{Config, DEFAULT_LIFETIME, DEFAULT_ROTATE_EVERY, MAX_ROTATE_EVERY};
use tktrot::log::Destination;
use tktrot::ring::layout::{MAX_CAPACITY, MIN_CAPACITY};
use tktrot::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY, Policy};

/// The lines; behind a NUL, if there is one, what a `tkt_config` holds.
pub fn settings(bytes: &[u8]) -> bool {
    let (lines, fields) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    };
    let variables = variables(lines);
    let (config, problems) = Config::from_variables(variables.clone());
    assert_eq!(Config::from_variables(variables.clone()), (config.clone(), problems.clone()));
    for problem in &problems {
        let line = problem.to_string();
        assert!(line.contains("cannot be used; accepted: "), "{line}");
        assert!(!line.contains('\n') && line.len() < 4000 + problem.setting.len(), "{line}");
    }
    is_sound(&config, false);
    let from_c = fields.map(|fields| said_by_c(fields, &variables));
    problems.iter().all(|problem| problem.instead.is_some()) && from_c != Some(false)
}

fn variables(lines: &[u8]) -> Vec<(OsString, OsString)> {
    let variable = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((owned(&line[..at]), owned(&line[at + 1..])))
    };
    lines.split(|byte| *byte == b'\n').filter_map(variable).collect()
}

/// Whatever was set, this is something that a ring can be.
pub fn is_sound(config: &Config, may_be_long: bool) {
    let longest = if may_be_long { MAX_LIFETIME } else { MAX_ROTATE_EVERY };
    let rotate_every = config.rotate_every.unwrap_or(DEFAULT_ROTATE_EVERY);
    assert!((MIN_ROTATE_EVERY..=longest).contains(&rotate_every), "{rotate_every:?}");
    let lifetime = config.lifetime.unwrap_or(DEFAULT_LIFETIME);
    assert!(!lifetime.is_zero() && lifetime <= MAX_LIFETIME, "{lifetime:?}");
    assert!(config.lead.is_none_or(|lead| lead <= rotate_every / 2), "{:?}", config.lead);
    assert!(config.label.len() <= 255);
    let capacity = config.most_keys().0;
    assert!((MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity));
    assert!(config.capacity.is_none_or(|asked| asked == capacity));
    if let Some(lifetime) = config.lifetime {
        let kept = Policy::keys_kept(rotate_every, lifetime);
        assert!(kept < u64::from(capacity), "{kept} keys in a ring for {capacity}");
    }
    let place = config.place();
    assert!(place.dir.is_absolute(), "{}", place.dir.display());
    assert!(!place.file.is_empty() && !place.file.contains('/') && place.file != "..");
    if let Destination::File(path) = &config.log {
        assert!(path.is_absolute(), "{}", path.display());
    }
    assert!(config.only.iter().all(|name| !name.is_empty() && !name.as_bytes().contains(&b'/')));
    let _ = config.is_meant_for("nginx");
}

/// A struct with numbers out of `fields` and texts out of the variables. Whether it is taken.
fn said_by_c(fields: &[u8], variables: &[(OsString, OsString)]) -> bool {
    /// As many bytes as a struct of any version has.
    const LARGEST: usize = 4096;
    let text = |setting: &str| {
        let is_it = |(name, _): &&(OsString, OsString)| name == OsStr::new(setting);
        let (_, value) = variables.iter().find(is_it)?;
        Some(CString::new(value.as_bytes()).expect("the lines end before the first NUL"))
    };
    let texts = ["TKTROT_RING", "TKTROT_DIR", "TKTROT_LABEL", "TKTROT_LOG"].map(text);
    let [ring, dir, label, log] =
        texts.each_ref().map(|text| text.as_ref().map_or(ptr::null(), |text| text.as_ptr()));
    let number = |place: usize| {
        let bytes = fields.get(4 * place..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let config = tkt_config {
        size: size_of::<tkt_config>() + number(9) as usize % (2 * LARGEST),
        ring,
        dir,
        label,
        log,
        capacity: number(0),
        rotate_every: number(1),
        lifetime: number(2),
        lead: number(3),
        bind: number(4),
        renew: number(5),
        upkeep: number(6),
        strict: number(7) as i32,
        allow_long: number(8) as i32,
        libctx: std::ptr::null_mut(),
        properties: std::ptr::null(),
    };
    let mut room = [0_u64; LARGEST / 8];
    let beyond = number(9) % 8 == 7;
    if beyond {
        // A later version's setting.
        room[size_of::<tkt_config>() / 8] = number(9).into();
    }
    let room: *mut tkt_config = room.as_mut_ptr().cast();
    // SAFETY: the room is aligned and larger than the struct, whose size says more only if that is
    // refused before more is read; the texts live longer than the call.
    let taken = unsafe {
        room.write(config);
        from_c(room)
    };
    match taken {
        Ok((taken, _, _)) => {
            assert!(config.size <= LARGEST && !beyond, "a size that is none");
            is_sound(&taken, taken.allow_long);
            true
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            false
        }
    }
}
