//! A world made of text, for tests: commands as lines, the state as lines, names instead of ids.
//!
//! ```
//! use muster_model::fixture::World;
//! let mut world = World::from_text(
//!     "
//!     instance i1 az=az-a cpu=4096 mem=8192 ready
//!     definition web cpu=256 mem=128 port=80
//!     service web definition=web:1 desired=3
//!     task t1 service=web on=i1 running
//! ",
//! );
//! assert_eq!(world.run("stop t1"), "ok");
//! println!("{}", world.show());
//! assert!(world.state.task(world.task("t1")).is_some());
//! ```
//!
//! Every line goes through `apply`, so a fixture is always a state that could really be. The lines
//! are listed in `fixture/verbs.rs` (commands) and `fixture/steps.rs` (what a leader plans); the
//! script form with recorded answers is `fixture::script`.
//!
//! Names become ids at their first mention, counted from 1 per kind, so ids sort as mentioned.
//! A mistake in a fixture panics with the line: it is a mistake in the test.

use crate::command::{Bootstrap, Command, Entry, Response, Step};
use crate::error::Error;
use crate::ids::{
    ClusterId, DeploymentId, Epoch, IdSource, Index, InstanceId, Principal, RaftId, RequestId,
    ServiceId, TaskId,
};
use crate::state::State;
use crate::time::{Millis, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

mod access_key;
mod alarm;
mod capacity;
mod instance;
mod job;
mod line;
mod operations;
mod schedule;
pub mod script;
mod secret;
mod shift;
mod show;
mod signing_key;
mod steps;
mod task_set;
mod values;
mod verbs;

pub use line::Line;
pub use values::digest;

/// When a world begins; shown as `@0ms`.
pub const BEGIN: Time = Time(1_700_000_000_000);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    Cluster,
    Service,
    Deployment,
    Task,
    Instance,
    Request,
    Schedule,
    Job,
}

/// A state with the clock, the ids and the names around it.
#[derive(Clone, Debug)]
pub struct World {
    pub state: State,
    /// Time of the next entry; `time +5s` moves it.
    pub at: Time,
    /// Mints what a line does not name.
    pub ids: IdSource,
    names: BTreeMap<(Noun, String), u128>,
    minted: BTreeMap<Noun, u128>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Bootstrapped: manager 1 leads, user `admin`, cluster `default`.
    pub fn new() -> Self {
        let mut world = Self::empty();
        world.line("bootstrap").unwrap_or_else(|why| panic!("bootstrap: {why}"));
        world.line("takeover 1").unwrap_or_else(|why| panic!("takeover: {why}"));
        world
    }

    /// Nothing applied yet.
    pub fn empty() -> Self {
        Self {
            state: State::default(),
            at: BEGIN,
            ids: IdSource::new(1),
            names: BTreeMap::new(),
            minted: BTreeMap::new(),
        }
    }

    /// `World::new` and these lines; empty ones and those that begin with `#` are skipped.
    ///
    /// # Panics
    /// If a line is not understood or refused.
    pub fn from_text(text: &str) -> Self {
        let mut world = Self::new();
        world.extend(text);
        world
    }

