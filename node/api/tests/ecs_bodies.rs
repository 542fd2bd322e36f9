//! Long bodies at the ECS wire protocol's listener: few at a time, and never in the way of others.
#![allow(clippy::unwrap_used)]

mod support;

use muster_api::ecs::Trust;
use muster_api::ecs::listener::{Transport, serve};
use muster_api::limits::{LARGE_BODIES_MAX, SMALL_BODY_BYTES_MAX};
use std::net::SocketAddr;
use support::Bench;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A request that asks before it sends its body, which hyper answers when that is read.
async fn begin(address: SocketAddr, length: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-amz-json-1.1\r\nx-amz-target: \
         AmazonEC2ContainerServiceV20141113.ListClusters\r\nexpect: 100-continue\r\n\
         connection: close\r\n{length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

async fn goes_on(socket: &mut TcpStream) {
    let mut answer = [0; 25];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
}

async fn end(mut socket: TcpStream, body: &[u8]) -> String {
    socket.write_all(body).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn long_bodies_wait_for_a_place_and_short_ones_do_not() {
    let bench = Bench::start().await;
    let door = bench.api.ecs(Trust::Anyone);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Transport::Plain, door, CancellationToken::new()));

    let long = usize::try_from(SMALL_BODY_BYTES_MAX).unwrap() + 1;
    let mut taken = Vec::new();
    for number in 0..LARGE_BODIES_MAX {
        // A length that is not told may be any.
        let told = format!("content-length: {long}");
        let length = if number == 0 { "transfer-encoding: chunked" } else { &told };
        let mut socket = begin(address, length).await;
        goes_on(&mut socket).await;
        taken.push(socket);
    }
    let mut late = begin(address, &format!("content-length: {long}")).await;
    let mut short = begin(address, "content-length: 2").await;
    goes_on(&mut short).await;
    assert!(end(short, b"{}").await.contains("200 OK"), "short bodies go on");
    let nothing = late.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "no place, no word");

    drop(taken.pop());
    goes_on(&mut late).await;
    let mut body = vec![b' '; long];
    body[0] = b'{';
    body[long - 1] = b'}';
    assert!(end(late, &body).await.contains("200 OK"));
}
