//! Sends containers' output on to where their log drivers say: syslog, the journal, fluentd, GELF.
//!
//! The shim writes the log, and this reads it: a container never waits for a receiver, and what a
//! receiver has not taken yet waits in the files, for as long as they are kept. `forward.json`
//! beside a log says that it is to be sent on and as what, `forwarded.json` how far it has been;
//! both go with the log when its container is deleted, so that any agent goes on from there.
//!
//! Promises, docs/decisions/0026: lines come in order, and none twice but those of one batch when a
//! connection breaks or the agent is killed. Lost is what rotates away while a receiver is away,
//! which is told in its place, and what the transport lost: only an acknowledgement knows that.

mod encode;
mod link;
mod source;
mod subject;

pub use link::JOURNAL;
pub use source::{ORDER_FILE, POSITION_FILE};

use crate::error::{Context, Error, Name, Result};
use crate::journal::{ContainerKey, ContainerRecord};
use crate::runtime::{Runtime, now_ms};
use encode::Encoder;
use link::{Failed, Link};
use muster_model::log_driver::Forwarding;
use muster_model::spec::{ContainerDefinition, LogConfiguration};
use serde::{Deserialize, Serialize};
use source::{Batch, Place, Shared, Source, lock};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subject::Subject;
use tokio::time::sleep;

/// Pause between two looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pauses between tries, each twice the one before.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// `forward.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    log: LogConfiguration,
    subject: Subject,
}

/// Logs that are being sent on.
#[derive(Debug)]
pub struct Forwards {
    places: Mutex<HashMap<ContainerKey, Shared>>,
    /// The machine's name.
    host: String,
    /// Where the journal listens.
    journal: PathBuf,
}

impl Forwards {
    pub fn new(journal: &Path) -> Self {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            places: Mutex::default(),
            host: host.unwrap_or_else(|| "localhost".to_owned()),
            journal: journal.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerKey, Shared>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a container's files, while nobody reads them, to where they are kept from then on.
    pub fn moving(
        &self,
        key: &ContainerKey,
        to: PathBuf,
        moving: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(place) = self.lock().get(key).cloned() else { return moving() };
        let mut place = lock(&place);
        moving()?;
        *place = Place { dir: to, over: true };
        Ok(())
    }
}

impl Runtime {
    /// Writes down that a container's output is to be sent on, if it is.
    pub(crate) fn order_forwarding(
        &self,
        key: &ContainerKey,
        record: &ContainerRecord,
        definition: &ContainerDefinition,
        command: &[String],
    ) -> Result<()> {
        let what = || format!("container {:?}: logConfiguration", definition.name);
        let Some(log) = &definition.log_configuration else { return Ok(()) };
        let forwarding = Forwarding::read(&log.driver, &log.options).map_err(|refused| {
            Error::new(Name::CannotCreateContainer, format!("{}: {refused}", what()))
        })?;
        let Some(forwarding) = forwarding else { return Ok(()) };
        let subject = Subject::new(record, definition, command, &forwarding, now_ms());
        let order = serde_json::to_vec(&Order { log: log.clone(), subject });
        let path = self.journal().container_dir(key).join(ORDER_FILE);
        let written = order.map_err(io::Error::from).and_then(|order| fs::write(path, order));
        written.context(Name::CannotCreateContainer, what())
    }

