//! One field of a cron expression as the set of numbers that it names.

use crate::text::{Piece, Wrong};

/// What a field may say.
pub(crate) struct Kind {
    pub name: &'static str,
    pub min: u32,
    pub max: u32,
    /// The names of its numbers, from `min` on.
    pub names: &'static [&'static str],
}

pub(crate) const MINUTES: Kind = Kind { name: "minutes", min: 0, max: 59, names: &[] };
pub(crate) const HOURS: Kind = Kind { name: "hours", min: 0, max: 23, names: &[] };
pub(crate) const DAY_OF_MONTH: Kind = Kind { name: "day-of-month", min: 1, max: 31, names: &[] };
pub(crate) const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
pub(crate) const DAY_OF_WEEK: Kind = Kind {
    name: "day-of-week",
    min: 1,
    max: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};
pub(crate) const YEAR: Kind = Kind { name: "year", min: 1970, max: 2199, names: &[] };

/// Numbers of one field; a bit each, from the field's least on. The years are 230.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    least: u32,
    bits: [u64; 4],
}

impl Set {
    pub fn has(self, number: u32) -> bool {
        let bit = number.wrapping_sub(self.least) as usize;
        self.bits.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn add(&mut self, number: u32) {
        let bit = number.wrapping_sub(self.least) as usize;
        if let Some(word) = self.bits.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }
}

impl Kind {
    /// `*`, numbers, names, ranges `A-B` and steps `A/N`, `A-B/N`, `*/N`, separated by commas.
    pub fn set(&self, field: Piece<'_>) -> Result<Set, Wrong> {
        let mut set = Set { least: self.min, ..Set::default() };
        for item in field.split(',') {
            let (span, step) = match item.split_once('/') {
                Some((span, step)) => (span, Some(self.step(step)?)),
                None => (item, None),
            };
            let (from, to) = match (span.text, span.split_once('-')) {
                ("*", _) => (self.min, self.max),
                (_, Some((from, to))) => {
                    let (first, last) = (self.one(from)?, self.one(to)?);
                    if first > last {
                        return Err(to.wrong(format!("{} not before {}", self.name, from.text)));
                    }
                    (first, last)
                }
                // `5/15`: from five on.
                (_, None) => {
                    let from = self.one(span)?;
                    (from, if step.is_some() { self.max } else { from })
                }
            };
            (from..=to).step_by(step.unwrap_or(1) as usize).for_each(|number| set.add(number));
        }
        Ok(set)
    }

    pub fn one(&self, piece: Piece<'_>) -> Result<u32, Wrong> {
        let named = self.names.iter().zip(self.min..);
        let named = named.filter(|(name, _)| name.eq_ignore_ascii_case(piece.text));
        let number = piece.number().filter(|number| (self.min..=self.max).contains(number));
        let found = number.or(named.map(|(_, number)| number).next());
        found.ok_or_else(|| piece.wrong(self.allowed()))
    }

    fn step(&self, piece: Piece<'_>) -> Result<u32, Wrong> {
        let most = self.max - self.min + 1;
        let fits = piece.number().filter(|step| (1..=most).contains(step));
        fits.ok_or_else(|| piece.wrong(format!("a step of {} from 1 to {most}", self.name)))
    }

    /// The values of the field, for an error.
    pub fn allowed(&self) -> String {
        let Kind { name, min, max, names } = self;
        match (names.first(), names.last()) {
            (Some(first), Some(last)) => format!("{name} {min} to {max} or {first} to {last}"),
            _ => format!("{name} {min} to {max}"),
        }
    }
}
