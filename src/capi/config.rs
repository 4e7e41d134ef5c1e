//! `tkt_config`: the configuration of a C program.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use once_cell::race::OnceBox;

use super::error::{Error, TKT_ERR_ARGUMENT, TKT_ERR_CONFIG, TKT_OK, guard};
use crate::config::{BadValue, Bind, Config, MAX_ROTATE_EVERY, Renew, Upkeep, values};
use crate::process;
use crate::ring::layout::{MAX_CAPACITY, MIN_CAPACITY};
use crate::schedule::MAX_LIFETIME;
use crate::tls::algorithms::LibraryContext;
use crate::warning;

/// Bind tickets to nothing but the key: keys are made plain.
pub const TKT_BIND_NONE: u32 = 1;
/// Bind tickets to the leaf certificate.
pub const TKT_BIND_CERT: u32 = 2;
/// Bind tickets to the client-verification policy.
pub const TKT_BIND_VERIFY: u32 = 4;
/// Bind tickets to the server name.
pub const TKT_BIND_SNI: u32 = 8;

/// Renew tickets in TLS 1.3, not in TLS 1.2: what clients need.
pub const TKT_RENEW_AUTO: u32 = 0;
/// Renew every ticket that is used.
pub const TKT_RENEW_ALWAYS: u32 = 1;
/// Renew no ticket.
pub const TKT_RENEW_NEVER: u32 = 2;

/// A thread rotates and erases when no handshake happens.
pub const TKT_UPKEEP_THREAD: u32 = 0;
/// No thread: the callback rotates, and tkt_upkeep() does.
pub const TKT_UPKEEP_CALLBACK: u32 = 1;

/// How the ticket keys of a context are kept. Initialise it with
/// `TKT_CONFIG_INIT`; a member that is 0 or NULL has its default.
///
/// Strings are copied by the call that takes the struct.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tkt_config {
    /// `sizeof(tkt_config)`, so that the struct can grow.
    pub size: usize,
    /// Name or absolute path of the ring. Default: the base name by which the
    /// program was started (that of a link, if it was started by one).
    pub ring: *const c_char,
    /// Directory of rings given by name; must be on tmpfs. Default: for root
    /// /run/tktrot (/dev/shm/tktrot where /run is not on tmpfs); for others the
    /// first that is theirs and on tmpfs of $RUNTIME_DIRECTORY and
    /// /run/user/UID (there in tktrot), else /dev/shm/tktrot-UID.
    pub dir: *const c_char,
    /// Label of the service: a ticket of another label does not open. At most
    /// 255 bytes. Default: empty.
    pub label: *const c_char,
    /// "stderr", "syslog", "none" or the absolute path of a file. The first
    /// installation of a process decides. Default: stderr.
    pub log: *const c_char,
    /// The most keys that may be in the ring, 8 to 16384; the last process that
    /// sets it decides, but while an agent governs the ring no other process
    /// lowers it. The ring takes memory as keys come. Default: 16384.
    pub capacity: u32,
    /// Seconds that a key encrypts, 1 to 86400, with `allow_long` 604800.
    /// Default: 3600. Of several contexts and processes with one ring, the
    /// shortest applies to all.
    pub rotate_every: u32,
    /// Seconds that a ticket lives, at most 7 days (more counts as that, and is
    /// logged as a problem).
    /// Default: the timeout of the SSL_CTX. The shortest applies to all, as for
    /// `rotate_every`.
    pub lifetime: u32,
    /// How many seconds before a switch of keys the key after the next is in
    /// the ring, at most half of `rotate_every`. Default: the longer of 5 s
    /// and a tenth of `rotate_every`.
    pub lead: u32,
    /// `TKT_BIND_*`, added up: what tickets are bound to. Default: all parts.
    pub bind: u32,
    /// `TKT_RENEW_*`.
    pub renew: u32,
    /// `TKT_UPKEEP_*`.
    pub upkeep: u32,
    /// Not 0: a problem that would otherwise be worked around and logged is an error.
    pub strict: i32,
    /// Not 0: `rotate_every` may be longer than 24 hours.
    pub allow_long: i32,
    /// The `OSSL_LIB_CTX` that the SSL_CTX was made in (SSL_CTX_new_ex(3)), from
    /// which ciphers, digests and random numbers come; it stays the caller's,
    /// and outlives the SSL_CTX. Default: the default one.
    pub libctx: *mut c_void,
    /// The property query that the SSL_CTX was made with, such as "fips=yes".
    /// Default: none.
    pub properties: *const c_char,
}

