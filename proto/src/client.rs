//! A thin client that outlives failovers: any manager will do, the leader is found, and a call that
//! may have been lost is made again with the same client token, so it takes effect at most once.
//!
//! It does not know certificates: a dialer makes the channels. Invariant: a call ends by its
//! deadline, with an answer or with the last reason there was none.

mod route;

use crate::error::{LEADER_METADATA, from_status};
use futures::stream::{FuturesUnordered, StreamExt as _};
use muster_model::{Error, IdSource};
use route::Route;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// How long one manager may take for one try. A manager without a leader says so within a second;
/// RunTask waits up to two seconds for its placements.
pub const TRY_WAIT: Duration = Duration::from_secs(5);
/// A manager that has not answered for so long gets company: the same request goes to another one
/// too, and the first answer counts. A black hole costs a caller this much.
pub const HEDGE_AFTER: Duration = Duration::from_millis(800);
/// Managers that one call is with at once, at most: a majority of five.
pub const TRIES_AT_ONCE_MAX: usize = 3;
/// The first pause between two tries; doubles up to the longest. The real one is between half of
/// it and all of it, so that clients that lost the same manager do not come back together.
pub const PAUSE_MIN: Duration = Duration::from_millis(20);
pub const PAUSE_MAX: Duration = Duration::from_millis(320);
/// Managers a client keeps channels to: a cluster has five, and hints may name old addresses.
pub const CHANNELS_MAX: usize = 16;

/// Makes a channel to host:port that connects when it is first used, within a second or not at all.
pub type Dialer = Arc<dyn Fn(&str) -> Result<Channel, String> + Send + Sync>;

/// A request that is a write: its client token makes a repeat of it harmless.
pub trait Tokened {
    fn client_token(&mut self) -> &mut String;
}

include!(concat!(env!("OUT_DIR"), "/tokened.rs"));

/// One client for any number of calls at once.
pub struct Client {
    endpoints: Vec<String>,
    dial: Dialer,
    route: Mutex<Route>,
    random: Mutex<IdSource>,
}

/// What a call waits for.
enum Happened<A> {
    Answered(String, Result<Response<A>, Status>),
    StartTry,
    Deadline,
}

