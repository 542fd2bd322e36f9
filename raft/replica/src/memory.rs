//! The same handle without consensus: entries are applied at once, by the real `apply`.
//!
//! For tests of what stands above the replica. It can also play the two answers that matter to
//! callers: "not the leader" and "outcome unknown" (of either fate).

use crate::{Answer, Applied, Backend, Change, Instant, Leadership, Member, RaftStatus, Replica};
use muster_model::{Entry, Error, Index, RaftId, State, apply};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What the next proposal meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is applied and answered.
    Answered,
    /// It is applied, and the answer is lost.
    AppliedUnknown,
    /// It is lost, and the caller cannot know.
    LostUnknown,
}

/// One imaginary manager with an immediate log.
pub struct Memory {
    id: RaftId,
    inner: Mutex<Inner>,
    states: watch::Sender<Arc<State>>,
    leadership: watch::Sender<Leadership>,
}

struct Inner {
    state: State,
    last: Index,
    next: Fate,
}

impl Memory {
    /// An empty state on manager 1, which leads.
    pub fn start() -> (Arc<Memory>, Replica) {
        Self::start_with(State::default())
    }

    /// The same over a given state.
    pub fn start_with(state: State) -> (Arc<Memory>, Replica) {
        let id = RaftId(1);
        let last = state.applied();
        let leader = Some((id, "memory".to_owned()));
        let memory = Arc::new(Memory {
            id,
            states: watch::Sender::new(Arc::new(state.clone())),
            leadership: watch::Sender::new(Leadership { leader, mine: true, term: 1 }),
            inner: Mutex::new(Inner { state, last, next: Fate::Answered }),
        });
        (memory.clone(), Replica::new(memory))
    }

    /// Who leads from now on: this manager, or nobody.
    pub fn lead(&self, mine: bool) {
        self.leadership.send_modify(|now| {
            now.mine = mine;
            now.leader = mine.then(|| (self.id, "memory".to_owned()));
            now.term += u64::from(mine);
        });
    }

    /// What the next proposal meets; later ones are answered again.
    pub fn next(&self, fate: Fate) {
        self.locked().next = fate;
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, entry: &Entry) -> Result<Applied, Error> {
        if !self.leadership.borrow().mine {
            return Err(Error::Unavailable { why: "no leader".into() });
        }
        let mut inner = self.locked();
        let fate = std::mem::replace(&mut inner.next, Fate::Answered);
        let lost = || Error::UnknownOutcome { why: "the answer was lost".into() };
        if fate == Fate::LostUnknown {
            return Err(lost());
        }
        let index = Index(inner.last.0 + 1);
        inner.last = index;
        let answer = apply(&mut inner.state, index, entry);
        self.states.send_replace(Arc::new(inner.state.clone()));
        if fate == Fate::AppliedUnknown {
            return Err(lost());
        }
        answer.map(|response| Applied { index, response })
    }
}

impl Backend for Memory {
    fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.states.subscribe()
    }
    fn age(&self) -> Duration {
        Duration::ZERO
    }
    fn read(&self, _deadline: Instant) -> Answer<'_, Arc<State>> {
        Box::pin(async {
            match self.leadership.borrow().mine {
                true => Ok(self.states.borrow().clone()),
                false => Err(Error::Unavailable { why: "no leader".into() }),
            }
        })
    }
    fn propose(&self, entry: Entry, _deadline: Instant) -> Answer<'_, Applied> {
        Box::pin(async move { self.commit(&entry) })
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
    fn status(&self) -> RaftStatus {
        let now = self.leadership.borrow().clone();
        let last = self.locked().last.0;
        RaftStatus {
            id: self.id,
            term: now.term,
            leader: now.leader.as_ref().map(|(id, _)| *id),
            members: vec![Member {
                id: self.id,
                address: "memory".into(),
                voter: true,
                matched: Some(last),
                answered: Some(Duration::ZERO),
            }],
            log_last: Some(last),
            committed: Some(last),
            applied: Some(last),
            ..RaftStatus::default()
        }
    }
    fn change(&self, change: Change, _deadline: Instant) -> Answer<'_, ()> {
        Box::pin(async move {
            match change {
                Change::Snapshot | Change::Transfer(None) => Ok(()),
                other => Err(Error::Unsupported {
                    feature: format!("{other:?}"),
                    instead: "a replica in memory has one manager".into(),
                }),
            }
        })
    }
}
