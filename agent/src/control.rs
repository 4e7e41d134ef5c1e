//! The socket of an agent, beside its ring: one question and one answer, a line of JSON each. Root
//! and the agent's own user may ask, a few at a time, and not for long. Whoever hangs up wants no
//! answer, but what was asked for is done: it may have been begun.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Uid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tktrot::ring::file::Place;
use tktrot::ring::versions::called;
use tktrot::secret::KeyName;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncBufReader,
};
use tokio::net::{UnixListener as AsyncListener, UnixStream as AsyncStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

/// How long an answer is waited for: a rotation of a fleet takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// How an agent is, it knows at once; others may ask at the same time.
const PATIENCE_TO_LOOK: Duration = Duration::from_secs(10);
/// No line is longer.
const LONGEST: u64 = 16 << 20;
/// So many ask at once at most; others wait.
const AT_ONCE: usize = 16;
/// Beside them, so many whose keys have ended wait until others have said that they know.
const WAITING_AT_ONCE: usize = 64;
/// A question is a line, and comes at once.
const QUESTION_WITHIN: Duration = Duration::from_secs(2);
/// All names of a full ring fit.
const QUESTION_LENGTH: u64 = 1 << 20;
/// An answer is taken at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What an agent is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    /// How the agent and its peers are doing: [`super::figures::Figures`].
    Peers {},
    /// Whether the host is as its servers need it: an answer, or an error that says why not.
    Ready {},
    /// Make a new key, which encrypts as soon as the fleet has it: [`Rotated`].
    Rotate {},
    /// End keys in the whole fleet: [`Revoked`].
    Revoke {
        keys: Which,
        /// For so many milliseconds peers, or Redis, are waited for that have not said that they
        /// have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<u64>,
    },
}

impl Question {
    /// For how long the answer may be waited for, beside what it takes.
    pub fn wait(&self) -> Duration {
        let wait = match self {
            Question::Revoke { wait, .. } => wait.unwrap_or(0),
            Question::Peers {} | Question::Ready {} | Question::Rotate {} => 0,
        };
        Duration::from_millis(wait).min(LONGEST_WAIT)
    }

    /// Whether something is to be done.
    fn is_a_command(&self) -> bool {
        match self {
            Question::Rotate {} | Question::Revoke { .. } => true,
            Question::Peers {} | Question::Ready {} => false,
        }
    }

    /// The place of one who waits until others know; none if the answer comes without a wait. Where
    /// no such place is free nobody is waited for: keys end all the same.
    fn waits_beside<'w>(&mut self, waiting: &'w Semaphore) -> Option<SemaphorePermit<'w>> {
        let Question::Revoke { wait: wait @ Some(1..), .. } = self else { return None };
        let place = waiting.try_acquire().ok();
        if place.is_none() {
            *wait = None;
        }
        place
    }
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

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum All {
    #[serde(rename = "all")]
    All,
}

/// A new key encrypts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The first hex digits of its name.
    pub key: String,
    /// How many peers have it.
    pub peers: usize,
}

/// Keys have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// How many ended on this host.
    pub keys: usize,
    /// Who else knows.
    pub reach: Reach,
}

/// Who else knows of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Peers.
    Peers {
        /// They have said that their rings have none of the keys, and will take none again.
        told: Vec<String>,
        /// All others that are configured, or connected.
        missing: Vec<Missing>,
    },
    /// Whoever shares through a Redis: which hosts those are nobody knows.
    Redis {
        /// Where it is, while it can be asked.
        address: Option<String>,
        /// Why it is not known to have it; none if it has said that it does. Otherwise it is told
        /// when it can be.
        #[serde(default = "older")]
        missing: Option<String>,
    },
}

/// An agent that says neither.
fn older() -> Option<String> {
    Some("its agent is an older version, which does not say".into())
}

/// A peer that is not known to know of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its address.
    pub peer: String,
    /// Why it is not known.
    pub why: String,
}

/// The longest that peers, or Redis, are waited for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What an agent answers.
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

