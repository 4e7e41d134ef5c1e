//! The command of an entry: run without a shell, for a limited time; its last line of output is
//! kept.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time;

/// How long the output of a command is waited for that has ended: a child of its own may have it.
const AFTERWARDS: Duration = Duration::from_millis(200);
/// How much of the output is looked at, from its end.
const KEPT: usize = 4096;
/// Characters of a line that are kept.
const LINE: usize = 200;

/// Runs it to its end; returns the last line that it wrote.
///
/// # Errors
///
/// It cannot be started, it fails, or its time is over; then it is killed, with those that it
/// started and that stayed in its process group.
pub async fn run(command: &[String], limit: Duration) -> Result<Option<String>> {
    let (program, arguments) = command.split_first().context("the command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("command {program}: cannot start it"))?;
    let mut output = Output::of(&mut child);
    let ended = time::timeout(limit, output.beside(child.wait())).await;
    let Ok(status) = ended else {
        kill(&mut child).await;
        let said = output.last_line().map(|line| format!("; it said: {line}")).unwrap_or_default();
        bail!("command {program}: killed, it did not end within {} s{said}", limit.as_secs_f32());
    };
    // What is in the pipe still, but a daemon that it left behind has the pipe, too.
    let _ = time::timeout(AFTERWARDS, output.read()).await;
    let said = output.last_line();
    let status = status.with_context(|| format!("command {program}"))?;
    if !status.success() {
        let said = said.unwrap_or_else(|| "it said nothing".into());
        bail!("command {program}: {status}: {said}");
    }
    Ok(said)
}

/// Ends the process and its group, and takes it out of the process table.
async fn kill(child: &mut Child) {
    // It has not been waited for, so its number is still its own, and its group's.
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait().await;
}

/// The ends of what a command writes to its two pipes.
struct Output {
    pipes: [Option<Box<dyn AsyncRead + Unpin>>; 2],
    tails: [Vec<u8>; 2],
}

impl Output {
    fn of(child: &mut Child) -> Output {
        let out = child.stdout.take().map(|pipe| Box::new(pipe) as _);
        let err = child.stderr.take().map(|pipe| Box::new(pipe) as _);
        Output { pipes: [out, err], tails: [Vec::new(), Vec::new()] }
    }

    /// Reads while something else goes on: a full pipe would stop the command.
    async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        tokio::select! {
            done = &mut other => done,
            () = self.read() => other.await,
        }
    }

    /// Reads both to their ends.
    async fn read(&mut self) {
        let ([out, err], [out_tail, err_tail]) = (&mut self.pipes, &mut self.tails);
        tokio::join!(drain(out, out_tail), drain(err, err_tail));
    }

    /// The last line of standard error, else of standard output.
    fn last_line(&self) -> Option<String> {
        self.tails.iter().rev().find_map(|tail| last_line(tail))
    }
}

async fn drain(pipe: &mut Option<Box<dyn AsyncRead + Unpin>>, tail: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Some(reader) = pipe {
        let read: io::Result<usize> = reader.read(&mut chunk).await;
        match read {
            Ok(len) if len > 0 => tail.extend_from_slice(&chunk[..len]),
            _ => *pipe = None,
        }
        tail.drain(..tail.len().saturating_sub(KEPT));
    }
}

fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|character| !character.is_control()).take(LINE).collect())
}
