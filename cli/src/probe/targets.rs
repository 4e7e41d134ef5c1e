//! Targets in a file: one a line, with blank lines and `#` comments.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::endpoint::Host;
use crate::commands::Usage;

/// Anything longer is not a list of targets.
const MAX_LEN: u64 = 1024 * 1024;

/// Reads the targets in a file; `-` is standard input.
///
/// # Errors
///
/// The file cannot be read; or [`Usage`], which names each line that is not a target, or says that
/// there are no targets.
pub fn read(path: &Path) -> Result<Vec<Host>> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".into() } else { path.display().to_string() };
    let from: Box<dyn Read> = match is_stdin {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).with_context(|| format!("cannot read {name}"))?),
    };
    let mut bytes = Vec::new();
    from.take(MAX_LEN + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > MAX_LEN {
        bail!("cannot read {name}: it has more than {MAX_LEN} bytes");
    }
    parse(&name, &String::from_utf8_lossy(&bytes)).map_err(|wrong| Usage(wrong).into())
}

fn parse(name: &str, text: &str) -> Result<Vec<Host>, String> {
    let (mut hosts, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let target = without_comment(line).trim();
        if target.is_empty() {
            continue;
        }
        match target.parse() {
            Ok(host) => hosts.push(host),
            Err(accepted) => {
                let shown: String =
                    target.chars().filter(|char| !char.is_control()).take(80).collect();
                wrong.push(format!("{name}, line {number}: \"{shown}\": {accepted}"));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    if hosts.is_empty() { Err(format!("{name} has no targets")) } else { Ok(hosts) }
}

/// A comment begins a line or follows a space: the `#` in a URL begins none.
fn without_comment(line: &str) -> &str {
    let begins = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices('#').find(|&(at, _)| begins(at));
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_targets() {
        let text = "# ours\r\n\n  a:1  # the first\n\thttps://b/#c\r\n#d\n::1";
        let hosts = parse("f", text).unwrap();
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["a:1", "b", "::1"]);
    }

    #[test]
    fn each_bad_line_is_named() {
        let wrong = parse("f", "a\n\nb:c\nd e\n").unwrap_err();
        assert!(wrong.contains("f, line 3: \"b:c\": accepted: HOST"), "{wrong}");
        assert!(wrong.contains("f, line 4: \"d e\""), "{wrong}");
        assert!(parse("f", "# none\n").unwrap_err().contains("f has no targets"));
    }
}
