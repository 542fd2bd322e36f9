//! The ECS wire protocol's door of a bench, where any credentials do.

use super::Bench;
use muster_api::ecs::{Door, Trust};
use serde_json::Value;
use std::sync::Arc;

pub async fn open() -> (Bench, Arc<Door>) {
    let bench = Bench::start().await;
    let door = bench.api.ecs(Trust::Anyone);
    (bench, door)
}

/// The status and the body that a request is answered with.
pub async fn send(door: &Door, operation: &str, body: &Value) -> (u16, Value) {
    let head = http::Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("AmazonEC2ContainerServiceV20141113.{operation}"));
    let (head, ()) = head.body(()).unwrap().into_parts();
    let reply = door.answer(&head, body.to_string().into()).await;
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap())
}
