//! The tables for people, the same for machines, and the plots.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};
use testbed::plot::{self, Line, Panel, Point};

use crate::Result;
use crate::machine;
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Curve, Goal, Group, Section, Wanted};

/// Fewer rounds tell nothing.
const ENOUGH_ROUNDS: usize = 30;

/// What the numbers are of, before any is there.
pub fn head(options: &Options) -> Result<String> {
    let mut text = format!(
        "{}, Linux {}, {} processors. {} rounds, in alternation in one run.\n\
         Shown: median (quartiles); ratios are taken round by round, to the first of a group.\n",
        machine::tls_library(),
        machine::kernel(),
        std::thread::available_parallelism()?,
        options.rounds,
    );
    if options.rounds < ENOUGH_ROUNDS {
        text.push_str("*** too few rounds to tell anything ***\n");
    }
    Ok(text)
}

/// One measurement, for people.
pub fn text(section: &Section) -> String {
    let mut text = format!("\n== {} ==\n{}\n", section.name, section.about);
    for group in &section.groups {
        // Writing to a String can't fail.
        let _ = write_group(&mut text, group);
    }
    text
}

fn write_group(text: &mut String, group: &Group) -> std::fmt::Result {
    writeln!(text, "\n  {} [{}]", group.name, group.unit)?;
    for thing in &group.things {
        let ratio = thing.ratios.as_ref().map(|ratios| spread(ratios, 3)).unwrap_or_default();
        let values = spread(&thing.values, digits(&thing.values));
        writeln!(text, "    {:34}{values:>28}{ratio:>24}", thing.name)?;
    }
    Ok(())
}

/// All goals and their verdicts, for people.
pub fn goals(sections: &[Section]) -> String {
    let mut text = format!("\n{:50}{:>12}{:>28}  verdict\n", "Goal", "wanted", "measured");
    for goal in sections.iter().flat_map(|section| &section.goals) {
        let (sign, bound) = goal.bound();
        let (wanted, verdict) = (format!("{sign} {bound}"), goal.verdict());
        let digits = if bound > 10.0 { 0 } else { 3 };
        let measured = spread(&goal.measured, digits);
        let what = match goal.unit {
            "" | "fold" => goal.what.to_owned(),
            unit => format!("{} [{unit}]", goal.what),
        };
        // Writing to a String can't fail.
        let _ = writeln!(text, "{what:50}{wanted:>12}{measured:>28}  {verdict}");
    }
    text
}

/// As in "0.994 (0.991-0.997)": the median, and between which quartiles half of the rounds are.
fn spread(values: &Series, digits: usize) -> String {
    let (median, low, high) = (values.median(), values.quantile(0.25), values.quantile(0.75));
    format!("{median:.digits$} ({low:.digits$}-{high:.digits$})")
}

fn digits(values: &Series) -> usize {
    match values.median() {
        large if large >= 1000.0 => 0,
        medium if medium >= 10.0 => 1,
        _ => 3,
    }
}

impl Goal {
    fn bound(&self) -> (&'static str, f64) {
        match self.wanted {
            Wanted::AtMost(bound) => ("<=", bound),
            Wanted::AtLeast(bound) => (">=", bound),
        }
    }

    fn verdict(&self) -> &'static str {
        if self.is_met() { "met" } else { "not met" }
    }
}

/// Writes every round's numbers and the plots of one measurement.
pub fn write(section: &Section, options: &Options) -> Result<()> {
    fs::create_dir_all(&options.out)?;
    let groups: Vec<Value> = section.groups.iter().map(group_json).collect();
    let goals: Vec<Value> = section.goals.iter().map(goal_json).collect();
    let content = json!({
        "machine": machine::facts(options)?,
        "about": section.about,
        "groups": groups,
        "goals": goals,
    });
    let file = options.out.join(format!("{}.json", section.name));
    fs::write(file, format!("{content:#}\n"))?;
    for curve in &section.curves {
        fs::write(
            options.out.join(format!("{}.svg", curve.name)),
            plot::draw(&[panel(curve)], (640, 360))?,
        )?;
    }
    Ok(())
}

/// Medians, joined; and from each quartile to the other.
fn panel(curve: &Curve) -> Panel {
    let point = |(x, values): &(f64, Series)| Point {
        x: *x,
        y: values.median(),
        quartiles: Some((values.quantile(0.25), values.quantile(0.75))),
    };
    let lines = curve.lines.iter().map(|line| Line {
        name: line.name.clone(),
        points: line.points.iter().map(point).collect(),
    });
    Panel {
        title: curve.title.into(),
        x: curve.x.into(),
        y: curve.y.into(),
        logarithmic_x: curve.logarithmic_x,
        lines: lines.collect(),
    }
}

/// Writes all goals with their verdicts.
pub fn write_goals(sections: &[Section], options: &Options) -> Result<()> {
    let goals = sections.iter().flat_map(|section| &section.goals);
    let goals: Vec<Value> = goals.map(goal_json).collect();
    let content = json!({ "machine": machine::facts(options)?, "goals": goals });
    fs::write(options.out.join("goals.json"), format!("{content:#}\n"))?;
    Ok(())
}

fn group_json(group: &Group) -> Value {
    let things = group.things.iter().map(|thing| {
        json!({
            "name": thing.name,
            "rounds": thing.values.0,
            "summary": summary(&thing.values),
            "ratio_to_first": thing.ratios.as_ref().map(summary),
        })
    });
    json!({ "name": group.name, "unit": group.unit, "things": things.collect::<Vec<_>>() })
}

fn goal_json(goal: &Goal) -> Value {
    let (sign, bound) = goal.bound();
    json!({
        "goal": goal.what,
        "unit": goal.unit,
        "wanted": { "sign": sign, "bound": bound },
        "measured": summary(&goal.measured),
        "met": goal.is_met(),
    })
}

fn summary(values: &Series) -> Value {
    json!({
        "median": values.median(),
        "quartiles": [values.quantile(0.25), values.quantile(0.75)],
        "extremes": [values.quantile(0.0), values.quantile(1.0)],
    })
}
