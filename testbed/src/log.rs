//! What servers and commands write, and the lines of libtktrot among it.

use std::process::Output;

/// All that a command wrote.
pub fn said(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// What a run of a command came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to the standard output.
    pub stdout: String,
    /// What it wrote to the standard error.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let status = output.status.code();
        Said { status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Our lines in what a server wrote, in order.
pub fn ours(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("tktrot[")).collect()
}
