//! `tktrot man DIR`: a page for the program and one for each command, as [`manual`] completes them.
//!
//! [`manual`]: super::manual

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap_mangen::Man;

use super::manual;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the pages are written.
    dir: PathBuf,
}

pub fn run(arguments: &Arguments, program: clap::Command) -> Result<Severity> {
    let dir = &arguments.dir;
    let mut program = program.disable_help_subcommand(true);
    program.build();
    fs::create_dir_all(dir)
        .and_then(|()| write_all(&program, dir))
        .with_context(|| format!("{}: cannot write the pages", dir.display()))?;
    Ok(Severity::Ok)
}

fn write_all(command: &clap::Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_all(below, dir)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(dir.join(format!("{name}.1")), page(command, name)?)
}

/// A page: what clap knows, and then what it has no words for.
fn page(command: &clap::Command, name: &str) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let (exit, notes): (Vec<&str>, Vec<&str>) =
        help.split("\n\n").partition(|paragraph| paragraph.starts_with(EXIT_STATUS));
    let notes: Vec<_> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    if !notes.is_empty() {
        section(&mut page, "NOTES")?;
        notes.iter().try_for_each(|note| paragraph(&mut page, note))?;
    }
    section(&mut page, "EXIT STATUS")?;
    match exit.first() {
        Some(own) => paragraph(&mut page, own.trim_start_matches(EXIT_STATUS).trim())?,
        None => paragraph(&mut page, manual::EXIT_STATUS)?,
    }
    section(&mut page, "ENVIRONMENT")?;
    for (variable, what) in manual::environment(name) {
        item(&mut page, &variable, &what)?;
    }
    section(&mut page, "FILES")?;
    for (file, what) in manual::files(name) {
        item(&mut page, file, what)?;
    }
    section(&mut page, "EXAMPLES")?;
    for (what, line) in manual::examples(name) {
        paragraph(&mut page, what)?;
        writeln!(page, ".PP\n.RS 4\n.nf\n{}\n.fi\n.RE", text(line))?;
    }
    section(&mut page, "SEE ALSO")?;
    let others: Vec<_> =
        manual::see_also(name).iter().map(|page| format!("\\fB{page}\\fR")).collect();
    writeln!(page, "{}", others.join(", ").replace('-', "\\-"))?;
    Ok(page)
}

/// How a paragraph of the help begins that has a section of its own here.
const EXIT_STATUS: &str = "Exit status:";

fn section(page: &mut Vec<u8>, heading: &str) -> io::Result<()> {
    writeln!(page, ".SH \"{heading}\"")
}

/// A paragraph of the help; lines that are set off there, a word and what it stands for, are so here.
fn paragraph(page: &mut Vec<u8>, words: &str) -> io::Result<()> {
    writeln!(page, ".PP")?;
    for line in words.lines() {
        match line.strip_prefix("  ").and_then(|line| line.split_once("  ")) {
            Some((what, words)) => item(page, what, words.trim())?,
            None => writeln!(page, "{}", text(line))?,
        }
    }
    Ok(())
}

fn item(page: &mut Vec<u8>, what: &str, words: &str) -> io::Result<()> {
    writeln!(page, ".TP\n\\fB{}\\fR\n{}", text(what), text(words))
}

/// As roff reads it (groff(7)): no escapes, hyphens as they can be copied, and no line that would be a
/// request.
fn text(words: &str) -> String {
    let escaped = words.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::Cli;
    use super::*;

    fn names(command: &clap::Command) -> Vec<String> {
        let below = command.get_subcommands().filter(|command| !command.is_hide_set());
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        below.flat_map(names).chain([name]).collect()
    }

    /// An example that the program does not take is worse than none.
    #[test]
    fn every_page_has_examples_that_the_program_takes_and_pages_that_are_there() {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let pages = names(&program);
        for name in &pages {
            let examples = manual::examples(name);
            assert!(!examples.is_empty(), "{name}");
            for (what, line) in examples {
                assert!(what.ends_with(':'), "{name}: {what}");
                let line = line.split(['|', '>']).next().unwrap_or_default();
                let words = line.trim().split(' ').map(|word| word.trim_matches('\''));
                let words = words.skip_while(|word| *word == "sudo" || word.contains('='));
                let words: Vec<_> = words.collect();
                assert_eq!(words[0], "tktrot", "{name}: {line}");
                let command = words[..].join("-");
                assert!(command.starts_with(name.as_str()), "{name}: {line}");
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{name}: {line}: {error}");
                }
            }
            for other in manual::see_also(name) {
                let ours = other.strip_suffix("(1)").filter(|page| page.starts_with("tktrot"));
                let is_there = ours.is_none_or(|page| pages.iter().any(|name| name == page));
                assert!(is_there && !other.starts_with(&format!("{name}(")), "{name}: {other}");
            }
        }
    }

    #[test]
    fn nothing_in_a_text_is_a_request() {
        assert_eq!(text(".so /etc\n'x\n\\fB-a"), "\\&.so /etc\n\\&'x\n\\efB\\-a");
    }
}
