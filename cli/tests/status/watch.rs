//! `tktrot watch`, with a terminal and without.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use testbed::{RingDir, wait};

use crate::program::{Result, command, keyring_with_keys, tktrot};

const LIMIT: Duration = Duration::from_secs(30);

/// The sequences that enter and leave the alternate screen (console_codes(4), xterm).
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

/// A terminal: our side, and the program's.
struct Terminal {
    ours: File,
    theirs: File,
    written: Receiver<Vec<u8>>,
    screen: Vec<u8>,
}

impl Terminal {
    fn new(columns: u16, rows: u16) -> Result<Terminal> {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (name, modes) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: valid places for two descriptors, and a valid size.
        if unsafe { libc::openpty(&mut ours, &mut theirs, name, modes, &size) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: openpty made both, and nobody else owns them.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let (sender, written) = mpsc::channel();
        let mut reader = ours.try_clone()?;
        // Ends when nobody has the other side open any more.
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut part) {
                if sender.send(part[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Terminal { ours, theirs, written, screen: Vec::new() })
    }

    fn modes(&self) -> Result<libc::tcflag_t> {
        let mut modes = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: a terminal of ours and a place for its modes, which are read if they were filled.
        unsafe {
            match libc::tcgetattr(self.theirs.as_raw_fd(), modes.as_mut_ptr()) {
                0 => Ok(modes.assume_init().c_lflag),
                _ => Err(std::io::Error::last_os_error().into()),
            }
        }
    }

    /// Waits until the program wrote this.
    fn wait_for(&mut self, text: &str) -> Result<()> {
        let screen = &mut self.screen;
        let written = &self.written;
        wait::until(LIMIT, &format!("{text:?} on the terminal"), || {
            while let Ok(part) = written.try_recv() {
                screen.extend(part);
            }
            String::from_utf8_lossy(screen).contains(text).then_some(())
        })
        .map_err(|late| format!("{late}: {}", String::from_utf8_lossy(screen)).into())
    }
}

fn end_of(child: &mut Child) -> Result<Option<i32>> {
    let ended = wait::until(LIMIT, "the end of watch", || child.try_wait().ok().flatten());
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    Ok(ended?.code())
}

#[test]
fn every_way_to_leave_restores_the_terminal() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    for way in ["q", "\x03", "a signal", "--count"] {
        let mut terminal = Terminal::new(80, 24)?;
        let modes = terminal.modes()?;
        let mut arguments = vec!["watch", "--interval", "0.2"];
        if way == "--count" {
            arguments.extend(["--count", "3"]);
        }
        let mut child = command(&ring, &arguments)
            .env("TERM", "xterm-256color")
            .stdin(terminal.theirs.try_clone()?)
            .stdout(terminal.theirs.try_clone()?)
            .stderr(terminal.theirs.try_clone()?)
            .spawn()?;
        let seen = terminal.wait_for(ENTERED).and_then(|()| terminal.wait_for("stolen"));
        let in_raw_mode = terminal.modes()? != modes;
        match way {
            "q" | "\x03" => terminal.ours.write_all(way.as_bytes())?,
            // SAFETY: a signal to our own child, which was not yet waited for.
            "a signal" => drop(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }),
            _ => {}
        }
        let status = end_of(&mut child)?;
        seen?;
        assert!(in_raw_mode || way == "--count");
        assert_eq!(status, Some(0), "{way:?}");
        terminal.wait_for(LEFT)?;
        assert_eq!(terminal.modes()?, modes, "{way:?}");
    }
    Ok(())
}

#[test]
fn without_a_terminal_there_are_lines_and_as_many_as_asked_for() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    let said = tktrot(&ring, &["watch", "some", "--count", "3", "--interval", "0.1"])?;
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    for line in lines {
        assert!(line.contains("users 1  per second 0.0 issued, 0.0 resumed"), "{line}");
    }
    assert!(!said.stdout.contains('\x1b'), "{said:?}");
    Ok(())
}
