//! Whether a strict task may run: only on the word of a leader, and for so long after it.
//!
//! `muster_model::strict` has the whole picture. It does not know who confirms, or how. Invariant:
//! nothing of a strict task is created while there is no contact.

use muster_model::Time;
use muster_model::limits::STRICT_CONTACT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// Nobody asks: the task is not strict.
    Free,
    Until(Time),
    /// Nothing of the task is made yet, so that it can wait so long for the first word.
    Awaited(Time),
    Lost,
}

impl Contact {
    /// Of a strict task. `confirmed`: when the newest heartbeat that a leader confirmed was sent;
    /// `waits_since`: when the task came here, if nothing of it was made.
    pub fn of(now: Time, confirmed: Option<Time>, waits_since: Option<Time>) -> Self {
        let until = |since: Option<Time>| {
            since.map(|since| since + STRICT_CONTACT).filter(|until| *until > now)
        };
        match (until(confirmed), until(waits_since)) {
            (Some(at), _) => Self::Until(at),
            (None, Some(at)) => Self::Awaited(at),
            (None, None) => Self::Lost,
        }
    }

    /// When it will have changed, should nobody say a word.
    pub fn changes_at(self) -> Option<Time> {
        match self {
            Self::Free | Self::Lost => None,
            Self::Until(at) | Self::Awaited(at) => Some(at),
        }
    }
}
