//! The course of a soak, in four panels.

use anyhow::Result;

use super::footprint::Sample;
use super::report::Report;
use crate::plot::{Line, Panel, Point, draw as draw_panels};

/// The text of an SVG file.
pub(super) fn draw(report: &Report) -> Result<String> {
    let samples = &report.samples;
    let both = |value: fn(&Sample, usize) -> u64| {
        ["nginx", "HAProxy"].iter().enumerate().map(move |(place, name)| {
            let of = |sample: &Sample| value(sample, place) as f64;
            line(name, samples, samples.iter().map(of))
        })
    };
    let panel = |title: &str, y: &str, lines| Panel {
        title: title.into(),
        x: "seconds".into(),
        y: y.into(),
        logarithmic_x: false,
        lines,
    };
    let title = format!("Soak, seed {}: {}", report.plan.seed, report.counts);
    let rates = vec![
        line("all", samples, rates(samples, |it| it.handshakes)),
        line("resumed", samples, rates(samples, |it| it.resumed)),
    ];
    let memory = both(|it, place| it.masters[place].private_kib).collect();
    let descriptors = both(|it, place| it.masters[place].descriptors).collect();
    let workers = both(|it, place| it.workers[place]).collect();
    let panels = [
        panel(&title, "handshakes/s", rates),
        panel("Private memory of the masters", "KiB", memory),
        panel("Descriptors of the masters", "descriptors", descriptors),
        panel("Workers", "processes", workers),
    ];
    draw_panels(&panels, (720, 180))
}

fn line(name: &str, samples: &[Sample], values: impl IntoIterator<Item = f64>) -> Line {
    let point =
        |(sample, y): (&Sample, f64)| Point { x: sample.at.as_secs_f64(), y, quartiles: None };
    Line { name: name.into(), points: samples.iter().zip(values).map(point).collect() }
}

/// Per second, since the sample before.
fn rates(samples: &[Sample], count: fn(&Sample) -> u64) -> impl Iterator<Item = f64> {
    let mut last = (0.0, 0);
    samples.iter().map(move |sample| {
        let now = (sample.at.as_secs_f64(), count(sample));
        let rate = (now.1 - last.1) as f64 / (now.0 - last.0).max(1e-3);
        last = now;
        rate
    })
}
