//! Who belongs to a fleet: by a secret that can be replaced, or by a certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509NameBuilder};
use testbed::RingDir;
use tktrot_fleet::config::Credentials;

use crate::files::Files;

use super::super::tls::Tls;
use super::host::{Host, address, peer, run, timing, tls, until_all_up};
use super::log::Log;

/// What is in the files of the hosts, step by step: one host after the other goes on to the next.
#[test]
fn a_secret_is_replaced_host_by_host_without_a_gap() {
    run(async {
        let log = Log::new();
        let all = [31, 32, 33].map(address);
        let start = |number: u8, instance, secrets: &[u8]| {
            let peers = all.iter().copied().map(peer).collect();
            let address = all[usize::from(number) - 1];
            Host::start_as(number, instance, address, tls(secrets), peers, timing())
        };
        let mut hosts: Vec<_> = (1..=3).map(|number| start(number, 1, &[7])).collect();
        until_all_up(&mut hosts).await;
        let steps: [&[u8]; 3] = [&[7, 8], &[8, 7], &[8]];
        for (instance, secrets) in (2..).zip(steps) {
            for number in 1..=3 {
                let former = hosts.remove(0);
                former.mesh.stop().await;
                let mut restarted = start(number, instance, secrets);
                for other in &mut hosts {
                    other.until_down(number).await;
                    other.until_up(number).await;
                    restarted.until_up(other.node.0 as u8).await;
                }
                hosts.push(restarted);
            }
        }
        assert_eq!(log.lines("TLS handshake"), [""; 0], "no secret was ever missing");
    });
}

#[test]
fn who_prefers_a_secret_that_the_other_one_does_not_have_uses_the_next() {
    run(async {
        let (a, b) = (address(34), address(35));
        let mut hosts =
            [Host::start(1, a, tls(&[9, 8, 7]), &[b]), Host::start(2, b, tls(&[7]), &[])];
        until_all_up(&mut hosts).await;
    });
}

/// A CA for a test.
struct Ca {
    dir: RingDir,
    key: PKey<Private>,
    certificate: X509,
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(name: &str, key: &PKey<Private>, issuer: Option<&Ca>) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |ca| ca.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    if issuer.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    builder.sign(issuer.map_or(key, |ca| &ca.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

impl Ca {
    fn new() -> Ca {
        let key = new_key();
        let certificate = certificate("a fleet's CA", &key, None);
        let dir = RingDir::new().unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.to_pem().unwrap()).unwrap();
        Ca { dir, key, certificate }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate of this CA's, which trusts the nodes of that one.
    fn node_that_trusts(&self, name: &str, ca: &Path) -> Tls {
        let key = new_key();
        let certificate = certificate(name, &key, Some(self)).to_pem().unwrap();
        let (certificate_file, key_file) = (self.file(name), self.file(&format!("{name}.key")));
        fs::write(&certificate_file, certificate).unwrap();
        fs::write(&key_file, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let ca = ca.to_owned();
        let credentials =
            Credentials::Certificate { certificate: certificate_file, key: key_file, ca };
        Tls::read(&credentials, &Files::default()).unwrap()
    }

    fn node(&self, name: &str) -> Tls {
        self.node_that_trusts(name, &self.file("ca.pem"))
    }
}

#[test]
fn certificates_of_one_ca_know_each_other_and_nobody_else() {
    run(async {
        let log = Log::new();
        let (ca, other) = (Ca::new(), Ca::new());
        let all = [36, 37, 38, 39].map(address);
        let mut hosts = [
            Host::start(1, all[0], ca.node("one"), &all),
            Host::start(2, all[1], ca.node("two"), &all),
        ];
        until_all_up(&mut hosts).await;
        // One whom they do not trust, though it trusts them; and one who has a secret only.
        let foreign = other.node_that_trusts("foreign", &ca.file("ca.pem"));
        let mut foreign = Host::start(3, all[2], foreign, &all[..2]);
        let mut psk = Host::start(4, all[3], tls(&[7]), &all[..2]);
        for stranger in [&mut foreign, &mut psk] {
            stranger.until("the first round is over", |host| host.first_round_is_over).await;
            stranger.during(Duration::from_millis(500)).await;
            assert!(stranger.changes.is_empty(), "{:?}", stranger.changes);
        }
        for host in &mut hosts {
            host.during(Duration::from_millis(100)).await;
            assert_eq!(host.up.len(), 1);
        }
        assert!(!log.lines("does not accept the other's certificate").is_empty());
    });
}

#[test]
fn files_that_are_of_no_use_are_told() {
    let (ca, other) = (Ca::new(), Ca::new());
    drop((ca.node("one"), other.node("two")));
    let read = |certificate: PathBuf, key: PathBuf, ca: PathBuf| {
        let credentials = Credentials::Certificate { certificate, key, ca };
        format!("{:#}", Tls::read(&credentials, &Files::default()).err().expect("a flaw"))
    };
    let said = read(ca.file("one"), other.file("two.key"), ca.file("ca.pem"));
    assert!(said.contains("two.key is not the key of"), "{said}");
    let said = read(ca.file("one"), ca.file("one"), ca.file("ca.pem"));
    assert!(said.contains("others have rights to it"), "{said}");
    let said = read(ca.file("one"), ca.file("one.key"), ca.file("one.key"));
    assert!(said.contains("no certificate in PEM"), "{said}");

    let encrypted = PKey::private_key_from_pem(&fs::read(ca.file("one.key")).unwrap()).unwrap();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let encrypted = encrypted.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
    fs::write(ca.file("one.key"), encrypted).unwrap();
    let said = read(ca.file("one"), ca.file("one.key"), ca.file("ca.pem"));
    assert!(said.contains("not an unencrypted private key"), "{said}");
}
