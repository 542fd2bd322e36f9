//! What grpcurl does first, without any files: asks a manager's reflection which services it has,
//! then its health, and prints one line each.
//!
//! reflect IDENTITY_DIR MANAGER

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_identity::{ConnectOptions, Connector, Identity};
use std::error::Error;
use std::path::Path;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [identity, manager] = &words[..] else {
        return Err("usage: reflect IDENTITY_DIR MANAGER".into());
    };
    let connector = Connector::new(Identity::load(Path::new(identity))?);
    let channel = connector.connect(manager, ConnectOptions::default()).await?;

    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("muster.v1.Ecs.RunTask".into())),
    ]);
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut answers = reflection.server_reflection_info(requests).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.iter().for_each(|service| println!("service {}", service.name));
            }
            Some(MessageResponse::FileDescriptorResponse(files)) => {
                println!("files {}", files.file_descriptor_proto.len());
            }
            other => return Err(format!("an answer without use: {other:?}").into()),
        }
    }

    let service = String::from("muster.v1.Ecs");
    let health = HealthClient::new(channel).check(HealthCheckRequest { service }).await?;
    println!("health {:?}", health.into_inner().status());
    Ok(())
}
