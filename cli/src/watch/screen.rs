//! What a terminal shows.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline, Wrap};

use super::history::History;
use crate::severity::Severity;
use crate::status::alarms::{Alarm, Remark, alarms, remarks, worst};
use crate::status::rates::Rates;
use crate::status::reading::Reading;
use crate::status::span::words;
use crate::status::text;

/// What is drawn.
pub struct Shown<'s> {
    pub reading: &'s Result<Reading, String>,
    pub history: &'s History,
    pub interval: Duration,
}

/// A graph: what it shows, in which colour.
type Series = (&'static str, Color, fn(&Rates) -> f64);

const SERIES: [Series; 3] = [
    ("resumed", Color::Green, |rates| rates.resumed),
    ("issued", Color::Blue, |rates| rates.issued),
    ("turned away", Color::Red, |rates| rates.refused),
];

/// So that nobody takes tickets for handshakes.
const LEGEND: &str = "tickets/s; issued: full handshake 1 (TLS 1.2) or 2 (1.3), 1.3 resumption 1";

/// The legend, and a row for each graph.
const GRAPHS_AT_LEAST: usize = 1 + SERIES.len();

/// Where what is said begins.
const LABEL: usize = 11;

/// Fills the screen.
pub fn draw(frame: &mut Frame, shown: &Shown) {
    let [body, foot] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    match shown.reading {
        Ok(reading) => draw_reading(frame, body, reading, shown.history),
        Err(error) => {
            let block = framed("no ring to see", Severity::Wrong);
            let text = Paragraph::new(error.as_str()).wrap(Wrap { trim: true });
            frame.render_widget(text.block(block), body);
        }
    }
    let every = words(shown.interval);
    let keys = format!(" q leaves   a look every {every}");
    frame.render_widget(Line::styled(keys, Modifier::DIM), foot);
}

fn draw_reading(frame: &mut Frame, area: Rect, reading: &Reading, history: &History) {
    let alarms = alarms(reading);
    let block = framed(&reading.path, worst(&alarms));
    let inner = block.inner(area);
    frame.render_widget(block, area);

    let width = usize::from(inner.width);
    let facts = facts(reading, width);
    let mut told = alarm_lines(&alarms, width);
    told.extend(remark_lines(&remarks(reading), width));
    let fixed = facts.len() + 1 + GRAPHS_AT_LEAST;
    let told = shortened(told, usize::from(inner.height).saturating_sub(fixed));
    let [facts_area, gauge_area, graphs_area, told_area] = Layout::vertical([
        Constraint::Length(facts.len() as u16),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(told.len() as u16),
    ])
    .areas(inner);
    frame.render_widget(Paragraph::new(facts), facts_area);
    draw_gauge(frame, gauge_area, reading);
    draw_graphs(frame, graphs_area, history);
    frame.render_widget(Paragraph::new(told), told_area);
}

fn facts(reading: &Reading, width: usize) -> Vec<Line<'static>> {
    let ratio = reading.counters.resumption_ratio();
    let ratio = ratio.map_or("none came back yet".into(), |ratio| {
        format!("{:.0} % of the tickets that came back", ratio * 100.0)
    });
    let keys = format!("{}{}", text::key_counts(reading), text::bound(reading));
    let mut lines: Vec<_> = text::wrapped(&text::exposure(reading), width)
        .into_iter()
        .map(|line| Line::styled(line, Modifier::BOLD))
        .collect();
    let told = [
        ("active key", text::active(reading)),
        ("keys", keys),
        ("users", users(reading)),
        ("resumed", ratio),
    ];
    let governed = reading.is_governed().then(|| ("governed", text::governed(reading)));
    for (what, told) in told.into_iter().chain(governed) {
        let mut what = what;
        for line in text::wrapped(&told, width.saturating_sub(LABEL)) {
            let label = Span::styled(format!("{what:LABEL$}"), Modifier::DIM);
            lines.push(Line::from(vec![label, Span::raw(line)]));
            what = "";
        }
    }
    lines
}

fn users(reading: &Reading) -> String {
    let seen = reading.servers().count();
    let hidden = match reading.hidden_processes {
        0 => String::new(),
        number => format!("; {} to this user", text::hidden(number)),
    };
    format!("{seen}{hidden}")
}

/// How far the active key is through its time.
fn draw_gauge(frame: &mut Frame, area: Rect, reading: &Reading) {
    let Some(key) = reading.active_key() else { return };
    let life = (key.age + key.encrypts_for).as_secs_f64();
    let ratio = if life > 0.0 { (key.age.as_secs_f64() / life).clamp(0.0, 1.0) } else { 1.0 };
    let gauge = Gauge::default()
        .ratio(ratio)
        .label(format!("{} for {}", key.name, words(key.encrypts_for)))
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
        return vec![Line::styled("no alarms", colour_of(Severity::Fine))];
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

/// Broken to a width, with a mark in front of the first line.
fn hanging(mark: &str, told: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    const INDENT: usize = 6;
    let mut mark = mark;
    text::wrapped(told, width.saturating_sub(INDENT))
        .into_iter()
        .map(|line| {
            let line = Line::styled(format!("{mark:INDENT$}{line}"), style);
            mark = "";
            line
        })
        .collect()
}

/// What there is room for; if that is not all, with a word on where the rest is.
fn shortened(mut lines: Vec<Line<'static>>, room: usize) -> Vec<Line<'static>> {
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push(Line::styled("      … `tktrot status` tells the rest", Modifier::DIM));
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
        Severity::Fine => Color::Green,
        Severity::Doubtful => Color::Yellow,
        Severity::Wrong => Color::Red,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::status::example::{governed, healthy, idle};
    use crate::status::reading::Lock;

    fn screen(columns: u16, rows: u16, reading: Result<Reading, String>) -> String {
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
        let shown =
            Shown { reading: &reading, history: &history, interval: Duration::from_secs(1) };
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
    fn alarms_on_a_small_terminal() {
        let reading = Reading {
            writer_lock: Lock::Dead,
            capacity: 3,
            hidden_processes: 12,
            overdue: Duration::from_secs(60),
            ..healthy()
        };
        insta::assert_snapshot!(screen(80, 24, Ok(reading)));
    }

    #[test]
    fn a_remark_follows_the_alarms_and_changes_no_colour() {
        let mut reading = healthy();
        reading.counters.anti_replay = 2;
        let screen = screen(100, 30, Ok(reading));
        let (before, after) = screen.split_once("no alarms").unwrap();
        assert!(before.contains(" ok ┐"), "{screen}");
        assert!(after.contains("remark early-data: 2 connections had early data on"), "{screen}");
    }

    #[test]
    fn an_idle_ring_a_governed_one_and_none_at_all() {
        let idle = screen(80, 24, Ok(idle()));
        assert!(idle.contains("no client has asked for a ticket yet"), "{idle}");
        let governed = screen(80, 24, Ok(governed()));
        assert!(governed.contains("governed   by an agent"), "{governed}");
        let none = screen(80, 24, Err("/run/tktrot/x.ring: there is no such ring".into()));
        assert!(none.contains("there is no such ring") && none.contains("q leaves"), "{none}");
    }

    #[test]
    fn a_terminal_too_small_for_anything_is_no_panic() {
        for (columns, rows) in [(1, 1), (3, 3), (10, 4), (80, 2)] {
            screen(columns, rows, Ok(healthy()));
        }
    }
}
