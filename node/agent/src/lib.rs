//! An agent: runs the worker's brain on one machine, drives a container runtime, and keeps a
//! session with whichever manager leads.
//!
//! It obeys: what to do is decided in `muster-control`. It knows images, networks and processes,
//! and not why a task runs here. Invariant: stopping or losing an agent stops no container.

pub mod cgroup;
pub mod collector;
pub mod config;
pub mod contact;
pub mod drive;
pub mod error;
mod forward;
pub mod image;
pub mod journal;
mod lock;
pub mod logs;
pub mod metadata;
pub mod network;
pub mod program;
pub mod runtime;
pub mod session;
pub mod spans;

pub use runtime::hollow;

use config::AgentConfig;
use config::machine::instance_spec;
use config::machinery::runtime_config;
use contact::Contact;
use drive::engine::Engine;
use drive::lanes::Lanes;
use drive::obeyed::Obeyed;
use drive::{Drive, Parts};
use hollow::Hollow;
use muster_control::worker::Worker;
use muster_identity::{Connector, Identity};
use muster_model::{InstanceId, Principal};
use muster_process::clock::Clock;
use runtime::engine::RuncEngine;
use session::SessionLoop;
use session::attach::Attaches;
use session::book::Book;
use session::renew::keep_renewed;
use session::secrets::Asker;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Container events on their way to the brain; a full queue slows whoever reports them.
const EVENTS_MAX: usize = 1024;
/// Words of the session on their way to the brain.
const SESSION_MAX: usize = 64;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("configuration: {0}")]
    Config(#[source] muster_model::Error),
    #[error("data directory {}: {source}", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("another agent runs in {}; each needs a `data_dir` of its own", path.display())]
    Locked { path: PathBuf },
    #[error("this machine is {0}, not a container instance; join it with `muster join`")]
    NotAnInstance(Principal),
    #[error("container runtime: {0}")]
    Runtime(String),
}

/// Runs an agent until `stop`: over the machine's container runtime, or over one that pretends if
/// the configuration says so. Containers run on.
///
/// # Errors
/// Only at the start: afterwards an agent tries again, whatever happens.
pub async fn run(
    config: AgentConfig,
    identity: Identity,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), Error> {
    let instance = instance_of(&identity)?;
    // Before the runtime looks at anything: two would clear away each other's containers.
    let lock = lock::take(&config.data_dir)?;
    let book = book(&config, &identity);
    let engine: Arc<dyn Engine> = match config.simulate {
        Some(simulate) => Arc::new(Hollow::new(clock.clone(), simulate)),
        None => {
            let runtime = runtime_config(&config, instance).map_err(Error::Config)?;
            let managers = Arc::new(Asker { book: book.clone() });
            RuncEngine::open(runtime, managers)
                .map_err(|error| Error::Runtime(error.to_string()))?
        }
    };
    run_locked(config, identity, book, clock, engine, stop, lock).await
}

fn instance_of(identity: &Identity) -> Result<InstanceId, Error> {
    match identity.principal() {
        Principal::Instance(instance) => Ok(instance),
        other => Err(Error::NotAnInstance(other)),
    }
}

/// Runs an agent until `stop`, over the given engine. Containers run on.
///
/// # Errors
/// Only at the start: afterwards an agent tries again, whatever happens.
pub async fn run_with(
    config: AgentConfig,
    identity: Identity,
    clock: Clock,
    engine: Arc<dyn Engine>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let lock = lock::take(&config.data_dir)?;
    let book = book(&config, &identity);
    run_locked(config, identity, book, clock, engine, stop, lock).await
}

fn book(config: &AgentConfig, identity: &Identity) -> Arc<Book> {
    let connector = Connector::new(identity.clone());
    let managers = config.data_dir.join("managers.json");
    Arc::new(Book::open(connector, managers, config.managers.clone()))
}

async fn run_locked(
    config: AgentConfig,
    identity: Identity,
    book: Arc<Book>,
    clock: Clock,
    engine: Arc<dyn Engine>,
    stop: CancellationToken,
    _lock: lock::Lock,
) -> Result<(), Error> {
    config.check().map_err(Error::Config)?;
    let instance = instance_of(&identity)?;
    let at = |source| Error::DataDir { path: config.data_dir.clone(), source };
    let obeyed = Obeyed::open(config.data_dir.join("obeyed.json")).map_err(at)?;
    let spec = instance_spec(&config).await.map_err(Error::Config)?;
    let contact = Arc::new(Contact::new(&config.data_dir, clock.clone()));
    let worker = Worker::new(instance, obeyed.highest())
        .with_capacity(spec.total)
        .with_confirmed(contact.last())
        .with_resources(spec.resources.clone());
    tracing::info!(%instance, cpu = spec.total.cpu, memory_mib = spec.total.memory_mib, "agent");

    let (events, container_events) = mpsc::channel(EVENTS_MAX);
    let found = engine.boot(events).await;
    let found = found.map_err(|error| Error::Runtime(error.to_string()))?;
    tracing::info!(tasks = found.len(), "found on this machine");

    let (to_worker, from_session) = mpsc::channel(SESSION_MAX);
    let attaches = Attaches::new(engine.clone(), stop.child_token());
    let session = SessionLoop {
        book: book.clone(),
        spec,
        worker: to_worker.clone(),
        attaches: attaches.clone(),
        contact: contact.clone(),
    };
    let drive = Drive::new(Parts {
        worker,
        clock,
        lanes: Lanes::new(engine.clone(), config.starts_max, config.registry.pulls_max),
        obeyed,
        session: from_session,
        events: container_events,
        contact: contact.clone(),
        stop: stop.clone(),
    });
    let identity_dir = config.identity_dir();
    tokio::join!(
        drive.run(found),
        stop.run_until_cancelled(session.run()),
        stop.run_until_cancelled(contact.keep(to_worker)),
        stop.run_until_cancelled(book.keep_fresh()),
        stop.run_until_cancelled(keep_renewed(&identity, &identity_dir, &book)),
    );
    attaches.joined().await;
    engine.close().await;
    Ok(())
}
