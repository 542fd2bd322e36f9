//! Follows what a cluster's services have, and whether their percentages hold.
//!
//! It watches rather than asks: what stands for a moment is missed only where one look of the watch
//! takes several commits together. It sees running tasks, and knows health only of a definition
//! that it is told is bad: none of those serves. It keeps every word on a rollout.

use crate::campaign::hub;
use crate::cluster::Cluster;
use crate::service::text;
use muster_proto::client::Dialer;
use muster_proto::{json, pb};
use pb::live_client::LiveClient;
use pb::watch_response::change::Row;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Before it asks the next manager, when one has gone away.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// `rolloutState` and `rolloutStateReason` of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rollout {
    pub service: String,
    pub state: String,
    pub reason: String,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Rows that were told.
    pub looks: u32,
    /// What did not hold.
    pub broken: BTreeSet<String>,
    pub rollouts: BTreeSet<Rollout>,
    /// Services that have once had all of their tasks: from then on the minimum holds.
    whole: BTreeSet<String>,
    /// `family:revision` of definitions whose tasks serve nobody.
    bad: Vec<String>,
}

impl Seen {
    pub fn new(bad: Vec<String>) -> Self {
        Self { bad, ..Self::default() }
    }

    /// A service as ECS's `DescribeServices` shows it.
    pub fn look(&mut self, service: &Value) {
        self.looks += 1;
        let name = text(&service["serviceName"]);
        let rows = service["deployments"].as_array().map_or(&[][..], Vec::as_slice);
        for row in rows {
            let (state, reason) = (text(&row["rolloutState"]), text(&row["rolloutStateReason"]));
            self.rollouts.insert(Rollout { service: name.clone(), state, reason });
        }
        let number = |row: &Value, field: &str| row[field].as_u64().unwrap_or(0);
        let there = |row: &Value| number(row, "runningCount") + number(row, "pendingCount");
        let serves = |row: &&Value| {
            let definition = text(&row["taskDefinition"]);
            !self.bad.iter().any(|bad| definition.ends_with(&format!("/{bad}")))
        };
        let serving: u64 = rows.iter().filter(serves).map(|row| number(row, "runningCount")).sum();
        let desired = number(service, "desiredCount");
        let configuration = &service["deploymentConfiguration"];
        // ECS rounds the minimum up and the maximum down.
        let least = (desired * number(configuration, "minimumHealthyPercent")).div_ceil(100);
        let most = desired * number(configuration, "maximumPercent") / 100;
        if serving >= desired {
            self.whole.insert(name.clone());
        }
        if self.whole.contains(&name) && serving < least {
            self.broken.insert(format!("{name}: {serving} of at least {least} tasks serve"));
        }
        // Blue and green have the percentages each to itself.
        let sides = match configuration["strategy"] == "ROLLING" {
            true => vec![rows.iter().map(there).sum::<u64>()],
            false => rows.iter().map(there).collect(),
        };
        if let Some(there) = sides.into_iter().find(|there| *there > most) {
            self.broken.insert(format!("{name}: {there} of at most {most} tasks"));
        }
    }
}

/// Does something while its services are watched.
///
/// # Panics
/// The cluster's network or its administrator's identity cannot be had.
pub fn watched<T>(cluster: &Cluster, bad: Vec<String>, act: impl FnOnce() -> T) -> (T, Seen) {
    let seen = Arc::new(Mutex::new(Seen::new(bad)));
    let runtime = hub::runtime(&cluster.lab.netns("hub")).unwrap_or_else(|e| panic!("{e}"));
    let dialer = hub::dialer(&cluster.admin()).unwrap_or_else(|e| panic!("{e}"));
    let managers = (1..=cluster.managers).map(|n| cluster.manager_address(n)).collect();
    runtime.spawn(follow(dialer, managers, seen.clone()));
    let done = act();
    // It ends what looks on, also when `act` has panicked.
    drop(runtime);
    let seen = std::mem::take(&mut *locked(&seen));
    (done, seen)
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A manager that goes away is followed by the next, which tells everything anew.
async fn follow(dialer: Dialer, managers: Vec<String>, seen: Arc<Mutex<Seen>>) {
    for address in managers.iter().cycle() {
        // Whatever ended it, the next one is asked.
        let _ = read(&dialer, address, &seen).await;
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn read(dialer: &Dialer, address: &str, seen: &Mutex<Seen>) -> Result<(), tonic::Status> {
    let channel = dialer(address).map_err(tonic::Status::unavailable)?;
    let request = pb::WatchRequest { kinds: vec!["service".into()], ..Default::default() };
    let mut stream = LiveClient::new(channel).watch(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        for change in message.changes {
            if let Some(Row::Service(service)) = change.row {
                locked(seen).look(&json::to_value(&*service));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(running: [u64; 2], strategy: &str) -> Value {
        let rows: Vec<Value> = ["web:1", "web:2"]
            .into_iter()
            .zip(running)
            .map(|(definition, running)| {
                json!({ "taskDefinition": format!("arn:x:task-definition/{definition}"),
                    "runningCount": running, "rolloutState": "COMPLETED" })
            })
            .collect();
        json!({ "serviceName": "web", "desiredCount": 3, "deployments": rows,
            "deploymentConfiguration": { "minimumHealthyPercent": 50, "maximumPercent": 150,
                "strategy": strategy } })
    }

    #[test]
    fn too_few_and_too_many_are_seen_once_a_service_has_been_whole() {
        let mut seen = Seen::new(vec!["web:2".into()]);
        seen.look(&service([1, 0], "ROLLING"));
        seen.look(&service([3, 1], "ROLLING"));
        assert_eq!(seen.broken, BTreeSet::new());
        seen.look(&service([1, 3], "ROLLING"));
        seen.look(&service([3, 2], "ROLLING"));
        let broken: Vec<&str> = seen.broken.iter().map(String::as_str).collect();
        assert_eq!(broken, ["web: 1 of at least 2 tasks serve", "web: 5 of at most 4 tasks"]);
        let mut seen = Seen::new(Vec::new());
        seen.look(&service([3, 3], "BLUE_GREEN"));
        assert_eq!(seen.broken, BTreeSet::new());
        seen.look(&service([3, 5], "BLUE_GREEN"));
        assert_eq!((seen.looks, seen.broken.len()), (2, 1));
    }
}
