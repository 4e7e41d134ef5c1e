//! The keys, and the terminal as it was before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::Rounds;
use super::history::History;
use super::screen::{self, Shown};
use crate::severity::Severity;
use crate::status::observer::Observer;

/// How soon a signal that asks for the end is noticed.
const GLANCE: Duration = Duration::from_millis(250);

static ASKED_TO_END: AtomicBool = AtomicBool::new(false);

/// Draws until q, Ctrl-C or a signal; the terminal is restored then, and after a panic, too.
pub fn draw(observer: Observer, rounds: &Rounds) -> Result<Severity> {
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        let handler = note as extern "C" fn(libc::c_int);
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let result = run(&mut terminal, observer, rounds);
    ratatui::restore();
    result.map(|()| Severity::Fine)
}

extern "C" fn note(_signal: libc::c_int) {
    ASKED_TO_END.store(true, Ordering::Relaxed);
}

fn run(
    terminal: &mut ratatui::DefaultTerminal,
    mut observer: Observer,
    rounds: &Rounds,
) -> Result<()> {
    let mut history = History::default();
    let mut looks = 0;
    loop {
        let reading = observer.read().map_err(|error| format!("{error:#}"));
        // The first look has nothing to compare with.
        if looks > 0 && reading.is_ok() {
            history.add(observer.rates());
        }
        looks += 1;
        let shown = Shown { reading: &reading, history: &history, interval: rounds.interval };
        terminal.draw(|frame| screen::draw(frame, &shown))?;
        if rounds.are_over(looks) {
            return Ok(());
        }
        let next = Instant::now() + rounds.interval;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if ASKED_TO_END.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !event::poll(left.min(GLANCE))? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if leaves(key) => return Ok(()),
                Event::Resize(..) => {
                    terminal.draw(|frame| screen::draw(frame, &shown))?;
                }
                _ => {}
            }
        }
    }
}

fn leaves(key: KeyEvent) -> bool {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => with_control,
            _ => false,
        }
}
