//! `muster service deployments` and `stop-deployment`: the deployments of a service as objects, and
//! how the newest of them ended.
//!
//! It decides what is shown and when a user who waits is told that it failed. What a deployment
//! does, the managers decide.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Args;
use muster_proto::pb;

#[derive(Debug, Args)]
pub struct Breaker {
    /// off; on: a deployment fails after as many failed tasks in a row as half of the service's,
    /// from 3 to 200; or another share, as 25%, or count, as 5.
    #[arg(long, value_name = "on|off|SHARE|COUNT")]
    circuit_breaker: Option<String>,
    /// A deployment that fails gives way to the last one that completed.
    #[arg(long, requires = "circuit_breaker")]
    rollback: bool,
}

impl Breaker {
    pub fn wire(&self) -> Result<Option<pb::DeploymentCircuitBreaker>, CliError> {
        let Some(text) = &self.circuit_breaker else { return Ok(None) };
        let (kind, value) = match (text.as_str(), text.strip_suffix('%')) {
            ("on" | "off", _) => ("", ""),
            (_, Some(share)) => ("BOUNDED_PERCENT", share),
            (count, None) => ("COUNT", count),
        };
        let value = match kind {
            "" => None,
            _ => Some(value.parse().map_err(|_| {
                CliError::Usage(format!(
                    "--circuit-breaker {text:?}: on, off, a share such as 25%, or a count such as 5"
                ))
            })?),
        };
        let threshold_configuration =
            value.map(|value| pb::ThresholdConfiguration { r#type: kind.into(), value });
        Ok(Some(pb::DeploymentCircuitBreaker {
            enable: text != "off",
            rollback: self.rollback,
            reset_on_healthy_task: None,
            threshold_configuration,
        }))
    }
}

/// Newest first; `number` of them at most, or all.
async fn deployments(
    context: &Context,
    service: &str,
    number: Option<usize>,
) -> Result<Vec<pb::ServiceDeploymentBrief>, CliError> {
    let mut all = Vec::new();
    let mut next_token = String::new();
    loop {
        let request = pb::ListServiceDeploymentsRequest {
            cluster: context.cluster.clone(),
            service: service.to_owned(),
            next_token,
            stale: context.stale,
            ..Default::default()
        };
        let page =
            context.ecs(request, async |mut ecs, r| ecs.list_service_deployments(r).await).await?;
        all.extend(page.service_deployments);
        if page.next_token.is_empty() || number.is_some_and(|number| all.len() >= number) {
            all.truncate(number.unwrap_or(usize::MAX));
            return Ok(all);
        }
        next_token = page.next_token;
    }
}

/// Why the newest deployment did not bring out what it should, once that is certain.
pub async fn failure(context: &Context, service: &str) -> Result<Option<String>, CliError> {
    let newest = deployments(context, service, Some(1)).await?.pop();
    Ok(newest.filter(|one| is_failure(&one.status)).map(|one| {
        let id = output::short(&one.service_deployment_arn);
        format!("deployment {id} is {}: {}", one.status, one.status_reason)
    }))
}

fn is_failure(status: &str) -> bool {
    matches!(status, "STOPPED" | "ROLLBACK_SUCCESSFUL" | "ROLLBACK_FAILED")
}

pub async fn list(context: &Context, service: &str) -> Result<(), CliError> {
    let all = deployments(context, service, None).await?;
    match context.output {
        Format::Json => output::json(&context.list("serviceDeployments", &all)),
        Format::Table => output::print(&output::table(
            &["DEPLOYMENT", "STATUS", "CREATED", "FINISHED", "REASON"],
            all.iter().map(|one| {
                vec![
                    output::short(&one.service_deployment_arn).to_owned(),
                    one.status.clone(),
                    output::time(one.created_at.as_ref()),
                    output::time(one.finished_at.as_ref()),
                    one.status_reason.clone(),
                ]
            }),
        )),
    }
}

/// The deployment that is in progress: it is always the newest.
pub async fn stop(context: &Context, service: &str, stop_type: String) -> Result<(), CliError> {
    let Some(newest) = deployments(context, service, Some(1)).await?.pop() else {
        return Err(CliError::Failed(format!("service {service} has no deployment")));
    };
    let request = pb::StopServiceDeploymentRequest {
        service_deployment_arn: newest.service_deployment_arn,
        stop_type,
        client_token: context.token(),
    };
    context.ecs(request, async |mut ecs, r| ecs.stop_service_deployment(r).await).await?;
    list(context, service).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Result<Option<pb::DeploymentCircuitBreaker>, CliError> {
        Breaker { circuit_breaker: Some(text.into()), rollback: true }.wire()
    }

    #[test]
    fn a_breaker_is_written_as_a_word_a_share_or_a_count() {
        let of = |text| {
            let breaker = wire(text).ok().flatten()?;
            let threshold = breaker.threshold_configuration;
            Some((breaker.enable, threshold.map(|t| (t.r#type, t.value))))
        };
        assert_eq!(of("on"), Some((true, None)));
        assert_eq!(of("off"), Some((false, None)));
        assert_eq!(of("25%"), Some((true, Some(("BOUNDED_PERCENT".into(), 25)))));
        assert_eq!(of("5"), Some((true, Some(("COUNT".into(), 5)))));
        for text in ["", "%", "five", "5.5", "on%"] {
            assert!(wire(text).is_err(), "{text}");
        }
        let nothing = Breaker { circuit_breaker: None, rollback: false };
        assert!(nothing.wire().is_ok_and(|wire| wire.is_none()));
    }

    #[test]
    fn only_an_end_that_is_no_success_is_a_failure() {
        let failures = ["STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"];
        assert!(failures.into_iter().all(is_failure));
        let others = ["IN_PROGRESS", "SUCCESSFUL", "ROLLBACK_IN_PROGRESS"];
        assert!(!others.into_iter().any(is_failure));
    }
}
