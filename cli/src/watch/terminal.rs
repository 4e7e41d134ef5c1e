//! The terminal that is drawn on: how it is entered and left, what is typed there, and what ends or
//! suspends the program.

use std::io::{self, ErrorKind, stdout};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen,
};
use ratatui::{DefaultTerminal, Frame};

/// How soon a new size, and a signal that came just before a wait, are noticed.
const GLANCE: Duration = Duration::from_millis(250);
/// After an Esc, the rest of what an arrow key sends comes within this.
const REST_OF_A_KEY: i32 = 50;

/// So many seconds a terminal has to take what restores it.
const TO_RESTORE: libc::c_uint = 2;

static ASKED_TO_END: AtomicBool = AtomicBool::new(false);
static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);
static CONTINUED: AtomicBool = AtomicBool::new(false);

/// What happened on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Typed(u8),
    /// It has another size, or others have written on it: draw again.
    Redraw,
    /// It is gone, or the program was asked to end.
    End,
}

/// A terminal in raw mode, with its other screen. Leaves both when it is dropped; a panic leaves them,
/// too.
pub struct Terminal {
    /// Never dropped: on a terminal that is gone, its end would be a panic, because it complains there.
    terminal: ManuallyDrop<DefaultTerminal>,
    size: Option<(u16, u16)>,
}

impl Terminal {
    pub fn enter() -> Result<Terminal> {
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            handle(signal, note_end);
        }
        handle(libc::SIGTSTP, note_stop);
        handle(libc::SIGCONT, note_continued);
        let terminal = ratatui::try_init().context("cannot draw on the terminal")?;
        Ok(Terminal { terminal: ManuallyDrop::new(terminal), size: terminal::size().ok() })
    }

    /// False if the terminal is gone.
    pub fn draw(&mut self, what: impl FnOnce(&mut Frame)) -> Result<bool> {
        match self.terminal.draw(what) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error).context("cannot draw on the terminal"),
        }
    }

    /// Waits for something to happen; `None` if nothing did until then.
    pub fn wait(&mut self, until: Instant) -> Result<Option<Event>> {
        loop {
            if ASKED_TO_END.load(Ordering::Relaxed) {
                return Ok(Some(Event::End));
            }
            if ASKED_TO_STOP.swap(false, Ordering::Relaxed) {
                return self.suspend(false).map(Some);
            }
            if CONTINUED.swap(false, Ordering::Relaxed) {
                // Whoever continued us has set the modes as they like them.
                leave();
                return self.resume().map(Some);
            }
            let size = terminal::size().ok();
            if size != self.size {
                self.size = size;
                return Ok(Some(Event::Redraw));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match typed(left.min(GLANCE))? {
                Some(Event::Typed(CONTROL_Z)) => return self.suspend(true).map(Some),
                None => {}
                event => return Ok(event),
            }
        }
    }

    /// Gives the terminal back and stops, as other programs do at Ctrl-Z: this process, or all of
    /// its job. Returns when it is continued.
    fn suspend(&mut self, all_of_the_job: bool) -> Result<Event> {
        leave();
        // SAFETY: the signals are valid, and 0 stands for our own process group.
        unsafe {
            libc::signal(libc::SIGTSTP, libc::SIG_DFL);
            if all_of_the_job {
                libc::kill(0, libc::SIGTSTP);
            } else {
                libc::raise(libc::SIGTSTP);
            }
        }
        handle(libc::SIGTSTP, note_stop);
        CONTINUED.store(false, Ordering::Relaxed);
        self.resume()
    }

    fn resume(&mut self) -> Result<Event> {
        let entered = terminal::enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All)))
            // A new one, which knows of nothing that is drawn already; `clear` would ask the terminal
            // where its cursor is, and wait for the answer.
            .and_then(|()| ratatui::Terminal::new(CrosstermBackend::new(stdout())));
        match entered {
            Ok(terminal) => {
                self.terminal = ManuallyDrop::new(terminal);
                Ok(Event::Redraw)
            }
            Err(error) if is_gone(&error) => Ok(Event::End),
            Err(error) => Err(error).context("cannot draw on the terminal"),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
    }
}

/// A terminal that is gone has nothing to be restored; what is typed may come from another one.
fn leave() {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}

/// Ctrl-Z and Esc, in raw mode.
const CONTROL_Z: u8 = 0x1a;
const ESCAPE: u8 = 0x1b;

/// What was typed within this time: one key, for the next wait finds those that follow.
fn typed(limit: Duration) -> Result<Option<Event>> {
    let mut key = [0];
    match read(&mut key, limit.as_millis().max(1) as i32) {
        Ok(None) => return Ok(None),
        Ok(Some(0)) => return Ok(Some(Event::End)),
        Ok(Some(_)) => {}
        Err(error) if is_gone(&error) => return Ok(Some(Event::End)),
        Err(error) => return Err(error).context("cannot read the terminal"),
    }
    // A function key, of which none has a meaning.
    if key == [ESCAPE] && matches!(read(&mut [0; 64], REST_OF_A_KEY), Ok(Some(1..))) {
        return Ok(None);
    }
    Ok(Some(Event::Typed(key[0])))
}

/// Reads standard input; `None` if nothing comes, or a signal does.
fn read(keys: &mut [u8], milliseconds: i32) -> io::Result<Option<usize>> {
    let mut asked = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd; and a buffer that is as long as it is said to be.
    let result = unsafe {
        match libc::poll(&mut asked, 1, milliseconds) {
            0 => return Ok(None),
            1 => libc::read(libc::STDIN_FILENO, keys.as_mut_ptr().cast(), keys.len()),
            _ => -1,
        }
    };
    match usize::try_from(result) {
        Ok(number) => Ok(Some(number)),
        Err(_) => match io::Error::last_os_error() {
            error if [ErrorKind::Interrupted, ErrorKind::WouldBlock].contains(&error.kind()) => {
                Ok(None)
            }
            error => Err(error),
        },
    }
}

/// True if it says that a terminal was hung up (tty_ioctl(4), pty(7)).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
        || [Some(libc::EIO), Some(libc::ENXIO), Some(libc::ENOTTY)].contains(&error.raw_os_error())
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: each handler only stores to an atomic, or sets an alarm.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

extern "C" fn note_end(_signal: libc::c_int) {
    ASKED_TO_END.store(true, Ordering::Relaxed);
    // A terminal whose output is held (Ctrl-S, or nobody reads it) cannot be restored, and lets nobody
    // go who writes to it: SIGALRM ends the program then.
    // SAFETY: async-signal-safe (signal-safety(7)), and takes a number.
    unsafe { libc::alarm(TO_RESTORE) };
}

extern "C" fn note_stop(_signal: libc::c_int) {
    ASKED_TO_STOP.store(true, Ordering::Relaxed);
}

extern "C" fn note_continued(_signal: libc::c_int) {
    CONTINUED.store(true, Ordering::Relaxed);
}
