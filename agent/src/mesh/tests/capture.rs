//! What passes on the wire, with the fleet secret, decrypts nothing: shown with tshark.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::RingDir;
use tktrot_fleet::message::Message;

use super::host::{Host, address, key, run, secret, tls, until_all_up};
use super::keylog;
use super::relay::{Relay, Way};

/// Two nodes that have sent each other a key, and what passed between them.
async fn recorded() -> Vec<(Way, Vec<u8>)> {
    let (a, b) = (address(201), address(202));
    let relay = Relay::to(b).await;
    let mut hosts =
        [Host::start(1, a, tls(&[7]), &[relay.address]), Host::start(2, b, tls(&[7]), &[])];
    until_all_up(&mut hosts).await;
    hosts[0].says(2, &Message::Keys(vec![key(1)]));
    hosts[1].says(1, &Message::Keys(vec![key(2)]));
    for host in &mut hosts {
        assert!(matches!(host.hears().await.1, Message::Keys(keys) if keys.len() == 1));
    }
    relay.pieces()
}

/// The record as Wireshark's tools have it.
fn capture(dir: &Path, pieces: &[(Way, Vec<u8>)]) -> PathBuf {
    let mut text = String::new();
    for (way, bytes) in pieces {
        let direction = if *way == Way::There { 'O' } else { 'I' };
        write!(text, "{direction}\n000000").unwrap();
        bytes.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap());
        text.push('\n');
    }
    let (dump, file) = (dir.join("dump.txt"), dir.join("mesh.pcapng"));
    fs::write(&dump, text).unwrap();
    let status = Command::new("text2pcap")
        .args(["-q", "-D", "-4", "10.0.0.1,10.0.0.2", "-T", "40000,4744"])
        .args([&dump, &file])
        .stderr(Stdio::null())
        .status()
        .expect("text2pcap, of the package tshark");
    assert!(status.success());
    file
}

/// What tshark makes of it with these options.
fn tshark(capture: &Path, options: &[&str]) -> String {
    let output = Command::new("tshark")
        .env("HOME", capture.parent().unwrap())
        .args(["-n", "-r"])
        .arg(capture)
        .args(["-d", "tcp.port==4744,tls"])
        .args(options)
        .output()
        .expect("tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What was said in clear, as hexadecimal digits.
fn plaintext(capture: &Path, preference: &str) -> String {
    tshark(capture, &["-o", preference, "-q", "-z", "follow,tls,raw,0"])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_capture_and_the_fleet_secret_decrypt_nothing() {
    run(async {
        let dir = RingDir::new().unwrap();
        let capture = capture(dir.path(), &recorded().await);
        let ring = hex(b"ring-of-the-test");
        let aes = hex(key(1).secrets.aes.expose());
        let name = hex(&key(2).name.0);

        // With the ephemeral secrets all is there, so tshark would show it if it could.
        let keys = dir.path().join("keys");
        fs::write(&keys, keylog::lines().join("\n") + "\n").unwrap();
        let clear = plaintext(&capture, &format!("tls.keylog_file:{}", keys.display()));
        for said in [&ring, &aes, &name] {
            assert!(clear.contains(said.as_str()), "the check sees nothing: {clear}");
        }

        let psk = hex(secret(7).mesh().unwrap().key.expose());
        let clear = plaintext(&capture, &format!("tls.psk:{psk}"));
        assert!(clear.contains("Follow: tls"), "{clear}");
        for said in [&ring, &aes, &name] {
            assert!(!clear.contains(said.as_str()), "it is readable: {clear}");
        }
        // Nor by other means: with the key goes an ephemeral one, in the only cipher there is.
        let fields =
            ["cipher", "key_share_group", "psk_identity_selected"].map(|field| match field {
                "cipher" => "tls.handshake.ciphersuite".to_owned(),
                "key_share_group" => "tls.handshake.extensions_key_share_group".to_owned(),
                _ => "tls.handshake.extensions.psk.identity.selected".to_owned(),
            });
        let server_hello = ["-Y", "tls.handshake.type==2", "-T", "fields", "-e"];
        let [cipher, group, psk] = fields
            .each_ref()
            .map(|field| tshark(&capture, &[&server_hello[..], &[field.as_str()]].concat()));
        assert_eq!(cipher.trim(), "0x1302");
        assert!(["29", "0x001d"].contains(&group.trim()), "X25519, not {group:?}");
        assert_eq!(psk.trim(), "0", "the client's first identity");
    });
}
