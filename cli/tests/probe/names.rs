//! Tickets of one server name under another.

use testbed::certificate;
use testbed::nginx::{Builder, Nginx};
use testbed::{RingDir, artifacts};

use crate::Result;
use crate::program::{DOUBTFUL, FINE, Report, WRONG, count, report};

/// An nginx with two names, `localhost` and `other`.
fn two_names(mut builder: Builder, own_certificates: bool) -> Result<Nginx> {
    let dir = tempfile::tempdir()?;
    let other_dir = tempfile::tempdir()?;
    let first = certificate::create(dir.path())?;
    let second =
        if own_certificates { certificate::create(other_dir.path())? } else { first.clone() };
    let addr = builder.addr()?;
    let server = format!(
        "server {{ listen {addr} ssl; server_name other; ssl_protocols TLSv1.2 TLSv1.3; \
         ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 other; }} }}",
        second.cert.display(),
        second.key.display()
    );
    // nginx reads the certificates at its start, then their directories may go.
    Ok(builder.certificate(&first).http(&server).start()?)
}

fn probe(nginx: &Nginx) -> Result<Report> {
    report(&[&nginx.addr().to_string(), "--sni", "localhost", "--sni", "other"])
}

#[test]
fn a_stock_nginx_resumes_under_the_other_name_and_the_shim_ends_that() -> Result<()> {
    for (own_certificates, status, code) in
        [(true, WRONG, "crosses-certificates"), (false, DOUBTFUL, "crosses-names")]
    {
        let nginx = two_names(Nginx::builder(), own_certificates)?;
        let stock = probe(&nginx)?;
        assert_eq!(stock.status, status, "{:#}", stock.value);
        assert!(stock.codes().contains(&code), "{:?}", stock.codes());
        for tls in ["1.2", "1.3"] {
            for seen in stock.seen(nginx.addr(), tls) {
                assert_eq!(count(seen, "resumed_as_other_name"), (1, 1), "{seen:#}");
                assert_eq!(seen["crossings"][0]["same_certificate"], !own_certificates);
            }
        }
    }

    let ring = RingDir::new()?;
    let builder = Nginx::builder().preload(artifacts::shim()?).ring(&ring);
    let nginx = two_names(builder, true)?;
    let bound = probe(&nginx)?;
    assert_eq!(bound.status, FINE, "{:#}", bound.value);
    for tls in ["1.2", "1.3"] {
        for seen in bound.seen(nginx.addr(), tls) {
            assert_eq!(count(seen, "resumed_here"), (3, 3));
            assert_eq!(count(seen, "resumed_as_other_name"), (1, 0));
        }
    }
    bound.finding("name-bound");
    Ok(())
}

#[test]
fn the_empty_name_is_no_name() -> Result<()> {
    let nginx = Nginx::builder().start()?;
    let report = report(&[&nginx.addr().to_string(), "--sni", "localhost", "--sni", ""])?;
    let names: Vec<_> = report.seen(nginx.addr(), "1.3").iter().map(|seen| &seen["sni"]).collect();
    assert_eq!(names, [&serde_json::json!("localhost"), &serde_json::Value::Null]);
    let messages = report.value["findings"].to_string();
    assert!(
        messages.contains(r#"a ticket for \"localhost\" is resumed for no name"#),
        "{messages}"
    );
    Ok(())
}
