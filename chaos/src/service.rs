//! A service as its user sees it: what `muster` shows of its deployments, its events and its tasks.
//!
//! It asks and waits, and does not know what should come of it. Everything is by ECS's names.

use crate::cluster::Cluster;
use crate::wait;
use serde_json::Value;
use std::time::Duration;

/// How long a deployment may take on a busy machine, back-off and health checks included.
const ROLLOUT_WAIT: Duration = Duration::from_secs(90);

pub struct Service<'c> {
    pub cluster: &'c Cluster,
    pub name: &'c str,
}

impl<'c> Service<'c> {
    /// Makes it; `more` are further words for `muster service create`.
    pub fn create(cluster: &'c Cluster, name: &'c str, definition: &str, more: &[&str]) -> Self {
        let words = ["service", "create", name, "--task-definition", definition];
        cluster.run(&[&words, more].concat());
        Self { cluster, name }
    }

    /// Rolls out another task definition; `more` are further words for `muster service update`.
    pub fn update(&self, definition: &str, more: &[&str]) {
        let words = ["service", "update", self.name, "--task-definition", definition];
        self.cluster.run(&[&words, more].concat());
    }

    /// ECS's `DescribeServices`.
    pub fn shown(&self) -> Value {
        self.cluster.json(&["service", "describe", self.name])["services"][0].clone()
    }

    /// ECS's `ListServiceDeployments`, the newest first.
    pub fn deployments(&self) -> Vec<Value> {
        let list = self.cluster.json(&["service", "deployments", self.name]);
        list["serviceDeployments"].as_array().cloned().unwrap_or_default()
    }

    /// Events, the newest first.
    pub fn events(&self) -> Vec<String> {
        let shown = self.shown();
        let events = shown["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| text(&event["message"])).collect()
    }

    /// Its tasks that have ended.
    pub fn ended(&self) -> Vec<Value> {
        let words = ["task", "list", "--service", self.name, "--status", "STOPPED"];
        let list = self.cluster.json(&words);
        let tasks = list["tasks"].as_array().cloned().unwrap_or_default();
        tasks.into_iter().filter(|task| task["lastStatus"] == "STOPPED").collect()
    }

    /// Waits until this definition alone is rolled out; its row of the service's deployments.
    ///
    /// # Panics
    /// It is not within a minute and a half.
    pub fn completed(&self, definition: &str) -> Value {
        wait::until(&format!("{} has rolled out {definition}", self.name), ROLLOUT_WAIT, || {
            let shown = self.shown();
            let rows = shown["deployments"].as_array().cloned().unwrap_or_default();
            match rows.as_slice() {
                [one]
                    if one["rolloutState"] == "COMPLETED"
                        && text(&one["taskDefinition"]).ends_with(&format!("/{definition}"))
                        && shown["runningCount"] == shown["desiredCount"] =>
                {
                    Ok(one.clone())
                }
                _ => Err(brief(&shown)),
            }
        })
    }

    /// Waits until the newest deployment, as an object, has this status.
    ///
    /// # Panics
    /// It has not within a minute and a half.
    pub fn reached(&self, status: &str) -> Value {
        wait::until(&format!("the deployment of {} is {status}", self.name), ROLLOUT_WAIT, || {
            let newest = self.deployments().into_iter().next().unwrap_or_default();
            match newest["status"] == status {
                true => Ok(newest),
                false => Err(format!("{newest} {}", brief(&self.shown()))),
            }
        })
    }
}

/// What is shown without what a person would skip.
fn brief(shown: &Value) -> String {
    let events = shown["events"].as_array().map_or(&[][..], Vec::as_slice);
    let newest: Vec<String> = events.iter().take(3).map(|event| text(&event["message"])).collect();
    format!("{} {newest:?}", shown["deployments"])
}

/// A text of an answer; empty where there is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The last part of an ARN.
pub fn short(arn: &Value) -> String {
    text(arn).rsplit('/').next().unwrap_or_default().to_owned()
}
