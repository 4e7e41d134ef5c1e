//! HAProxy's admin socket: the keys in a HAProxy's memory become those of its file, without a
//! reload.
//!
//! HAProxy has three keys in a row, of which the second encrypts. `set ssl tls-key` appends one and
//! drops the first, so at a rotation one such command switches: what was the next key encrypts
//! then, and it is known everywhere. After a revocation it takes up to three commands, and for
//! the moment between two of them another key of the row encrypts: the next one, which is also
//! known, or the revoked one for the last time, whose ticket then costs a full handshake.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tktrot::ring::key::Key;
use tktrot_keyfile::{self as keyfile, Bytes, haproxy::LINES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time;
use zeroize::Zeroizing;

/// No answer of those that are asked for is longer, unless HAProxy has hundreds of key files.
const ANSWER: usize = 64 * 1024;

/// Why HAProxy has not got its keys.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens: it does not run, and reads its file when it starts.
    Absent(io::Error),
    /// It cannot be talked to.
    Io(io::Error),
    /// It did not answer within this time.
    Late(Duration),
    /// It lets this user see no keys.
    NotAdmin,
    /// None of its bind lines reads this file.
    NotItsFile(PathBuf),
    /// It has so many keys in a row.
    OtherRow(usize),
    /// It answers more than it can have to say.
    TooLong,
    /// It has not taken the keys, and says this.
    NotTaken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Absent(error) | Failure::Io(error) => error.fmt(f),
            Failure::Late(limit) => write!(f, "it did not answer within {} s", limit.as_secs_f32()),
            Failure::NotAdmin => f.write_str("its `stats socket` line needs `level admin`"),
            Failure::NotItsFile(file) => {
                write!(f, "no bind line of this HAProxy says `tls-ticket-keys {}`", file.display())
            }
            Failure::OtherRow(keys) => write!(
                f,
                "it has {keys} keys in a row; only rows of {LINES} can be kept up to date"
            ),
            Failure::TooLong => f.write_str("its answer is too long"),
            Failure::NotTaken(answer) => {
                write!(f, "set ssl tls-key: HAProxy did not take the keys: {answer}")
            }
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::Absent(error),
            _ => Failure::Io(error),
        }
    }
}

/// Three lines of base64: what HAProxy is to have.
pub struct Row(Bytes);

impl Row {
    pub fn of(keys: [&Key; LINES]) -> Row {
        Row(keyfile::haproxy::format(keys))
    }

    fn lines(&self) -> Vec<&str> {
        std::str::from_utf8(&self.0).unwrap_or_default().lines().collect()
    }
}

/// Gives HAProxy the keys that are in `file`.
///
/// # Errors
///
/// It does not run, or does not take them.
pub async fn bring(socket: &Path, file: &Path, row: &Row, limit: Duration) -> Result<(), Failure> {
    let brought = time::timeout(limit, brought(socket, file, row)).await;
    brought.unwrap_or(Err(Failure::Late(limit)))
}

async fn brought(socket: &Path, file: &Path, row: &Row) -> Result<(), Failure> {
    let id = id_of(&ask(socket, b"show tls-keys\n").await?, file)?;
    let show = format!("show tls-keys #{id}\n");
    let wanted = row.lines();
    let lacking = lacking(&ask(socket, show.as_bytes()).await?, &wanted)?;
    if lacking == 0 {
        return Ok(());
    }
    let mut command = Zeroizing::new(Vec::with_capacity(1024));
    for line in &wanted[LINES - lacking..] {
        command.extend_from_slice(format!("set ssl tls-key #{id} ").as_bytes());
        command.extend_from_slice(line.as_bytes());
        command.push(b';');
    }
    command.push(b'\n');
    let answer = ask(socket, &command).await?;
    if self::lacking(&ask(socket, show.as_bytes()).await?, &wanted)? > 0 {
        let answer = String::from_utf8_lossy(&answer).trim().replace('\n', " ");
        return Err(Failure::NotTaken(answer));
    }
    Ok(())
}

/// A line of commands, and all that is answered. HAProxy answers and hangs up when it has read one, so
/// it is written in one piece: a part that came later would find nobody.
async fn ask(socket: &Path, line: &[u8]) -> Result<Bytes, Failure> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(line).await?;
    let mut answer = Zeroizing::new(vec![0; ANSWER]);
    let mut len = 0;
    loop {
        let read = stream.read(&mut answer[len..]).await?;
        len += read;
        if read == 0 {
            break;
        }
    }
    if len == ANSWER {
        return Err(Failure::TooLong);
    }
    answer.truncate(len);
    Ok(answer)
}

/// What HAProxy answers, in upper or lower case, to whoever has no right to a command: its socket has no
/// codes.
const DENIED: &str = "permission denied";

/// By which number HAProxy knows the keys that it read from that file.
fn id_of(answer: &[u8], file: &Path) -> Result<u32, Failure> {
    let text = String::from_utf8_lossy(answer);
    let entries = text.lines().filter_map(|line| {
        let (id, path) = line.strip_suffix(')')?.split_once(" (")?;
        Some((id.parse::<u32>().ok()?, Path::new(path)))
    });
    let whole = file.canonicalize().ok();
    let is_it = |path: &Path| path == file || whole.is_some() && path.canonicalize().ok() == whole;
    let found = entries.into_iter().find(|(_, path)| is_it(path));
    match found {
        Some((id, _)) => Ok(id),
        None if text.to_ascii_lowercase().contains(DENIED) => Err(Failure::NotAdmin),
        None => Err(Failure::NotItsFile(file.to_owned())),
    }
}

/// How many of the wanted keys, from the last on, it takes for HAProxy to have just those.
fn lacking(answer: &[u8], wanted: &[&str]) -> Result<usize, Failure> {
    let there = keys_of(answer);
    if there.len() != LINES {
        return Err(Failure::OtherRow(there.len()));
    }
    let same = |a: &[u8], b: &str| a.len() == b.len() && openssl::memcmp::eq(a, b.as_bytes());
    let fits = |lacking: usize| there[lacking..].iter().zip(wanted).all(|(a, b)| same(a, b));
    Ok((0..LINES).find(|lacking| fits(*lacking)).unwrap_or(LINES))
}

/// The keys that HAProxy shows, each as it would be in its file: `0.2 BASE64`.
fn keys_of(answer: &[u8]) -> Vec<&[u8]> {
    let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
    let key = |line: &'_ [u8]| line.iter().position(|byte| *byte == b' ').map(|at| at + 1);
    lines.filter_map(|line| key(line).map(|at| &line[at..])).collect()
}
