//! Changes as they are committed, from any kept version on.
//!
//! A watcher holds the state it has told of, and compares it with the newest one whenever it has
//! room to say more: a slow reader hears fewer, larger, net changes, and no queue grows.
//! Invariant: what a stream has told up to a resume token is all that changed up to there.

pub mod changes;
pub mod history;

use crate::authn::{Verdict, judge};
use crate::authz::Caller;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::limits::{
    WATCH_BOOKMARK_AFTER, WATCH_BOOKMARK_ENTRIES, WATCH_BOOKMARK_ROWS, WATCH_BUFFER_MESSAGES,
    WATCH_CATCH_UP_MAX, WATCH_CHANGES_PER_MESSAGE, WATCH_PAUSE, WATCH_STALL_MAX, WATCHERS_MAX,
};
use crate::policy::Policies;
use changes::{Filter, changes};
use futures::Stream;
use muster_identity::Peer;
use muster_model::{Error, Index, State, Time};
use muster_proto::{arn, pb};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Marks our tokens, so that one of another release can be told from garbage.
const TOKEN: &str = "w1-";

/// A message, or why the watch ends.
pub type Told = Result<pb::WatchResponse, Error>;

/// The answers of one watch. Dropping it ends the work behind it.
pub struct Watching {
    told: mpsc::Receiver<Told>,
    teller: AbortHandle,
}

impl Stream for Watching {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Told>> {
        self.told.poll_recv(context)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.teller.abort();
    }
}

impl Dispatcher {
    /// Starts a watch.
    ///
    /// # Errors
    /// `Compacted` when the resume token is too old, `Invalid` for a malformed request,
    /// `Unavailable` when this manager cannot know the present.
    pub async fn watch(&self, call: &Call, request: pb::WatchRequest) -> Result<Watching, Error> {
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            let max = WATCHERS_MAX as u64;
            let what = "watches on this manager (try another)".to_owned();
            return Err(Error::LimitExceeded { what, value: max + 1, limit: max });
        };
        let resume = position(&request.resume_from)?;
        let mut states = self.replica.watch();
        let now = match resume {
            Some(index) => self.caught_up(index).await?,
            None => self.replica.read(call.deadline).await?,
        };
        let cluster = match request.cluster.as_str() {
            "" => None,
            name => Some(arn::cluster(&now, name)?.id),
        };
        let filter = Filter::new(cluster, &request.kinds)?;
        let from = match resume {
            Some(index) => {
                self.history.keep(now.clone());
                self.history.since(index)?
            }
            None if request.changes_only => now.clone(),
            None => Arc::new(State::default()),
        };
        states.mark_changed();
        let (tell, told) = mpsc::channel(WATCH_BUFFER_MESSAGES);
        let teller = Teller {
            told: from,
            filter,
            tell,
            peer: call.peer.clone(),
            policies: self.policies.clone(),
            request,
            stopping: self.stopping.clone(),
            synced: false,
            position: Position::default(),
        };
        let teller = tokio::spawn(teller.run(states, now.applied(), permit)).abort_handle();
        Ok(Watching { told, teller })
    }

    /// Waits until this manager has seen what the reader has.
    async fn caught_up(&self, index: Index) -> Result<Arc<State>, Error> {
        self.replica.applied(index, Instant::now() + WATCH_CATCH_UP_MAX).await
    }
}

/// One watch at work.
struct Teller {
    /// What its reader knows.
    told: Arc<State>,
    filter: Filter,
    tell: mpsc::Sender<Told>,
    peer: Option<Peer>,
    policies: Arc<Policies>,
    request: pb::WatchRequest,
    stopping: CancellationToken,
    /// All present rows were sent, and a position with them.
    synced: bool,
    position: Position,
}

/// The version that a reader could resume from, as it was told last.
#[derive(Default)]
struct Position {
    index: Index,
    at: Time,
    written: u64,
}

impl Position {
    fn of(state: &State) -> Self {
        Self { index: state.applied(), at: state.meta().now, written: state.written() }
    }

    /// A reader that is told of no other could soon not resume any more.
    fn is_old(&self, now: &State) -> bool {
        now.applied().0.saturating_sub(self.index.0) >= WATCH_BOOKMARK_ENTRIES
            || now.meta().now.since(self.at) >= WATCH_BOOKMARK_AFTER
            || now.written().wrapping_sub(self.written) >= WATCH_BOOKMARK_ROWS
    }
}