    /// Runs more lines, none of which may be refused.
    ///
    /// # Panics
    /// If a line is not understood or refused.
    pub fn extend(&mut self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let answer = self.line(line).unwrap_or_else(|why| format!("error: {why}"));
            let fine = answer.starts_with("ok") || line.starts_with("show");
            assert!(fine, "fixture line {}: {line}\n  {answer}", number + 1);
        }
    }

    /// Runs one line and says what it came to: `ok ...`, `error: ...`, `refused 0: ...`.
    ///
    /// # Panics
    /// If the line is not understood.
    pub fn run(&mut self, line: &str) -> String {
        self.line(line).unwrap_or_else(|why| panic!("fixture line: {line}\n  {why}"))
    }

    /// The entry that a command's line stands for, made but not applied.
    ///
    /// # Panics
    /// If the line is not understood.
    pub fn entry(&mut self, text: &str) -> Entry {
        let parsed = Line::parse(text).and_then(|mut line| {
            let command = self.command(&mut line)?;
            line.done().map(|()| command)
        });
        let command = parsed.unwrap_or_else(|why| panic!("fixture line: {text}\n  {why}"));
        let (request, by) = (self.ids.request(), Principal::User("admin".into()));
        Entry { request, at: self.at, by, trace: None, command }
    }

    /// Applies a command as the admin, at the world's time, as a fresh request.
    pub fn apply(&mut self, command: Command) -> Result<Response, Error> {
        let request = self.ids.request();
        self.apply_as(Principal::User("admin".into()), request, command)
    }

    /// Applies a command at the next index.
    pub fn apply_as(
        &mut self,
        by: Principal,
        request: RequestId,
        command: Command,
    ) -> Result<Response, Error> {
        let index = Index(self.state.applied().0 + 1);
        let entry = Entry { request, at: self.at, by, trace: None, command };
        crate::apply(&mut self.state, index, &entry)
    }

    /// Applies steps as a plan of the present epoch; the refused ones come back.
    ///
    /// # Panics
    /// Never on steps: a plan of the present epoch is always judged.
    pub fn plan(&mut self, steps: Vec<Step>) -> Vec<(u32, Error)> {
        let epoch = self.state.meta().epoch;
        match self.plan_of(epoch, steps) {
            Ok(Response::Plan { refused }) => refused,
            other => panic!("a plan of the present epoch came to {other:?}"),
        }
    }

    /// Applies steps as a plan of this epoch.
    pub fn plan_of(&mut self, epoch: Epoch, steps: Vec<Step>) -> Result<Response, Error> {
        let request = self.ids.request();
        let leader = Principal::Manager(self.state.meta().leader);
        self.apply_as(leader, request, Command::Plan { epoch, steps })
    }

    /// Moves the clock.
    pub fn wait(&mut self, span: Millis) {
        self.at = self.at + span;
    }

    fn bits(&mut self, noun: Noun, name: &str) -> u128 {
        if let Some(bits) = self.names.get(&(noun, name.to_string())) {
            return *bits;
        }
        self.rename(noun, name)
    }

    /// A new id for a name, as when a service is created again under it.
    fn rename(&mut self, noun: Noun, name: &str) -> u128 {
        let minted = self.minted.entry(noun).or_default();
        *minted += 1;
        self.names.insert((noun, name.to_string()), *minted);
        *minted
    }

    fn known(&self, noun: Noun, name: &str) -> u128 {
        let bits = self.names.get(&(noun, name.to_string()));
        *bits.unwrap_or_else(|| panic!("no {noun:?} {name:?} in this world"))
    }

    /// The task of this name.
    ///
    /// # Panics
    /// If no line mentioned it; so do the other look-ups by name.
    pub fn task(&self, name: &str) -> TaskId {
        TaskId::from_bits(self.known(Noun::Task, name))
    }
    pub fn instance(&self, name: &str) -> InstanceId {
        InstanceId::from_bits(self.known(Noun::Instance, name))
    }
    pub fn service(&self, name: &str) -> ServiceId {
        ServiceId::from_bits(self.known(Noun::Service, name))
    }
    pub fn deployment(&self, name: &str) -> DeploymentId {
        DeploymentId::from_bits(self.known(Noun::Deployment, name))
    }
    pub fn cluster(&self, name: &str) -> ClusterId {
        ClusterId::from_bits(self.known(Noun::Cluster, name))
    }

    /// Gives an id that was minted elsewhere (by a planner) a name to be shown by.
    pub fn name(&mut self, noun: Noun, bits: u128, name: &str) {
        self.names.insert((noun, name.to_string()), bits);
    }

    /// The name of an id, or its first eight digits.
    pub fn name_of(&self, noun: Noun, bits: u128) -> String {
        let mut named = self.names.iter().filter(|((n, _), b)| *n == noun && **b == bits);
        named
            .next()
            .map_or_else(|| format!("{bits:032x}")[..8].to_string(), |((_, n), _)| n.clone())
    }

    /// The name of an id given as text, whatever it is the id of.
    fn named_id(&self, text: &str) -> String {
        let id = |(_, bits): &(_, &u128)| format!("{bits:032x}") == text;
        let found = self.names.iter().find(id);
        found.map_or_else(|| text.to_string(), |((_, name), _)| name.clone())
    }

    /// The same text with ids replaced by names, to make errors and reasons readable.
    pub fn named(&self, text: &str) -> String {
        let ids = self.names.iter().filter(|((noun, _), _)| *noun != Noun::Request);
        // Small ids of two kinds may be equal; the word before them says which is meant.
        let mut text = text.to_string();
        for ((noun, name), bits) in ids {
            let word = match noun {
                Noun::Cluster => "cluster",
                Noun::Service => "service",
                Noun::Deployment => "deployment",
                Noun::Task => "task",
                Noun::Instance => "instance",
                Noun::Schedule => "schedule",
                Noun::Job => "job",
                Noun::Request => continue,
            };
            for quote in [" \"", " ", "/"] {
                text = text
                    .replace(&format!("{word}{quote}{bits:032x}"), &format!("{word}{quote}{name}"));
            }
        }
        text
    }
}

/// The entry that makes the cluster of a world.
fn bootstrap(default_cluster: ClusterId, at: Time) -> Bootstrap {
    Bootstrap {
        name: Arc::from("test"),
        account: Arc::from("000000000000"),
        region: Arc::from("local"),
        default_cluster,
        authority: crate::cluster::Authority {
            certificate_pem: Arc::from("certificate"),
            key_pem: Arc::from("key"),
            manager_token_hash: Arc::from("manager-token"),
            worker_token_hash: Arc::from("worker-token"),
        },
        manager: crate::cluster::Manager {
            id: RaftId(1),
            name: Arc::from("m1"),
            zone: Arc::from("az-a"),
            address: Arc::from("m1:7000"),
            level: 1,
            joined_at: at,
            removed_at: None,
        },
        admin: Arc::from("admin"),
        admin_serial: Arc::from("01"),
    }
}
