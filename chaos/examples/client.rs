//! A program that uses a cluster from Rust: `muster-proto`'s retrying client over mTLS from
//! `muster-identity`. It creates services one after the other, each twice with one client token,
//! and prints one line per service; a failover in between shows only as a pause.
//!
//! client IDENTITY_DIR MANAGER,MANAGER,... TASK_DEFINITION PREFIX COUNT

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_identity::{ConnectOptions, Connector, Identity};
use muster_proto::client::Client;
use muster_proto::pb::ecs_client::EcsClient;
use muster_proto::pb::{CreateServiceRequest, Service};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one service may take, failovers included.
const CALL_WAIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [identity, managers, definition, prefix, count] = &words[..] else {
        return Err("usage: client IDENTITY_DIR MANAGERS TASK_DEFINITION PREFIX COUNT".into());
    };
    let connector = Connector::new(Identity::load(Path::new(identity))?);
    let dial = move |address: &str| {
        let options =
            ConnectOptions { connect_timeout: Duration::from_secs(1), ..ConnectOptions::default() };
        connector.connect_lazy(address, options).map_err(|error| error.to_string())
    };
    let managers = managers.split(',').map(str::to_owned).collect();
    let client = Client::new(managers, Arc::new(dial))?;
    for number in 1..=count.parse::<u32>()? {
        let request = CreateServiceRequest {
            service_name: format!("{prefix}-{number}"),
            task_definition: definition.clone(),
            client_token: client.fresh_token(),
            ..CreateServiceRequest::default()
        };
        let first = create(&client, request.clone()).await?;
        // The same request again: the same answer, and no second effect.
        let second = create(&client, request).await?;
        assert_eq!(first.service_arn, second.service_arn, "a repeat is answered like the first");
        println!("{}", first.service_arn);
    }
    Ok(())
}

async fn create(client: &Client, request: CreateServiceRequest) -> Result<Service, Box<dyn Error>> {
    let deadline = Instant::now() + CALL_WAIT;
    let answer = client
        .call_write(request, deadline, async |channel, request| {
            EcsClient::new(channel).create_service(request).await
        })
        .await?;
    answer.service.ok_or_else(|| "the answer names no service".into())
}
