//! Asks the managers what a task's containers are given of secrets.
//!
//! Any manager answers, whoever leads; each is asked in turn. It decides how long to go on: what a
//! manager refuses is final, what none answers is not. It keeps nothing.

use crate::error::{Error, Name, Result};
use crate::runtime::secrets::{ContainerSecrets, Secrets, TaskSecrets, credentials};
use crate::session::book::Book;
use muster_identity::SecretText;
use muster_model::TaskId;
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use muster_proto::error::from_status;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

/// How long one manager may take.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long it is tried: some elections, and a manager that starts.
const ASK_WAIT: Duration = Duration::from_secs(60);
/// First pause after all were asked; it doubles up to the longest, each with jitter.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Asks over this agent's own connections, as the instance that its certificate names.
pub struct Asker {
    pub book: Arc<Book>,
}

#[tonic::async_trait]
impl Secrets for Asker {
    async fn of_task(&self, task: TaskId) -> Result<TaskSecrets> {
        let deadline = Instant::now() + ASK_WAIT;
        let mut pause = PAUSE_MIN;
        let request = pb::TaskSecretsRequest { task: convert::id_to_wire(task.bits()) };
        loop {
            let mut last = Status::unavailable("no manager is known");
            for address in self.book.all() {
                let request = request.clone();
                let asking = |mut client: DispatchClient<Channel>| async move {
                    client.get_task_secrets(request).await
                };
                match self.ask(&address, asking).await {
                    Ok(answer) => return read(answer),
                    Err(status) if is_final(&status) => return Err(failed(status.message())),
                    Err(status) => {
                        let why = status.message();
                        tracing::debug!(%task, manager = address, why, "no secrets from here");
                        last = status;
                    }
                }
            }
            if Instant::now() + pause >= deadline {
                let why = last.message();
                return Err(failed(&format!(
                    "no manager answered for {} s; the last said: {why}",
                    ASK_WAIT.as_secs()
                )));
            }
            sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Asker {
    /// One question to one manager.
    pub(super) async fn ask<T, F>(
        &self,
        address: &str,
        call: impl FnOnce(DispatchClient<Channel>) -> F,
    ) -> std::result::Result<T, Status>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let channel = self.book.channel(address);
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        match timeout(ANSWER_WAIT, call(DispatchClient::new(channel))).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => {
                let why = format!("no answer from {address} within {ANSWER_WAIT:?}");
                Err(Status::deadline_exceeded(why))
            }
        }
    }
}

/// What another manager, or the same one later, would say too. One of an older version, which does
/// not know the call, may still be replaced.
pub(super) fn is_final(status: &Status) -> bool {
    use muster_model::Error::{Unavailable, UnknownOutcome, Unsupported};
    !matches!(from_status(status), Unavailable { .. } | UnknownOutcome { .. } | Unsupported { .. })
}

fn read(answer: pb::TaskSecretsResponse) -> Result<TaskSecrets> {
    let mut task = TaskSecrets::new();
    for container in answer.containers {
        let value = container.repository_credentials.map(SecretText::new);
        let of = |value: SecretText| credentials(&container.container, value.reveal());
        let credentials = value.map(of).transpose()?;
        let variable = |pair: pb::SecretVariable| (pair.name, SecretText::new(pair.value));
        let environment = container.environment.into_iter().map(variable).collect();
        let file = |file: pb::SecretFile| (file.path, SecretText::new(file.value));
        let files = container.files.into_iter().map(file).collect();
        let given = ContainerSecrets { environment, files, credentials };
        task.insert(container.container.into(), given);
    }
    Ok(task)
}

/// ECS's words, which users search for.
fn failed(why: &str) -> Error {
    let text = format!("unable to pull secrets or registry auth: {why}");
    Error::new(Name::ResourceInitialization, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::error::to_status;

    #[test]
    fn an_answer_is_what_each_container_is_given() {
        let variable = pb::SecretVariable { name: "PASSWORD".into(), value: "hush".into() };
        let web = pb::ContainerSecrets {
            container: "web".into(),
            environment: vec![variable],
            repository_credentials: Some(r#"{"username": "u", "password": "hush"}"#.into()),
            files: vec![pb::SecretFile { path: "/run/key".into(), value: "hush".into() }],
        };
        let answer = pb::TaskSecretsResponse { containers: vec![web.clone()] };
        let task = read(answer).unwrap();
        let given = &task["web"];
        assert_eq!(given.environment[0].1.reveal(), "hush");
        assert_eq!(given.files["/run/key"].reveal(), "hush");
        assert!(given.credentials.is_some());
        assert!(!format!("{task:?}").contains("hush"), "{task:?}");

        let wrong = pb::ContainerSecrets { repository_credentials: Some("hush".into()), ..web };
        let error = read(pb::TaskSecretsResponse { containers: vec![wrong] }).unwrap_err();
        assert!(error.text.contains("\"web\"") && !error.text.contains("hush"), "{error}");
    }

    #[test]
    fn what_is_refused_is_final_and_what_is_not_answered_is_tried_again() {
        use muster_model::{Error, Kind};
        let limit = Error::LimitExceeded { what: "bytes".into(), value: 2, limit: 1 };
        for error in [Error::not_found(Kind::Secret, "db"), Error::refused("it stops"), limit] {
            assert!(is_final(&to_status(&error)), "{error}");
        }
        let why = || "no quorum".to_owned();
        let silent = [Status::unavailable(""), Status::deadline_exceeded(""), Status::internal("")];
        let later = silent.into_iter().chain([
            to_status(&Error::Unavailable { why: why() }),
            Status::unimplemented("an older version"),
        ]);
        for status in later {
            assert!(!is_final(&status), "{status}");
        }
    }
}
