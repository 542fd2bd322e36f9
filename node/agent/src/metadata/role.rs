//! What a container acts as its task role with: ECS's credentials endpoint, and beside it a signed
//! statement of who the task is for other systems (docs/decisions/0019).
//!
//! The managers make both; here they are kept in memory and renewed long before they expire, so
//! that an outage of the managers goes unnoticed. It does not know what a role may do. Invariants:
//! who asks is answered for its own task only; nothing here is written to a disk or a log.

use super::document::shown;
use super::{Kind, lock};
use crate::journal::ContainerKey;
use crate::runtime::{Runtime, now_ms};
use futures::{StreamExt, stream};
use http::StatusCode;
use muster_identity::SecretText;
use muster_model::limits::AUDIENCE_CHARS_MAX;
use muster_model::{Error, TaskId, Time};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// ECS's variable: the path of the credentials at the endpoint's address.
pub const CREDENTIALS_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
/// Where the task's identity is; ECS has none.
pub const IDENTITY_VARIABLE: &str = "MUSTER_CONTAINER_IDENTITY_URI";

/// Credentials are renewed when this part of their life is over: of six hours, five are left.
const CREDENTIALS_PART: u64 = 6;
/// Statements likewise; one that is asked for has at least half of its life before it.
const IDENTITY_PART: u64 = 2;
/// How often it is looked whether any credentials are to be renewed.
const LOOK: Duration = Duration::from_secs(60);
/// Questions to the managers at once, when many credentials are renewed.
const ASKED_AT_ONCE: usize = 8;
/// How long a container waits for what is not here yet: less than a connection may last.
const ASK_WAIT: Duration = Duration::from_secs(8);
/// Audiences of one task whose statements are kept, some 1 KiB each; more are asked for every time.
const AUDIENCES_PER_TASK_MAX: usize = 8;

/// What ECS's endpoint answers. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub role_arn: String,
    pub access_key_id: String,
    pub secret_access_key: SecretText,
    pub token: SecretText,
    pub expires_at: Time,
}

/// A statement for one audience. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub token: SecretText,
    pub expires_at: Time,
}

/// Who makes them.
#[tonic::async_trait]
pub trait TaskRoles: Send + Sync + 'static {
    /// # Errors
    /// What a manager refused, or `Unavailable` if none answered.
    async fn credentials(&self, task: TaskId) -> Result<Credentials, Error>;
    /// # Errors
    /// Likewise.
    async fn identity(&self, task: TaskId, audience: &str) -> Result<Identity, Error>;
}

/// Something that was given for a while.
#[derive(Clone)]
struct Held<T> {
    value: T,
    from: Time,
    until: Time,
}

impl<T> Held<T> {
    fn valid(&self, now: Time) -> bool {
        now < self.until
    }

    /// Whether one `part`-th of its life is over.
    fn due(&self, now: Time, part: u64) -> bool {
        now.since(self.from).0 >= self.until.since(self.from).0 / part
    }
}

/// What is held for the tasks of this machine.
#[derive(Default)]
pub struct Roles {
    credentials: Mutex<HashMap<TaskId, Held<Credentials>>>,
    /// By audience.
    identities: Mutex<HashMap<TaskId, HashMap<String, Held<Identity>>>>,
    /// A task came.
    came: Notify,
}

impl Roles {
    pub fn came(&self) {
        self.came.notify_one();
    }

    pub fn forget(&self, task: TaskId) {
        lock(&self.credentials).remove(&task);
        lock(&self.identities).remove(&task);
    }

    fn held(&self, task: TaskId) -> Option<Held<Credentials>> {
        lock(&self.credentials).get(&task).cloned()
    }

    fn said(&self, task: TaskId, audience: &str) -> Option<Held<Identity>> {
        lock(&self.identities).get(&task).and_then(|of| of.get(audience)).cloned()
    }

    fn keep(&self, task: TaskId, audience: &str, said: Held<Identity>) {
        let mut identities = lock(&self.identities);
        let of = identities.entry(task).or_default();
        of.retain(|_, held| held.valid(said.from));
        if of.len() < AUDIENCES_PER_TASK_MAX || of.contains_key(audience) {
            of.insert(audience.to_owned(), said);
        }
    }
}

/// An answer that is none, in the form of ECS's agent.
pub struct Refused {
    pub status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub fn body(&self) -> Value {
        let status = self.status.as_u16();
        json!({ "code": self.code, "message": self.message, "HTTPErrorCode": status })
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid { .. } => Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", text),
            Error::Unsupported { .. } => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "NotSupported", text)
            }
            Error::Unavailable { .. } | Error::UnknownOutcome { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "CredentialsUninitialized", text)
            }
            _ => Self::new(StatusCode::BAD_REQUEST, "NoCredentialsAssociated", text),
        }
    }
}