/// Where the agent of a ring answers: `web.agent` for `web.ring`.
pub fn socket(place: &Place) -> PathBuf {
    let mut name = called(place.file.as_ref()).to_owned();
    name.push(".agent");
    place.dir.join(name)
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// No agent governs the ring.
    NoAgent,
    /// Its socket is there, and nobody listens.
    Gone,
    /// It does not answer this user.
    NotAllowed,
    /// It did not answer in time.
    Silent,
    /// The same, and it has the command: what it did of it, or will do when it goes on, is not
    /// known.
    Unanswered,
    /// It has ended, or hung up, before it answered.
    HungUp,
    /// It cannot be reached.
    Unreachable(io::Error),
    /// It answered with something else.
    Unreadable(serde_json::Error),
    /// It says, in its own words, why not.
    Refused(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::NoAgent => f.write_str("no agent governs this ring"),
            AskError::Gone => {
                f.write_str("its agent is gone, and did not say so: it was killed, or it crashed")
            }
            AskError::NotAllowed => {
                f.write_str("its agent answers its own user and root only: run this as root (sudo)")
            }
            AskError::Silent => f.write_str("its agent does not answer"),
            AskError::Unanswered => f.write_str(
                "its agent does not answer: what was asked for may be done already, or be done \
                 yet, when the agent goes on",
            ),
            AskError::HungUp => f.write_str(
                "its agent ended before it answered: what was asked for may be done in part; ask \
                 again when it runs",
            ),
            AskError::Unreachable(error) => write!(f, "cannot reach its agent: {error}"),
            AskError::Unreadable(error) => {
                write!(f, "cannot read the agent's reply; is the agent another version? ({error})")
            }
            AskError::Refused(why) => write!(f, "the agent: {why}"),
        }
    }
}

impl std::error::Error for AskError {}

impl AskError {
    /// An agent hangs up on whoever may not ask; on root never.
    fn of_a_hang_up() -> Self {
        if nix::unistd::geteuid().is_root() { AskError::HungUp } else { AskError::NotAllowed }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => AskError::NoAgent,
            io::ErrorKind::ConnectionRefused => AskError::Gone,
            // It hangs up on those.
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => AskError::of_a_hang_up(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskError::Silent,
            _ => AskError::Unreachable(error),
        }
    }
}

/// Asks the agent of a ring.
///
/// # Errors
///
/// None runs, it is somebody else's, or it says why not.
pub fn ask<A: DeserializeOwned>(place: &Place, question: &Question) -> Result<A, AskError> {
    let patience = if question.is_a_command() { PATIENCE } else { PATIENCE_TO_LOOK };
    let reply = exchange(&socket(place), question, patience)?;
    match serde_json::from_str(&reply).map_err(AskError::Unreadable)? {
        Reply::Answer(answer) => serde_json::from_value(answer).map_err(AskError::Unreadable),
        Reply::Error(why) => Err(AskError::Refused(why)),
    }
}

/// Connects to an agent, for this long where as many as there is room for wait for it.
///
/// # Errors
///
/// Those of connect(2); `WouldBlock` after that time (SO_SNDTIMEO, socket(7)).
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let patience = TimeVal::microseconds(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX));
    socket::setsockopt(&socket, SendTimeout, &patience)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// An answer of no bytes is one to somebody who may not ask.
fn exchange(path: &Path, question: &Question, patience: Duration) -> Result<String, AskError> {
    let mut stream = connect(path, patience)?;
    stream.set_read_timeout(Some(patience + question.wait()))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&line(question)?)?;
    let mut reply = String::new();
    let read = BufReader::new(stream.take(LONGEST)).read_line(&mut reply);
    read.map_err(|error| match error.into() {
        AskError::Silent if question.is_a_command() => AskError::Unanswered,
        error => error,
    })?;
    if reply.is_empty() {
        return Err(AskError::of_a_hang_up());
    }
    Ok(reply)
}

/// A value as a line of JSON.
fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

impl Which {
    /// The names; `None` if all are meant.
    ///
    /// # Errors
    ///
    /// The reply that names what is not a key's name.
    pub fn names(&self) -> Result<Option<Vec<KeyName>>, Reply> {
        let Which::These(names) = self else { return Ok(None) };
        let names: Option<Vec<_>> = names.iter().map(|hex| KeyName::from_hex(hex)).collect();
        names.map(Some).ok_or_else(|| Reply::Error("a key's name is 32 hex digits".into()))
    }
}

/// A question for the driver, and where the answer goes.
pub type Asked = (Question, oneshot::Sender<Reply>);

/// The socket, made with the rights of this moment. What lies there is a former agent's: this one
/// has the ring for itself.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let bound = || -> io::Result<UnixListener> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bound().with_context(|| format!("{}: cannot make the control socket", path.display()))
}

