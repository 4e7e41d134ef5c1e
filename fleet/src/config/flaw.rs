//! What is wrong in a settings file, and where.

use std::fmt;
use std::ops::Range;

/// A place in the file, from 1 on, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong, and what is accepted.
    pub message: String,
}

impl Flaw {
    /// A flaw in a part of `text`, whose bytes the span gives.
    pub fn at(text: &str, span: Range<usize>, message: impl Into<String>) -> Flaw {
        // A span of a parser's, taken as a hint: it may point behind the end or into a character.
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
        Flaw { line, column, message: message.into() }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
