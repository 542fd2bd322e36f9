//! May they do this, to that? The second half of the authorization table: `authz` says what a role
//! may call, policies say more or less for it, request by request.
//!
//! Every door calls [`Dispatcher::permit`] once per request. Policies decide about the services
//! `Ecs` and `Live` alone; the managers' own rpcs stay the roles', so that no policy locks the
//! administrators out. Without a policy nothing is resolved and nothing is read.
//! Invariant: a document that cannot be read refuses the call; an explicit deny beats every allow.

mod evaluate;
mod resolve;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

use crate::authz::Caller;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::limits::POLICY_HOLDERS_PARSED_MAX;
use evaluate::{Facts, Verdict, judge};
use muster_model::{Error, Holder, Policy, State};
use muster_proto::convert::policy::{Document, document};
use muster_proto::error::PERFORM;
use muster_proto::target::Acts;
use resolve::resolve;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a state says of a request.
pub struct Ruling {
    pub answer: Result<(), Error>,
    /// Nothing in it hangs on how new the state is: no name is missing, no tag was asked for.
    pub settled: bool,
}

impl Dispatcher {
    /// Whether the caller may make this request: a user by role, and by the policies of role and
    /// user; a task by those of its task role alone.
    ///
    /// # Errors
    /// `Denied` in IAM's words; what a newer state could change is asked of the leader first, and
    /// that may be `Unavailable`.
    pub async fn permit<R: Acts + Sync>(&self, call: &Call, request: &R) -> Result<(), Error> {
        let state = call.seeing(self.replica.state());
        let ruling = self.policies.ruling(&state, &call.caller, request);
        match (ruling.answer, ruling.settled) {
            (Ok(()), true) => Ok(()),
            // What would allow it may have been put through another manager just now.
            (Err(_), _) | (Ok(()), false) => {
                let state = call.seeing(self.replica.read(call.deadline).await?);
                self.policies.ruling(&state, &call.caller, request).answer
            }
        }
    }
}

/// Judges by the policies of states, which it reads once each.
#[derive(Default)]
pub struct Policies {
    parsed: Mutex<BTreeMap<Holder, Parsed>>,
}

/// The documents of one holder, and the rows they were read from.
struct Parsed {
    rows: Vec<Arc<Policy>>,
    documents: Arc<[Document]>,
}

impl Policies {
    /// What `state` says of the request of this user or task.
    pub fn ruling<R: Acts>(&self, state: &State, caller: &Caller, request: &R) -> Ruling {
        let Some(arn) = caller.arn(&state.meta().account) else {
            let principal = caller.principal().map_or_else(|| "nobody".into(), |p| p.to_string());
            let action = format!("call {}: it is for users", R::ACTION);
            return Ruling { answer: Err(Error::Denied { principal, action }), settled: true };
        };
        let (holders, by_role) = (caller.holders(), caller.may_unasked(R::AUTH));
        if by_role && !state.has_policies(&holders) {
            return Ruling { answer: Ok(()), settled: true };
        }
        let user = match caller {
            Caller::User { name, .. } => Some(name.as_str()),
            _ => None,
        };
        let target = request.target();
        let resolved = resolve(state, &target);
        let documents = holders.into_iter().map(|holder| self.of(state, holder));
        let documents: Vec<_> = match documents.collect() {
            Ok(documents) => documents,
            Err(error) => return Ruling { answer: Err(error), settled: true },
        };
        let documents = || documents.iter().flat_map(|documents| documents.iter());
        let mut tags_asked = false;
        for resource in &resolved.resources {
            let facts = Facts { action: R::ACTION, user, resource, request: target.request_tags };
            let (verdict, asked) = judge(documents(), &facts);
            tags_asked |= asked;
            let why = match (verdict, by_role) {
                (Verdict::Allowed, _) | (Verdict::Silent, true) => continue,
                (Verdict::Forbidden, _) => "with an explicit deny in an identity-based policy",
                (Verdict::Silent, false) => "",
            };
            let answer = Err(denied(&arn, R::ACTION, &resource.arn, why));
            return Ruling { answer, settled: false };
        }
        Ruling { answer: Ok(()), settled: resolved.settled && !tags_asked }
    }

    /// Reads anew only what is not the very row that was read before.
    fn of(&self, state: &State, holder: Holder) -> Result<Arc<[Document]>, Error> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed.get(&holder)
            && state.policies_of(&holder).count() == known.rows.len()
            && state.policies_of(&holder).zip(&known.rows).all(|(is, was)| Arc::ptr_eq(is, was))
        {
            return Ok(known.documents.clone());
        }
        let rows: Vec<Arc<Policy>> = state.policies_of(&holder).cloned().collect();
        let documents: Arc<[Document]> = rows.iter().map(read).collect::<Result<_, _>>()?;
        if parsed.len() >= POLICY_HOLDERS_PARSED_MAX {
            parsed.clear();
        }
        if !rows.is_empty() {
            parsed.insert(holder, Parsed { rows, documents: documents.clone() });
        }
        Ok(documents)
    }
}

/// It was checked when it was put; a release that reads less than that one must not guess.
fn read(row: &Arc<Policy>) -> Result<Document, Error> {
    document(&row.document).map_err(|error| {
        let what = format!("policy {} cannot be read by this release: {error}", row.name);
        Error::UpgradeRequired { what }
    })
}

fn denied(who: &str, action: &str, arn: &str, why: &str) -> Error {
    let because = match why {
        "" => format!("because no identity-based policy allows the {action} action"),
        why => why.to_owned(),
    };
    Error::Denied {
        principal: format!("User: {who}"),
        action: format!("{PERFORM}{action} on resource: {arn} {because}"),
    }
}
