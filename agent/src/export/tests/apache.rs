//! A stock Apache with `SSLSessionTicketKeyFile`.

use std::fs;

use testbed::RingDir;
use testbed::foreground::{Builder, Foreground};
use tktrot::config::Bind;
use tktrot_fleet::config::Format;

use super::{Result, Running, Visitors, active, export, key_names, look, ring, words};

const BINARY: &str = "/usr/sbin/apache2";

fn start(builder: Builder, keys: &str) -> Result<Foreground> {
    let (dir, addr) = (builder.dir().display(), builder.addr());
    let certificate = builder.certificate();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    let modules = ["mpm_event", "authz_core", "ssl"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let config = format!(
        "ServerRoot {dir}\nServerName localhost\nDefaultRuntimeDir {dir}\nPidFile {dir}/httpd.pid\n\
         ErrorLog {dir}/log.txt\nUser www-data\nGroup www-data\nListen {addr}\n{modules}\
         <VirtualHost {addr}>\nDocumentRoot {dir}\nSSLEngine on\nSSLCertificateFile {cert}\n\
         SSLCertificateKeyFile {key}\nSSLSessionTicketKeyFile {keys}\n</VirtualHost>\n"
    );
    let path = builder.file("httpd.conf", config.as_bytes())?;
    let path = path.to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(BINARY, &["-D", "FOREGROUND", "-f", &path])?)
}

#[test]
fn apache_has_a_key_of_its_own_for_each_rotation() -> Result<()> {
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, keyring) = ring(&rings, Bind::NONE)?;
    let view = look(&place)?;
    let output = files.path().join("apache.key");
    let mut setting = export(Format::Apache, output.clone());
    setting.command = words(&["/bin/true"]);
    let exporter = Running::start(&place, &[setting])?;
    exporter.wait_for_key(0, &active(&view)?);
    let file = fs::read(&output)?;
    assert_eq!(file.len(), 48);
    assert_ne!(file[..16], active(&view)?.0, "it is not the ring's key");

    let mut apache = start(Foreground::builder()?, output.to_str().ok_or("a path")?)?;
    let first = Visitors::of(apache.addr())?;
    assert!(key_names(&first).iter().all(|name| name.0 == file[..16]));
    apache.stop()?;
    apache.start()?;
    assert_eq!(first.resumed(apache.addr())?, [true; 2], "with the same file");

    keyring.rotate().map_err(|failure| failure.to_string())?;
    exporter.wait_for_key(0, &active(&view)?);
    let file = fs::read(&output)?;
    apache.stop()?;
    apache.start()?;
    assert_eq!(first.resumed(apache.addr())?, [false; 2], "it has no former key");
    let second = Visitors::of(apache.addr())?;
    assert!(key_names(&second).iter().all(|name| name.0 == file[..16]));
    Ok(())
}
