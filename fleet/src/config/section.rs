//! A section of the settings file, whose values are taken out one by one.

use std::cell::RefCell;
use std::ops::Range;

use tktrot::config::misspelt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flaw::Flaw;

/// What a value's text stands for, or the words for what is accepted.
type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// One table with the text around it. A value that cannot be used is put down, and counts as not there:
/// what is wrong with the others is to be said at the same time.
pub struct Section<'t> {
    text: &'t str,
    flaws: &'t RefCell<Vec<Flaw>>,
    name: &'static str,
    at: Range<usize>,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// The table that `value` is, in which there may be `known` settings and no others.
    pub fn of(
        text: &'t str,
        flaws: &'t RefCell<Vec<Flaw>>,
        name: &'static str,
        at: Range<usize>,
        value: &'t DeValue<'t>,
        known: &[&str],
    ) -> Result<Self, Flaw> {
        let Some(table) = value.as_table() else {
            return Err(Flaw::at(text, at, format!("{name} is a section: write it as {name}")));
        };
        let section = Section { text, flaws, name, at, table };
        for (key, _) in table.iter() {
            if !known.contains(&key.get_ref().as_ref()) {
                let meant = misspelt::hint(key.get_ref(), known.iter().copied());
                let known = known.join(", ");
                let key_name = key.get_ref().escape_debug();
                let message = format!(
                    "there is no setting \"{key_name}\" in {name}{meant}; there are {known}"
                );
                section.put_down(Flaw::at(text, key.span(), message));
            }
        }
        Ok(section)
    }

    /// True if the setting is there.
    pub fn has(&self, setting: &str) -> bool {
        self.table.contains_key(setting)
    }

    /// A text.
    pub fn text<T>(&self, setting: &str, parse: Parse<T>) -> Option<T> {
        let value = self.table.get(setting)?;
        self.usable(self.one(setting, value, parse))
    }

    /// A list of texts.
    pub fn texts<T>(&self, setting: &str, parse: Parse<T>) -> Option<Vec<T>> {
        let value = self.table.get(setting)?;
        let Some(list) = value.get_ref().as_array() else {
            return self.usable(Err(self.unfit(setting, "a list of strings: [\"…\", \"…\"]")));
        };
        // All that is wrong in it.
        let all: Vec<_> =
            list.iter().map(|value| self.usable(self.one(setting, value, parse))).collect();
        all.into_iter().collect()
    }

    /// True or false.
    pub fn switch(&self, setting: &str) -> Option<bool> {
        let on = self.table.get(setting)?.get_ref().as_bool();
        self.usable(on.ok_or_else(|| self.unfit(setting, "true or false")))
    }

    /// A whole number.
    pub fn number(&self, setting: &str, range: Range<u32>) -> Option<u32> {
        let number = self.table.get(setting)?.get_ref().as_integer();
        let number = number.filter(|number| number.radix() == 10);
        let number = number.and_then(|number| number.as_str().parse().ok());
        self.usable(number.filter(|number| range.contains(number)).ok_or_else(|| {
            self.unfit(setting, &format!("a number from {} to {}", range.start, range.end - 1))
        }))
    }

    /// Something is wrong.
    pub fn put_down(&self, flaw: Flaw) {
        self.flaws.borrow_mut().push(flaw);
    }

    fn usable<T>(&self, value: Result<T, Flaw>) -> Option<T> {
        value.map_err(|flaw| self.put_down(flaw)).ok()
    }

    /// A setting whose value is not this.
    pub fn unfit(&self, setting: &str, accepted: &str) -> Flaw {
        let span = self.table.get(setting).map_or(self.at.clone(), Spanned::span);
        Flaw::at(self.text, span, format!("{setting} has no valid value; accepted: {accepted}"))
    }

    /// A setting that is not there, or must not be.
    pub fn flaw(&self, setting: Option<&str>, message: &str) -> Flaw {
        let value = setting.and_then(|setting| self.table.get(setting));
        let span = value.map_or(self.at.clone(), Spanned::span);
        Flaw::at(self.text, span, format!("{}: {message}", self.name))
    }

    fn one<T>(
        &self,
        setting: &str,
        value: &Spanned<DeValue<'_>>,
        parse: Parse<T>,
    ) -> Result<T, Flaw> {
        let text = value.get_ref().as_str().ok_or("a string: \"…\"");
        text.and_then(parse).map_err(|accepted| {
            let message = format!("{setting} has no valid value; accepted: {accepted}");
            Flaw::at(self.text, value.span(), message)
        })
    }
}
