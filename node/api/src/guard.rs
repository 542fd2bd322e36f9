//! The one door of a manager's listener: every rpc of every service passes it, and nothing else
//! decides who may call.
//!
//! It knows paths, certificates and clocks, not messages. It is mounted around all services of the
//! listener (raft, dispatch and joining too), so that a service cannot be reached around it.
//! Invariant: a request that reaches a handler carries an `Admitted`; handlers refuse one without.

use crate::authn::Authn;
use crate::authz::{self, Caller, Rule, Rules};
use crate::deadline;
use crate::limits::{CALLS_MAX, CALLS_PER_USER_MAX, MESSAGE_BYTES_MAX};
use muster_identity::Peer;
use muster_model::{Error, TraceId};
use muster_proto::error::to_status;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;

/// What the guard found out about a request; in its extensions.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub caller: Caller,
    /// The certificate's serial number, for calls that outlive the check.
    pub peer: Option<Peer>,
    pub deadline: Instant,
    /// What the caller's `traceparent` says, if it sent one.
    pub parent: Option<TraceId>,
}

/// A tower layer; clones are one guard.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Rules,
    authn: Authn,
    calls: Mutex<Calls>,
    adopt_parent: Option<fn(&http::HeaderMap, &tracing::Span)>,
}

#[derive(Default)]
struct Calls {
    all: usize,
    by_caller: HashMap<String, usize>,
}

impl Guard {
    /// `adopt_parent` makes a span a child of what the request's headers name.
    pub fn new(
        rules: Rules,
        authn: Authn,
        adopt_parent: Option<fn(&http::HeaderMap, &tracing::Span)>,
    ) -> Self {
        Self { inner: Arc::new(Inner { rules, authn, calls: Mutex::default(), adopt_parent }) }
    }

    /// Whether `caller` may go on to the handler of `path`, which may ask policies in turn. The
    /// same for every front end.
    pub(crate) fn allow(&self, path: &str, caller: &Caller) -> Result<(), Status> {
        let rule = self.inner.rules.of(path);
        let Err(refused) = authz::allow(path, rule, caller) else { return Ok(()) };
        // A policy may allow what the role does not; with which request in hand, the handler asks
        // it.
        let asked = rule.is_some() && authz::by_policy(path);
        match asked && self.inner.authn.has_policies(caller) {
            true => Ok(()),
            false => Err(refused),
        }
    }

    /// Who calls; for front ends whose callers prove it otherwise than by a certificate.
    pub fn authn(&self) -> &Authn {
        &self.inner.authn
    }

    /// Who calls, and whether they may.
    async fn admit(&self, head: &Head) -> Result<(Admitted, Option<Place>), Status> {
        let rule = self.inner.rules.of(&head.path);
        let caller = match (rule, &head.peer) {
            (None | Some(Rule::Anyone), _) | (_, None) => Caller::Nobody,
            (Some(_), Some(peer)) => self.inner.authn.caller(peer).await?,
        };
        self.allow(&head.path, &caller)?;
        let place = self.place(&caller)?;
        let (deadline, parent) = (head.deadline, head.parent);
        Ok((Admitted { caller, peer: head.peer.clone(), deadline, parent }, place))
    }

    /// A place among the calls in progress; given back when dropped. Users and task roles only:
    /// managers and agents are bounded by their number, and must not wait behind them. All tasks of
    /// a role count as one.
    pub(crate) fn place(&self, caller: &Caller) -> Result<Option<Place>, Status> {
        let who = match caller {
            Caller::User { name, .. } => format!("user {name}"),
            Caller::AssumedRole { role, .. } => format!("task role {role}"),
            Caller::Nobody | Caller::Instance(_) | Caller::Manager(_) => return Ok(None),
        };
        let mut calls = self.inner.locked();
        if calls.all >= CALLS_MAX {
            return Err(crowded("calls in progress on this manager", calls.all, CALLS_MAX));
        }
        let mine = calls.by_caller.entry(who.clone()).or_default();
        if *mine >= CALLS_PER_USER_MAX {
            let what = format!("calls in progress of {who} on this manager");
            return Err(crowded(&what, *mine, CALLS_PER_USER_MAX));
        }
        *mine += 1;
        calls.all += 1;
        Ok(Some(Place { inner: self.inner.clone(), who }))
    }
}

fn crowded(what: &str, value: usize, limit: usize) -> Status {
    let (what, value, limit) = (what.to_owned(), value as u64, limit as u64);
    to_status(&Error::LimitExceeded { what, value, limit })
}

impl Inner {
    fn locked(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call in progress.
pub(crate) struct Place {
    inner: Arc<Inner>,
    who: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.inner.locked();
        calls.all = calls.all.saturating_sub(1);
        if let Some(mine) = calls.by_caller.get_mut(&self.who) {
            *mine -= 1;
            if *mine == 0 {
                calls.by_caller.remove(&self.who);
            }
        }
    }
}

/// What the guard reads of a request.
struct Head {
    path: String,
    peer: Option<Peer>,
    deadline: Instant,
    parent: Option<TraceId>,
}

impl Head {
    fn of(request: &http::Request<Body>) -> Result<Self, Status> {
        let headers = request.headers();
        Ok(Self {
            path: request.uri().path().to_owned(),
            peer: request.extensions().get::<Peer>().cloned(),
            deadline: deadline::of(headers.get("grpc-timeout"), Instant::now())?,
            parent: headers.get("traceparent").and_then(deadline::trace_parent),
        })
    }