    /// Sends a container's output on from here on, if it is to be and is not yet.
    pub(crate) fn forward(&self, key: &ContainerKey) {
        let live = self.journal().container_dir(key);
        let over = !live.exists();
        let dir = if over { self.journal().old_logs_dir(key) } else { live };
        let (order, forwarding) = match read_order(&dir) {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(task = %key.task, container = %key.name, %error,
                    "output is not sent on");
                return;
            }
        };
        let place = Arc::new(Mutex::new(Place { dir, over }));
        {
            let mut places = self.forwards().lock();
            if places.get(key).is_some_and(|other| lock(other).over == over) {
                return;
            }
            places.insert(key.clone(), place.clone());
        }
        let (link, host) = {
            let forwards = self.forwards();
            (Link::new(&forwarding.receiver, &forwards.journal), forwards.host.clone())
        };
        let shipper = Shipper {
            key: key.clone(),
            driver: order.log.driver,
            encoder: Encoder::new(forwarding, order.subject, host),
            link,
        };
        let (this, key) = (self.clone(), key.clone());
        self.spawn(async move {
            shipper.run(place.clone()).await;
            let mut places = this.forwards().lock();
            // A container that was made anew has another.
            if places.get(&key).is_some_and(|of| Arc::ptr_eq(of, &place)) {
                places.remove(&key);
            }
        });
    }

    /// Sends on what containers wrote that are deleted by now.
    pub(crate) fn forward_old_logs(&self) {
        for task in crate::journal::names_in(&self.journal().logs_dir()) {
            let Ok(task) = task.parse() else { continue };
            for key in self.logged(task) {
                self.forward(&key);
            }
        }
    }
}

fn read_order(dir: &Path) -> std::result::Result<Option<(Order, Forwarding)>, String> {
    let bytes = match fs::read(dir.join(ORDER_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let order: Order = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let forwarding = Forwarding::read(&order.log.driver, &order.log.options);
    Ok(forwarding.map_err(|refused| refused.to_string())?.map(|forwarding| (order, forwarding)))
}

/// Carries one container's log to its receiver.
struct Shipper {
    key: ContainerKey,
    driver: String,
    encoder: Encoder,
    link: Link,
}

impl Shipper {
    /// Until the log is over and all of it has been taken.
    async fn run(mut self, place: Shared) {
        let opened = blocking(move || Source::open(place)).await;
        let mut source = match opened {
            Ok(source) => source,
            Err(error) => return self.give_up(&error),
        };
        loop {
            let read = blocking(move || {
                let batch = source.next()?;
                Ok((source, batch))
            });
            let (open, batch) = match read.await {
                Ok(read) => read,
                Err(error) => return self.give_up(&error),
            };
            source = open;
            let Batch { frames, over } = batch;
            if frames.is_empty() {
                if over {
                    return source.finish();
                }
                sleep(LOOK_EVERY).await;
                continue;
            }
            self.send(&frames).await;
            let saved = blocking(move || {
                let taken = source.taken();
                Ok((source, taken))
            });
            let taken;
            (source, taken) = match saved.await {
                Ok(saved) => saved,
                Err(error) => return self.give_up(&error),
            };
            if let Err(error) = taken {
                tracing::warn!(task = %self.key.task, container = %self.key.name, %error,
                    "cannot write down how far output was sent on: the next agent repeats it");
            }
        }
    }

    /// Tries until the receiver has taken all of it.
    async fn send(&mut self, frames: &[crate::logs::Frame]) {
        let parcel = self.encoder.encode(frames);
        let (mut from, mut pause, mut tries) = (0, RETRY_MIN, 0u32);
        while let Err(Failed { sent, error }) = self.link.send(&parcel, from).await {
            metrics::counter!("muster_agent_log_send_failures_total").increment(1);
            if tries == 0 {
                tracing::warn!(task = %self.key.task, container = %self.key.name,
                    driver = self.driver, %error, "output waits for its receiver");
            }
            // A receiver that takes some of it is there.
            if sent > from {
                pause = RETRY_MIN;
            }
            (from, tries) = (sent, tries + 1);
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        if tries > 0 {
            tracing::info!(task = %self.key.task, container = %self.key.name,
                driver = self.driver, tries, "the receiver takes output again");
        }
        let lines = frames.len() as u64;
        metrics::counter!("muster_agent_log_lines_sent_total").increment(lines);
    }

    /// What is written stays, and the next agent tries again.
    fn give_up(&self, error: &io::Error) {
        tracing::error!(task = %self.key.task, container = %self.key.name, %error,
            "the log cannot be read: output is not sent on any more");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
