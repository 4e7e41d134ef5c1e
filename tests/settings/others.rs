//! Settings of another server of the same ring: none of them weakens what is there.

use std::time::Duration;

use testbed::RingDir;
use testbed::client::TlsVersion;
use testbed::log;
use testbed::solo::Solo;
use tktrot::ring::file::Place;
use tktrot::ring::view::View;
use tktrot::terms::policy_of;

use crate::{Result, resumption, server};

fn look(ring: &RingDir) -> Result<View> {
    let dir = ring.path().to_owned();
    let place = Place { dir, file: "openssl.ring".into(), dir_mode: 0o700 };
    Ok(place.look().map_err(|refused| refused.to_string())?.ok_or("there is no ring")?)
}

/// R, L, and whether keys are plain.
fn terms(view: &View) -> (u64, u64, bool) {
    let policy = policy_of(&view.settings(), view.capacity());
    let plain = view.settings().plain;
    (policy.rotate_every.as_secs(), policy.lifetime.as_secs(), plain)
}

fn start(ring: &RingDir, variables: &[(&str, &str)]) -> Result<Solo> {
    let with =
        |builder: testbed::solo::Builder, (name, value): &(&str, &str)| builder.env(name, value);
    let solo = variables.iter().fold(server(ring)?, with).start()?;
    assert!(resumption(TlsVersion::V13, &solo)?.1.resumed);
    Ok(solo)
}

const STRICT: [(&str, &str); 2] = [("TKTROT_ROTATE", "12s"), ("TKTROT_LIFETIME", "60s")];

#[test]
fn no_setting_of_another_server_weakens_what_is_there() -> Result<()> {
    for (name, value, said) in [
        ("TKTROT_ROTATE", "24h", "keys rotate every 12s, not every 24h (TKTROT_ROTATE)"),
        ("TKTROT_LIFETIME", "7d", "keys are kept for 1m, not for 7d (TKTROT_LIFETIME)"),
        ("TKTROT_BIND", "none", "keys are not plain, and cannot be exported"),
    ] {
        let ring = RingDir::new()?;
        let first = start(&ring, &STRICT)?;
        let view = look(&ring)?;
        assert_eq!(terms(&view), (12, 60, false));
        let second = start(&ring, &[(name, value)])?;
        assert_eq!(terms(&view), (12, 60, false), "{name}={value}");
        assert!(view.keys().iter().all(|key| !key.plain), "{name}={value}");
        let longest = Duration::from_secs(12 + 60);
        let lives = view
            .keys()
            .into_iter()
            .map(|key| key.times.encrypt_from.until(key.times.decrypt_until));
        assert!(lives.max() <= Some(longest), "{name}={value}");
        assert!(resumption(TlsVersion::V13, &first)?.1.resumed);
        let stderr = second.stderr();
        let told = log::ours(&stderr).into_iter().filter(|line| line.contains(said)).count();
        assert_eq!(told, 1, "{stderr}");
        assert!(stderr.contains("(openssl), which "), "who is it? {stderr}");
        assert_eq!(log::ours(&first.stderr()), [""; 0]);
    }
    Ok(())
}

#[test]
fn a_server_alone_gets_what_its_settings_say_when_it_is_started_again() -> Result<()> {
    let ring = RingDir::new()?;
    drop(start(&ring, &STRICT)?);
    let longer = [("TKTROT_ROTATE", "12h"), ("TKTROT_LIFETIME", "1d"), ("TKTROT_BIND", "none")];
    let again = start(&ring, &longer)?;
    assert_eq!(terms(&look(&ring)?), (12 * 3600, 24 * 3600, true));
    assert!(!again.stderr().contains("TKTROT_R"), "{}", again.stderr());
    Ok(())
}
