//! The endpoint's HTTP: one request per connection, GET only, without a body.
//!
//! It decides how many there are and how long each may take; what is answered, it asks. Invariants:
//! a peer that sends nothing, too much or slowly is cut off; one that opens many connections takes
//! no place from another.

use crate::runtime::Runtime;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections at once, of all containers; each holds a descriptor and some 20 KiB.
const CONNECTIONS_MAX: usize = 256;
/// Of one address: a container asks one thing after the other.
const CONNECTIONS_PER_PEER_MAX: usize = 8;
/// From the connection to the end of the answer.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// hyper's smallest.
const HEAD_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 32;
/// Pause after the kernel gave no connection: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub enum Answer {
    Found(Value),
    NotFound,
}

/// Accepts for as long as it is polled.
pub async fn serve(listener: TcpListener, runtime: Runtime) {
    let seats = Seats::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection of the metadata endpoint");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One too many is closed at once: clients try again.
        let Some(seat) = seats.take(peer.ip()) else { continue };
        let runtime = runtime.clone();
        connections.spawn(async move {
            // A peer that is cut off knows why.
            let _ = tokio::time::timeout(CONNECTION_WAIT, talk(socket, peer.ip(), runtime)).await;
            drop(seat);
        });
    }
}

async fn talk(socket: TcpStream, peer: IpAddr, runtime: Runtime) {
    let answering = service_fn(move |request: Request<Incoming>| {
        let runtime = runtime.clone();
        async move { Ok::<_, Infallible>(answer(&request, peer, runtime).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), answering);
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "connection of the metadata endpoint ended");
    }
}

async fn answer(
    request: &Request<Incoming>,
    peer: IpAddr,
    runtime: Runtime,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, &json!("allowed: GET"));
    }
    let path = request.uri().path().trim_end_matches('/').to_owned();
    if let Some(path) = path.strip_prefix("/v2/") {
        let query = request.uri().query().unwrap_or_default();
        return match runtime.role_at(path, query, peer).await {
            Ok(value) => reply(StatusCode::OK, &value),
            Err(refused) => reply(refused.status, &refused.body()),
        };
    }
    let found = tokio::task::spawn_blocking(move || runtime.metadata_at(&path, peer)).await;
    match found {
        Ok(Answer::Found(value)) => reply(StatusCode::OK, &value),
        Ok(Answer::NotFound) => {
            let text = "nothing here; the paths are those of ECS_CONTAINER_METADATA_URI_V4, \
                        and of it /task, /stats and /task/stats";
            reply(StatusCode::NOT_FOUND, &json!(text))
        }
        Err(error) => {
            tracing::error!(%error, "metadata");
            reply(StatusCode::INTERNAL_SERVER_ERROR, &json!("the agent could not look it up"))
        }
    }
}

fn reply(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Who is connected how often.
#[derive(Clone, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place, for as long as it is held.
struct Seat {
    seats: Seats,
    peer: IpAddr,
}

impl Seats {
    fn take(&self, peer: IpAddr) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&peer).copied().unwrap_or_default();
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_PER_PEER_MAX {
            return None;
        }
        taken.insert(peer, own + 1);
        Some(Seat { seats: self.clone(), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_takes_no_place_from_another() {
        let seats = Seats::default();
        let peer = |last| IpAddr::from([10, 0, 0, last]);
        let mut held: Vec<_> = (0..CONNECTIONS_PER_PEER_MAX).map(|_| seats.take(peer(1))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(seats.take(peer(1)).is_none());
        assert!(seats.take(peer(2)).is_some());
        held.pop();
        assert!(seats.take(peer(1)).is_some());
        drop(held);
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
