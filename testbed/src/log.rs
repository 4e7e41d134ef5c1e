//! What servers and commands write, and the lines of libtktrot among it.

use std::process::Output;

/// All that a command wrote.
pub fn said(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Our lines in what a server wrote, in order.
pub fn ours(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("tktrot[")).collect()
}
