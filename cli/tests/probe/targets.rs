//! Targets that come in a file.

use std::fs::{self, File};

use tempfile::NamedTempFile;
use testbed::port;

use crate::Result;
use crate::program::{CRITICAL, Report, USAGE, report, run, start_with};

fn file(text: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    Ok(file)
}

fn path(file: &NamedTempFile) -> Result<&str> {
    Ok(file.path().to_str().ok_or("not UTF-8")?)
}

fn targets(report: &Report) -> Vec<&str> {
    let targets = report.value["targets"].as_array().into_iter().flatten();
    targets.filter_map(|target| target["target"].as_str()).collect()
}

#[test]
fn targets_of_a_file_follow_those_of_the_command_line() -> Result<()> {
    let closed = [port::free()?, port::free()?, port::free()?].map(|addr| addr.to_string());
    let text = format!("# ours\n\n {}  # web\r\nhttps://{}/#top\n", closed[1], closed[2]);
    let file = file(&text)?;

    let both = report(&[&closed[0], "-f", path(&file)?])?;
    assert_eq!(both.status, CRITICAL);
    assert_eq!(targets(&both), closed);

    let stdin = File::open(file.path())?;
    let piped = start_with(&["--file", "-", "--json"], stdin.into())?.report()?;
    assert_eq!(targets(&piped), closed[1..]);
    Ok(())
}

#[test]
fn a_bad_line_is_named_and_nothing_is_probed() -> Result<()> {
    let bad = file(&format!("{}\n# a comment\nweb:https\n", port::free()?))?;
    let output = run(&["-f", path(&bad)?])?;
    assert_eq!((output.status, output.stdout.as_str()), (USAGE, ""));
    let told = format!("{}, line 3: \"web:https\": accepted: HOST, HOST:PORT", path(&bad)?);
    assert!(output.stderr.contains(&told), "{}", output.stderr);

    let none = file("# nothing\n\n")?;
    let output = run(&["-f", path(&none)?])?;
    assert_eq!(output.status, USAGE);
    assert!(output.stderr.contains("has no targets"), "{}", output.stderr);

    let output = run(&["-f", "/nonexistent/targets"])?;
    assert_eq!((output.status, output.stdout.as_str()), (CRITICAL, ""));
    assert!(output.stderr.contains("cannot read /nonexistent/targets: No such file"));
    Ok(())
}
