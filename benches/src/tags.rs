//! The write that is measured: TagResource on a service without tasks, a real rpc of a real row.

use crate::Outcome;
use crate::local::{self, Local};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::time::Duration;
use tonic::transport::Channel;

/// Bytes of a written value.
pub const VALUE_BYTES: usize = 256;
const KEY: &str = "bench";

/// Makes services without tasks; their ARNs.
///
/// # Errors
/// The cluster refuses.
pub async fn services(local: &Local, count: usize) -> Outcome<Vec<String>> {
    let mut ecs = EcsClient::new(local.channel(&local::address(local.leader().await?))?);
    let container = pb::ContainerDefinition {
        name: "main".into(),
        image: "none".into(),
        memory: Some(16),
        ..Default::default()
    };
    ecs.register_task_definition(pb::RegisterTaskDefinitionRequest {
        family: "bench".into(),
        container_definitions: vec![container],
        ..Default::default()
    })
    .await?;
    let mut arns = Vec::with_capacity(count);
    for n in 0..count {
        let request = pb::CreateServiceRequest {
            service_name: format!("bench-{n}"),
            task_definition: "bench".into(),
            ..Default::default()
        };
        let answer = ecs.create_service(request).await?.into_inner();
        arns.push(answer.service.unwrap_or_default().service_arn);
    }
    Ok(arns)
}

/// A number in [`VALUE_BYTES`] digits.
pub fn padded(n: u64) -> String {
    let digits = n.to_string();
    let mut value = "0".repeat(VALUE_BYTES.saturating_sub(digits.len()));
    value.push_str(&digits);
    value
}

/// The request that writes `n`, padded to [`VALUE_BYTES`].
pub fn write(arn: &str, n: u64) -> pb::TagResourceRequest {
    pb::TagResourceRequest {
        resource_arn: arn.to_owned(),
        tags: vec![pb::Tag { key: KEY.into(), value: padded(n) }],
        client_token: String::new(),
    }
}

/// Writes once, at the manager at the other end of this channel.
///
/// # Errors
/// What the manager said, as text.
pub async fn write_at(
    channel: Channel,
    request: pb::TagResourceRequest,
    limit: Duration,
) -> Result<(), String> {
    let mut request = tonic::Request::new(request);
    request.set_timeout(limit);
    let answer = EcsClient::new(channel).tag_resource(request).await;
    answer.map(|_| ()).map_err(|status| status.to_string())
}

/// What was written last.
///
/// # Errors
/// The row cannot be read.
pub async fn read(channel: Channel, arn: &str) -> Outcome<u64> {
    let request =
        pb::ListTagsForResourceRequest { resource_arn: arn.to_owned(), ..Default::default() };
    let tags = EcsClient::new(channel).list_tags_for_resource(request).await?.into_inner().tags;
    match tags.iter().find(|tag| tag.key == KEY) {
        Some(tag) => Ok(tag.value.parse()?),
        None => Ok(0),
    }
}
