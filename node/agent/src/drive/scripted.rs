//! An engine for tests whose actions end when the test says so.

use crate::drive::engine::{Engine, Events, ExecAsk, Input, Lines, LogsAsk, Output, Samples};
use muster_control::io::{Found, Signal};
use muster_model::dispatch::Assignment;
use muster_model::life::HealthCheck;
use muster_model::spec::TaskDefinition;
use muster_model::{Error, Revision, TaskId};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Says when an action begins and ends; an action whose name is held ends only once it is let go.
#[derive(Default)]
pub struct Scripted {
    begun: Mutex<Option<mpsc::UnboundedSender<String>>>,
    held: Mutex<HashSet<String>>,
    let_go: Notify,
}

impl Scripted {
    pub fn new(held: &[&str]) -> (Arc<Self>, mpsc::UnboundedReceiver<String>) {
        let (begun, told) = mpsc::unbounded_channel();
        let scripted = Self {
            begun: Mutex::new(Some(begun)),
            held: Mutex::new(held.iter().map(|name| (*name).to_owned()).collect()),
            let_go: Notify::new(),
        };
        (Arc::new(scripted), told)
    }

    pub fn let_go(&self, name: &str) {
        self.held.lock().unwrap().remove(name);
        self.let_go.notify_waiters();
    }

    fn say(&self, what: String) {
        if let Some(begun) = &*self.begun.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = begun.send(what);
        }
    }

    async fn act(&self, name: String) {
        self.say(name.clone());
        loop {
            let next = self.let_go.notified();
            if !self.held.lock().unwrap().contains(&name) {
                return;
            }
            next.await;
        }
    }
}

fn digit(task: TaskId) -> u128 {
    task.bits()
}

#[tonic::async_trait]
impl Engine for Scripted {
    async fn boot(&self, _events: Events) -> Result<Vec<Found>, Error> {
        Ok(Vec::new())
    }
    async fn pull(&self, assignment: Arc<Assignment>) {
        self.act(format!("pull {}", digit(assignment.task))).await;
    }
    async fn create(&self, assignment: Arc<Assignment>, container: Arc<str>) {
        self.act(format!("create {}/{container}", digit(assignment.task))).await;
    }
    async fn start(&self, task: TaskId, container: Arc<str>) {
        self.act(format!("start {}/{container}", digit(task))).await;
    }
    async fn restart(&self, task: TaskId, container: Arc<str>) {
        self.act(format!("restart {}/{container}", digit(task))).await;
    }
    async fn check(&self, task: TaskId, container: Arc<str>, _: u32, _: Arc<HealthCheck>) {
        self.act(format!("check {}/{container}", digit(task))).await;
    }
    async fn stopping(&self, task: TaskId) {
        self.act(format!("stopping {}", digit(task))).await;
    }
    async fn signal(&self, task: TaskId, container: Arc<str>, signal: Signal) {
        self.act(format!("{signal:?} {}/{container}", digit(task))).await;
    }
    async fn delete(&self, task: TaskId) {
        self.act(format!("delete {}", digit(task))).await;
    }
    async fn logs(&self, _task: TaskId, _ask: LogsAsk) -> Result<Lines, Error> {
        Err(Error::refused("scripted"))
    }
    async fn stats(&self, _: TaskId, _: bool) -> Result<Samples, Error> {
        Err(Error::refused("scripted"))
    }
    async fn exec(&self, _: TaskId, _: ExecAsk, _: Input) -> Result<Output, Error> {
        Err(Error::refused("scripted"))
    }
    async fn close(&self) {}
}

pub fn task(n: u128) -> TaskId {
    TaskId::from_bits(n)
}

pub fn assignment(n: u128) -> Arc<Assignment> {
    Arc::new(Assignment {
        task: task(n),
        account: "000000000000".into(),
        region: "local".into(),
        cluster: "default".into(),
        family: "app".into(),
        revision: Revision(1),
        group: "family:app".into(),
        spec: Arc::new(TaskDefinition::default()),
        ports: Vec::new(),
        trace: None,
        fencing_token: None,
        instance_metadata: false,
        digests: Default::default(),
    })
}