/// Why a teller stops without a word: its reader is gone or does not read.
struct Gone;

impl Teller {
    async fn run(
        mut self,
        mut states: watch::Receiver<Arc<State>>,
        least: Index,
        _permit: OwnedSemaphorePermit,
    ) {
        loop {
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = self.tell.closed() => return,
                () = self.stopping.cancelled() => {
                    let _ = self.say(Err(Dispatcher::stopped())).await;
                    return;
                }
            }
            let now = states.borrow_and_update().clone();
            // The first state told is never older than the one the request was checked against.
            if now.applied() < least {
                continue;
            }
            if let Some(error) = self.refused(&now) {
                let _ = self.say(Err(error)).await;
                return;
            }
            if self.tell_changes(now).await.is_err() {
                return;
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    }

    /// A watch ends with the right to it.
    fn refused(&self, now: &State) -> Option<Error> {
        let peer = self.peer.as_ref()?;
        match judge(now, peer) {
            Verdict::Known(caller @ Caller::User { .. }) if !now.same_rights(&self.told) => {
                self.policies.ruling(now, &caller, &self.request).answer.err()
            }
            Verdict::Known(_) => None,
            Verdict::Unknown(why) | Verdict::Revoked(why) => {
                let principal = peer.principal.as_ref().map_or_else(String::new, |p| p.to_string());
                Some(Error::Denied { principal, action: format!("watch any longer: {why}") })
            }
        }
    }

    async fn tell_changes(&mut self, now: Arc<State>) -> Result<(), Gone> {
        let before = std::mem::replace(&mut self.told, now.clone());
        let mut changes = changes(before, now.clone(), self.filter.clone()).peekable();
        loop {
            let batch: Vec<_> = changes.by_ref().take(WATCH_CHANGES_PER_MESSAGE).collect();
            let last = changes.peek().is_none();
            if batch.is_empty() && self.synced && !self.position.is_old(&now) {
                return Ok(());
            }
            // Only the last message has a position: what is between is not a state.
            let resume_token = match last {
                true => format!("{TOKEN}{}", now.applied()),
                false => String::new(),
            };
            if last {
                self.synced = true;
                self.position = Position::of(&now);
            }
            let message = pb::WatchResponse { changes: batch, resume_token, synced: self.synced };
            self.say(Ok(message)).await?;
            if last {
                return Ok(());
            }
        }
    }

    async fn say(&self, told: Told) -> Result<(), Gone> {
        self.tell.send_timeout(told, WATCH_STALL_MAX).await.map_err(|_| Gone)
    }
}

fn position(token: &str) -> Result<Option<Index>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    match token.strip_prefix(TOKEN).and_then(|index| index.parse().ok()) {
        Some(index) => Ok(Some(Index(index))),
        None => {
            let allowed = "the resume_token of an earlier answer, or none to start over";
            Err(Error::invalid("resume_from", token, allowed))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use muster_model::Millis;
    use muster_model::fixture::World;

    /// Each of the three bounds of what is kept makes a position old by itself.
    #[test]
    fn a_position_grows_old_by_entries_by_time_and_by_rows() {
        let mut world = World::from_text("definition web cpu=1 mem=1");
        world.run("run t1 definition=web");
        let now = &world.state;
        let said = || Position::of(now);
        assert!(!said().is_old(now));
        let mut later = now.clone();
        later.skip(Index(now.applied().0 + WATCH_BOOKMARK_ENTRIES - 1));
        assert!(!said().is_old(&later));
        later.skip(Index(now.applied().0 + WATCH_BOOKMARK_ENTRIES));
        assert!(said().is_old(&later));
        let before = |span: Millis| Time(now.meta().now.0 - span.0);
        assert!(!Position { at: before(Millis(WATCH_BOOKMARK_AFTER.0 - 1)), ..said() }.is_old(now));
        assert!(Position { at: before(WATCH_BOOKMARK_AFTER), ..said() }.is_old(now));
        let fewer = |rows: u64| now.written().wrapping_sub(rows);
        assert!(!Position { written: fewer(WATCH_BOOKMARK_ROWS - 1), ..said() }.is_old(now));
        assert!(Position { written: fewer(WATCH_BOOKMARK_ROWS), ..said() }.is_old(now));
    }
}
