//! Where a text stops being a query, and what could have stood there.
//!
//! It does not know which field held the text: `in_field` is told.

use crate::error::Error;
use std::fmt;
use std::ops::Range;

/// Characters of what was found that are repeated.
const FOUND_CHARS_MAX: usize = 40;

/// The first place that is no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Counted in characters from 1; behind the last one if the text ends too early.
    pub column: usize,
    pub expected: String,
    /// Empty: the text ends here.
    pub found: String,
}

impl QueryError {
    /// At a byte of the text that begins a character, or at its end.
    pub(super) fn at(text: &str, at: usize, expected: impl Into<String>) -> Self {
        let rest = &text[at..];
        let stop = |c: char| c.is_whitespace() || "()[],".contains(c);
        // What stops a word is shown by itself.
        let length = match rest.find(stop).unwrap_or(rest.len()) {
            0 => rest.chars().next().map_or(0, char::len_utf8),
            word => word,
        };
        Self::of(text, at..at + length, expected)
    }

    /// A part of the text, from a character to a character.
    pub(super) fn of(text: &str, part: Range<usize>, expected: impl Into<String>) -> Self {
        Self {
            column: text[..part.start].chars().count() + 1,
            expected: expected.into(),
            found: text[part].chars().take(FOUND_CHARS_MAX).collect(),
        }
    }

    /// As the error of a request whose `field` held the text.
    pub fn in_field(self, field: &str) -> Error {
        // An empty value would read as if the field were missing.
        let found = if self.found.is_empty() { "the end".into() } else { self.found };
        Error::invalid(format!("{field}, column {}", self.column), found, self.expected)
    }

    /// The text on one line, and below it a mark at the column.
    pub fn caret(&self, text: &str) -> String {
        let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        format!("{line}\n{}^", " ".repeat(self.column.saturating_sub(1)))
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}; found ", self.column, self.expected)?;
        match self.found.as_str() {
            "" => f.write_str("the end"),
            found => write!(f, "{found:?}"),
        }
    }
}

impl std::error::Error for QueryError {}
