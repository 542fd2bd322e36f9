//! The leash of a strict task's container: nobody has confirmed for too long that the agent is in
//! contact with a leader, and it is killed, whether or not there still is an agent.
//!
//! The agent writes the time of the newest contact into a file, by the clock that counts since
//! boot; what the numbers are for says `raft/model/src/strict.rs`. It reads that file and no other.
//! Invariant: a file that cannot be read, or that tells an earlier time than before, lengthens
//! nothing.

use crate::args::Leash;
use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::{Duration, Instant};

/// The clock of waiting stands still while the machine sleeps; that of the leash does not.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of the contact.
pub struct Held<'a> {
    leash: &'a Leash,
    contact: Duration,
    look_at: Instant,
}

impl<'a> Held<'a> {
    /// # Errors
    /// When no contact is known: then nothing may be started.
    pub fn new(leash: &'a Leash) -> Result<Self, String> {
        let contact = told(leash).ok_or_else(|| {
            format!("no contact with a leader in {}", leash.contact_file.display())
        })?;
        Ok(Self { leash, contact, look_at: Instant::now() })
    }

    /// Whether it is over; to be asked again at `look_at`.
    pub fn is_over(&mut self) -> bool {
        if Instant::now() < self.look_at {
            return false;
        }
        self.contact = self.contact.max(told(self.leash).unwrap_or_default());
        let left = (self.contact + self.leash.over_after).saturating_sub(since_boot());
        self.look_at = Instant::now() + left.min(LOOK);
        left.is_zero()
    }

    pub fn look_at(&self) -> Instant {
        self.look_at
    }
}

/// `<id of the boot> <milliseconds since boot>`.
fn told(leash: &Leash) -> Option<Duration> {
    let text = fs::read_to_string(&leash.contact_file).ok()?;
    let (_, contact) = text.trim().split_once(' ')?;
    let contact = Duration::from_millis(contact.parse().ok()?);
    // The future is another boot's.
    (contact <= since_boot()).then_some(contact)
}

fn since_boot() -> Duration {
    // A clock that is not there ends every leash.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(leash: &Leash, ago: Duration) {
        let at = (since_boot() - ago).as_millis();
        fs::write(&leash.contact_file, format!("boot {at}\n")).unwrap();
    }

    #[test]
    fn a_leash_ends_so_long_after_the_last_contact_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let contact_file = dir.path().join("contact");
        let leash = Leash { contact_file, over_after: Duration::from_secs(40) };
        assert!(Held::new(&leash).is_err(), "nobody knows of a contact");
        for nonsense in ["", "boot", "boot x", "boot -5", "boot 18446744073709551615"] {
            fs::write(&leash.contact_file, nonsense).unwrap();
            assert!(Held::new(&leash).is_err(), "{nonsense:?}");
        }

        write(&leash, Duration::from_secs(39));
        let mut held = Held::new(&leash).unwrap();
        assert!(!held.is_over());
        // What cannot be read, or is older, lengthens nothing and shortens nothing.
        fs::remove_file(&leash.contact_file).unwrap();
        held.look_at = Instant::now();
        assert!(!held.is_over());
        assert!(held.look_at() <= Instant::now() + LOOK);

        write(&leash, Duration::from_secs(40));
        assert!(Held::new(&leash).unwrap().is_over());
    }
}
