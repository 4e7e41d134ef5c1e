//! Curves as SVG, one panel below the other.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x66, 0x66, 0x66),
    RGBColor(0xbb, 0xbb, 0xbb),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0x75, 0x70, 0xb3),
    RGBColor(0x00, 0x50, 0xa0),
];
/// The colour of what is not data.
const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// What is drawn into one frame.
pub struct Panel {
    /// Above the frame.
    pub title: String,
    /// What x is, with its unit.
    pub x: String,
    /// What y is, with its unit.
    pub y: String,
    /// Whether x is drawn by its logarithm.
    pub logarithmic_x: bool,
    /// In the order in which they are named.
    pub lines: Vec<Line>,
}

/// One line of a panel.
pub struct Line {
    /// What it is called.
    pub name: String,
    /// By x.
    pub points: Vec<Point>,
}

/// A point of a line.
pub struct Point {
    /// Where it is from left to right.
    pub x: f64,
    /// Where it is from bottom to top.
    pub y: f64,
    /// Its quartiles, if it is a median.
    pub quartiles: Option<(f64, f64)>,
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.lines.iter().flat_map(|line| &line.points)
    }
}

/// The text of a file, with panels of that size in pixels.
///
/// # Errors
///
/// A panel has no point.
pub fn draw(panels: &[Panel], (width, height): (u32, u32)) -> Result<String> {
    let mut svg = String::new();
    let size = (width, height * panels.len() as u32);
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let x = |point: &Point| point.x;
        let first = panel.points().map(x).fold(f64::INFINITY, f64::min);
        let last = panel.points().map(x).fold(f64::NEG_INFINITY, f64::max);
        anyhow::ensure!(first <= last, "there is nothing to draw: {}", panel.title);
        if panel.logarithmic_x {
            draw_panel(area, panel, (first..last).log_scale())?;
        } else {
            draw_panel(area, panel, first..last)?;
        }
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

fn draw_panel<X>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
    x: X,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let top = panel.points().map(|point| point.quartiles.map_or(point.y, |(_, high)| high));
    let top = top.fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(32)
        .caption(&panel.title, ("sans-serif", 14))
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(x, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .x_labels(8)
        .y_labels(5)
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, &colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let medians = line.points.iter().map(|point| (point.x, point.y));
        chart
            .draw_series(LineSeries::new(medians.clone(), colour))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        let spans = line.points.iter().filter_map(|point| Some((point.x, point.quartiles?)));
        chart.draw_series(
            spans.map(|(x, (low, high))| PathElement::new([(x, low), (x, high)], colour)),
        )?;
        let is_median = line.points.iter().any(|point| point.quartiles.is_some());
        let circles = medians.filter(|_| is_median);
        chart.draw_series(circles.map(move |at| Circle::new(at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()
}
