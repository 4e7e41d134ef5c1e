//! A section of the settings file, whose values are taken out one by one.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flaw::Flaw;

/// What a value's text stands for, or the words for what is accepted.
type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// One table with the text around it.
pub struct Section<'t> {
    text: &'t str,
    name: &'static str,
    at: Range<usize>,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// The table that `value` is, in which there may be `known` settings and no others.
    pub fn of(
        text: &'t str,
        name: &'static str,
        at: Range<usize>,
        value: &'t DeValue<'t>,
        known: &[&str],
    ) -> Result<Self, Flaw> {
        let Some(table) = value.as_table() else {
            return Err(Flaw::at(text, at, format!("{name} is a section: write it as {name}")));
        };
        let section = Section { text, name, at, table };
        for (key, _) in table.iter() {
            if !known.contains(&key.get_ref().as_ref()) {
                let known = known.join(", ");
                let key_name = key.get_ref().escape_debug();
                let message =
                    format!("there is no setting \"{key_name}\" in {name}; there are {known}");
                return Err(Flaw::at(text, key.span(), message));
            }
        }
        Ok(section)
    }

    /// True if the setting is there.
    pub fn has(&self, setting: &str) -> bool {
        self.table.contains_key(setting)
    }

    /// A text.
    pub fn text<T>(&self, setting: &str, parse: Parse<T>) -> Result<Option<T>, Flaw> {
        let Some(value) = self.table.get(setting) else { return Ok(None) };
        self.one(setting, value, parse).map(Some)
    }

    /// A list of texts.
    pub fn texts<T>(&self, setting: &str, parse: Parse<T>) -> Result<Option<Vec<T>>, Flaw> {
        let Some(value) = self.table.get(setting) else { return Ok(None) };
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.unfit(setting, "a list of strings: [\"…\", \"…\"]"));
        };
        list.iter().map(|value| self.one(setting, value, parse)).collect::<Result<_, _>>().map(Some)
    }

    /// True or false.
    pub fn switch(&self, setting: &str) -> Result<Option<bool>, Flaw> {
        let Some(value) = self.table.get(setting) else { return Ok(None) };
        let on = value.get_ref().as_bool();
        on.map(Some).ok_or_else(|| self.unfit(setting, "true or false"))
    }

    /// A whole number.
    pub fn number(&self, setting: &str, range: Range<u32>) -> Result<Option<u32>, Flaw> {
        let Some(value) = self.table.get(setting) else { return Ok(None) };
        let number = value.get_ref().as_integer().filter(|number| number.radix() == 10);
        let number = number.and_then(|number| number.as_str().parse().ok());
        number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            self.unfit(setting, &format!("a number from {} to {}", range.start, range.end - 1))
        })
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
