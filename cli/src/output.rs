//! What commands print. An output that cannot be written, because its disk is full or its reader has
//! gone, stops nothing: what a command has begun it does to its end.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::Mutex;

/// The first failure, but for that of a reader who has seen enough.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints to the standard output.
pub fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if error.kind() != io::ErrorKind::BrokenPipe
        && let Ok(mut failure) = FAILURE.lock()
    {
        failure.get_or_insert(error);
    }
}

/// Prints to the standard error output; nobody can be told if that fails.
pub fn complain(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Why not all was printed, if so.
pub fn failure() -> Option<io::Error> {
    FAILURE.lock().ok()?.take()
}

/// As `println!`.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// As `print!`.
macro_rules! out {
    ($($argument:tt)*) => { $crate::output::print(format_args!($($argument)*)) };
}

/// As `eprintln!`.
macro_rules! errln {
    ($($argument:tt)*) => {
        $crate::output::complain(format_args!("{}\n", format_args!($($argument)*)))
    };
}

pub(crate) use {errln, out, outln};
