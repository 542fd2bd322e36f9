//! What pulls hold: names in the store that a sweep must leave, although no record has them yet.
//!
//! A pull holds what it looks for before it looks, and whoever it pulls for lets go when a record
//! says what the container has. Invariant: in between there is no moment at which a sweep may take
//! it, however long the sweep takes to read the records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Held names, by how many hold them.
#[derive(Default)]
pub struct Holds {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    held: HashMap<String, usize>,
    /// What is let go while a sweep runs stays here, with nobody holding it, until that has ended:
    /// the record that has it now may have been written after the sweep looked.
    sweeping: bool,
}

/// Some names, held until this is dropped.
pub struct Held {
    names: Vec<String>,
    holds: Arc<Holds>,
}

/// A sweep that runs until this is dropped. One at a time: an agent has one.
pub struct Sweeping<'a> {
    holds: &'a Holds,
}

impl Holds {
    pub fn hold(self: &Arc<Self>, names: Vec<String>) -> Held {
        let mut inner = self.inner();
        for name in &names {
            *inner.held.entry(name.clone()).or_default() += 1;
        }
        drop(inner);
        Held { names, holds: self.clone() }
    }

    /// To be called before the records are read.
    pub fn begin_sweep(&self) -> Sweeping<'_> {
        self.inner().sweeping = true;
        Sweeping { holds: self }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweeping<'_> {
    /// Does something quick to what has this name, unless it is held: nobody can begin to hold it
    /// meanwhile.
    pub fn unless_held<T>(&self, name: &str, act: impl FnOnce() -> T) -> Option<T> {
        let inner = self.holds.inner();
        (!inner.held.contains_key(name)).then(act)
    }
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        let mut inner = self.holds.inner();
        inner.sweeping = false;
        inner.held.retain(|_, holders| *holders > 0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.holds.inner();
        let sweeping = inner.sweeping;
        for name in &self.names {
            let Some(holders) = inner.held.get_mut(name) else { continue };
            *holders -= 1;
            if *holders == 0 && !sweeping {
                inner.held.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(sweeping: &Sweeping<'_>, name: &str) -> bool {
        sweeping.unless_held(name, || ()).is_some()
    }

    #[test]
    fn what_is_held_twice_is_free_when_both_let_go() {
        let holds = Arc::new(Holds::default());
        let first = holds.hold(vec!["a".into(), "b".into()]);
        let second = holds.hold(vec!["a".into()]);
        drop(first);
        let sweeping = holds.begin_sweep();
        assert!(!free(&sweeping, "a") && free(&sweeping, "b"));
        drop(sweeping);
        drop(second);
        assert!(free(&holds.begin_sweep(), "a"));
    }

    #[test]
    fn what_is_let_go_during_a_sweep_stays_held_until_it_has_ended() {
        let holds = Arc::new(Holds::default());
        let before = holds.hold(vec!["a".into()]);
        let sweeping = holds.begin_sweep();
        drop(before);
        drop(holds.hold(vec!["b".into()]));
        assert!(!free(&sweeping, "a") && !free(&sweeping, "b"));
        drop(sweeping);
        let next = holds.begin_sweep();
        assert!(free(&next, "a") && free(&next, "b"));
    }
}