/// Answers until the agent ends.
pub async fn serve(listener: UnixListener, user: Uid, driver: mpsc::Sender<Asked>) {
    let listener = match AsyncListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve the control socket"),
    };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let waiting = Arc::new(Semaphore::new(WAITING_AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (driver, waiting) = (driver.clone(), Arc::clone(&waiting));
                tokio::task::spawn_local(async move {
                    if let Err(error) = answer(stream, user, &driver, place, &waiting).await {
                        tracing::debug!(%error, "a question was not answered");
                    }
                });
            }
            // No descriptor is left: the next attempt may find one.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(
    mut stream: AsyncStream,
    user: Uid,
    driver: &mpsc::Sender<Asked>,
    place: OwnedSemaphorePermit,
    waiting: &Semaphore,
) -> anyhow::Result<()> {
    let peer = Uid::from_raw(stream.peer_cred()?.uid());
    if !peer.is_root() && peer != user {
        bail!("user {peer} may not ask");
    }
    let mut question = String::new();
    let (reader, mut writer) = stream.split();
    let mut reader = AsyncBufReader::new(reader.take(QUESTION_LENGTH));
    timeout(QUESTION_WITHIN, reader.read_line(&mut question)).await??;
    let reply = match serde_json::from_str::<Question>(&question) {
        Ok(mut question) => {
            let mut place = Some(place);
            let waits = question.waits_beside(waiting);
            let (answer, answered) = oneshot::channel();
            driver.send((question, answer)).await?;
            if waits.is_some() {
                place.take();
            }
            let answered = tokio::select! {
                answered = answered => answered,
                () = hung_up(&mut reader) => bail!("who asked has hung up"),
            };
            answered.unwrap_or_else(|_| {
                Reply::Error("it is stopping, or reads its settings: ask again".into())
            })
        }
        Err(error) => Reply::Error(format!("cannot read the question: {error}")),
    };
    timeout(ANSWER_WITHIN, writer.write_all(&line(&reply)?)).await??;
    Ok(())
}

/// Waits until nobody is there any more who wants an answer.
async fn hung_up(reader: &mut (impl AsyncBufRead + Unpin)) {
    while let Ok(rest @ 1..) = reader.fill_buf().await.map(<[u8]>::len) {
        reader.consume(rest);
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::Backlog;

    use super::*;

    /// Two agents with one socket: a revocation for one ring would end the keys of the other.
    #[test]
    fn each_ring_has_a_socket_of_its_own() {
        let at = |file: &str| Place { dir: "/x".into(), file: file.into(), dir_mode: 0o700 };
        for (file, expected) in [
            ("web.ring", "/x/web.agent"),
            ("web.pay", "/x/web.pay.agent"),
            ("web.public", "/x/web.public.agent"),
        ] {
            assert_eq!(socket(&at(file)), Path::new(expected));
        }
    }

    /// One that is stopped takes what was asked when it goes on, though nobody waits any more.
    #[test]
    fn an_agent_that_hangs_has_a_command_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.agent");
        let listener = UnixListener::bind(&path).unwrap();
        let revoke = Question::Revoke { keys: Which::All(All::All), wait: None };
        let patience = Duration::from_millis(50);
        let error = exchange(&path, &revoke, patience).unwrap_err();
        assert!(error.to_string().contains("may be done already, or be done yet"), "{error}");
        let (stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(stream).read_line(&mut asked).unwrap();
        assert_eq!(serde_json::from_str::<Question>(&asked).unwrap(), revoke);

        let error = exchange(&path, &Question::Peers {}, patience).unwrap_err();
        assert_eq!(error.to_string(), "its agent does not answer");
    }

    /// One that is stopped, for which so many wait that nobody else is let in.
    #[test]
    fn an_agent_for_which_too_many_wait_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.agent");
        let flags = SockFlag::SOCK_CLOEXEC;
        let agent = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        socket::bind(agent.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&agent, Backlog::new(1).unwrap()).unwrap();
        let patience = Duration::from_millis(50);
        let waiting: Vec<_> = (0..8).map_while(|_| connect(&path, patience).ok()).collect();
        assert!((1..8).contains(&waiting.len()), "{}", waiting.len());
        for question in [Question::Peers {}, Question::Rotate {}] {
            let error = exchange(&path, &question, patience).unwrap_err();
            assert_eq!(error.to_string(), "its agent does not answer");
        }
    }

    #[test]
    fn an_agent_that_was_killed_is_told_from_one_that_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.agent");
        let ask = || exchange(&path, &Question::Peers {}, PATIENCE_TO_LOOK).unwrap_err();
        assert!(matches!(ask(), AskError::NoAgent));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(), AskError::Gone));
    }

    #[test]
    fn questions_are_what_they_are_said_to_be() {
        let revoke = |keys| Question::Revoke { keys, wait: None };
        let cases = [
            (r#"{"ask":"peers"}"#, Question::Peers {}),
            (r#"{"ask":"ready"}"#, Question::Ready {}),
            (r#"{"ask":"rotate"}"#, Question::Rotate {}),
            (r#"{"ask":"revoke","keys":"all"}"#, revoke(Which::All(All::All))),
            (r#"{"ask":"revoke","keys":["ab"]}"#, revoke(Which::These(vec!["ab".into()]))),
            (
                r#"{"ask":"revoke","keys":"all","wait":1500}"#,
                Question::Revoke { keys: Which::All(All::All), wait: Some(1500) },
            ),
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
