//! What of a seed's history is lived through: all of it, or only what a failure still needs.
//!
//! It is written as words of the command line, so that a shrunken failure can be replayed by
//! anyone. It does not decide what to leave out: `shrink` does.

use muster_model::Millis;
use std::collections::BTreeSet;
use std::fmt;

/// A wish of a user: which user, and how many wishes it had before.
pub type Wish = (usize, u64);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Faults that do not strike, by number.
    pub no_faults: BTreeSet<u64>,
    /// Wishes that are not made.
    pub no_wishes: BTreeSet<Wish>,
    /// The faults end after this long at the latest.
    pub calm_at: Option<Millis>,
    /// No more machines than this at the start.
    pub agents_max: Option<u64>,
}

impl Part {
    /// Takes one word of the command line and its value.
    ///
    /// # Errors
    /// The value is not what the word takes. `Ok(false)`: it is no word of ours.
    pub fn take(&mut self, word: &str, value: &str) -> Result<bool, String> {
        match word {
            "--no-faults" => self.no_faults = numbers(word, value)?,
            "--no-wishes" => {
                for group in value.split('/').filter(|group| !group.is_empty()) {
                    let Some((client, wishes)) = group.split_once(':') else {
                        return Err(format!("{word}: {group:?} is not CLIENT:NUMBERS"));
                    };
                    let client = number(word, client)? as usize;
                    let wishes = numbers(word, wishes)?;
                    self.no_wishes.extend(wishes.into_iter().map(|wish| (client, wish)));
                }
            }
            "--calm-at" => self.calm_at = Some(Millis(number(word, value)?)),
            "--agents" => self.agents_max = Some(number(word, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl fmt::Display for Part {
    /// The words that `take` takes, with a space before each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.no_faults.is_empty() {
            write!(f, " --no-faults {}", ranges(&self.no_faults))?;
        }
        let clients: BTreeSet<usize> = self.no_wishes.iter().map(|(client, _)| *client).collect();
        let groups: Vec<String> = clients
            .into_iter()
            .map(|client| {
                let mine = self.no_wishes.iter().filter(|(c, _)| *c == client);
                format!("{client}:{}", ranges(&mine.map(|(_, number)| *number).collect()))
            })
            .collect();
        if !groups.is_empty() {
            write!(f, " --no-wishes {}", groups.join("/"))?;
        }
        if let Some(Millis(at)) = self.calm_at {
            write!(f, " --calm-at {at}")?;
        }
        if let Some(agents) = self.agents_max {
            write!(f, " --agents {agents}")?;
        }
        Ok(())
    }
}

/// `0-3,7`.
fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let shown = spans.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

fn numbers(word: &str, text: &str) -> Result<BTreeSet<u64>, String> {
    let mut all = BTreeSet::new();
    for span in text.split(',').filter(|span| !span.is_empty()) {
        let (first, last) = span.split_once('-').unwrap_or((span, span));
        let (first, last) = (number(word, first)?, number(word, last)?);
        if last.saturating_sub(first) > 1_000_000 {
            return Err(format!("{word}: {span:?} is longer than a history"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

fn number(word: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{word}: {text:?} is not a number"))
}
