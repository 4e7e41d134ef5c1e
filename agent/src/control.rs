//! The agent's side of [`super::ask`]: root and its own user may ask, a few at a time, and not for
//! long.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::ask::{self, Question, Reply};

/// So many ask at once at most; others wait.
const AT_ONCE: usize = 16;
/// A question is a line, and comes at once.
const QUESTION_WITHIN: Duration = Duration::from_secs(2);
/// All names of a full ring fit.
const QUESTION_LENGTH: u64 = 1 << 20;
/// An answer is taken at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A question for the driver, and where the answer goes.
pub type Asked = (Question, oneshot::Sender<Reply>);

/// The socket, made with the rights of this moment. What lies there is a former agent's: this one
/// has the ring for itself.
pub fn bind(path: &Path) -> Result<StdListener> {
    let bound = || -> io::Result<StdListener> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = StdListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bound().with_context(|| format!("{}: the control socket cannot be made", path.display()))
}

/// Answers until the agent ends.
pub async fn serve(listener: StdListener, user: Uid, driver: mpsc::Sender<Asked>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the control socket does not work"),
    };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let driver = driver.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = converse(stream, user, &driver).await {
                        tracing::debug!(%error, "a question was not answered");
                    }
                    drop(place);
                });
            }
            // No descriptor is left: the next attempt may find one.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(mut stream: UnixStream, user: Uid, driver: &mpsc::Sender<Asked>) -> Result<()> {
    let peer = Uid::from_raw(stream.peer_cred()?.uid());
    if !peer.is_root() && peer != user {
        bail!("user {peer} may not ask");
    }
    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(QUESTION_LENGTH));
    timeout(QUESTION_WITHIN, reader.read_line(&mut line)).await??;
    let reply = match serde_json::from_str(&line) {
        Ok(question) => {
            let (answer, answered) = oneshot::channel();
            driver.send((question, answer)).await?;
            answered.await.unwrap_or_else(|_| Reply::Error("it stops".into()))
        }
        Err(error) => Reply::Error(format!("this is no question: {error}")),
    };
    timeout(ANSWER_WITHIN, writer.write_all(&ask::line(&reply)?)).await??;
    Ok(())
}
