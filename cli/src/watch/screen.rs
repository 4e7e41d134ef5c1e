//! What a terminal shows of a ring, and what it remembers of the looks before.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline, Wrap};

use crate::output::{in_words, percent, wrapped};
use crate::severity::Severity;
use crate::status::alarms::{Alarm, Remark, alarms, remarks, worst};
use crate::status::counters::Rates;
use crate::status::ring::RingStatus;
use crate::status::text;

/// What is drawn.
pub struct Shown<'s> {
    pub status: &'s Result<RingStatus, String>,
    pub history: &'s History,
    pub interval: Duration,
    /// How many rings there are to choose from.
    pub rings: usize,
    /// True if the keys that can be typed are explained.
    pub help: bool,
}

/// A graph: what it shows, in which colour.
type Series = (&'static str, Color, fn(&Rates) -> f64);

const SERIES: [Series; 3] = [
    ("resumed", Color::Green, |rates| rates.resumed),
    ("issued", Color::Blue, |rates| rates.issued),
    ("turned away", Color::Red, |rates| rates.refused),
];

/// Tells tickets from handshakes.
const LEGEND: &str = "tickets/s; issued: full handshake 1 (TLS 1.2) or 2 (1.3), 1.3 resumption 1";

/// The legend, and a row for each graph.
const GRAPHS_AT_LEAST: usize = 1 + SERIES.len();

/// Rows with which the graphs can be read.
const GRAPHS_TO_READ: usize = 1 + 3 * SERIES.len();

/// A heading, two keys and what is left out.
const DETAILS_AT_LEAST: usize = 4;

/// As wide as a line about a key, and a gap.
const KEY_COLUMN: u16 = 54;

/// The column after the labels.
const LABEL: usize = 11;

/// Fills the screen.
pub fn draw(frame: &mut Frame, shown: &Shown) {
    let [body, foot] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(foot_of(shown).len() as u16)])
            .areas(frame.area());
    match shown.status {
        Ok(status) => draw_status(frame, body, status, shown.history),
        Err(error) => {
            let block = framed("no ring", Severity::Critical);
            let text = Paragraph::new(error.as_str()).wrap(Wrap { trim: true });
            frame.render_widget(text.block(block), body);
        }
    }
    let foot_lines = foot_of(shown).into_iter().map(|line| Line::styled(line, Modifier::DIM));
    frame.render_widget(Paragraph::new(foot_lines.collect::<Vec<_>>()), foot);
}

const HELP: [&str; 5] = [
    " q, Esc, Ctrl-C quit   Ctrl-Z suspends, fg resumes   Tab next ring   ? no help",
    " keys: announced, encrypts later; active, encrypts; retired, only decrypts",
    " tickets: turned away, of no key in the ring, or refused: a full handshake",
    " the bar shows how much of its time the active key has served",
    " a larger terminal (120 x 40) shows every key and process",
];

fn foot_of(shown: &Shown) -> Vec<String> {
    if shown.help {
        return HELP.map(str::to_owned).into();
    }
    let switch = match shown.rings {
        ..=1 => String::new(),
        rings => format!("   Tab next of {rings} rings"),
    };
    vec![format!(" q quits   ? help{switch}   refreshed every {}", in_words(shown.interval))]
}

fn draw_status(frame: &mut Frame, area: Rect, status: &RingStatus, history: &History) {
    let alarms = alarms(status);
    let block = framed(&status.path, worst(&alarms));
    let inner = block.inner(area);
    frame.render_widget(block, area);

    let width = usize::from(inner.width);
    let facts = facts(status, width);
    let mut told = alarm_lines(&alarms, width);
    told.extend(remark_lines(&remarks(status), width));
    let fixed = facts.len() + 1 + GRAPHS_AT_LEAST;
    let told = shortened(told, usize::from(inner.height).saturating_sub(fixed));
    let used = facts.len() + 1 + GRAPHS_TO_READ + told.len();
    let details = details(status, usize::from(inner.height).saturating_sub(used), width);
    let [facts_area, gauge_area, details_area, graphs_area, told_area] = Layout::vertical([
        Constraint::Length(facts.len() as u16),
        Constraint::Length(1),
        Constraint::Length(details.iter().map(Vec::len).max().unwrap_or(0) as u16),
        Constraint::Fill(1),
        Constraint::Length(told.len() as u16),
    ])
    .areas(inner);
    frame.render_widget(Paragraph::new(facts), facts_area);
    draw_gauge(frame, gauge_area, status);
    let columns: [Rect; 2] =
        Layout::horizontal([Constraint::Length(KEY_COLUMN), Constraint::Fill(1)])
            .areas(details_area);
    for (lines, column) in details.into_iter().zip(columns) {
        frame.render_widget(Paragraph::new(lines), column);
    }
    draw_graphs(frame, graphs_area, history);
    frame.render_widget(Paragraph::new(told), told_area);
}

