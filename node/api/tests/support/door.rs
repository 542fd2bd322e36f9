//! The ECS wire protocol's door of a bench: one where any credentials do, and signed requests.

use super::Bench;
use muster_api::ecs::{Door, Trust};
use muster_model::Time;
use serde_json::Value;
use std::sync::Arc;

pub const TARGET: &str = "AmazonEC2ContainerServiceV20141113.";
pub const KIND: &str = "application/x-amz-json-1.1";
/// When the bench's clock starts.
pub const START: Time = Time(2_000_000);

pub async fn open() -> (Bench, Arc<Door>) {
    let bench = Bench::start().await;
    let door = bench.api.ecs(Trust::Anyone);
    (bench, door)
}

pub fn head(operation: &str) -> http::request::Builder {
    http::Request::post("/")
        .header("content-type", KIND)
        .header("x-amz-target", format!("{TARGET}{operation}"))
}

/// The status and the body that a request is answered with.
pub async fn send_head(door: &Door, head: http::request::Builder, body: &str) -> (u16, Value) {
    let (head, ()) = head.body(()).unwrap().into_parts();
    let reply = door.answer(&head, body.to_owned().into()).await;
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap())
}

pub async fn send(door: &Door, operation: &str, body: &Value) -> (u16, Value) {
    send_head(door, head(operation), &body.to_string()).await
}

/// The exception and the message that a request is refused with.
pub async fn refused(door: &Door, head: http::request::Builder, body: &str) -> (String, String) {
    let (status, answer) = send_head(door, head, body).await;
    assert_ne!(status, 200, "{answer}");
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("__type"), text("message"))
}

/// What a request is signed with.
#[derive(Clone)]
pub struct Key<'a> {
    pub id: &'a str,
    pub secret: &'a str,
    pub token: Option<&'a str>,
    pub region: &'a str,
}

impl<'a> Key<'a> {
    pub fn new(id: &'a str, secret: &'a str) -> Self {
        Self { id, secret, token: None, region: "local" }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The head of a request over `body`, signed on the first day of 1970 (AWS Signature Version 4).
pub fn signed(operation: &str, body: &str, at: Time, key: &Key<'_>) -> http::request::Builder {
    let mac = |key: &[u8], text: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        ring::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let sha256 =
        |text: &str| hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    let Key { id, secret, token, region } = key;
    let seconds = at.0 / 1000;
    assert!(seconds < 86_400, "the first day");
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let stamp = format!("19700101T{hours:02}{minutes:02}{:02}Z", seconds % 60);
    let (name, line) = match token {
        Some(token) => (";x-amz-security-token", format!("x-amz-security-token:{token}\n")),
        None => ("", String::new()),
    };
    let names = format!("host;x-amz-date{name};x-amz-target");
    let canonical = format!(
        "POST\n/\n\nhost:m1\nx-amz-date:{stamp}\n{line}x-amz-target:{TARGET}{operation}\n\n\
         {names}\n{}",
        sha256(body)
    );
    let scope = format!("19700101/{region}/ecs/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256(&canonical));
    let parts = ["19700101", region, "ecs", "aws4_request", text.as_str()];
    let first = format!("AWS4{secret}").into_bytes();
    let signature = hex(&parts.iter().fold(first, |key, part| mac(&key, part)));
    let head = head(operation).header("host", "m1").header("x-amz-date", stamp).header(
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
        ),
    );
    match token {
        Some(token) => head.header("x-amz-security-token", *token),
        None => head,
    }
}
