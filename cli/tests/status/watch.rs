//! `tktrot watch`, with a terminal and without.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
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
    hung_up: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

/// Both sides of a new terminal (pty(7)). No program that is started gets our side: it would keep the
/// terminal from being hung up.
fn pair() -> Result<(File, File)> {
    let mut name = [0_u8; 64];
    // SAFETY: the descriptor is nobody else's, and the name has room.
    let ours = unsafe {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let ours = libc::posix_openpt(flags);
        if ours < 0
            || libc::grantpt(ours) != 0
            || libc::unlockpt(ours) != 0
            || libc::ptsname_r(ours, name.as_mut_ptr().cast(), name.len()) != 0
        {
            return Err(std::io::Error::last_os_error().into());
        }
        File::from_raw_fd(ours)
    };
    let name = CStr::from_bytes_until_nul(&name)?.to_str()?;
    let mut options = OpenOptions::new();
    let theirs = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name)?;
    Ok((ours, theirs))
}

fn set_size(terminal: &File, columns: u16, rows: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: a terminal of ours, and a valid size.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
}

impl Terminal {
    fn new(columns: u16, rows: u16) -> Result<Terminal> {
        let (ours, theirs) = pair()?;
        set_size(&ours, columns, rows);
        let (sender, written) = mpsc::channel();
        let mut reader = ours.try_clone()?;
        let hung_up = Arc::new(AtomicBool::new(false));
        let enough = Arc::clone(&hung_up);
        // Ends when nobody has the other side open any more, or we hang up.
        let reader = thread::spawn(move || {
            let mut part = [0; 4096];
            while !enough.load(Ordering::Relaxed) {
                let events = libc::POLLIN;
                let mut asked = libc::pollfd { fd: reader.as_raw_fd(), events, revents: 0 };
                // SAFETY: one valid pollfd.
                if unsafe { libc::poll(&mut asked, 1, 20) } == 0 {
                    continue;
                }
                match reader.read(&mut part) {
                    Ok(length @ 1..) if sender.send(part[..length].to_vec()).is_ok() => {}
                    _ => break,
                }
            }
        });
        Ok(Terminal { ours, theirs, written, screen: Vec::new(), hung_up, reader })
    }

    /// A command that has this terminal.
    fn command(&self, ring: &RingDir) -> Result<Command> {
        let mut command = command(ring, &["watch", "--interval", "0.2"]);
        command.env("TERM", "xterm-256color");
        command.stdin(self.theirs.try_clone()?);
        command.stdout(self.theirs.try_clone()?).stderr(self.theirs.try_clone()?);
        Ok(command)
    }

    /// Closes our side, as a terminal program that is closed or a connection that breaks does.
    fn hang_up(self) {
        self.hung_up.store(true, Ordering::Relaxed);
        let Terminal { ours, theirs, reader, .. } = self;
        let _ = reader.join();
        drop((ours, theirs));
    }

    fn resize(&self, columns: u16, rows: u16) {
        set_size(&self.ours, columns, rows);
    }