impl tkt_config {
    const fn zeroed() -> Self {
        tkt_config {
            size: size_of::<tkt_config>(),
            ring: std::ptr::null(),
            dir: std::ptr::null(),
            label: std::ptr::null(),
            log: std::ptr::null(),
            capacity: 0,
            rotate_every: 0,
            lifetime: 0,
            lead: 0,
            bind: 0,
            renew: 0,
            upkeep: 0,
            strict: 0,
            allow_long: 0,
            libctx: std::ptr::null_mut(),
            properties: std::ptr::null(),
        }
    }
}

/// Fills `cfg` from the `TKTROT_*` variables of the environment; those that
/// only the preload shim has (TKTROT_TAKEOVER, TKTROT_ONLY) are checked and
/// left out.
///
/// `cfg` is overwritten whole, also on error. Its strings belong to the
/// library and stay valid for ever. Call it before other threads change the
/// environment (getenv(3)).
///
/// In C it is a macro that passes the size of the struct to
/// tkt_config_from_env_sized(); the function is for programs that were compiled
/// with version 0.1, and fills what its struct had.
///
/// Returns `TKT_OK`; `TKT_ERR_ARGUMENT` if `cfg` is NULL; `TKT_ERR_CONFIG` if a
/// variable cannot be used: its member has the default then, and
/// tkt_last_error() names variable, value and what is accepted.
///
/// # Safety
///
/// `cfg` is NULL or points to room for a tkt_config of version 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_config_from_env(cfg: *mut tkt_config) -> c_int {
    // SAFETY: passed on from the caller.
    guard(|| unsafe { fill(cfg, SIZE_OF_0_1) })
}

/// As tkt_config_from_env(), for a struct of `size` bytes: what the caller's
/// header calls `sizeof(tkt_config)`.
///
/// Returns as tkt_config_from_env(); `TKT_ERR_ARGUMENT`, with nothing written,
/// also if `size` is less than in version 0.1 or no size of such a struct.
///
/// # Safety
///
/// `cfg` is NULL or points to room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_config_from_env_sized(cfg: *mut tkt_config, size: usize) -> c_int {
    // SAFETY: passed on from the caller.
    guard(|| unsafe { fill(cfg, size) })
}

/// `sizeof(tkt_config)` in version 0.1.
const SIZE_OF_0_1: usize = offset_of!(tkt_config, libctx);

/// # Safety
///
/// `cfg` is NULL or points to room for `size` bytes.
unsafe fn fill(cfg: *mut tkt_config, size: usize) -> Result<c_int, Error> {
    let text = match (cfg.is_null(), size) {
        (true, _) => "tkt_config_from_env: cfg is NULL".into(),
        (false, SIZE_OF_0_1..=4096) if size.is_multiple_of(align_of::<tkt_config>()) => {
            String::new()
        }
        _ => format!("tkt_config_from_env: {size} is not the size of a tkt_config"),
    };
    if !text.is_empty() {
        return Err(Error::new(TKT_ERR_ARGUMENT, text));
    }
    let (config, problems) = Config::from_env();
    let known = size.min(size_of::<tkt_config>());
    let fields = tkt_config { size: known, ..to_c(&config) };
    // SAFETY: not NULL, so the caller vouches for `size` bytes, of which
    // `fields` has `known`; all zeroes is what a member has that is not set.
    unsafe {
        cfg.cast::<u8>().write_bytes(0, size);
        std::ptr::copy_nonoverlapping((&raw const fields).cast::<u8>(), cfg.cast::<u8>(), known);
    }
    let problems = pass(problems, config.strict)?;
    problems.iter().for_each(|problem| warning!("{}", problem.worked_around()));
    Ok(TKT_OK)
}

/// The problems with which a program goes on: those for which there is a value that is near to what
/// was meant. A strict one goes on with none.
///
/// # Errors
///
/// There are others.
pub fn pass(problems: Vec<BadValue>, strict: bool) -> Result<Vec<BadValue>, Error> {
    let is_passed = |problem: &BadValue| problem.instead.is_some() && !strict;
    if problems.iter().all(is_passed) { Ok(problems) } else { Err(unusable(&problems)) }
}

/// One error for all the settings that cannot be used.
pub fn unusable(problems: &[BadValue]) -> Error {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Error::new(TKT_ERR_CONFIG, lines.join("; "))
}

/// The environment as it was at the first call: servers empty it later.
pub fn first_env() -> &'static (Config, Vec<BadValue>) {
    static FIRST: OnceBox<(Config, Vec<BadValue>)> = OnceBox::new();
    FIRST.get_or_init(|| Box::new(Config::from_env()))
}