    /// The public API, whose unary calls end by their deadline. Raft and dispatch streams live
    /// as long as their connections.
    fn public(&self) -> bool {
        self.path.starts_with("/muster.v1.")
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// A service behind the guard.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The clone is not ready yet; the one that was polled serves this request.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let guard = self.guard.clone();
        Box::pin(async move { guard.serve(inner, request).await })
    }
}

impl Guard {
    async fn serve<S>(
        &self,
        mut inner: S,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, S::Error>
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>>,
    {
        let started = Instant::now();
        let head = match Head::of(&request) {
            Ok(head) => head,
            Err(refused) => return Ok(refused.into_http()),
        };
        let (admitted, _place) = match self.admit(&head).await {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.count(&head.path, refused.code(), started);
                return Ok(refused.into_http());
            }
        };
        let span = match head.public() {
            true => self.span(&head.path, &admitted.caller, request.headers()),
            false => tracing::Span::none(),
        };
        request.extensions_mut().insert(admitted);
        let call = inner.call(request).instrument(span);
        let response = match head.public() {
            // Handlers keep the deadline themselves; this ends bodies that never arrive.
            true => {
                match tokio::time::timeout_at(head.deadline + Duration::from_secs(1), call).await {
                    Ok(response) => response?,
                    Err(_) => Status::deadline_exceeded(format!(
                        "{} was not done by its deadline",
                        authz::method(&head.path)
                    ))
                    .into_http(),
                }
            }
            false => call.await?,
        };
        let response = explain_size(response);
        self.count(&head.path, code_of(&response), started);
        Ok(response)
    }
}

impl Guard {
    pub(crate) fn span(
        &self,
        path: &str,
        caller: &Caller,
        headers: &http::HeaderMap,
    ) -> tracing::Span {
        let method = authz::method(path);
        let by = caller.principal().map_or_else(|| "nobody".to_owned(), |p| p.to_string());
        let span = tracing::info_span!("api.call", otel.name = format!("api.{method}"), method, by);
        if let Some(adopt) = self.inner.adopt_parent {
            adopt(headers, &span);
        }
        span
    }

    fn count(&self, path: &str, code: Code, started: Instant) {
        count(self.inner.rules.label(path), code, started);
    }
}

/// `muster_api_calls_total` and `muster_api_call_seconds`, by method and code. The method is one of
/// ours: strangers choose names, and each would stay in memory.
pub(crate) fn count(method: &'static str, code: Code, started: Instant) {
    let labels = [("method", method.to_owned()), ("code", format!("{code:?}"))];
    metrics::counter!("muster_api_calls_total", &labels).increment(1);
    metrics::histogram!("muster_api_call_seconds", &labels).record(started.elapsed().as_secs_f64());
}

/// The status in the head of an answer; a unary answer without one is a success.
fn code_of(response: &http::Response<Body>) -> Code {
    match response.headers().get("grpc-status") {
        Some(value) => Code::from_bytes(value.as_bytes()),
        None => Code::Ok,
    }
}

/// tonic answers a message over the limit with OUT_OF_RANGE, which means something else to the
/// readers of a watch.
fn explain_size(response: http::Response<Body>) -> http::Response<Body> {
    const TONIC: &str = "Error, decoded message length too large: found ";
    if code_of(&response) != Code::OutOfRange {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let Some(found) = status.message().strip_prefix(TONIC) else { return response };
    let bytes = found.split(' ').next().unwrap_or("?");
    Status::resource_exhausted(format!(
        "the request's message is {bytes} bytes; at most {MESSAGE_BYTES_MAX} (4 MiB) are allowed"
    ))
    .into_http()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use muster_model::UserRole;
    use muster_replica::memory::Memory;

    fn user(name: &str) -> Caller {
        Caller::User { name: name.to_owned(), role: UserRole::Admin }
    }

    fn guard() -> Guard {
        let (_, replica) = Memory::start();
        Guard::new(Rules::new([]), Authn::new(replica), None)
    }

    #[test]
    fn one_user_cannot_take_all_places_and_gets_them_back() {
        let guard = guard();
        let mut taken: Vec<_> =
            (0..CALLS_PER_USER_MAX).map(|_| guard.place(&user("ann")).unwrap()).collect();
        let refused = guard.place(&user("ann")).err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("user ann"), "{refused}");
        assert!(guard.place(&user("bob")).is_ok());
        taken.pop();
        assert!(guard.place(&user("ann")).is_ok());
    }

    #[test]
    fn the_places_of_all_users_end_and_machines_need_none() {
        let guard = guard();
        let names: Vec<String> =
            (0..CALLS_MAX / CALLS_PER_USER_MAX).map(|n| format!("user{n}")).collect();
        let taken: Vec<_> = names
            .iter()
            .flat_map(|name| (0..CALLS_PER_USER_MAX).map(|_| guard.place(&user(name)).unwrap()))
            .collect();
        let refused = guard.place(&user("zoe")).err().unwrap();
        assert!(refused.message().contains("on this manager"), "{refused}");
        let manager = Caller::Manager(muster_model::RaftId(1));
        assert!(guard.place(&manager).unwrap().is_none());
        drop(taken);
        assert!(guard.place(&user("zoe")).is_ok());
    }
}
