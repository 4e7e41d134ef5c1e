//! One question and one answer over the socket of an agent, beside its ring: a line of JSON each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tktrot::ring::file::Place;
use tktrot::secret::KeyName;

use crate::rings;
/// How long an answer is waited for: a rotation of a fleet takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// No line is longer.
pub const LONGEST: u64 = 16 << 20;

/// What an agent is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    /// How it goes: [`super::figures::Figures`].
    Peers {},
    /// A new key is to encrypt as soon as the fleet has it: [`Rotated`].
    Rotate {},
    /// Keys are to end everywhere: [`Revoked`].
    Revoke {
        /// Which.
        keys: Which,
    },
}

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Which {
    /// The whole fleet's.
    All(All),
    /// Those of these names, as 32 hex digits.
    These(Vec<String>),
}

/// The word for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum All {
    /// It.
    #[serde(rename = "all")]
    All,
}

/// A new key encrypts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The first hex digits of its name.
    pub key: String,
    /// Peers that have it.
    pub peers: usize,
}

/// Keys have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// On this host, so many.
    pub keys: usize,
    /// Peers that were told.
    pub peers: usize,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// What was asked for.
    Answer(Value),
    /// Why there is none.
    Error(String),
}

impl Reply {
    /// The answer that this is.
    pub fn of(answer: &impl Serialize) -> Reply {
        serde_json::to_value(answer)
            .map_or_else(|error| Reply::Error(error.to_string()), Reply::Answer)
    }
}

/// Where the agent of a ring answers.
pub fn socket(place: &Place) -> PathBuf {
    place.path().with_extension("agent")
}

/// Asks the agent of a ring.
///
/// # Errors
///
/// None runs, it is somebody else's, or it says why not.
pub fn ask<A: DeserializeOwned>(place: &Place, question: &Question) -> Result<A> {
    let path = socket(place);
    let reply = exchange(&path, question).map_err(|error| {
        let ring = place.path();
        let why = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
                "no agent governs this ring (start one: tktrot agent {})",
                rings::title(&ring)
            ),
            // It hangs up on those.
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => {
                "its agent answers its own user and root only: run this as root (sudo)".into()
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "its agent does not answer".into()
            }
            _ => format!("its agent cannot be asked: {error}"),
        };
        anyhow::anyhow!("{}: {why}", ring.display())
    })?;
    match serde_json::from_str(&reply).context("the agent's answer is none; is it as old?")? {
        Reply::Answer(answer) => Ok(serde_json::from_value(answer)?),
        Reply::Error(error) => bail!("{}: the agent: {error}", place.path().display()),
    }
}

fn exchange(path: &std::path::Path, question: &Question) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line(question)?)?;
    let mut reply = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut reply)?;
    if reply.is_empty() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(reply)
}

/// As one line.
pub fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

impl Which {
    /// The names; `None` if all are meant.
    ///
    /// # Errors
    ///
    /// What is no name.
    pub fn names(&self) -> Result<Option<Vec<KeyName>>, Reply> {
        let Which::These(names) = self else { return Ok(None) };
        let names: Option<Vec<_>> = names.iter().map(|hex| KeyName::from_hex(hex)).collect();
        names.map(Some).ok_or_else(|| Reply::Error("a key's name is 32 hex digits".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_what_they_are_said_to_be() {
        let revoke = |keys| Question::Revoke { keys };
        let cases = [
            (r#"{"ask":"peers"}"#, Question::Peers {}),
            (r#"{"ask":"rotate"}"#, Question::Rotate {}),
            (r#"{"ask":"revoke","keys":"all"}"#, revoke(Which::All(All::All))),
            (r#"{"ask":"revoke","keys":["ab"]}"#, revoke(Which::These(vec!["ab".into()]))),
        ];
        for (text, question) in cases {
            assert_eq!(serde_json::from_str::<Question>(text).unwrap(), question);
            assert_eq!(serde_json::to_string(&question).unwrap(), text);
        }
        for bad in [
            "{}",
            r#"{"ask":"stop"}"#,
            r#"{"ask":"revoke"}"#,
            r#"{"ask":"revoke","keys":"some"}"#,
            r#"{"ask":"peers","x":1}"#,
        ] {
            assert!(serde_json::from_str::<Question>(bad).is_err(), "{bad}");
        }
    }
}
