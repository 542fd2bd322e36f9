//! The state machine: applies committed entries, publishes the state, hands out snapshots.
//!
//! It does not know what a command means; `muster_model::apply` does. Invariants: the published
//! state is the result of every entry up to `applied`; a caller is answered only after the state
//! that shows its entry was published; building a snapshot never delays an apply, because a
//! snapshot is a clone of the state value.

use crate::limits::APPLY_BATCH_MAX;
use crate::open::Borrowed;
use crate::snapshot::{self, Image};
use crate::spans;
use crate::types::{LogId, RaftEntry, RaftPayload, Reply, Snapshot, SnapshotMeta};
use crate::types::{StoredMembership, Types};
use crate::writer::{Hook, Writer};
use futures::{Stream, StreamExt};
use muster_model::{Index, Response, State, apply};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// A state and the log position that it is the result of.
#[derive(Clone, Debug, Default)]
pub struct AppliedState {
    pub state: Arc<State>,
    pub last: Option<LogId>,
    pub membership: Arc<StoredMembership>,
}

/// Where the newest state is seen.
#[derive(Clone)]
pub struct Published {
    pub states: watch::Sender<Arc<State>>,
    /// One more than the newest applied log index.
    pub next: watch::Sender<u64>,
}

impl Published {
    pub fn new(applied: &AppliedState) -> Self {
        Self {
            states: watch::Sender::new(applied.state.clone()),
            next: watch::Sender::new(next_of(applied.last)),
        }
    }

    /// The state first, then its index: who sees the index sees the state.
    fn publish(&self, applied: &AppliedState) {
        self.states.send_replace(applied.state.clone());
        self.next.send_replace(next_of(applied.last));
    }
}

fn next_of(last: Option<LogId>) -> u64 {
    last.map_or(0, |id| id.index + 1)
}

/// openraft's state machine.
pub struct Machine {
    db: Borrowed,
    writer: Writer,
    published: Published,
    hook: Hook,
    now: AppliedState,
    state: State,
    /// openraft asked for a snapshot at least once: from then on there always is one.
    snapshot: bool,
}

impl Machine {
    pub fn new(
        db: Borrowed,
        writer: Writer,
        published: Published,
        hook: Hook,
        now: AppliedState,
    ) -> Self {
        let state = (*now.state).clone();
        Self { db, writer, published, hook, now, state, snapshot: false }
    }

    fn apply_one(&mut self, entry: RaftEntry) -> Reply {
        let id = entry.log_id;
        self.now.last = Some(id);
        match entry.payload {
            RaftPayload::Blank => {
                self.state.skip(Index(id.index));
                Reply(Ok(Response::Done))
            }
            RaftPayload::Membership(members) => {
                self.state.skip(Index(id.index));
                self.now.membership = Arc::new(StoredMembership::new(Some(id), members));
                Reply(Ok(Response::Done))
            }
            RaftPayload::Normal(proposal) => {
                let entry = proposal.entry();
                let span = spans::apply(id.index, entry.trace);
                let _in = span.enter();
                Reply(apply(&mut self.state, Index(id.index), entry))
            }
        }
    }

    /// Shows what has been applied, and has it written with the next batch.
    fn publish(&mut self) {
        self.now.state = Arc::new(self.state.clone());
        self.published.publish(&self.now);
        self.writer.persist(self.now.clone());
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.now.last, last_membership: (*self.now.membership).clone() }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.now.last, (*self.now.membership).clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse();
        loop {
            let mut answers = Vec::new();
            let mut applied = 0;
            while applied < APPLY_BATCH_MAX
                && let Some(next) = entries.next().await
            {
                let (entry, responder) = next?;
                let reply = self.apply_one(entry);
                answers.extend(responder.map(|responder| (responder, reply)));
                applied += 1;
            }
            if applied == 0 {
                return Ok(());
            }
            self.publish();
            for (responder, reply) in answers {
                responder.send(reply);
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshot = true;
        Builder { meta: self.meta(), image: Image { state: self.now.state.clone() } }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: Image,
    ) -> Result<(), io::Error> {
        let applied = AppliedState {
            state: image.state,
            last: meta.last_log_id,
            membership: Arc::new(meta.last_membership.clone()),
        };
        snapshot::install(self.db.get()?, &self.writer, &self.hook, &applied).await?;
        self.state = (*applied.state).clone();
        self.now = applied;
        self.snapshot = true;
        self.published.publish(&self.now);
        Ok(())
    }

    /// Always the present state: it costs nothing, and a follower gets the newest there is.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let image = Image { state: self.now.state.clone() };
        Ok(self.snapshot.then(|| Snapshot { meta: self.meta(), snapshot: image }))
    }
}

/// A view of the state at one log position.
pub struct Builder {
    meta: SnapshotMeta,
    image: Image,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Image;

    /// The tables on disk are the durable form: there is nothing left to build.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        Ok(Snapshot { meta: self.meta.clone(), snapshot: self.image.clone() })
    }
}
