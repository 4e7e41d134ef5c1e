//! A curve as SVG.

use std::fmt::Write;

use testbed::svg;

use crate::section::{Curve, Line};

const SIZE: (f64, f64) = (640.0, 360.0);
/// Left, right, top, bottom of what the lines are in.
const FRAME: (f64, f64, f64, f64) = (64.0, 430.0, 40.0, 310.0);
const COLOURS: [&str; 6] = ["#666666", "#bbbbbb", "#d95f02", "#1b9e77", "#7570b3", "#0050a0"];

/// The text of a file.
pub fn draw(curve: &Curve) -> String {
    let mut svg = String::new();
    // Writing to a String can't fail.
    let _ = write(curve, &mut svg);
    svg
}

fn write(curve: &Curve, svg: &mut String) -> std::fmt::Result {
    let (left, right, top, bottom) = FRAME;
    let scale = Scale::of(curve);
    svg::begin(svg, SIZE)?;
    svg::text(svg, (left, 22.0), "start", curve.title)?;
    svg::text(svg, ((left + right) / 2.0, bottom + 38.0), "middle", curve.x)?;
    svg::text(svg, (8.0, top - 6.0), "start", curve.y)?;
    writeln!(svg, "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>")?;
    for step in 0..=4 {
        let value = scale.top_value * f64::from(step) / 4.0;
        let y = scale.y(value);
        svg::text(svg, (left - 6.0, y + 4.0), "end", &short(value))?;
        writeln!(svg, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/>")?;
    }
    let mut last = f64::NEG_INFINITY;
    for &(x, _) in curve.lines.first().map_or(&[][..], |line| &line.points) {
        // Numbers that would lie on each other are left out.
        if scale.x(x) - last > 24.0 {
            last = scale.x(x);
            svg::text(svg, (last, bottom + 18.0), "middle", &short(x))?;
        }
    }
    for (number, line) in curve.lines.iter().enumerate() {
        draw_line(svg, line, &scale, COLOURS[number % COLOURS.len()])?;
        let y = top + 10.0 + 20.0 * number as f64;
        let colour = COLOURS[number % COLOURS.len()];
        writeln!(svg, "<path d=\"M446 {y}h18\" stroke=\"{colour}\" stroke-width=\"2\"/>")?;
        svg::text(svg, (470.0, y + 4.0), "start", &line.name)?;
    }
    svg::end(svg)
}

/// Medians, joined; and from each quartile to the other.
fn draw_line(svg: &mut String, line: &Line, scale: &Scale, colour: &str) -> std::fmt::Result {
    let mut path = String::new();
    for (number, (x, values)) in line.points.iter().enumerate() {
        let (x, y) = (scale.x(*x), scale.y(values.median()));
        write!(path, "{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' })?;
        let (low, high) = (scale.y(values.quantile(0.25)), scale.y(values.quantile(0.75)));
        writeln!(svg, "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>")?;
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>")?;
    }
    writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>")
}

/// As in "1500", "12.5", "0.25".
fn short(value: f64) -> String {
    let digits = if value >= 100.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Where a value is.
struct Scale {
    first: f64,
    last: f64,
    top_value: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(curve: &Curve) -> Scale {
        let points = || curve.lines.iter().flat_map(|line| &line.points);
        let first = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let last = points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let top = points().map(|point| point.1.quantile(0.75)).fold(0.0, f64::max).max(1e-9);
        // 1, 2 or 5 times a power of ten, four of which reach the top.
        let power = 10f64.powf((top / 4.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * power * 4.0 >= top);
        let top_value = step.unwrap_or(10.0) * power * 4.0;
        Scale { first, last, top_value, logarithmic: curve.logarithmic_x }
    }

    fn x(&self, value: f64) -> f64 {
        let place = |value: f64| if self.logarithmic { value.ln() } else { value };
        let span = (place(self.last) - place(self.first)).max(1e-9);
        FRAME.0 + (place(value) - place(self.first)) / span * (FRAME.1 - FRAME.0)
    }

    fn y(&self, value: f64) -> f64 {
        FRAME.3 - value / self.top_value * (FRAME.3 - FRAME.2)
    }
}