    /// Forgets what was written before.
    fn forget(&mut self) {
        while self.written.try_recv().is_ok() {}
        self.screen.clear();
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

/// Its exit status; `None` if a signal ended it.
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
    for way in ["q", "\x03", "\x04", "\x1b", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "--count"] {
        let mut terminal = Terminal::new(80, 24)?;
        let modes = terminal.modes()?;
        let mut command = terminal.command(&ring)?;
        if way == "--count" {
            command.args(["--count", "3"]);
        }
        let mut child = command.spawn()?;
        let seen = terminal.wait_for(ENTERED).and_then(|()| terminal.wait_for("stolen"));
        let in_raw_mode = terminal.modes()? != modes;
        match way {
            "q" | "\x03" | "\x04" | "\x1b" => terminal.ours.write_all(way.as_bytes())?,
            "--count" => {}
            name => {
                let signals = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];
                let names = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"];
                let at = names.iter().position(|other| *other == name).ok_or("no signal")?;
                // SAFETY: a signal to our own child, which was not yet waited for.
                unsafe { libc::kill(child.id() as i32, signals[at]) };
            }
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

/// As at Ctrl-S, or where nobody reads: whoever writes there waits.
#[test]
fn it_ends_when_asked_to_though_its_output_is_held() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    let mut terminal = Terminal::new(80, 24)?;
    let mut child = terminal.command(&ring)?.spawn()?;
    let seen = terminal.wait_for(ENTERED).and_then(|()| terminal.wait_for("stolen"));
    // SAFETY: a descriptor of ours.
    let held = unsafe { libc::tcflow(terminal.theirs.as_raw_fd(), libc::TCOOFF) };
    // SAFETY: a signal to our own child, which was not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let status = end_of(&mut child)?;
    seen?;
    assert_eq!((held, status), (0, None), "SIGALRM ends it");
    Ok(())
}

#[test]
fn of_several_rings_one_is_shown_and_tab_shows_the_next() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyrings = [keyring_with_keys(&ring, "first")?, keyring_with_keys(&ring, "second")?];
    let mut terminal = Terminal::new(120, 40)?;
    let mut child = terminal.command(&ring)?.spawn()?;
    let told = (|| -> Result<()> {
        for name in ["first.ring", "second.ring", "first.ring"] {
            terminal.wait_for(name)?;
            terminal.wait_for("Tab next of 2 rings")?;
            terminal.forget();
            // Everything is written again.
            terminal.resize(if name == "first.ring" { 121 } else { 120 }, 40);
            terminal.ours.write_all(b"\t")?;
        }
        Ok(())
    })();
    terminal.ours.write_all(b"q")?;
    let status = end_of(&mut child)?;
    told?;
    assert_eq!(status, Some(0));
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
        let (at, told) = line.split_once("Z  ").ok_or("no time")?;
        let digits = at.replace(|letter: char| letter.is_ascii_digit(), "0");
        assert_eq!(digits, "0000-00-00T00:00:00", "{line}");
        assert!(told.starts_with("ok "), "{line}");
        assert!(line.contains("users 1  per second 0.0 issued, 0.0 resumed"), "{line}");
    }
    assert!(!said.stdout.contains('\x1b'), "{said:?}");
    Ok(())
}

/// Its terminal is its controlling one, as for a user at a shell.
fn with_control(command: &mut Command) -> &mut Command {
    let control = || {
        // SAFETY: both are system calls; standard input is the terminal.
        match unsafe { libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1 } {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: what runs in the child makes system calls only.
    unsafe { command.pre_exec(control) }
}

#[test]
fn it_ends_when_its_terminal_goes() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    for controls in [true, false] {
        let mut terminal = Terminal::new(80, 24)?;
        let mut command = terminal.command(&ring)?;
        if controls {
            with_control(&mut command);
        }
        let mut child = command.spawn()?;
        // It has copies of the other side.
        drop(command);
        let seen = terminal.wait_for("stolen");
        terminal.hang_up();
        let status = end_of(&mut child)?;
        seen?;
        assert_eq!(status, Some(0), "the terminal controls: {controls}");
    }
    Ok(())
}

/// What is typed comes from another terminal than that which is drawn on.
#[test]
fn it_ends_when_nothing_can_be_typed_any_more() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    let (keyboard, mut terminal) = (Terminal::new(80, 24)?, Terminal::new(80, 24)?);
    let mut command = terminal.command(&ring)?;
    let mut child = command.stdin(keyboard.theirs.try_clone()?).spawn()?;
    drop(command);
    let seen = terminal.wait_for("stolen");
    keyboard.hang_up();
    let status = end_of(&mut child)?;
    seen?;
    assert_eq!(status, Some(0));
    terminal.wait_for(LEFT)
}

