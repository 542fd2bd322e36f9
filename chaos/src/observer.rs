//! Asks again and again what a cluster's services have, and whether their percentages hold.
//!
//! One answer shows all services at the same moment, so nothing is counted between two of them. It
//! sees running tasks, and knows health only of a definition that it is told is bad: none of those
//! serves. It keeps every word on a rollout, of which some stand for a moment only.

use crate::cluster::Cluster;
use crate::service::text;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks: it shares the machine with all that it looks at.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

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

    /// One answer of ECS's `DescribeServices`.
    pub fn look(&mut self, services: &[Value]) {
        self.looks += 1;
        for service in services {
            self.look_at(service);
        }
    }

    fn look_at(&mut self, service: &Value) {
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

/// Does something while a thread looks on.
pub fn watched<T>(cluster: &Cluster, bad: Vec<String>, act: impl FnOnce() -> T) -> (T, Seen) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = Seen::new(bad);
            while !over.load(Ordering::Relaxed) {
                let list = cluster.json(&["service", "list"]);
                seen.look(list["services"].as_array().map_or(&[], Vec::as_slice));
                std::thread::sleep(LOOK_PAUSE);
            }
            seen
        });
        let ending = Over(&over);
        let done = act();
        drop(ending);
        match looking.join() {
            Ok(seen) => (done, seen),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Ends the thread that looks on, also when what it looks at panics.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
        seen.look(&[service([1, 0], "ROLLING")]);
        seen.look(&[service([3, 1], "ROLLING")]);
        assert_eq!(seen.broken, BTreeSet::new());
        seen.look(&[service([1, 3], "ROLLING")]);
        seen.look(&[service([3, 2], "ROLLING")]);
        let broken: Vec<&str> = seen.broken.iter().map(String::as_str).collect();
        assert_eq!(broken, ["web: 1 of at least 2 tasks serve", "web: 5 of at most 4 tasks"]);
        let mut seen = Seen::new(Vec::new());
        seen.look(&[service([3, 3], "BLUE_GREEN")]);
        assert_eq!(seen.broken, BTreeSet::new());
        seen.look(&[service([3, 5], "BLUE_GREEN")]);
        assert_eq!((seen.looks, seen.broken.len()), (2, 1));
    }
}