impl Client {
    /// `endpoints`: host:port of managers.
    ///
    /// # Errors
    /// There is none.
    pub fn new(endpoints: Vec<String>, dial: Dialer) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::invalid("managers", "", "host:port of at least one manager"));
        }
        let random = Mutex::new(IdSource::new(seed()));
        Ok(Self { endpoints, dial, route: Mutex::default(), random })
    }

    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Makes a call at one manager after another until one answers it or `deadline` passes. For
    /// calls that two managers should not work on at once.
    ///
    /// # Errors
    /// What the cluster answered; `Unavailable` if nothing was done, `UnknownOutcome` if the call
    /// may have been done and no manager said so in time.
    pub async fn call<Q: Clone, A>(
        &self,
        request: Q,
        deadline: Instant,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        self.run(request, deadline, 1, call).await
    }

    /// As `call`, for requests that may be made twice at once, that is reads and writes that carry
    /// a client token: a manager that does not answer soon is not waited for alone.
    ///
    /// # Errors
    /// As `call`.
    pub async fn call_repeatable<Q: Clone, A>(
        &self,
        request: Q,
        deadline: Instant,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        self.run(request, deadline, TRIES_AT_ONCE_MAX, call).await
    }

    /// A write, with a fresh client token if it has none: every try is the same request.
    ///
    /// # Errors
    /// As `call`.
    pub async fn call_write<Q: Clone + Tokened, A>(
        &self,
        mut request: Q,
        deadline: Instant,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        if request.client_token().is_empty() {
            *request.client_token() = self.fresh_token();
        }
        self.call_repeatable(request, deadline, call).await
    }

    /// A token no other request has: 32 hexadecimal digits.
    pub fn fresh_token(&self) -> String {
        lock(&self.random).request().to_string()
    }

    async fn run<Q: Clone, A>(
        &self,
        request: Q,
        deadline: Instant,
        at_once: usize,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let mut tries = FuturesUnordered::new();
        let mut asked: Vec<String> = Vec::new();
        let mut failed = Failures::default();
        let mut next_try = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            if tries.is_empty() && next_try >= deadline {
                return Err(failed.last());
            }
            let happened = tokio::select! {
                // An answer that is there counts, whatever the clock says by now.
                biased;
                Some((address, result)) = tries.next() => Happened::Answered(address, result),
                () = sleep_until(next_try), if tries.len() < at_once => Happened::StartTry,
                () = sleep_until(deadline) => Happened::Deadline,
            };
            match happened {
                Happened::Answered(address, Ok(answer)) => {
                    lock(&self.route).prefer(Some(address));
                    return Ok(answer.into_inner());
                }
                Happened::Answered(address, Err(status)) => {
                    asked.retain(|other| *other != address);
                    let hint = leader_of(&status).filter(|leader| *leader != address);
                    lock(&self.route).prefer(hint);
                    failed.push(&address, from_status(&status))?;
                    next_try = Instant::now() + self.jittered(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Happened::StartTry => {
                    let address = lock(&self.route).pick(&self.endpoints, &asked);
                    let left = deadline.saturating_duration_since(Instant::now());
                    asked.push(address.clone());
                    tries.push(self.try_at(address, request.clone(), left, &call));
                    next_try = Instant::now() + HEDGE_AFTER;
                }
                Happened::Deadline => {
                    failed.silent(&asked);
                    return Err(failed.last());
                }
            }
        }
    }

    async fn try_at<Q, A>(
        &self,
        address: String,
        request: Q,
        left: Duration,
        call: &impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> (String, Result<Response<A>, Status>) {
        let channel = match lock(&self.route).channel(&address, &self.dial) {
            Ok(channel) => channel,
            Err(why) => return (address, Err(Status::unavailable(why))),
        };
        let mut request = Request::new(request);
        request.set_timeout(left.min(TRY_WAIT));
        // Not cut to what is left: the caller's deadline speaks for all tries at once.
        let result = match timeout(TRY_WAIT, call(channel, request)).await {
            Ok(result) => result,
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        };
        (address, result)
    }

    fn jittered(&self, pause: Duration) -> Duration {
        let half = pause / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(lock(&self.random).next_u64() % spread)
    }
}

/// Why there is no answer yet.
#[derive(Default)]
struct Failures {
    last: Option<Error>,
    /// A try may have been carried out although its answer was lost.
    maybe_done: bool,
}

impl Failures {
    /// Ends the call unless another try may help.
    fn push(&mut self, address: &str, error: Error) -> Result<(), Error> {
        self.last = Some(match error {
            Error::Unavailable { why } => Error::Unavailable { why: format!("{address}: {why}") },
            Error::UnknownOutcome { why } => {
                self.maybe_done = true;
                Error::UnknownOutcome { why: format!("{address}: {why}") }
            }
            answer => return Err(answer),
        });
        Ok(())
    }

    fn silent(&mut self, asked: &[String]) {
        if !asked.is_empty() {
            self.maybe_done = true;
            let why = format!("{} did not answer in time", asked.join(", "));
            self.last = Some(Error::UnknownOutcome { why });
        }
    }

    fn last(self) -> Error {
        match self.last {
            Some(Error::Unavailable { why }) if self.maybe_done => Error::UnknownOutcome { why },
            Some(error) => error,
            None => Error::Unavailable { why: "no time was left to ask a manager".into() },
        }
    }
}

/// The leader's address, where a manager that does not lead names it.
pub fn leader_of(status: &Status) -> Option<String> {
    let hint = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    (!hint.is_empty()).then(|| hint.to_owned())
}

/// Entropy of the process: the standard library seeds its hash maps from the system.
fn seed() -> u128 {
    let half = |salt: u8| u128::from(RandomState::new().hash_one((salt, std::process::id())));
    half(0) << 64 | half(1)
}

/// A panic elsewhere while a lock was held leaves routes and ids as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