/// Waits until it is stopped, and says by what.
fn stopped(child: &Child) -> Result<i32> {
    let mut status = 0;
    wait::until(LIMIT, "the program to stop", || {
        // SAFETY: our own child, and a place for its status.
        let found = unsafe {
            let options = libc::WUNTRACED | libc::WNOHANG;
            libc::waitpid(child.id() as i32, &mut status, options)
        };
        (found == child.id() as i32).then_some(())
    })?;
    assert!(libc::WIFSTOPPED(status), "{status:x}");
    Ok(libc::WSTOPSIG(status))
}

#[test]
fn it_is_suspended_with_its_job_and_comes_back() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    for way in ["Ctrl-Z", "SIGTSTP", "SIGSTOP"] {
        let mut terminal = Terminal::new(80, 24)?;
        let modes = terminal.modes()?;
        // A job of its own: what is suspended is the whole of it.
        let mut child = terminal.command(&ring)?.process_group(0).spawn()?;
        let pid = child.id() as i32;
        let told = (|| -> Result<()> {
            terminal.wait_for("stolen")?;
            let raw = terminal.modes()?;
            assert_ne!(raw, modes);
            // SAFETY: a signal to our own child, which was not waited for.
            let signal = |signal| unsafe { libc::kill(pid, signal) };
            match way {
                "Ctrl-Z" => terminal.ours.write_all(b"\x1a")?,
                "SIGTSTP" => drop(signal(libc::SIGTSTP)),
                _ => drop(signal(libc::SIGSTOP)),
            }
            let by = stopped(&child)?;
            if way == "SIGSTOP" {
                assert_eq!(by, libc::SIGSTOP);
                // As a shell does, which nobody has told of raw modes.
                restore(&terminal, modes)?;
            } else {
                assert_eq!(by, libc::SIGTSTP, "{way}");
                assert_eq!(terminal.modes()?, modes, "{way}");
                terminal.wait_for(LEFT)?;
            }
            terminal.forget();
            signal(libc::SIGCONT);
            terminal.wait_for(ENTERED)?;
            terminal.wait_for("stolen")?;
            assert_eq!(terminal.modes()?, raw, "{way}");
            Ok(())
        })();
        terminal.ours.write_all(b"q")?;
        let status = end_of(&mut child)?;
        told?;
        assert_eq!(status, Some(0), "{way}");
        assert_eq!(terminal.modes()?, modes, "{way}");
    }
    Ok(())
}

fn restore(terminal: &Terminal, modes: libc::tcflag_t) -> Result<()> {
    let mut all = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: a terminal of ours and its modes, which are used if they were filled.
    unsafe {
        if libc::tcgetattr(terminal.theirs.as_raw_fd(), all.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let mut all = all.assume_init();
        all.c_lflag = modes;
        libc::tcsetattr(terminal.theirs.as_raw_fd(), libc::TCSANOW, &all);
    }
    Ok(())
}

#[test]
fn more_is_shown_as_the_terminal_grows_and_help_when_asked_for() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    let mut terminal = Terminal::new(80, 16)?;
    let mut command = terminal.command(&ring)?;
    let mut child = with_control(&mut command).spawn()?;
    let told = (|| -> Result<()> {
        terminal.wait_for("q quits")?;
        let small = String::from_utf8_lossy(&terminal.screen).contains("keys, the next first");
        assert!(!small);
        terminal.resize(120, 40);
        terminal.wait_for("keys, the next first")?;
        // The process that has it is this one. Blanks are not written.
        terminal.wait_for("encrypts")?;
        terminal.wait_for(&std::process::id().to_string())?;
        terminal.ours.write_all(b"?")?;
        // A cell that stays as it was is not written again.
        terminal.wait_for("Ctrl-Z")?;
        terminal.forget();
        terminal.ours.write_all(b"?")?;
        terminal.wait_for("refreshed")
    })();
    terminal.ours.write_all(b"q")?;
    let status = end_of(&mut child)?;
    told?;
    assert_eq!(status, Some(0));
    Ok(())
}
