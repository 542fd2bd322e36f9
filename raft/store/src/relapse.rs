//! Tells when a follower lost log entries that it had said it has.
//!
//! A virtual machine set back to a snapshot or a disk that lied does that. The leader has the
//! entries and sends them again (openraft's `allow_log_reversion`; without it, it would ask for
//! them without end and commit nothing), but until then there was one copy less than promised:
//! somebody has to know. Invariant: terms are apart, because between two of them a log may rightly
//! have been cut.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What each follower has confirmed in the present term.
#[derive(Default)]
pub struct Relapses(Mutex<BTreeMap<u64, Confirmed>>);

#[derive(Clone, Copy)]
struct Confirmed {
    term: u64,
    index: u64,
}

impl Relapses {
    /// `follower` has every entry up to `index`.
    pub fn confirmed(&self, follower: u64, term: u64, index: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(follower).or_insert(Confirmed { term, index });
        *known = match known.term == term {
            true => Confirmed { term, index: known.index.max(index) },
            false => Confirmed { term, index },
        };
    }

    /// `follower` lacks the entry at `index`. What to say about it, once, if it had that entry.
    pub fn lacks(&self, follower: u64, term: u64, index: u64) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&follower).copied()?;
        if known.term != term || index > known.index {
            return None;
        }
        all.remove(&follower);
        Some(format!(
            "manager {follower} lost log entries up to {} that it had confirmed: its data \
             directory is of an earlier time, or its disk does not keep what it syncs; they are \
             sent again; if nobody set it back, replace its disk: `muster operator raft remove \
             {follower}`, and join again with an empty directory",
            known.index
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_was_confirmed_and_is_missing_is_told_once_and_in_its_term_only() {
        let relapses = Relapses::default();
        assert_eq!(relapses.lacks(2, 1, 5), None, "nothing was confirmed");
        relapses.confirmed(2, 1, 5);
        assert_eq!(relapses.lacks(2, 1, 6), None, "more than was confirmed");
        assert_eq!(relapses.lacks(3, 1, 5), None, "somebody else");
        assert!(relapses.lacks(2, 1, 5).is_some_and(|why| why.contains("manager 2")));
        assert_eq!(relapses.lacks(2, 1, 4), None, "told already");
        relapses.confirmed(2, 1, 5);
        assert_eq!(relapses.lacks(2, 2, 5), None, "what an earlier term confirmed may be cut");
        relapses.confirmed(2, 2, 3);
        assert_eq!(relapses.lacks(2, 2, 4), None);
    }
}
