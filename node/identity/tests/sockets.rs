//! What arrives on the port and what happens to connections: noise, silence, crowds, endings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use muster_identity::{ConnectOptions, Connector, Error, Identity, Options};
use muster_model::Principal;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Waits until `tcp` is closed by the other side.
async fn closed(tcp: &mut TcpStream) {
    let end = async { while tcp.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} };
    timeout(DEADLINE, end).await.expect("the server must close this connection");
}

#[tokio::test]
async fn junk_on_the_port_does_not_end_the_listener() {
    let authority = authority();
    let server = Server::start(identity(&authority, &manager(1)), Options::default()).await;
    let mut seed = 1_u64;
    for round in 0..20_usize {
        let mut tcp = TcpStream::connect(&server.addr).await.unwrap();
        let junk: Vec<u8> = match round {
            0 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            // A TLS record that promises more than it may.
            2 => vec![0x16, 0x03, 0x01, 0xff, 0xff, 0x01],
            _ => (0..round * 50)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                })
                .collect(),
        };
        let _ = tcp.write_all(&junk).await;
        let _ = tcp.shutdown().await;
        closed(&mut tcp).await;
    }
    let client = Connector::new(identity(&authority, &instance()));
    call(client.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_dropped_and_holds_up_nobody() {
    let authority = authority();
    let options = Options { handshake_timeout: Duration::from_millis(300), ..Options::default() };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let mut silent = TcpStream::connect(&server.addr).await.unwrap();
    let mut slow = TcpStream::connect(&server.addr).await.unwrap();
    slow.write_all(&[0x16, 0x03]).await.unwrap();
    let client = Connector::new(identity(&authority, &instance()));
    call(client.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
    closed(&mut silent).await;
    closed(&mut slow).await;
}

#[tokio::test]
async fn a_full_house_of_silent_peers_is_cleared_and_the_next_one_is_served() {
    let authority = authority();
    let options = Options {
        handshake_timeout: Duration::from_millis(300),
        handshakes_max: 2,
        ..Options::default()
    };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(&server.addr).await.unwrap());
    }
    let client = Connector::new(identity(&authority, &instance()));
    call(client.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn handshakes_over_the_limit_wait_for_a_place() {
    let authority = authority();
    let options = Options { handshake_timeout: HOUR, handshakes_max: 1, ..Options::default() };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let silent = TcpStream::connect(&server.addr).await.unwrap();
    let client = Connector::new(identity(&authority, &instance()));
    let hurried =
        ConnectOptions { connect_timeout: Duration::from_millis(300), ..ConnectOptions::default() };
    let waiting = client.connect(&server.addr, hurried).await;
    assert!(matches!(waiting, Err(Error::Timeout { .. })), "{waiting:?}");
    drop(silent);
    call(client.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn one_connection_over_the_limit_is_refused_and_a_closed_one_makes_room() {
    let authority = authority();
    let options = Options { connections_max: 2, ..Options::default() };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let client = Connector::new(identity(&authority, &instance()));
    let first = client.connect(&server.addr, patient()).await.unwrap();
    let second = client.connect(&server.addr, patient()).await.unwrap();
    call(first.clone()).await.unwrap();
    call(second.clone()).await.unwrap();
    let third = client.connect(&server.addr, patient()).await;
    assert!(third.as_ref().is_err_and(Error::is_transient), "{third:?}");
    drop(first);
    let start = Instant::now();
    while client.connect(&server.addr, patient()).await.is_err() {
        assert!(start.elapsed() < DEADLINE, "a closed connection must make room");
    }
}

#[tokio::test]
async fn strangers_cannot_take_all_places() {
    let authority = authority();
    let options = Options { anonymous_max: 1, ..Options::default() };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let stranger = Connector::pinned(authority.digest());
    let first = stranger.connect(&server.addr, patient()).await.unwrap();
    call(first.clone()).await.unwrap();
    assert!(stranger.connect(&server.addr, patient()).await.is_err());
    let member = Connector::new(identity(&authority, &instance()));
    call(member.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
    call(first).await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate_and_the_channel_comes_back_with_the_new_one() {
    let authority = authority();
    let server = Server::start(identity(&authority, &manager(1)), Options::default()).await;
    let short = issued(&authority, &instance(), Duration::ZERO, Duration::from_secs(5));
    let theirs = Identity::from_pem(short).unwrap();
    let channel = Connector::new(theirs.clone()).connect(&server.addr, patient()).await.unwrap();
    call(channel.clone()).await.unwrap();
    let old = theirs.serial();
    theirs.replace(pem(&authority, &instance())).unwrap();

    // A call now and then, until one goes over a new connection.
    let start = Instant::now();
    loop {
        let _ = call(channel.clone()).await;
        if server.last_caller().serial != Some(old.clone()) {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "the old connection must end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.last_caller().serial, Some(theirs.serial()));
}

#[tokio::test]
async fn a_connection_without_a_certificate_does_not_last() {
    let authority = authority();
    let options = Options {
        anonymous_max: 1,
        anonymous_lifetime: Duration::from_millis(300),
        ..Options::default()
    };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let stranger = Connector::pinned(authority.digest());
    let _held = stranger.connect(&server.addr, patient()).await.unwrap();
    let start = Instant::now();
    while stranger.connect(&server.addr, patient()).await.is_err() {
        assert!(start.elapsed() < DEADLINE, "the place must become free");
    }
}

#[tokio::test]
async fn a_lazy_channel_waits_for_nobody_and_its_rpc_says_why_it_failed() {
    let authority = authority();
    let client = Connector::new(identity(&authority, &instance()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let channel = client.connect_lazy(&addr, patient()).unwrap();
    let status = call(channel.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains(&addr), "{}", status.message());
    assert!(Error::find(&status).is_some_and(Error::is_transient), "{status:?}");

    // The same channel works once somebody is there.
    let listener = TcpListener::bind(&addr).await.unwrap();
    let ours = identity(&authority, &manager(1));
    let stream = muster_identity::incoming(listener, ours, Options::default());
    let (_, service) = tonic_health::server::health_reporter();
    let router = muster_identity::server::grpc_server().add_service(service);
    let serving = tokio::spawn(router.serve_with_incoming(stream));
    call(channel).await.unwrap();
    serving.abort();
}

#[tokio::test]
async fn connecting_to_a_server_that_never_answers_ends_at_the_deadline() {
    let authority = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let client = Connector::new(identity(&authority, &instance()));
    let options =
        ConnectOptions { connect_timeout: Duration::from_millis(200), ..ConnectOptions::default() };
    let connecting = timeout(DEADLINE, client.connect(&addr, options));
    let refused = connecting.await.expect("connecting must end by itself");
    assert!(matches!(refused, Err(Error::Timeout { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_a_manager() {
    let authority = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let answer = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        closed(&mut tcp).await;
    });
    let client = Connector::new(identity(&authority, &Principal::User("ann".to_owned())));
    let told = client.connect(&addr, patient()).await.unwrap_err().to_string();
    assert!(told.contains("manager's port"), "{told}");
    answer.await.unwrap();
}

#[tokio::test]
async fn dropping_the_stream_closes_the_port_and_the_handshakes_under_way() {
    let authority = authority();
    // Long enough that only the drop can end the handshake.
    let options = Options { handshake_timeout: HOUR, ..Options::default() };
    let server = Server::start(identity(&authority, &manager(1)), options).await;
    let mut silent = TcpStream::connect(&server.addr).await.unwrap();
    let client = Connector::new(identity(&authority, &instance()));
    // Accepted in order, so the silent one is in its handshake once this one is served.
    call(client.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
    let addr = server.addr.clone();
    drop(server);
    closed(&mut silent).await;
    assert!(client.connect(&addr, patient()).await.is_err());
}
