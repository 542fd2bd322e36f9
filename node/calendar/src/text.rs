//! The outside of an expression, and dates: text with columns, so that an error says where.

use crate::EXPRESSION_CHARS_MAX;
use jiff::civil::DateTime;

/// Where an expression is wrong, and what may stand there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// In characters, counted from 1.
    pub column: usize,
    pub allowed: String,
}

/// A part of an expression and the column at which it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub text: &'a str,
    pub column: usize,
}

impl<'a> Piece<'a> {
    pub fn wrong(self, allowed: impl Into<String>) -> Wrong {
        Wrong { column: self.column, allowed: allowed.into() }
    }

    /// The same text from this byte on; it must be the first of a character.
    fn from(self, byte: usize) -> Self {
        let (before, text) = self.text.split_at(byte);
        Self { text, column: self.column + before.chars().count() }
    }

    pub fn split_once(self, by: char) -> Option<(Self, Self)> {
        let (before, _) = self.text.split_once(by)?;
        let after = self.from(before.len() + by.len_utf8());
        Some((Self { text: before, ..self }, after))
    }

    pub fn strip_suffix(self, suffix: &str) -> Option<Self> {
        self.text.strip_suffix(suffix).map(|text| Self { text, ..self })
    }

    pub fn split(self, by: char) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let piece = rest?;
            rest = None;
            match piece.split_once(by) {
                Some((first, others)) => {
                    rest = Some(others);
                    Some(first)
                }
                None => Some(piece),
            }
        })
    }

    /// What white space separates.
    pub fn words(self) -> Vec<Self> {
        let words = self.split(' ').filter(|word| !word.text.is_empty());
        words.collect()
    }

    /// Where it ends, for something that is missing.
    pub fn end(self) -> Self {
        self.from(self.text.len())
    }

    /// Digits that are a number of at most nine places.
    pub fn number(self) -> Option<u32> {
        let digits = (1..=9).contains(&self.text.len());
        let digits = digits && self.text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| self.text.parse().ok()).flatten()
    }
}

/// `NAME(INNER)`.
pub(crate) struct Call<'a> {
    pub name: &'a str,
    pub inner: Piece<'a>,
}

const FORMS: &str = "rate(VALUE UNIT), cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR) or \
                     at(YYYY-MM-DDThh:mm:ss)";

pub(crate) fn expression(text: &str) -> Result<Call<'_>, Wrong> {
    let all = Piece { text, column: 1 };
    let chars = text.chars().count();
    if chars > EXPRESSION_CHARS_MAX {
        let column = EXPRESSION_CHARS_MAX + 1;
        let allowed = format!("the end: at most {EXPRESSION_CHARS_MAX} characters, not {chars}");
        return Err(Wrong { column, allowed });
    }
    let (name, rest) = all.split_once('(').ok_or_else(|| all.wrong(FORMS))?;
    if !["rate", "cron", "at"].contains(&name.text) {
        return Err(all.wrong(FORMS));
    }
    let inner = rest.strip_suffix(")").ok_or_else(|| rest.end().wrong("a closing parenthesis"))?;
    Ok(Call { name: name.text, inner })
}

/// `2026-11-20T13:00:00`, as it stands on a clock.
pub(crate) fn date_time(piece: Piece<'_>) -> Result<DateTime, Wrong> {
    let wrong = || piece.wrong("a date and time of day, YYYY-MM-DDThh:mm:ss");
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(b, shape): (u8, &u8)| match shape {
        b'd' => b.is_ascii_digit(),
        other => b == *other,
    };
    if piece.text.len() != SHAPE.len() || !piece.text.bytes().zip(SHAPE).all(fits) {
        return Err(wrong());
    }
    let at = piece.text.parse::<DateTime>().map_err(|_| wrong())?;
    match (1970..=2199).contains(&at.year()) {
        true => Ok(at),
        false => Err(piece.wrong("a year from 1970 to 2199")),
    }
}
