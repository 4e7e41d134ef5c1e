//! What people read, and what monitors rely on.

use std::net::SocketAddr;

use testbed::solo::Solo;

use crate::Result;
use crate::program::{CRITICAL, OK, report, run, validator};

/// The text with the port and the key's name replaced by words as long.
fn redacted(text: &str, addr: SocketAddr, key: &str) -> String {
    text.replace(&addr.port().to_string(), "PORT.").replace(key, "KEY-NAME")
}

#[test]
fn a_healthy_server_is_a_table_and_a_line() -> Result<()> {
    let server = Solo::openssl().start()?;
    let address = server.addr().to_string();
    let measured = report(&[&address])?;
    let key = measured.seen(server.addr(), "1.2")[0]["key_names"][0].as_str().ok_or("no name")?;
    let output = run(&[&address])?;
    assert_eq!(
        redacted(&output.stdout, server.addr(), key),
        "\
address          TLS  ticket  here  elsewhere  lifetime  key name  weak key
127.0.0.1:PORT.  1.2  yes     3/3   -          2 h       KEY-NAME  no
127.0.0.1:PORT.  1.3  yes     3/3   -          2 h       KEY-NAME  no

ok        127.0.0.1:PORT.: tickets are resumed where they were issued
"
    );
    assert_eq!((output.status, output.stderr.as_str()), (OK, ""));
    Ok(())
}

#[test]
fn what_is_wrong_comes_with_what_to_do() -> Result<()> {
    let dead = testbed::port::free()?;
    let output = run(&[&dead.to_string()])?;
    assert_eq!(
        redacted(&output.stdout, dead, "none"),
        "\
address          TLS  ticket   here  elsewhere  lifetime  key name  weak key
127.0.0.1:PORT.  1.2  refused  -     -          -         -         -
127.0.0.1:PORT.  1.3  refused  -     -          -         -         -

critical  127.0.0.1:PORT.: not tested: connecting: Connection refused
          -> Check that the server is running and that this is its port.
"
    );
    assert_eq!(output.status, CRITICAL);
    Ok(())
}

/// Or a report that fits would prove nothing.
#[test]
fn the_schema_refuses_what_is_no_report() -> Result<()> {
    let report = report(&[&testbed::port::free()?.to_string()])?;
    assert!(validator().is_valid(&report.value));
    for (field, value) in [
        ("/severity", "red".into()),
        ("/findings", serde_json::json!([])),
        ("/observations/0/ticket", "perhaps".into()),
        ("/observations/0/key_names", serde_json::json!(["the whole name of a key"])),
        ("/observations/0/failure/kind", serde_json::Value::Null),
    ] {
        let mut changed = report.value.clone();
        *changed.pointer_mut(field).ok_or(field)? = value;
        assert!(!validator().is_valid(&changed), "{field}");
    }
    let mut longer = report.value.clone();
    longer["observations"][0]["master_secret"] = "never".into();
    assert!(!validator().is_valid(&longer));
    Ok(())
}
