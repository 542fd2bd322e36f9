//! The ECS wire protocol's listener: what it answers over HTTP/1.1, how much it takes, and whom it
//! cuts off.
#![allow(clippy::unwrap_used)]

mod support;

use muster_api::ecs::Trust;
use muster_api::ecs::listener::{Transport, serve};
use std::net::SocketAddr;
use std::time::Duration;
use support::Bench;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const TARGET: &str = "AmazonEC2ContainerServiceV20141113.";
const KIND: &str = "application/x-amz-json-1.1";

/// The listener in front of the door, in the clear.
async fn listening() -> (Bench, SocketAddr, CancellationToken) {
    let bench = Bench::start().await;
    let door = bench.api.ecs(Trust::Anyone);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, Transport::Plain, door, stop.clone()));
    (bench, address, stop)
}

/// Sends bytes and reads until the other side closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The other side may close before it has read all.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_over_http_is_answered_with_its_id() {
    let (_bench, address, _stop) = listening().await;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {KIND}\r\nx-amz-target: {TARGET}ListClusters\
         \r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    let answer = exchange(address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("x-amzn-requestid: "), "{answer}");
    assert!(answer.contains("content-type: application/x-amz-json-1.1"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_connection_closed() {
    let (_bench, address, _stop) = listening().await;
    let length = 5 * 1024 * 1024;
    let mut request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {KIND}\r\nx-amz-target: {TARGET}ListClusters\
         \r\ncontent-length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.resize(request.len() + length, b' ');
    let mut socket = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = socket.split();
    let send = async { drop(to.write_all(&request).await) };
    let read = async {
        let mut answer = vec![0; 4096];
        let read = from.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    let ((), answer) = tokio::join!(send, read);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("RequestEntityTooLargeException"), "{answer}");
}

/// Time is paused: it jumps to the next timer as soon as nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn peers_that_are_slow_or_silent_are_cut_off() {
    let (_bench, address, _stop) = listening().await;
    for bytes in [
        "",
        "POST / HTTP/1.1\r\nhost: x\r\nx-slow",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nnever more",
    ] {
        let ended =
            tokio::time::timeout(Duration::from_secs(600), exchange(address, bytes.as_bytes()));
        let answer = ended.await.unwrap();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{bytes}: {answer}");
    }
}

/// The same, for a peer that asks on and on and takes no answer.
#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answer_is_cut_off() {
    let (_bench, address, _stop) = listening().await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let requests = "POST / HTTP/1.1\r\n\r\n".repeat(1000);
    let asking = async { while socket.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(600), asking).await.unwrap();
}

#[tokio::test]
async fn a_thousand_idle_connections_leave_room_for_a_request() {
    let (_bench, address, _stop) = listening().await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {KIND}\r\nx-amz-target: {TARGET}ListClusters\
         \r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    let answer = exchange(address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(idle.len(), 1000);
}
