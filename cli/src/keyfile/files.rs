//! Which files a format has, and what comes into them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tktrot::ring::reader::Key;
use tktrot::rotate::Generator;

use super::lighttpd::{self, Now};
use super::selection::Lineup;
use super::target::{self, Manner, Written};
use super::{apache, haproxy, nginx, raw};
use crate::generator::OpenSsl;

/// For whom files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Format {
    /// ssl_session_ticket_key, 80 bytes for each key
    #[value(name = "nginx-80")]
    #[serde(rename = "nginx-80")]
    Nginx80,
    /// tls-ticket-keys
    #[serde(rename = "haproxy")]
    Haproxy,
    /// ssl.stek-file
    #[serde(rename = "lighttpd")]
    Lighttpd,
    /// SSLSessionTicketKeyFile, 48 bytes: a key of Apache's own, derived from the one that encrypts
    #[serde(rename = "apache")]
    Apache,
    /// 80 bytes for each key: name (16), AES-256 (32), HMAC (32)
    #[serde(rename = "raw")]
    Raw,
}

/// What HAProxy gets where there is no former or no next key: it demands three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// A random key that nobody uses, so that no key is in the file twice.
    Unused,
    /// The key that encrypts, once more, so that any of the three may come to encrypt.
    Again,
}

/// How files are written beyond what the format says.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    pub now: Now,
    pub manner: Manner,
    pub stand_in: StandIn,
    /// lighttpd is to encrypt with the key no sooner, in seconds since 1970.
    pub not_before: u64,
}

/// Writes the files of a format; returns how many keys are in them.
///
/// # Errors
///
/// They cannot be written.
pub fn write(
    format: Format,
    keys: &Lineup<&Key>,
    output: &Path,
    writing: Writing,
) -> Result<usize> {
    let bytes = match format {
        Format::Nginx80 => return write_nginx(keys, output, writing.manner),
        Format::Haproxy => {
            let unused = [unused()?, unused()?];
            let stand_ins = match writing.stand_in {
                StandIn::Unused => unused.each_ref().map(|key| &**key),
                StandIn::Again => [keys.encrypts; 2],
            };
            haproxy::format(keys.for_haproxy(stand_ins))
        }
        Format::Lighttpd => lighttpd::format(keys.encrypts, writing.now, writing.not_before),
        Format::Apache => apache::format(keys.encrypts)?,
        Format::Raw => raw::format(&keys.all()),
    };
    let mut written = target::write(output, &bytes, writing.manner)?;
    if format == Format::Lighttpd {
        written = written.dated(writing.now.wall + lighttpd::DATED_AHEAD)?;
    }
    written.place()?;
    Ok(format.holds(keys).len())
}

impl Format {
    /// Those of a lineup that are in its files.
    pub fn holds<T: Copy>(self, keys: &Lineup<T>) -> Vec<T> {
        let (former, next) = (keys.former.iter().take(1), keys.next.iter().take(1));
        let encrypts = std::iter::once(&keys.encrypts);
        match self {
            Format::Nginx80 | Format::Raw => keys.all(),
            Format::Haproxy => encrypts.chain(next).chain(former).copied().collect(),
            Format::Lighttpd | Format::Apache => vec![keys.encrypts],
        }
    }
}

/// A key that nobody uses.
fn unused() -> Result<Box<Key>> {
    let mut key = Box::new(Key::blank());
    let drawn = OpenSsl.fill(&mut key.name.0)
        && OpenSsl.fill(key.secrets.aes.expose_mut())
        && OpenSsl.fill(key.secrets.hmac.expose_mut());
    drawn.then_some(key).ok_or_else(|| anyhow!("the random number generator fails"))
}

/// A file for each key, and one that names them all.
fn write_nginx(keys: &Lineup<&Key>, output: &Path, manner: Manner) -> Result<usize> {
    let base = std::path::absolute(output)?;
    let all = keys.all();
    let paths: Vec<PathBuf> = (0..all.len()).map(|number| numbered(&base, number)).collect();
    let list = nginx::directives(paths.iter().map(PathBuf::as_path));
    let write = |(path, key): (&PathBuf, _)| target::write(path, &nginx::format(key), manner);
    let files: Result<Vec<Written>> = paths.iter().zip(all.iter().copied()).map(write).collect();
    let list = target::write(&base, list.as_bytes(), manner)?;
    // All are written before the first is in its place; the one that names them comes last.
    files?.into_iter().chain([list]).try_for_each(Written::place)?;
    // What an earlier export with more keys has left.
    let mut stale = (all.len()..).map(|number| numbered(&base, number));
    while target::remove(&stale.next().context("a number")?)? {}
    Ok(all.len())
}

/// nginx' file of the key in that place.
pub fn numbered(list: &Path, number: usize) -> PathBuf {
    let mut path = OsString::from(list);
    path.push(format!(".{number}"));
    PathBuf::from(path)
}
