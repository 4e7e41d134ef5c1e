//! What a measurement hands to the report.

use crate::ratios::Series;

/// One measurement's results.
pub struct Section {
    /// What its files are called.
    pub name: &'static str,
    /// What it measures and how.
    pub about: String,
    pub groups: Vec<Group>,
    pub goals: Vec<Goal>,
    pub curves: Vec<Curve>,
}

/// Things that are compared with each other.
pub struct Group {
    pub name: String,
    pub unit: &'static str,
    pub things: Vec<Thing>,
}

/// One of them.
pub struct Thing {
    pub name: String,
    /// One value per round.
    pub values: Series,
    /// Round by round, these by what they are compared to.
    pub ratios: Option<Series>,
}

impl Group {
    /// A group whose first thing is what the others are compared to.
    pub fn compared(
        name: impl Into<String>,
        unit: &'static str,
        names: impl IntoIterator<Item = impl Into<String>>,
        values: Vec<Series>,
    ) -> Group {
        let base = values.first().cloned().unwrap_or_default();
        let things = names.into_iter().zip(values).enumerate().map(|(place, (name, values))| {
            let ratios = (place > 0).then(|| values.over(&base));
            Thing { name: name.into(), values, ratios }
        });
        Group { name: name.into(), unit, things: things.collect() }
    }
}

/// What the project wants to be true.
pub struct Goal {
    pub what: &'static str,
    pub wanted: Wanted,
    /// What has to be as wanted in the median.
    pub measured: Series,
    pub unit: &'static str,
}

/// The bound of a goal.
#[derive(Clone, Copy)]
pub enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// Whether it is met.
    pub fn is_met(&self) -> bool {
        let median = self.measured.median();
        match self.wanted {
            Wanted::AtMost(bound) => median <= bound,
            Wanted::AtLeast(bound) => median >= bound,
        }
    }
}

/// A plot.
pub struct Curve {
    /// What its file is called.
    pub name: &'static str,
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    pub logarithmic_x: bool,
    pub lines: Vec<Line>,
}

/// One line of it.
pub struct Line {
    pub name: String,
    /// Each with all its values; drawn are median and quartiles.
    pub points: Vec<(f64, Series)>,
}