fn facts(status: &RingStatus, width: usize) -> Vec<Line<'static>> {
    let ratio = status.counters.resumption_ratio();
    let ratio = ratio.map_or("none came back yet".into(), |_| {
        let counters = &status.counters;
        format!(
            "{} of the tickets that came back",
            percent(counters.resumed(), counters.returned())
        )
    });
    let keys = format!("{}{}", text::key_counts(status), text::bound(status));
    let mut lines: Vec<_> = wrapped(&text::exposure(status), width)
        .into_iter()
        .map(|line| Line::styled(line, Modifier::BOLD))
        .collect();
    let told = [
        ("active key", text::active(status)),
        ("keys", keys),
        ("users", users(status)),
        ("resumed", ratio),
    ];
    let governed = status.is_governed().then(|| ("governed", text::governed(status)));
    for (what, told) in told.into_iter().chain(governed) {
        let mut what = what;
        for line in wrapped(&told, width.saturating_sub(LABEL)) {
            let label = Span::styled(format!("{what:LABEL$}"), Modifier::DIM);
            lines.push(Line::from(vec![label, Span::raw(line)]));
            what = "";
        }
    }
    lines
}

/// The keys, and the processes beside them, if there is room for them.
fn details(status: &RingStatus, room: usize, width: usize) -> [Vec<Line<'static>>; 2] {
    if room < DETAILS_AT_LEAST {
        return Default::default();
    }
    let keys: Vec<_> = status.keys.iter().rev().map(text::key).collect();
    // It is aligned for a page that has labels before it.
    let users: Vec<_> =
        status.users.iter().map(|user| text::user(user).trim_start().to_owned()).collect();
    let has_both = width >= 2 * usize::from(KEY_COLUMN);
    let users = if has_both { column("users", users, room) } else { Vec::new() };
    [column("keys, the next first", keys, room), users]
}

/// A heading, and what there is room for below it.
fn column(heading: &'static str, mut lines: Vec<String>, room: usize) -> Vec<Line<'static>> {
    let left_out = (lines.len() + 1).saturating_sub(room);
    if left_out > 0 {
        lines.truncate(room.saturating_sub(2));
        lines.push(format!("… {} more: `tktrot status` shows all", left_out + 1));
    }
    let heading = Line::styled(heading, Modifier::DIM);
    std::iter::once(heading).chain(lines.into_iter().map(Line::raw)).collect()
}

fn users(status: &RingStatus) -> String {
    let seen = status.serving().count();
    let hidden = match status.hidden_processes {
        0 => String::new(),
        number => format!("; {} to this user", text::hidden(number)),
    };
    format!("{seen}{hidden}")
}

/// How much of its time the active key has served.
fn draw_gauge(frame: &mut Frame, area: Rect, status: &RingStatus) {
    let Some(key) = status.active_key() else { return };
    let life = (key.age + key.encrypts_for).as_secs_f64();
    let ratio = if life > 0.0 { (key.age.as_secs_f64() / life).clamp(0.0, 1.0) } else { 1.0 };
    let gauge = Gauge::default()
        .ratio(ratio)
        .label(format!("{} for {}", key.name, in_words(key.encrypts_for)))
        .gauge_style(Style::new().fg(Color::Cyan).bg(Color::DarkGray));
    frame.render_widget(gauge, area);
}

fn draw_graphs(frame: &mut Frame, area: Rect, history: &History) {
    let [legend, graphs] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::styled(LEGEND, Modifier::DIM), legend);
    let areas: [Rect; 3] = Layout::vertical([Constraint::Fill(1); 3]).areas(graphs);
    for ((what, colour, rate), area) in SERIES.into_iter().zip(areas) {
        let [label, bars] =
            Layout::horizontal([Constraint::Length(22), Constraint::Fill(1)]).areas(area);
        let bars_of = history.bars(rate, usize::from(bars.width));
        let most = bars_of.iter().copied().max().unwrap_or(0);
        let label_text = vec![
            Line::styled(format!("{what:11} {:>8.1}", history.now(rate)), colour),
            Line::styled(format!("{:11} {:>8.1}", "  peak", most as f64 / 10.0), Modifier::DIM),
        ];
        frame.render_widget(Paragraph::new(label_text), label);
        frame.render_widget(Sparkline::default().data(bars_of).style(colour), bars);
    }
}

