//! The second front door: the ECS wire protocol (awsJson1_1), so that unmodified `aws ecs`, boto3
//! and the other SDKs drive this cluster.
//!
//! `X-Amz-Target` names an operation, the JSON body becomes the same message that gRPC receives,
//! and the same [`Dispatcher`] method answers it: there is no second implementation of anything.
//! This file decides the order of the checks; it does not know what any operation does.
//!
//! Reading order: [`Door::answer`], `operation`, `refusal`, `known`, `listener`, `taken`.

mod identify;
mod known;
pub mod listener;
mod operation;
mod refusal;
mod taken;

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::guard::{Admitted, Guard, count};
use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MARGIN};
use crate::sts;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use hyper::body::Bytes;
pub(crate) use identify::ANYONE;
pub use identify::Trust;
use identify::{Claim, Identified, Unidentified};
use operation::Target;
use refusal::Refusal;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::Code;
use tracing::Instrument;

/// The service's signing name.
const SERVICE: &str = "ecs";
/// What an `X-Amz-Target` begins with.
const TARGET_PREFIX: &str = "AmazonEC2ContainerServiceV20141113.";
/// Empties a local ECS, between two tests; nobody signs it, and a cluster of machines refuses it.
const RESET_PATH: &str = "/_muster/reset";
/// As what a request is counted that names no operation of ECS.
const UNKNOWN: &str = "unknown";
/// Longer than any target, path or content type that ECS's clients send.
const TEXT_CHARS_SHOWN: usize = 200;
const JSON: &str = "application/x-amz-json-1.1";
const PLAIN_JSON: &str = "application/json";

/// An answer, before it is HTTP.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// Answers requests of the ECS wire protocol.
pub struct Door {
    dispatcher: Arc<Dispatcher>,
    guard: Guard,
    trust: Trust,
    /// The URL that tasks' identities name as their issuer.
    issuer: Option<Arc<str>>,
}

