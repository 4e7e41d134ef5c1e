//! Which files each format has, and what is written into them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tktrot::ring::key::Key;
use tktrot::rotate::Generator;
use tktrot::secret::KeyName;

use super::lighttpd::{self, Now};
use super::private::{self, Manner, Written};
use super::selection::Lineup;
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

/// What becomes of files once they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They stay as they are: nginx' files have numbers, the first one encrypts. HAProxy demands
    /// three keys: where there is no former or no next one it gets one that nobody uses, so that no
    /// key is in the file twice.
    Final,
    /// They follow a ring, while servers may be reading them: nginx' files are called by their keys,
    /// and each has the same content for all its life. HAProxy gets the key that encrypts once more,
    /// so that any of the three may come to encrypt.
    Current,
}

/// How files are written beyond what the format says.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    pub now: Now,
    pub manner: Manner,
    pub fate: Fate,
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
        Format::Nginx80 => return write_nginx(keys, output, writing),
        Format::Haproxy => {
            let unused = [unused()?, unused()?];
            let stand_ins = match writing.fate {
                Fate::Final => unused.each_ref().map(|key| &**key),
                Fate::Current => [keys.encrypts; 2],
            };
            haproxy::format(keys.for_haproxy(stand_ins))
        }
        Format::Lighttpd => lighttpd::format(keys.encrypts, writing.now, writing.not_before),
        Format::Apache => apache::format(keys.encrypts)?,
        Format::Raw => raw::format(&keys.all()),
    };
    let mut written = private::write(output, &bytes, writing.manner)?;
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
    let drawn = OpenSsl
        .fill(&mut key.name.0)
        .and_then(|()| OpenSsl.fill(key.secrets.aes.expose_mut()))
        .and_then(|()| OpenSsl.fill(key.secrets.hmac.expose_mut()));
    drawn.map(|()| key).map_err(|_| anyhow!("the random number generator failed"))
}

/// A file for each key, and one that names them all.
fn write_nginx(keys: &Lineup<&Key>, output: &Path, writing: Writing) -> Result<usize> {
    let list = std::path::absolute(output)?;
    let all = keys.all();
    let path = |(number, key): (usize, &&Key)| match writing.fate {
        Fate::Final => beside(&list, &number.to_string()),
        Fate::Current => beside(&list, &key.name.to_hex()),
    };
    let paths: Vec<PathBuf> = all.iter().enumerate().map(path).collect();
    let text = nginx::directives(paths.iter().map(PathBuf::as_path));
    let write =
        |(path, key): (&PathBuf, _)| private::write(path, &nginx::format(key), writing.manner);
    let files: Result<Vec<Written>> = paths.iter().zip(all.iter().copied()).map(write).collect();
    let written = private::write(&list, text.as_bytes(), writing.manner)?;
    // All are written before the first is in its place; the one that names them comes last.
    files?.into_iter().chain([written]).try_for_each(Written::place)?;
    // What an earlier export has left.
    for stale in nginx_files(&list)?.iter().filter(|path| !paths.contains(path)) {
        private::remove(stale)?;
    }
    Ok(all.len())
}

/// nginx' files of keys beside the one that names them.
///
/// # Errors
///
/// Their directory cannot be read.
pub fn nginx_files(list: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (list.parent(), list.file_name()) else {
        return Ok(Vec::new());
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = directory.join(entry?.file_name());
        let is_of = |end: &str| beside(&directory.join(name), end) == path;
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let is_number = end.parse::<u16>().is_ok_and(|number| number.to_string() == end);
        if (is_number || KeyName::from_hex(end).is_some()) && is_of(end) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The file of a key.
fn beside(list: &Path, end: &str) -> PathBuf {
    let mut path = OsString::from(list);
    path.push(format!(".{end}"));
    PathBuf::from(path)
}