fn alarm_lines(alarms: &[Alarm], width: usize) -> Vec<Line<'static>> {
    if alarms.is_empty() {
        return vec![Line::styled("no alarms", colour_of(Severity::Ok))];
    }
    let mut lines = Vec::new();
    for alarm in alarms {
        let colour = colour_of(alarm.severity);
        let told = format!("{}: {}", alarm.alarm.name(), alarm.what);
        lines.extend(hanging(&alarm.severity.to_string(), &told, width, colour.into()));
        lines.extend(hanging("", &format!("=> {}", alarm.remedy), width, Style::new()));
    }
    lines
}

fn remark_lines(remarks: &[Remark], width: usize) -> Vec<Line<'static>> {
    let told = remarks.iter().map(|remark| {
        let what = format!("remark {}: {}", remark.remark.name(), remark.what);
        let remedy = format!("=> {}", remark.remedy);
        let what = hanging("", &what, width, Style::new());
        what.into_iter().chain(hanging("", &remedy, width, Modifier::DIM.into()))
    });
    told.flatten().collect()
}

/// Lines of at most `width`, with a mark in front of the first.
fn hanging(mark: &str, told: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    const INDENT: usize = 10;
    let mut mark = mark;
    wrapped(told, width.saturating_sub(INDENT))
        .into_iter()
        .map(|line| {
            let line = Line::styled(format!("{mark:INDENT$}{line}"), style);
            mark = "";
            line
        })
        .collect()
}

/// The lines for which there is room, and a hint if some are left out.
fn shortened(mut lines: Vec<Line<'static>>, room: usize) -> Vec<Line<'static>> {
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push(Line::styled("          … `tktrot status` shows the rest", Modifier::DIM));
    }
    lines
}

fn framed(title: &str, severity: Severity) -> Block<'static> {
    let colour = colour_of(severity);
    Block::bordered()
        .border_style(Style::new().fg(colour))
        .title(format!(" {title} "))
        .title_top(Line::styled(format!(" {severity} "), colour).right_aligned())
}

fn colour_of(severity: Severity) -> Color {
    match severity {
        Severity::Ok => Color::Green,
        Severity::Warning => Color::Yellow,
        Severity::Critical => Color::Red,
    }
}

/// More columns than terminals have.
const KEPT: usize = 512;

/// The rates of the last looks, as far back as a screen is wide; the newest last.
#[derive(Default)]
pub struct History(VecDeque<Rates>);

