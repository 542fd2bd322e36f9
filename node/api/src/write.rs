//! From a request to a committed entry, at most once in effect.
//!
//! A client token becomes the request id, by which the log recognises a repeat made through any
//! manager (it compares commands without the ids minted for them). What the first attempt resolved
//! ("the newest revision") is taken from its answer, not resolved again.
//! Invariant: after an unknown outcome only the very same entry is proposed again.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::limits::{RETRY_FIRST, RETRY_MAX};
use muster_model::state::RequestRow;
use muster_model::{Command, Entry, Error, IdSource, Principal, RequestId, Response, State};
use muster_proto::{arn, convert};
use muster_replica::Applied;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::time::Instant;

/// What a command is made from.
pub struct Draft<'a> {
    pub state: &'a State,
    /// For the rows the command makes.
    pub ids: IdSource,
    /// What an earlier attempt of the same request was answered, if there was one.
    pub earlier: Option<&'a Response>,
}

/// A client token, and which of its request's entries is meant where it makes several.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub client: &'a str,
    pub part: &'a str,
}

impl<'a> From<&'a str> for Token<'a> {
    fn from(client: &'a str) -> Self {
        Self { client, part: "" }
    }
}

impl<'a> From<&'a String> for Token<'a> {
    fn from(client: &'a String) -> Self {
        Self { client, part: "" }
    }
}

/// Which state a command may be made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// What this manager has; a newer one only if that lacks a name.
    IfMissing,
    /// What every acknowledged write is in: for "the newest".
    Always,
}

/// What a write led to.
pub struct Written {
    /// Shows the write and everything before it.
    pub state: Arc<State>,
    pub response: Response,
}

impl Dispatcher {
    /// Makes a command, commits it, and waits until it shows here.
    ///
    /// # Errors
    /// Those of `make` and of `apply`; `Unavailable`: nothing was done; `UnknownOutcome`: repeat
    /// with the same client token.
    pub(crate) async fn write(
        &self,
        call: &Call,
        token: impl Into<Token<'_>>,
        fresh: Fresh,
        make: impl Fn(&mut Draft<'_>) -> Result<Command, Error> + Send,
    ) -> Result<Written, Error> {
        let request = self.request(&call.principal, token.into())?;
        let mut state = call.seeing(match fresh {
            Fresh::IfMissing => self.replica.state(),
            Fresh::Always => self.replica.read(call.deadline).await?,
        });
        let seed = self.ids().request().bits();
        let command = match (draft(&state, request, seed, &make), fresh) {
            (Err(Error::NotFound { .. } | Error::NotActive { .. }), Fresh::IfMissing) => {
                state = call.seeing(self.replica.read(call.deadline).await?);
                draft(&state, request, seed, &make)?
            }
            (made, _) => made?,
        };
        let entry = Entry {
            request,
            at: self.time(),
            by: call.principal.clone(),
            trace: call.trace,
            command,
        };
        let applied = match self.commit(entry, call.deadline).await {
            Err(Error::TokenReused { .. }) => return Err(self.reused(call, request).await),
            other => other?,
        };
        let state = self.replica.applied(applied.index, call.deadline).await.map_err(|error| {
            Error::UnknownOutcome {
                why: format!(
                    "it was committed as entry {}, but its effect cannot be shown: {error}",
                    applied.index
                ),
            }
        })?;
        call.saw(&state, None);
        Ok(Written { state: call.seeing(state), response: applied.response })
    }

    /// The conflict, with the ARNs of what the token was used for, as its caller writes them.
    async fn reused(&self, call: &Call, request: RequestId) -> Error {
        // This manager may be behind the one that refused; one that cannot ask says what it knows.
        let read = self.replica.read(call.deadline).await;
        let state = call.seeing(read.unwrap_or_else(|_| self.replica.state()));
        let first = state.request(request).and_then(|row| row.answer.as_ref().ok());
        let resources = first.map(|answer| arn::of_response(&state, answer)).unwrap_or_default();
        Error::TokenReused { resources }
    }

    /// Proposes until there is an answer or no time left. A definite refusal ends it at once.
    pub(crate) async fn commit(&self, entry: Entry, deadline: Instant) -> Result<Applied, Error> {
        let mut pause = RETRY_FIRST;
        let mut unknown: Option<String> = None;
        loop {
            unknown = Some(match self.replica.propose(entry.clone(), deadline).await {
                Err(Error::UnknownOutcome { why }) => why,
                // This attempt did nothing, but one before it may have.
                Err(Error::Unavailable { why }) => match unknown {
                    Some(before) => {
                        return Err(Error::UnknownOutcome {
                            why: format!("{before}; then: {why}"),
                        });
                    }
                    None => return Err(Error::Unavailable { why }),
                },
                answer => return answer,
            });
            metrics::counter!("muster_api_retries_total").increment(1);
            if Instant::now() + pause >= deadline {
                return Err(Error::UnknownOutcome { why: unknown.unwrap_or_default() });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// The request id of a client token: of its caller, so that nobody can guess another's.
    fn request(&self, by: &Principal, token: Token<'_>) -> Result<RequestId, Error> {
        let Token { client, part } = token;
        if client.is_empty() {
            return Ok(self.ids().request_at(self.time()));
        }
        // Checks its form; the id it gives is the same for all callers.
        convert::request_id(client)?;
        let digest =
            Sha256::digest(format!("muster client token\n{by}\n{client}\n{part}").as_bytes());
        let bits = digest.iter().take(16).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        Ok(RequestId::from_bits(bits))
    }
}

fn draft(
    state: &State,
    request: RequestId,
    seed: u128,
    make: &impl Fn(&mut Draft<'_>) -> Result<Command, Error>,
) -> Result<Command, Error> {
    let earlier = state.request(request).and_then(|row: &Arc<RequestRow>| row.answer.as_ref().ok());
    make(&mut Draft { state, ids: IdSource::new(seed), earlier })
}

/// "The newest revision" must be the newest; a named one need only be there.
pub fn fresh_for(definition: &str) -> Fresh {
    let name = match definition.starts_with("arn:") {
        true => definition.splitn(6, ':').nth(5).unwrap_or(definition),
        false => definition,
    };
    match definition.is_empty() || name.contains(':') {
        true => Fresh::IfMissing,
        false => Fresh::Always,
    }
}

/// `apply` answered a command in words of another one: a manager of another version leads.
pub fn unexpected(response: &Response) -> Error {
    Error::UpgradeRequired { what: format!("the leader answered {response:?}") }
}
