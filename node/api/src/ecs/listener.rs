//! The door's own listener: HTTP/1.1, over TLS or, on loopback only, in the clear.
//!
//! It decides how many connections there are and how long each may take; it does not read what
//! they say. Invariants: memory is bounded whatever arrives; a peer that sends nothing, or slowly,
//! or does not take its answers, is cut off; a refused connection never stops the listener.

use super::refusal::Refusal;
use super::taken::Taken;
use super::{Door, Reply};
use crate::limits::{
    BODY_READ_MAX, HANDSHAKE_MAX, HEAD_BYTES_MAX, HEAD_READ_MAX, HEADERS_MAX, LARGE_BODIES_MAX,
    MESSAGE_BYTES_MAX, SMALL_BODY_BYTES_MAX, WIRE_CONNECTIONS_MAX,
};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use muster_identity::Web;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What its peers speak.
#[derive(Clone, Debug)]
pub enum Transport {
    Tls(Web),
    /// In the clear. The caller sees to it that the listener is on loopback.
    Plain,
}

/// Accepts until `stop`, then lets what is being answered end.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    door: Arc<Door>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(WIRE_CONNECTIONS_MAX));
    let large = Arc::new(Semaphore::new(LARGE_BODIES_MAX));
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection of the ECS door");
                // Out of descriptors, most likely: some must close first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // One too many is closed at once: its sender tries again, or another manager.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (transport, stop) = (transport.clone(), stop.clone());
        let room = Room { door: door.clone(), large: large.clone() };
        connections.spawn(async move {
            if let Err(error) = connection(socket, &transport, room, stop).await {
                tracing::debug!(%peer, %error, "connection of the ECS door ended");
            }
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

/// The door, and the places for long bodies in front of it.
#[derive(Clone)]
struct Room {
    door: Arc<Door>,
    large: Arc<Semaphore>,
}

async fn connection(
    socket: TcpStream,
    transport: &Transport,
    room: Room,
    stop: CancellationToken,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match transport {
        Transport::Plain => http(socket, room, stop).await,
        Transport::Tls(web) => {
            let shaken = tokio::time::timeout(HANDSHAKE_MAX, web.accept(socket)).await;
            http(shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??, room, stop).await
        }
    }
}

async fn http<S>(stream: S, room: Room, stop: CancellationToken) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = service_fn(move |request| answer(room.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Taken::new(stream)), answering);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(io::Error::other)
}

async fn answer(
    Room { door, large }: Room,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (started, (head, body)) = (Instant::now(), request.into_parts());
    let read = async {
        let place = place(&large, &body).await;
        (place, Limited::new(body, MESSAGE_BYTES_MAX).collect().await)
    };
    let refusal = match tokio::time::timeout(BODY_READ_MAX, read).await {
        Ok((place, Ok(body))) => {
            let reply = door.answer(&head, body.to_bytes()).await;
            drop(place);
            return Ok(response(reply, door.request_id()));
        }
        Ok((_, Err(error))) if error.is::<LengthLimitError>() => {
            Refusal::too_large(MESSAGE_BYTES_MAX)
        }
        Ok((_, Err(error))) => Refusal::serialization(format!("reading the body: {error}")),
        Err(_) => Refusal::serialization("the body did not arrive in time"),
    };
    // What is left of the body is not read: the connection cannot be used again.
    let mut response = response(Door::refuse(refusal, started), door.request_id());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// A long body, or one of unknown length, waits for a place before any of it is read.
async fn place(large: &Arc<Semaphore>, body: &Incoming) -> Option<OwnedSemaphorePermit> {
    match body.size_hint().upper() {
        Some(bytes) if bytes <= SMALL_BODY_BYTES_MAX => None,
        // It is never closed.
        _ => large.clone().acquire_owned().await.ok(),
    }
}

fn response(reply: Reply, request_id: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Ok(id) = HeaderValue::try_from(request_id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
