//! A thin client that outlives failovers: any manager will do, the leader is found, and a call that
//! may have been lost is made again with the same client token, so it takes effect at most once.
//!
//! It does not know certificates: a dialer makes the channels. Invariant: a call ends by its
//! deadline, with an answer or with the last reason there was none.

use crate::error::from_status;
use muster_model::Error;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// How long one manager may take for one try. A manager without a leader says so within a second;
/// RunTask waits up to two seconds for its placements.
pub const TRY_WAIT: Duration = Duration::from_secs(5);
/// The first pause between two tries; doubles up to the longest.
pub const PAUSE_MIN: Duration = Duration::from_millis(20);
pub const PAUSE_MAX: Duration = Duration::from_millis(320);
/// Managers a client keeps channels to: a cluster has five, and hints may name old addresses.
pub const CHANNELS_MAX: usize = 16;

/// Makes a channel to host:port that connects when it is first used, within a second or not at all.
pub type Dialer = Arc<dyn Fn(&str) -> Result<Channel, String> + Send + Sync>;

/// One client for any number of calls at once.
pub struct Client {
    endpoints: Vec<String>,
    dial: Dialer,
    route: Mutex<Route>,
}

/// Whom to ask next.
#[derive(Default)]
struct Route {
    /// The manager that answered last, or that a manager named as the leader.
    favourite: Option<String>,
    turn: usize,
    channels: BTreeMap<String, Channel>,
}

impl Client {
    /// `endpoints`: host:port of managers.
    ///
    /// # Errors
    /// There is none.
    pub fn new(endpoints: Vec<String>, dial: Dialer) -> Result<Self, Error> {
        match endpoints.is_empty() {
            true => Err(Error::invalid("managers", "", "host:port of at least one manager")),
            false => Ok(Self { endpoints, dial, route: Mutex::default() }),
        }
    }

    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Makes a call until a manager answers it or `deadline` passes. A write must carry a client
    /// token: each try sends the same request.
    ///
    /// # Errors
    /// What the cluster answered; `Unavailable` or `UnknownOutcome` if no manager did in time.
    pub async fn call<Q: Clone, A>(
        &self,
        request: Q,
        deadline: Instant,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let mut pause = PAUSE_MIN;
        loop {
            let address = self.pick();
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.channel(&address) {
                Err(why) => Error::Unavailable { why: format!("{address}: {why}") },
                Ok(channel) => {
                    let mut request = Request::new(request.clone());
                    request.set_timeout(left.min(TRY_WAIT));
                    match tokio::time::timeout(left.min(TRY_WAIT), call(channel, request)).await {
                        Ok(Ok(answer)) => {
                            self.favour(Some(address));
                            return Ok(answer.into_inner());
                        }
                        Ok(Err(status)) => {
                            let hint = leader_of(&status).filter(|leader| *leader != address);
                            self.favour(hint);
                            from_status(&status)
                        }
                        Err(_) => {
                            self.favour(None);
                            let why = format!("{address} did not answer in time");
                            Error::UnknownOutcome { why }
                        }
                    }
                }
            };
            let passing = matches!(error, Error::Unavailable { .. } | Error::UnknownOutcome { .. });
            if !passing || Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The favourite, else the managers in turn.
    fn pick(&self) -> String {
        let mut route = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(favourite) = &route.favourite {
            return favourite.clone();
        }
        let address = self.endpoints[route.turn % self.endpoints.len()].clone();
        route.turn = route.turn.wrapping_add(1);
        address
    }

    fn favour(&self, address: Option<String>) {
        self.route.lock().unwrap_or_else(PoisonError::into_inner).favourite = address;
    }

    fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut route = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = route.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = (self.dial)(address).inspect_err(|_| route.favourite = None)?;
        if route.channels.len() >= CHANNELS_MAX {
            route.channels.clear();
        }
        route.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// The leader's address, where a manager that does not lead names it.
pub fn leader_of(status: &Status) -> Option<String> {
    let hint = status.metadata().get("muster-leader")?.to_str().ok()?;
    (!hint.is_empty()).then(|| hint.to_owned())
}
