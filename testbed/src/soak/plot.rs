//! The course of a soak as SVG: four panels of polylines.

use std::fmt::Write;

use super::footprint::Sample;
use super::report::Report;
use crate::svg;

const WIDTH: f64 = 720.0;
const PANEL: f64 = 130.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 600.0;
const COLOURS: [&str; 2] = ["#0050a0", "#d95f02"];

/// One panel: what it shows, and its lines.
struct Panel {
    title: &'static str,
    lines: Vec<(&'static str, Vec<f64>)>,
}

/// The text of a file.
pub(super) fn draw(report: &Report) -> String {
    let mut svg = String::new();
    // Writing to a String can't fail.
    let _ = write(report, &mut svg);
    svg
}

fn write(report: &Report, svg: &mut String) -> std::fmt::Result {
    let samples = &report.samples;
    let panels = panels(samples);
    let height = PANEL * panels.len() as f64 + 60.0;
    let end = samples.last().map_or(1.0, |last| last.at.as_secs_f64());
    svg::begin(svg, (WIDTH, height))?;
    let title = format!("Soak, seed {}: {}", report.plan.seed, report.counts);
    svg::text(svg, (8.0, 18.0), "start", &title)?;
    for (number, panel) in panels.iter().enumerate() {
        draw_panel(svg, panel, 30.0 + PANEL * number as f64, samples, end)?;
    }
    let bottom = height - 12.0;
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let at = (LEFT + part * (RIGHT - LEFT), bottom);
        svg::text(svg, at, "middle", &format!("{:.0} s", end * part))?;
    }
    svg::end(svg)
}

fn panels(samples: &[Sample]) -> Vec<Panel> {
    let rate = |count: fn(&Sample) -> u64| -> Vec<f64> {
        let mut last = (0.0, 0);
        let mut rates = Vec::new();
        for sample in samples {
            let now = (sample.at.as_secs_f64(), count(sample));
            rates.push((now.1 - last.1) as f64 / (now.0 - last.0).max(1e-3));
            last = now;
        }
        rates
    };
    let both = |value: fn(&Sample, usize) -> u64| -> Vec<(&'static str, Vec<f64>)> {
        let of = |place| samples.iter().map(|sample| value(sample, place) as f64).collect();
        vec![("nginx", of(0)), ("HAProxy", of(1))]
    };
    vec![
        Panel {
            title: "handshakes per second",
            lines: vec![("all", rate(|it| it.handshakes)), ("resumed", rate(|it| it.resumed))],
        },
        Panel {
            title: "private memory of the masters, KiB",
            lines: both(|it, place| it.masters[place].private_kib),
        },
        Panel {
            title: "descriptors of the masters",
            lines: both(|it, place| it.masters[place].descriptors),
        },
        Panel { title: "workers", lines: both(|it, place| it.workers[place]) },
    ]
}

fn draw_panel(
    svg: &mut String,
    panel: &Panel,
    top: f64,
    samples: &[Sample],
    end: f64,
) -> std::fmt::Result {
    let (head, foot) = (top + 18.0, top + PANEL - 14.0);
    let most = panel.lines.iter().flat_map(|line| &line.1).copied().fold(1.0, f64::max);
    svg::text(svg, (LEFT, top + 12.0), "start", panel.title)?;
    svg::text(svg, (LEFT - 6.0, head + 8.0), "end", &format!("{most:.0}"))?;
    svg::text(svg, (LEFT - 6.0, foot), "end", "0")?;
    writeln!(svg, "<path d=\"M{LEFT} {head}V{foot}H{RIGHT}\" fill=\"none\" stroke=\"black\"/>")?;
    for (number, (name, values)) in panel.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let mut path = String::new();
        for (place, (sample, value)) in samples.iter().zip(values).enumerate() {
            let x = LEFT + sample.at.as_secs_f64() / end * (RIGHT - LEFT);
            let y = foot - value / most * (foot - head);
            write!(path, "{}{x:.1} {y:.1}", if place == 0 { 'M' } else { 'L' })?;
        }
        writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>")?;
        let y = head + 10.0 + 18.0 * number as f64;
        writeln!(svg, "<path d=\"M612 {y}h18\" stroke=\"{colour}\" stroke-width=\"2\"/>")?;
        svg::text(svg, (636.0, y + 4.0), "start", name)?;
    }
    Ok(())
}