impl Door {
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher>,
        guard: Guard,
        trust: Trust,
        issuer: Option<Arc<str>>,
    ) -> Self {
        Self { dispatcher, guard, trust, issuer }
    }

    /// Answers one request, whatever it is.
    pub async fn answer(&self, head: &Parts, body: Bytes) -> Reply {
        let _under_way = self.dispatcher.under_way.token();
        if let Some(document) = self.known(head) {
            let body = document.to_string().into_bytes();
            return Reply { status: StatusCode::OK, content_type: PLAIN_JSON, body };
        }
        let form = sts::is_form(text(&head.headers, "content-type"));
        if form && head.uri.path() != RESET_PATH {
            return self.who_am_i(head, &body).await;
        }
        match self.try_answer(head, body).await {
            Ok(body) => Reply { status: StatusCode::OK, content_type: JSON, body },
            Err(refusal) => refusal.reply(),
        }
    }

    /// What anybody may read of who signs tasks' identities.
    fn known(&self, head: &Parts) -> Option<serde_json::Value> {
        let issuer = self.issuer.as_ref().filter(|_| head.method == Method::GET)?;
        known::document(head.uri.path(), issuer, &self.dispatcher.replica.state())
    }

    /// Refuses what never became a request: its body did not come, or was too long.
    fn refuse(refusal: Refusal, started: Instant) -> Reply {
        count(UNKNOWN, refusal.code(), started);
        refusal.reply()
    }

    /// STS's one call, which tools make before they use ECS.
    async fn who_am_i(&self, head: &Parts, body: &[u8]) -> Reply {
        let (request_id, started) = (self.request_id(), Instant::now());
        let (answer, code) = match self.identify(head, body, sts::SERVICE).await {
            Ok(who) => {
                let state = self.dispatcher.replica.state();
                let account = &state.meta().account;
                let answer = sts::answer(body, &who.caller, account, &request_id);
                let code = if answer.http_status == 200 { Code::Ok } else { Code::InvalidArgument };
                (answer, code)
            }
            Err(Unidentified::Refused(refusal)) => {
                (sts::refused(&refusal, &request_id), Code::Unauthenticated)
            }
            Err(Unidentified::Unavailable(error)) => {
                let text = error.to_string();
                (sts::fault(503, "ServiceUnavailable", &text, &request_id), Code::Unavailable)
            }
        };
        count(sts::ACTION, code, started);
        let status = StatusCode::from_u16(answer.http_status);
        Reply {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            content_type: sts::CONTENT_TYPE,
            body: answer.body.into_bytes(),
        }
    }

    async fn identify(
        &self,
        head: &Parts,
        body: &[u8],
        service: &'static str,
    ) -> Result<Identified, Unidentified> {
        let claim = Claim { head, body, service, now: self.dispatcher.time() };
        let state = self.dispatcher.replica.state();
        identify::caller(&claim, self.trust, &state, self.guard.authn()).await
    }

    /// A name for one request, in answers and for people who ask about them.
    pub(crate) fn request_id(&self) -> String {
        let hex = self.dispatcher.ids().request().to_string();
        match (hex.get(..8), hex.get(8..12), hex.get(12..16), hex.get(16..20), hex.get(20..)) {
            (Some(a), Some(b), Some(c), Some(d), Some(e)) => format!("{a}-{b}-{c}-{d}-{e}"),
            _ => hex,
        }
    }

    async fn try_answer(&self, head: &Parts, body: Bytes) -> Result<Vec<u8>, Refusal> {
        if head.method == Method::POST && head.uri.path() == RESET_PATH {
            self.dispatcher.reset().await?;
            return Ok(b"{}".to_vec());
        }
        let started = Instant::now();
        let target = target(head);
        let name = target.as_ref().map_or(UNKNOWN, Target::name);
        let answered = match target {
            Ok(target) => self.identified(&target, head, body).await,
            Err(refusal) => Err(refusal),
        };
        // Whoever is refused is counted too, whatever for: that is how an attack, or a tool with a
        // wrong key, is seen.
        let code = answered.as_ref().map_or_else(|refusal| refusal.code(), |_| Code::Ok);
        count(name, code, started);
        answered
    }

    async fn identified(
        &self,
        target: &Target,
        head: &Parts,
        body: Bytes,
    ) -> Result<Vec<u8>, Refusal> {
        let who = self.identify(head, &body, SERVICE).await?;
        match target {
            Target::Built(operation) => self.run(operation, who, &head.headers, body).await,
            Target::NotBuilt { name, why } => Err(Refusal::not_built(name, why)),
        }
    }

    async fn run(
        &self,
        operation: &operation::Operation,
        who: Identified,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Vec<u8>, Refusal> {
        let Identified { caller, region } = who;
        self.guard.allow(operation.path, &caller)?;
        let _place = self.guard.place(&caller).map_err(|_| Refusal::throttled())?;
        let span = self.guard.span(operation.path, &caller, headers);
        let deadline = Instant::now() + DEADLINE_DEFAULT;
        let admitted = Admitted { caller, peer: None, deadline, parent: None };
        let trace = span.in_scope(|| self.dispatcher.current_trace());
        let call = Call::new(admitted, trace)?.in_region(region);
        let answering = operation.run(&self.dispatcher, &call, &body).instrument(span);
        match tokio::time::timeout_at(deadline + DEADLINE_MARGIN, answering).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::late(operation.name)),
        }
    }
}

/// The operation that a request asks for.
fn target(head: &Parts) -> Result<Target, Refusal> {
    if head.method != Method::POST || head.uri.path() != "/" {
        return Err(Refusal::unknown_operation(format!(
            "{} {} is not served: ECS's operations are POST /",
            cut(head.method.as_str()),
            cut(head.uri.path())
        )));
    }
    let kind = text(&head.headers, "content-type");
    if kind.split(';').next().map(str::trim) != Some(JSON) {
        return Err(Refusal::serialization(format!("Content-Type: {kind:?}, expected {JSON}")));
    }
    let target = text(&head.headers, "x-amz-target");
    let Some(name) = target.strip_prefix(TARGET_PREFIX) else {
        return Err(Refusal::unknown_operation(format!(
            "X-Amz-Target: {target:?}, expected {TARGET_PREFIX}<operation>"
        )));
    };
    operation::find(name)
        .ok_or_else(|| Refusal::unknown_operation(format!("ECS has no operation {name:?}")))
}

/// A header as text, cut to what an answer may repeat; empty if it is missing.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    cut(headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default())
}

/// What an answer may repeat of a text.
fn cut(text: &str) -> &str {
    text.char_indices().nth(TEXT_CHARS_SHOWN).map_or(text, |(end, _)| &text[..end])
}