impl Runtime {
    /// What is at `/v2/` and `path` for `peer`.
    pub(super) async fn role_at(
        &self,
        path: &str,
        query: &str,
        peer: IpAddr,
    ) -> Result<Value, Refused> {
        let (what, id) = path.split_once('/').unwrap_or((path, ""));
        // Whether there is such a container is not told to who may not ask.
        let task = self.metadata().owner(id, Kind::Role, peer).map(|key| key.task);
        match (what, task) {
            ("credentials", Some(task)) => Ok(credentials(&self.credentials(task).await?)),
            ("identity", Some(task)) => {
                let audience = audience(query)?;
                Ok(identity(&self.identity(task, &audience).await?))
            }
            ("credentials" | "identity", None) => {
                let (code, text) = ("InvalidIdInRequest", "the id is of no container that asks");
                Err(Refused::new(StatusCode::BAD_REQUEST, code, text))
            }
            _ => {
                let text = format!(
                    "nothing here; the paths are those in {CREDENTIALS_VARIABLE} and \
                     {IDENTITY_VARIABLE}"
                );
                Err(Refused::new(StatusCode::NOT_FOUND, "NotFound", text))
            }
        }
    }

    async fn credentials(&self, task: TaskId) -> Result<Credentials, Error> {
        let held = self.metadata().roles.held(task);
        match held.filter(|held| held.valid(Time(now_ms()))) {
            Some(held) => Ok(held.value),
            None => self.renew(task).await,
        }
    }

    async fn renew(&self, task: TaskId) -> Result<Credentials, Error> {
        let from = Time(now_ms());
        let value = in_time(self.managers().credentials(task)).await?;
        let held = Held { value: value.clone(), from, until: value.expires_at };
        lock(&self.metadata().roles.credentials).insert(task, held);
        // It may have gone meanwhile, and what is held for it would stay.
        if !self.metadata().acts(task) {
            self.metadata().roles.forget(task);
        }
        Ok(value)
    }

    async fn identity(&self, task: TaskId, audience: &str) -> Result<Identity, Error> {
        let (roles, from) = (&self.metadata().roles, Time(now_ms()));
        let held = roles.said(task, audience).filter(|held| held.valid(from));
        if let Some(held) = held.as_ref().filter(|held| !held.due(from, IDENTITY_PART)) {
            return Ok(held.value.clone());
        }
        match (in_time(self.managers().identity(task, audience)).await, held) {
            (Ok(value), _) => {
                let until = value.expires_at;
                roles.keep(task, audience, Held { value: value.clone(), from, until });
                Ok(value)
            }
            (Err(Error::Unavailable { .. }), Some(held)) => Ok(held.value),
            (Err(error), _) => Err(error),
        }
    }

    /// Asks for credentials as soon as a task comes, and anew long before they expire.
    pub(super) async fn keep_credentials(self) {
        loop {
            self.renew_all().await;
            // Late is as good as told: the next look is not far.
            let _ = timeout(LOOK, self.metadata().roles.came.notified()).await;
        }
    }

    async fn renew_all(&self) {
        let now = Time(now_ms());
        let fresh = |task: &TaskId| {
            let held = self.metadata().roles.held(*task);
            held.is_some_and(|held| held.valid(now) && !held.due(now, CREDENTIALS_PART))
        };
        let tasks: Vec<_> = self.metadata().acting().into_iter().filter(|t| !fresh(t)).collect();
        let renewed = |task| async move { (task, self.renew(task).await) };
        let asked = stream::iter(tasks).map(renewed);
        let mut asked = std::pin::pin!(asked.buffer_unordered(ASKED_AT_ONCE));
        while let Some((task, answer)) = asked.next().await {
            match answer {
                Ok(_) => {}
                // Whoever does not answer for one does not for the others.
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(%task, %error, "credentials not renewed yet");
                    return;
                }
                Err(error) => tracing::debug!(%task, %error, "no credentials"),
            }
        }
    }
}

async fn in_time<T>(asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || Error::Unavailable { why: format!("no manager answered within {ASK_WAIT:?}") };
    timeout(ASK_WAIT, asking).await.unwrap_or_else(|_| Err(late()))
}

/// The one parameter of a query.
fn audience(query: &str) -> Result<String, Error> {
    let mut given = form_urlencoded::parse(query.as_bytes());
    let mut given = given.by_ref().filter(|(name, _)| name == "audience");
    match (given.next(), given.next()) {
        (Some((_, audience)), None) => Ok(audience.into_owned()),
        _ => {
            let allowed = format!("?audience=, once, with 1 to {AUDIENCE_CHARS_MAX} characters");
            Err(Error::invalid("audience", query, allowed))
        }
    }
}

