//! `fleet`: one process of hollow agents, for the other benches.
//!
//! Each agent joins with the workers' token, as a machine does, and connects. Words on the input,
//! one line each, answered by one line: `open` (sessions now), `report running|nothing`,
//! `kill one N` and `kill zone Z` (the earliest last heartbeat among them, or `none`),
//! `received FILE` (their number; the file has the task and the time of each), `start MS` (how long
//! a task takes to start) and `count MS` (tasks there are, and those that have run for so long).

use super::ZONES;
use crate::Outcome;
use crate::hollow::{Agent, Book, Life, Shared};
use clap::Args;
use muster_identity::{
    ConnectOptions, Connector, Identity, IdentityPem, JoinToken, new_key_and_csr,
};
use muster_model::{IdSource, Principal};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::enroll_client::EnrollClient;
use pb::join_request::As;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Agents on their way from joining to their first session at once, of one process: more would
/// only wait for one another until their connections time out.
const JOINS_AT_ONCE: usize = 64;
const JOIN_PAUSE: Duration = Duration::from_millis(200);
const JOIN_TRIES: usize = 50;
const JOIN_WAIT: Duration = Duration::from_secs(15);
/// Room for every task that a bench makes, wherever the scheduler puts it.
const CPU: u32 = 128 * 1024;
const MEMORY_MIB: u32 = 1024 * 1024;

#[derive(Debug, Args)]
pub struct Fleet {
    /// Addresses of the managers, the leader's first.
    #[arg(long, value_delimiter = ',')]
    managers: Vec<String>,
    /// The workers' token.
    #[arg(long, env = "MUSTER_BENCH_TOKEN", hide_env_values = true)]
    token: String,
    /// Number of the first agent.
    #[arg(long)]
    first: usize,
    /// How many.
    #[arg(long)]
    count: usize,
}

/// What joining needs.
struct Door {
    token: JoinToken,
    channel: Channel,
    managers: Vec<String>,
    ids: Mutex<IdSource>,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Fleet {
    pub async fn run(self) -> Outcome<()> {
        let token: JoinToken = self.token.parse()?;
        let manager = self.managers.first().ok_or("no manager")?;
        let channel =
            Connector::pinned(token.ca).connect_lazy(manager, ConnectOptions::default())?;
        let seed = u64::from(std::process::id()) ^ crate::hollow::now_us();
        let door = Arc::new(Door {
            token,
            channel,
            managers: self.managers.clone(),
            ids: Mutex::new(IdSource::new(seed.into())),
            places: Arc::new(Semaphore::new(JOINS_AT_ONCE)),
            shared: Arc::default(),
        });
        let lives: Vec<Arc<Life>> = (0..self.count).map(|_| Arc::default()).collect();
        // Ended with the process.
        let mut agents = JoinSet::new();
        for (index, life) in lives.iter().enumerate() {
            let (door, life, number) = (door.clone(), life.clone(), self.first + index);
            agents.spawn(async move {
                match door.join(number, life).await {
                    Ok(agent) => agent.run().await,
                    Err(error) => eprintln!("agent {number}: {error}"),
                }
            });
        }
        self.obey(&lives, &door.shared).await
    }

    async fn obey(&self, lives: &[Arc<Life>], shared: &Shared) -> Outcome<()> {
        let mut words = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = words.next_line().await? {
            let answer = match line.split(' ').collect::<Vec<_>>()[..] {
                ["open"] => shared.open.load(Ordering::Relaxed).to_string(),
                ["report", what] => {
                    shared.reporting.store(what == "running", Ordering::Relaxed);
                    "done".to_owned()
                }
                ["kill", "one", number] => {
                    let number: usize = number.parse()?;
                    kill(self.numbered(lives).filter(|(n, _)| *n == number))
                }
                ["kill", "zone", zone] => {
                    let zone: usize = zone.parse()?;
                    kill(self.numbered(lives).filter(|(n, _)| n % ZONES == zone))
                }
                ["start", millis] => {
                    shared.start_ms.store(millis.parse()?, Ordering::Relaxed);
                    "done".to_owned()
                }
                ["count", millis] => {
                    let (existing, healthy) = shared.count(millis.parse()?);
                    format!("{existing} {healthy}")
                }
                ["received", path] => write_received(shared, path)?.to_string(),
                _ => return Err(format!("{line:?} is no word of a fleet").into()),
            };
            println!("{answer}");
        }
        Ok(())
    }

    fn numbered<'a>(&self, lives: &'a [Arc<Life>]) -> impl Iterator<Item = (usize, &'a Life)> {
        let first = self.first;
        lives.iter().enumerate().map(move |(index, life)| (first + index, &**life))
    }
}

/// Those that lived until now.
fn kill<'a>(lives: impl Iterator<Item = (usize, &'a Life)>) -> String {
    let killed = lives.filter(|(_, life)| !life.dead.swap(true, Ordering::Relaxed));
    let beats = killed.map(|(_, life)| life.beat_us.load(Ordering::Relaxed));
    beats.min().map_or_else(|| "none".to_owned(), |first| first.to_string())
}

fn write_received(shared: &Shared, path: &str) -> Outcome<usize> {
    let received =
        std::mem::take(&mut *shared.received.lock().unwrap_or_else(PoisonError::into_inner));
    let mut bytes = Vec::with_capacity(received.len() * 24);
    for (task, at_us) in &received {
        bytes.extend(task.to_be_bytes());
        bytes.extend(at_us.to_be_bytes());
    }
    std::fs::write(path, bytes)?;
    Ok(received.len())
}

impl Door {
    /// Joins until it is let in.
    async fn join(&self, number: usize, life: Arc<Life>) -> Outcome<Agent> {
        let place = self.places.clone().acquire_owned().await?;
        let (key, certificate_request_pem) = new_key_and_csr()?;
        let request = self.ids.lock().unwrap_or_else(PoisonError::into_inner).request().to_string();
        let spec = spec(number);
        let worker = pb::JoinWorker { cluster: "default".into(), spec: Some(spec.clone()) };
        let request = pb::JoinRequest {
            token_secret: self.token.secret().to_owned(),
            certificate_request_pem,
            request,
            r#as: Some(As::Worker(worker)),
        };
        let mut tries = 0;
        let joined = loop {
            let mut call = tonic::Request::new(request.clone());
            call.set_timeout(JOIN_WAIT);
            match EnrollClient::new(self.channel.clone()).join(call).await {
                Ok(joined) => break joined.into_inner(),
                Err(status) if tries == JOIN_TRIES => return Err(status.into()),
                Err(_) => tokio::time::sleep(JOIN_PAUSE).await,
            }
            tries += 1;
        };
        let pem = IdentityPem { ca: joined.ca_pem, cert: joined.certificate_pem, key };
        let identity = Identity::from_pem(pem)?;
        let Principal::Instance(instance) = identity.principal() else {
            return Err("the certificate is not an instance's".into());
        };
        let book = Arc::new(Book::new(Connector::new(identity), self.managers.clone()));
        Ok(Agent::new(self.shared.clone(), life, spec, book, instance, place))
    }
}

fn spec(number: usize) -> pb::InstanceSpec {
    pb::InstanceSpec {
        hostname: format!("hollow-{number}"),
        zone: format!("az-{}", number % ZONES),
        address: "127.0.0.1".into(),
        cpu: CPU,
        memory_mib: MEMORY_MIB,
        ..pb::InstanceSpec::default()
    }
}
