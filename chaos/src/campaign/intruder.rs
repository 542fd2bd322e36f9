//! I12: somebody without a certificate asks every manager, and everything that was logged is
//! searched for what must not be there.
//!
//! The secrets are the join tokens, every private key, and a text in the environment of a task's
//! definition, put there to be found.

use super::field::Field;
use muster_identity::{CaDigest, ConnectOptions, Connector};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use pb::live_client::LiveClient;
use pb::operator_client::OperatorClient;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::{Code, Status};

/// In the environment of the tasks that bursts run.
pub const CANARY: &str = "canary-5d1f0c9ae7b24c61";
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Of a key's lines, those that tell it from any other.
const KEY_LINE_MIN: usize = 40;

/// Both looks; the workload goes on or not.
pub fn look(field: &Field) {
    if let Err(why) = strangers(field) {
        field.record.breach("I12", why);
    }
    searched(field);
}

/// No question of somebody without a certificate is answered.
fn strangers(field: &Field) -> Result<(), String> {
    let pem = fs::read_to_string(field.cluster.admin().join("ca.pem"));
    let pem = pem.map_err(|error| format!("ca.pem: {error}"))?;
    let authority = CaDigest::of_pem(&pem).map_err(|error| error.to_string())?;
    let (managers, record) = (field.managers.clone(), field.record.clone());
    field.ask(async move {
        for address in managers {
            let connector = Connector::pinned(authority);
            let options = ConnectOptions { connect_timeout: ANSWER_WAIT, ..Default::default() };
            let channel = connector.connect_lazy(&address, options).map_err(|e| e.to_string())?;
            let mut ecs = EcsClient::new(channel.clone());
            let mut operator = OperatorClient::new(channel.clone());
            let tags = pb::TagResourceRequest::default();
            let stop = pb::StopTaskRequest::default();
            let answers = [
                (
                    "ListClusters",
                    outcome(ecs.list_clusters(pb::ListClustersRequest { ..Default::default() }))
                        .await,
                ),
                ("TagResource", outcome(ecs.tag_resource(tags)).await),
                ("StopTask", outcome(ecs.stop_task(stop)).await),
                (
                    "RaftStatus",
                    outcome(operator.raft_status(pb::RaftStatusRequest::default())).await,
                ),
                (
                    "Watch",
                    outcome(LiveClient::new(channel).watch(pb::WatchRequest::default())).await,
                ),
            ];
            for (call, answer) in answers {
                match answer {
                    Some(Code::Unauthenticated | Code::PermissionDenied) => {
                        record.count("I12 requests without identity refused", 1);
                    }
                    // It may be on its way down or up: nothing was answered.
                    Some(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) => {}
                    other => {
                        let what = format!("{address} answers {call} of nobody with {other:?}");
                        record.breach("I12", what);
                    }
                }
            }
        }
        Ok(())
    })
}

/// The code of a refusal; `None`: it was answered.
async fn outcome<T>(call: impl Future<Output = Result<T, Status>>) -> Option<Code> {
    match tokio::time::timeout(ANSWER_WAIT, call).await {
        Ok(Ok(_)) => None,
        Ok(Err(status)) => Some(status.code()),
        Err(_) => Some(Code::DeadlineExceeded),
    }
}

/// No log of any process has a secret.
fn searched(field: &Field) {
    let managers = (1..=field.shape.managers).map(|n| format!("m{n}"));
    let workers = (1..=field.shape.workers + field.shape.simulated).map(|n| format!("w{n}"));
    let hosts: Vec<_> = managers.chain(workers).collect();
    let secrets = secrets(field, &hosts);
    field.record.count("I12 secrets searched for", secrets.len() as u64);
    for host in &hosts {
        let log = fs::read_to_string(field.cluster.path(host).join("log")).unwrap_or_default();
        field.record.count("I12 bytes of logs searched", log.len() as u64);
        for (secret, of) in secrets.iter().filter(|(secret, _)| log.contains(secret.as_str())) {
            let start: String = secret.chars().take(4).collect();
            field.record.breach("I12", format!("the log of {host} has {of}: {start}..."));
        }
    }
}

/// What must be in no log, and what it is.
fn secrets(field: &Field, hosts: &[String]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(CANARY.to_owned(), "a task's environment".to_owned())]);
    for token in field.cluster.tokens() {
        all.insert(token.to_owned(), "a join token".to_owned());
    }
    let identities = hosts.iter().map(|host| {
        let data = field.cluster.path(host).join("data/identity");
        // As the host sees it, if it is up: its data may be on a disk of its own.
        let pid = field.cluster.pid(host);
        pid.map_or(data.clone(), |pid| PathBuf::from(format!("/proc/{pid}/root{}", data.display())))
    });
    for directory in identities.chain([field.cluster.admin()]) {
        for line in key_lines(&directory) {
            all.insert(line, "a private key".to_owned());
        }
    }
    all
}

fn key_lines(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let keys = texts.filter(|text| text.contains("PRIVATE KEY"));
    let lines = keys.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.len() >= KEY_LINE_MIN && !line.starts_with('-')).collect()
}