impl History {
    /// Adds the newest rates.
    pub fn add(&mut self, rates: Rates) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(rates);
    }

    /// One of the rates, the newest at the right end of `width` columns; in tenths.
    pub fn bars(&self, rate: fn(&Rates) -> f64, width: usize) -> Vec<u64> {
        let shown = self.0.iter().skip(self.0.len().saturating_sub(width));
        let bars: Vec<_> = shown.map(|rates| (rate(rates) * 10.0).round() as u64).collect();
        let mut all = vec![0; width.saturating_sub(bars.len())];
        all.extend(bars);
        all
    }

    /// The newest of one of the rates.
    pub fn now(&self, rate: fn(&Rates) -> f64) -> f64 {
        self.0.back().map_or(0.0, rate)
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::status::example::{governed, healthy, idle, user};
    use crate::status::ring::{KeyStatus, LockState};

    fn screen(columns: u16, rows: u16, status: Result<RingStatus, String>) -> String {
        screen_with(columns, rows, status, false)
    }

    fn screen_with(
        columns: u16,
        rows: u16,
        status: Result<RingStatus, String>,
        help: bool,
    ) -> String {
        let mut history = History::default();
        for second in 0..40u32 {
            let wave = f64::from(second % 10);
            history.add(Rates {
                issued: 20.0 + wave,
                resumed: 10.0 * wave,
                refused: f64::from(u8::from(second == 30)),
                ..Rates::default()
            });
        }
        let interval = Duration::from_secs(1);
        let shown = Shown { status: &status, history: &history, interval, help, rings: 1 };
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, &shown)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_small_terminal() {
        insta::assert_snapshot!(screen(80, 24, Ok(healthy())));
    }

    #[test]
    fn a_large_terminal() {
        insta::assert_snapshot!(screen(200, 50, Ok(healthy())));
    }

    #[test]
    fn a_medium_terminal_shows_keys_and_users() {
        insta::assert_snapshot!(screen(120, 40, Ok(healthy())));
    }

    #[test]
    fn keys_and_users_for_which_there_is_no_room_are_counted() {
        let mut status = healthy();
        let one = status.keys[0].clone();
        status.keys =
            (0..40).map(|at| KeyStatus { name: format!("{at:08}"), ..one.clone() }).collect();
        status.users = (0..40).map(user).collect();
        let told = screen(120, 40, Ok(status));
        let shown = told.matches("decrypts for").count();
        let rest = format!("… {} more: `tktrot status` shows all", 40 - shown);
        assert!(shown > 5 && told.matches(&rest).count() == 2, "{told}");
        assert!(told.contains("turned away"), "{told}");
    }

    #[test]
    fn help_is_shown_at_every_size() {
        for (columns, rows) in [(80, 24), (120, 40), (200, 50)] {
            let told = screen_with(columns, rows, Ok(healthy()), true);
            HELP.iter().for_each(|line| assert!(told.contains(line), "{told}"));
            assert!(told.contains("turned away      0.0"), "{told}");
        }
        screen_with(3, 2, Ok(healthy()), true);
    }

    #[test]
    fn alarms_on_a_small_terminal() {
        let status = RingStatus {
            writer_lock: LockState::Dead,
            capacity: 3,
            hidden_processes: 12,
            overdue: Duration::from_secs(60),
            ..healthy()
        };
        insta::assert_snapshot!(screen(80, 24, Ok(status)));
    }

    #[test]
    fn a_remark_follows_the_alarms_and_changes_no_colour() {
        let mut status = healthy();
        status.counters.anti_replay = 2;
        let screen = screen(100, 30, Ok(status));
        let (before, after) = screen.split_once("no alarms").unwrap();
        assert!(before.contains(" ok ┐"), "{screen}");
        assert!(
            after.contains("remark early-data: 2 connections had early data enabled"),
            "{screen}"
        );
    }

    #[test]
    fn an_idle_ring_a_governed_one_and_none_at_all() {
        let idle = screen(80, 24, Ok(idle()));
        assert!(idle.contains("no client has asked for a ticket yet"), "{idle}");
        let governed = screen(80, 24, Ok(governed()));
        assert!(governed.contains("governed   by an agent"), "{governed}");
        let none = screen(80, 24, Err("/run/tktrot/x.ring: there is no such ring".into()));
        assert!(none.contains("there is no such ring") && none.contains("q quits"), "{none}");
    }

    #[test]
    fn a_terminal_too_small_for_anything_is_no_panic() {
        for (columns, rows) in [(1, 1), (3, 3), (10, 4), (80, 2)] {
            screen(columns, rows, Ok(healthy()));
        }
    }

    #[test]
    fn the_newest_is_at_the_right_and_the_oldest_falls_off() {
        let mut history = History::default();
        let issued: fn(&Rates) -> f64 = |rates| rates.issued;
        assert_eq!((history.bars(issued, 3), history.now(issued)), (vec![0, 0, 0], 0.0));
        for number in 1..=KEPT + 2 {
            history.add(Rates { issued: number as f64, ..Rates::default() });
        }
        let last = (KEPT + 2) as u64 * 10;
        assert_eq!(history.bars(issued, 2), [last - 10, last]);
        assert_eq!(history.bars(issued, KEPT + 1)[..2], [0, 30]);
        assert_eq!(history.now(issued), (KEPT + 2) as f64);
    }
}