/// The configuration that a C struct asks for, where the context is at home, and what else applies
/// than the struct says.
///
/// # Safety
///
/// `cfg` is valid for reads of `cfg->size` bytes, and its strings are NULL or
/// NUL-terminated.
pub unsafe fn from_c(
    cfg: *const tkt_config,
) -> Result<(Config, LibraryContext, Vec<BadValue>), Error> {
    let mut fields = tkt_config::zeroed();
    // SAFETY: the caller vouches for `size` bytes; no more than that and than
    // `fields` holds are copied, and those behind are only looked at.
    unsafe {
        let size = cfg.cast::<usize>().read();
        // A struct's size is a multiple of its alignment. One that is none would end inside a
        // member: half a pointer is nothing to follow.
        let is_one = size.is_multiple_of(align_of::<tkt_config>());
        if !is_one || !(size_of::<usize>()..=4096).contains(&size) {
            let text = format!("cfg.size={size} cannot be used: initialise with TKT_CONFIG_INIT");
            return Err(Error::new(TKT_ERR_CONFIG, text));
        }
        let known = size.min(size_of::<tkt_config>());
        std::ptr::copy_nonoverlapping(cfg.cast::<u8>(), (&raw mut fields).cast(), known);
        let beyond = std::slice::from_raw_parts(cfg.cast::<u8>().add(known), size - known);
        if beyond.iter().any(|byte| *byte != 0) {
            let text = format!(
                "cfg.size={size}: a member is set that this version of libtktrot does not know; \
                 install the version that the program was compiled for"
            );
            return Err(Error::new(TKT_ERR_CONFIG, text));
        }
    }
    let mut translation = Translation { config: Config::default(), problems: Vec::new() };
    // SAFETY: the caller vouches for the strings.
    unsafe { translation.read(&fields) };
    let contradictions = translation.config.reconcile(|field| format!("cfg.{field}"));
    translation.problems.extend(contradictions);
    let problems = pass(translation.problems, translation.config.strict)?;
    // SAFETY: the caller vouches for the string.
    let properties = unsafe { bytes_of(fields.properties) }.filter(|query| !query.is_empty());
    let properties = properties.and_then(|query| CString::new(query).ok());
    Ok((translation.config, LibraryContext { libctx: fields.libctx, properties }, problems))
}

struct Translation {
    config: Config,
    problems: Vec<BadValue>,
}

impl Translation {
    /// # Safety
    ///
    /// The strings are NULL or NUL-terminated.
    unsafe fn read(&mut self, fields: &tkt_config) {
        // SAFETY: the caller vouches for the strings.
        let strings = [fields.ring, fields.dir, fields.label, fields.log]
            .map(|text| unsafe { bytes_of(text) });
        let [ring, dir, label, log] = strings.map(|bytes| bytes.map(OsStr::from_bytes));
        self.config.ring = self.text("ring", ring, values::ring);
        self.config.dir = self.text("dir", dir, values::dir);
        self.config.log = self.text("log", log, values::log).unwrap_or_default();
        let label = self.text("label", label, |text| values::label(text.as_bytes()));
        self.config.label = label.unwrap_or_default().to_vec();

        let seconds = |limit: Duration| 1..=u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let capacities = MIN_CAPACITY..=MAX_CAPACITY;
        let within = |range: std::ops::RangeInclusive<u32>| move |value| range.contains(&value);
        let (longest, words) = match fields.allow_long {
            0 => (MAX_ROTATE_EVERY, "1 to 86400 seconds (more with allow_long)"),
            _ => (MAX_LIFETIME, "1 to 604800 seconds"),
        };
        let span = |value: Option<u32>| value.map(|value| Duration::from_secs(value.into()));
        self.config.capacity =
            self.number("capacity", fields.capacity, within(capacities), values::CAPACITY_RANGE);
        self.config.rotate_every =
            span(self.number("rotate_every", fields.rotate_every, within(seconds(longest)), words));
        let words = "1 to 604800 seconds";
        let lifetime =
            self.number("lifetime", fields.lifetime, within(seconds(MAX_LIFETIME)), words);
        self.config.lifetime = span(lifetime).or_else(|| {
            let is_set = fields.lifetime != 0;
            let problem = self.problems.last_mut().filter(|_| is_set)?;
            problem.instead = Some(MAX_LIFETIME);
            problem.instead
        });
        self.config.lead = span(self.number("lead", fields.lead, |_| true, ""));

        let parts = TKT_BIND_CERT | TKT_BIND_VERIFY | TKT_BIND_SNI;
        let bindable = |bits| bits == TKT_BIND_NONE || bits & !parts == 0;
        let words = "TKT_BIND_NONE alone, or some of TKT_BIND_CERT, _VERIFY and _SNI";
        self.config.bind = self.number("bind", fields.bind, bindable, words).map(|bits| Bind {
            cert: bits & TKT_BIND_CERT != 0,
            verify: bits & TKT_BIND_VERIFY != 0,
            sni: bits & TKT_BIND_SNI != 0,
        });
        let words = "TKT_RENEW_AUTO, _ALWAYS or _NEVER";
        self.config.renew = match self.number("renew", fields.renew, |value| value <= 2, words) {
            Some(TKT_RENEW_ALWAYS) => Renew::Always,
            Some(TKT_RENEW_NEVER) => Renew::Never,
            _ => Renew::Auto,
        };
        let words = "TKT_UPKEEP_THREAD or _CALLBACK";
        self.config.upkeep = match self.number("upkeep", fields.upkeep, |value| value <= 1, words) {
            Some(_) => Upkeep::Callback,
            None => Upkeep::Thread,
        };
        self.config.strict = fields.strict != 0;
        self.config.allow_long = fields.allow_long != 0;
    }

