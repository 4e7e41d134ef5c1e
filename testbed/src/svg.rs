//! What plots have in common: SVG by hand, as it is a few lines and texts, for which no crate has to
//! be built.

use std::fmt::{Result, Write};

/// Begins a picture of that size, on white. It ends with [`end`].
pub fn begin(svg: &mut String, (width, height): (f64, f64)) -> Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    )?;
    writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>")
}

/// Ends it.
pub fn end(svg: &mut String) -> Result {
    writeln!(svg, "</svg>")
}

/// Writes a text there; `anchor` as SVG has it: "start", "middle" or "end".
pub fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) -> Result {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}
