//! A program that uses a cluster through Amazon's SDK for Rust, unmodified: one RunTask after the
//! other, each answered or repeated by the SDK itself with the client token it made for the call.
//! One line per task.
//!
//! ecs_sdk FAMILY COUNT, with AWS_ENDPOINT_URL_ECS, AWS_CA_BUNDLE, AWS_REGION and keys as for `aws`

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::timeout::TimeoutConfig;
use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use std::error::Error;
use std::time::Duration;

/// More attempts than an impatient program makes: a failover takes about half a second.
const ATTEMPTS: u32 = 8;
/// For one attempt: one whose answer was lost with a manager is repeated.
const ATTEMPT_WAIT: Duration = Duration::from_secs(10);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// HTTPS that trusts the cluster's own authority only.
fn trusting(ca_bundle: &str) -> Result<SharedHttpClient, Box<dyn Error>> {
    let authority = TrustStore::empty().with_pem_certificate(std::fs::read(ca_bundle)?);
    let context = TlsContext::builder().with_trust_store(authority).build()?;
    let tls = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context);
    Ok(tls.build_https())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [family, count] = &words[..] else { return Err("usage: ecs_sdk FAMILY COUNT".into()) };
    let (id, secret) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(variable("AWS_ENDPOINT_URL_ECS"))
        .region(Region::new(variable("AWS_REGION")))
        .credentials_provider(Credentials::new(id, secret, None, None, "environment"))
        .http_client(trusting(&variable("AWS_CA_BUNDLE"))?)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_WAIT).build());
    let client = aws_sdk_ecs::Client::from_conf(config.build());
    for _ in 0..count.parse::<u32>()? {
        let answer = client.run_task().task_definition(family).send().await?;
        if let Some(failure) = answer.failures().first() {
            return Err(format!("a task was not placed: {failure:?}").into());
        }
        for task in answer.tasks() {
            println!("{}", task.task_arn().unwrap_or_default());
        }
    }
    Ok(())
}