    fn text<'t, T>(
        &mut self,
        field: &str,
        value: Option<&'t OsStr>,
        accept: impl Fn(&'t OsStr) -> Result<T, &'static str>,
    ) -> Option<T> {
        let value = value.filter(|value| !value.is_empty())?;
        accept(value)
            .map_err(|accepted| {
                self.complain(field, value.to_string_lossy().into_owned(), accepted)
            })
            .ok()
    }

    fn number(
        &mut self,
        field: &str,
        value: u32,
        accept: impl Fn(u32) -> bool,
        accepted: &str,
    ) -> Option<u32> {
        if value != 0 && !accept(value) {
            self.complain(field, value.to_string(), accepted);
            return None;
        }
        (value != 0).then_some(value)
    }

    fn complain(&mut self, field: &str, value: String, accepted: &str) {
        let setting = format!("cfg.{field}");
        self.problems.push(BadValue { setting, value, accepted: accepted.into(), instead: None });
    }
}

/// # Safety
///
/// NULL or NUL-terminated.
unsafe fn bytes_of<'s>(text: *const c_char) -> Option<&'s [u8]> {
    // SAFETY: the caller vouches for it.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// The C struct for a configuration; its strings are kept for ever.
fn to_c(config: &Config) -> tkt_config {
    let seconds = |span: Option<Duration>| span.map_or(0, |span| span.as_secs() as u32);
    let log = match &config.log {
        crate::log::Destination::Stderr => None,
        crate::log::Destination::Syslog => Some(b"syslog".as_slice()),
        crate::log::Destination::Nothing => Some(b"none".as_slice()),
        crate::log::Destination::File(path) => Some(path.as_os_str().as_bytes()),
    };
    tkt_config {
        ring: keep(config.ring.as_ref().map(|name| name.as_bytes())),
        dir: keep(config.dir.as_ref().map(|dir| dir.as_os_str().as_bytes())),
        label: keep(Some(config.label.as_slice()).filter(|label| !label.is_empty())),
        log: keep(log),
        capacity: config.capacity.unwrap_or(0),
        rotate_every: seconds(config.rotate_every),
        lifetime: seconds(config.lifetime),
        lead: seconds(config.lead),
        bind: config.bind.map_or(0, |bind| match bind {
            Bind::NONE => TKT_BIND_NONE,
            Bind { cert, verify, sni } => {
                u32::from(cert) * TKT_BIND_CERT
                    + u32::from(verify) * TKT_BIND_VERIFY
                    + u32::from(sni) * TKT_BIND_SNI
            }
        }),
        renew: match config.renew {
            Renew::Auto => TKT_RENEW_AUTO,
            Renew::Always => TKT_RENEW_ALWAYS,
            Renew::Never => TKT_RENEW_NEVER,
        },
        upkeep: match config.upkeep {
            Upkeep::Thread => TKT_UPKEEP_THREAD,
            Upkeep::Callback => TKT_UPKEEP_CALLBACK,
        },
        strict: i32::from(config.strict),
        ..tkt_config::zeroed()
    }
}

/// Keeps a string for ever, once however often it is asked for.
fn keep(bytes: Option<&[u8]>) -> *const c_char {
    /// Locked only under [`process::exclusive`], which no fork interrupts.
    static KEPT: Mutex<Vec<CString>> = Mutex::new(Vec::new());
    let Some(text) = bytes.and_then(|bytes| CString::new(bytes).ok()) else {
        return std::ptr::null();
    };
    let _lock = process::exclusive();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.iter().find(|known| **known == text) {
        return known.as_ptr();
    }
    // Its bytes are on the heap, and stay there when the list grows.
    let address = text.as_ptr();
    kept.push(text);
    address
}