/// ECS's members.
fn credentials(of: &Credentials) -> Value {
    json!({
        "RoleArn": of.role_arn,
        "AccessKeyId": of.access_key_id,
        "SecretAccessKey": of.secret_access_key.reveal(),
        "Token": of.token.reveal(),
        "Expiration": seconds(of.expires_at),
    })
}

fn identity(of: &Identity) -> Value {
    json!({ "Token": of.token.reveal(), "Expiration": seconds(of.expires_at) })
}

/// As ECS writes it, without a fraction.
fn seconds(at: Time) -> String {
    shown(Time(at.0 / 1000 * 1000))
}

impl super::Metadata {
    /// Tasks that have a role.
    fn acting(&self) -> Vec<TaskId> {
        let endpoints = lock(&self.endpoints);
        let of_role = endpoints.values().filter(|endpoint| endpoint.kind == Kind::Role);
        let mut tasks: Vec<_> = of_role.map(|endpoint| endpoint.key.task).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    fn acts(&self, task: TaskId) -> bool {
        let of = |key: &ContainerKey| key.task == task;
        lock(&self.endpoints).values().any(|it| it.kind == Kind::Role && of(&it.key))
    }
}

/// Where a container asks as its role: an id that nobody guesses, in the form of ECS's.
pub fn new_id() -> String {
    let hex = super::new_id();
    match (hex.get(..8), hex.get(8..12), hex.get(12..16), hex.get(16..20), hex.get(20..)) {
        (Some(a), Some(b), Some(c), Some(d), Some(e)) => format!("{a}-{b}-{c}-{d}-{e}"),
        _ => hex,
    }
}

/// What the container is told of the id.
pub fn variables(id: &str) -> [(&'static str, String); 2] {
    [
        (CREDENTIALS_VARIABLE, format!("/v2/credentials/{id}")),
        (IDENTITY_VARIABLE, format!("http://{}/v2/identity/{id}", super::ADDRESS)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(from: u64, until: u64) -> Held<Identity> {
        let (from, until) = (Time(from), Time(until));
        let value = Identity { token: SecretText::new("t".to_owned()), expires_at: until };
        Held { value, from, until }
    }

    #[test]
    fn what_is_held_is_due_after_a_part_of_its_life_and_ends_with_it() {
        let six = held(1000, 7000);
        let due = |now| six.due(Time(now), CREDENTIALS_PART);
        assert_eq!([due(0), due(1999), due(2000), due(9000)], [false, false, true, true]);
        assert_eq!([six.valid(Time(6999)), six.valid(Time(7000))], [true, false]);
    }

    #[test]
    fn a_task_cannot_fill_the_memory_with_audiences() {
        let (roles, task) = (Roles::default(), TaskId::from_bits(1));
        for n in 0..AUDIENCES_PER_TASK_MAX + 1 {
            roles.keep(task, &n.to_string(), held(0, 10));
        }
        assert!(roles.said(task, "0").is_some());
        assert!(roles.said(task, &AUDIENCES_PER_TASK_MAX.to_string()).is_none());
        roles.keep(task, "late", held(10, 20));
        assert!(roles.said(task, "late").is_some(), "the others have expired");
        assert!(roles.said(task, "0").is_none());
        roles.forget(task);
        assert!(roles.said(task, "late").is_none());
    }

    #[test]
    fn an_audience_is_one_parameter() {
        let read = |query| audience(query).ok();
        assert_eq!(read("audience=sts.amazonaws.com").as_deref(), Some("sts.amazonaws.com"));
        assert_eq!(read("a=b&audience=https%3A%2F%2Fa").as_deref(), Some("https://a"));
        assert_eq!((read(""), read("audience=a&audience=b")), (None, None));
    }

    #[test]
    fn the_answer_is_ecs_s_and_an_id_is_no_one_s_to_guess() {
        let answer = credentials(&Credentials {
            role_arn: "arn:aws:iam::1:role/web".into(),
            access_key_id: "ASIA".into(),
            secret_access_key: SecretText::new("hush".to_owned()),
            token: SecretText::new("t".to_owned()),
            expires_at: Time(1_700_000_000_999),
        });
        let expected = json!({
            "RoleArn": "arn:aws:iam::1:role/web", "AccessKeyId": "ASIA",
            "SecretAccessKey": "hush", "Token": "t", "Expiration": "2023-11-14T22:13:20Z",
        });
        assert_eq!(answer, expected);
        let (one, other) = (new_id(), new_id());
        assert_eq!((one.len(), one.matches('-').count()), (36, 4));
        assert_ne!(one, other);
    }
}
