//! What the documents name is there: tests, variables, linked files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tktrot::config::Config;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What lies at the top, and everything in docs.
fn documents() -> Result<Vec<(PathBuf, String)>> {
    let mut paths = Vec::new();
    for dir in [root(), &root().join("docs")] {
        for entry in fs::read_dir(dir)? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.into_iter().map(|path| Ok((path.clone(), fs::read_to_string(path)?))).collect()
}

/// The words that follow `mark` in `text`, as far as `belongs` says.
fn after<'t>(text: &'t str, mark: &str, belongs: impl Fn(char) -> bool) -> BTreeSet<&'t str> {
    let word = |rest: &'t str| &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
    text.split(mark).skip(1).map(word).filter(|word| !word.is_empty()).collect()
}

fn in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether there is an integration test of this name: a file, or a directory.
fn is_a_test(name: &str) -> bool {
    let tests = root().join("tests");
    tests.join(format!("{name}.rs")).is_file() || tests.join(name).join("main.rs").is_file()
}

#[test]
fn every_test_that_is_named_exists() -> Result<()> {
    let mut count = 0;
    for (path, text) in documents()? {
        // Tests of the library; others are in other directories of that name.
        let text = text.replace("c-tests/", "").replace("/tests/", "/");
        for mark in ["tests/", "cargo test --test "] {
            for name in after(&text, mark, in_a_name) {
                assert!(is_a_test(name), "{}: there is no test {name}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count} tests are named");
    Ok(())
}

#[test]
fn every_promise_of_security_md_names_tests_that_there_are() -> Result<()> {
    let text = fs::read_to_string(root().join("SECURITY.md"))?;
    let part = |from: &str| {
        let (_, part) = text.split_once(from).ok_or(format!("no part {from}"))?;
        Ok::<_, String>(part.split("\n## ").next().unwrap_or_default())
    };
    let rows = |part: &'_ str| -> Vec<Vec<String>> {
        let lines = part.lines().filter(|line| line.starts_with("| ")).skip(1);
        lines.map(|row| row.trim_matches('|').split('|').map(str::to_owned).collect()).collect()
    };
    let promises = rows(part("\n## In scope")?);
    let limits = rows(part("\n## Out of scope")?);
    assert!(promises.len() >= 15 && limits.len() >= 5, "{} and {}", promises.len(), limits.len());
    for row in promises.iter().chain(&limits) {
        let [what, tests] = &row[..] else { panic!("{row:?}") };
        // In a table, what is between two backquotes, and no variable or setting, is a test.
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || limits.contains(row), "no test shows: {what}");
        for name in named {
            let (file, function) = name.split_once("::").unwrap_or((name, ""));
            let source = fs::read_to_string(root().join(file))
                .map_err(|error| format!("SECURITY.md: {file}: {error}"))?;
            let is_there = match function {
                "" => file.starts_with("c-tests/"),
                function => source.contains(&format!("fn {function}(")),
            };
            assert!(is_there, "SECURITY.md: there is no test {name}");
        }
    }
    Ok(())
}

#[test]
fn every_server_is_marked_as_not_tested_or_names_its_test() -> Result<()> {
    let text = fs::read_to_string(root().join("docs/servers.md"))?;
    let table = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows: Vec<_> = table.take_while(|line| line.starts_with('|')).collect();
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        let tests = after(cells[3], "tests/", in_a_name);
        assert_eq!(tests.is_empty(), cells[3] == "not tested", "{row}");
    }
    assert!(rows.len() >= 8, "{} servers", rows.len());
    Ok(())
}

/// The library's own judgement: it is told each variable as if it were set.
#[test]
fn every_variable_that_is_named_exists_and_takes_the_value_that_is_shown() -> Result<()> {
    let problems = |name: &str, value: &str| {
        let variable = (OsString::from(format!("TKTROT_{name}")), OsString::from(value));
        Config::from_variables([variable]).1
    };
    assert_eq!(problems("ROTTE", "1h").len(), 1, "an unknown name is a problem");
    for (path, text) in documents()? {
        for name in after(&text, "TKTROT_", |c| c.is_ascii_uppercase() || c == '_') {
            let unknown = problems(name, "?");
            let unknown = unknown.iter().any(|bad| bad.accepted.starts_with("a variable named"));
            assert!(!unknown, "{}: there is no TKTROT_{name}", path.display());

            let in_a_value = |c: char| c.is_ascii_alphanumeric() || "/-_.,".contains(c);
            for value in after(&text, &format!("TKTROT_{name}="), in_a_value) {
                let value = value.trim_end_matches(['.', ',']);
                assert_eq!(problems(name, value), [], "{}", path.display());
            }
        }
    }
    Ok(())
}

#[test]
fn every_file_that_is_linked_exists() -> Result<()> {
    let mut count = 0;
    for (path, text) in documents()? {
        for target in after(&text, "](", |c| c != ')') {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or(target);
            let beside = path.parent().ok_or("a file has a directory")?.join(file);
            assert!(beside.exists(), "{}: there is no {file}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2, "{count} links");
    Ok(())
}

#[test]
fn what_manifests_and_units_name_is_told_in_the_documents() -> Result<()> {
    let documents: String = documents()?.into_iter().map(|(_, text)| text).collect();
    let mut count = 0;
    for dir in ["dist/kubernetes", "dist/systemd"] {
        for entry in fs::read_dir(root().join(dir))? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let variables = after(&text, "TKTROT_", |c| c.is_ascii_uppercase() || c == '_');
            let variables = variables.into_iter().map(|name| format!("TKTROT_{name}"));
            let in_a_path = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
            let words = text.split(|c| !in_a_path(c)).map(|word| word.trim_end_matches('.'));
            // Of other paths there is nothing to be told.
            let paths = words.filter(|word| word.starts_with('/') && word.contains("tktrot"));
            for name in variables.chain(paths.map(str::to_owned)) {
                assert!(documents.contains(&name), "{}: {name} is told nowhere", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} variables and paths");
    Ok(())
}

/// Tables and code have the width that they need; a link alone in its line cannot be broken.
#[test]
fn no_line_is_wider_than_a_hundred_columns() -> Result<()> {
    for (path, text) in documents()? {
        let mut is_code = false;
        for (at, line) in text.lines().enumerate() {
            let line_text = line.trim_start_matches([' ', '-']);
            if line_text.starts_with("```") {
                is_code = !is_code;
            }
            let is_link = line_text.starts_with(['[', '!']) && line_text.ends_with(')');
            let may_be_wide = is_code || is_link || line_text.starts_with('|');
            let width = line.chars().count();
            assert!(may_be_wide || width <= 100, "{}:{}: {width} columns", path.display(), at + 1);
        }
    }
    Ok(())
}
