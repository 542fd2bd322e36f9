//! `muster service deployments`, `revisions`, `stop-deployment`, `pause` and `continue`: the
//! deployments of a service as objects, what they run, how far the newest has come, how it ended.
//!
//! It decides what is shown and when a user who waits is told that it failed. What a deployment
//! does, the managers decide.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use super::strategy::Strategy;
use clap::{Args, Subcommand};
use muster_proto::pb;
use muster_proto::pb::ecs_client::EcsClient;
use muster_proto::pb::live_client::LiveClient;
use tonic::transport::Channel;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Its deployments, the newest first, and how they ended.
    #[command(after_help = "Example:\n  muster service deployments web")]
    Deployments { name: String },
    /// What each of its deployments runs: which images, and the digests that their tags came to.
    #[command(after_help = "Example:\n  muster service revisions web")]
    Revisions { name: String },
    /// Stop the deployment that is in progress and go back to the last one that completed.
    #[command(
        visible_alias = "rollback",
        after_help = "Examples:\n  muster service rollback web\n  \
            muster service stop-deployment web --stop-type ABORT"
    )]
    StopDeployment {
        name: String,
        /// ROLLBACK, or ABORT: it goes no further, and nothing comes back.
        #[arg(long, default_value = "ROLLBACK")]
        stop_type: String,
    },
    /// Hold the deployment that is in progress where it is: it takes nobody's place and shifts no
    /// traffic, and no bake time or hook runs out, until it is continued.
    #[command(after_help = "Example:\n  muster service pause web")]
    Pause { name: String },
    /// Let the deployment that is in progress go on: from a pause, or from the hook it waits at.
    #[command(after_help = "Examples:\n  muster service continue web\n  \
        muster service continue web --action ROLLBACK")]
    Continue {
        name: String,
        /// CONTINUE, or ROLLBACK: back to the last deployment that completed.
        #[arg(long, default_value = "CONTINUE")]
        action: String,
        /// Only this hook, or `pause`; else whatever it waits for.
        #[arg(long, default_value = "", hide_default_value = true)]
        hook_id: String,
    },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Deployments { name } => list(context, &name).await,
            Self::Revisions { name } => revisions(context, &name).await,
            Self::StopDeployment { name, stop_type } => stop(context, &name, stop_type).await,
            Self::Pause { name } => pause(context, &name).await,
            Self::Continue { name, action, hook_id } => {
                resume(context, &name, action, hook_id).await
            }
        }
    }
}

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

#[derive(Debug, Args)]
pub struct Alarms {
    /// A deployment fails when this alarm gets into ALARM; see `muster alarm`. May be said again;
    /// none: no alarm any more.
    #[arg(long = "alarm", value_name = "NAME")]
    alarms: Vec<String>,
    /// A deployment that fails by an alarm gives way to the last one that completed.
    #[arg(long, requires = "alarms")]
    alarm_rollback: bool,
}

impl Alarms {
    pub fn wire(&self) -> Option<pb::DeploymentAlarms> {
        match self.alarms.as_slice() {
            [] => None,
            [none] if none == "none" => Some(pb::DeploymentAlarms::default()),
            names => Some(pb::DeploymentAlarms {
                alarm_names: names.to_vec(),
                enable: true,
                rollback: self.alarm_rollback,
            }),
        }
    }
}

/// How a new definition takes the place of the one before it.
#[derive(Debug, Args)]
pub struct Rollout {
    /// Percent of the desired count that keeps running during a deployment.
    #[arg(long)]
    minimum_healthy_percent: Option<i32>,
    /// Percent of the desired count that may exist during a deployment.
    #[arg(long)]
    maximum_percent: Option<i32>,
    #[command(flatten)]
    breaker: Breaker,
    #[command(flatten)]
    alarms: Alarms,
    #[command(flatten)]
    strategy: Strategy,
}

impl Rollout {
    pub fn configuration(&self) -> Result<Option<pb::DeploymentConfiguration>, CliError> {
        let configuration = pb::DeploymentConfiguration {
            minimum_healthy_percent: self.minimum_healthy_percent,
            maximum_percent: self.maximum_percent,
            deployment_circuit_breaker: self.breaker.wire()?,
            alarms: self.alarms.wire(),
            ..self.strategy.wire()?
        };
        let nothing = pb::DeploymentConfiguration::default();
        Ok(Some(configuration).filter(|configuration| *configuration != nothing))
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

/// As objects of their own.
async fn described<'a>(
    context: &Context,
    briefs: impl Iterator<Item = &'a pb::ServiceDeploymentBrief>,
) -> Result<Vec<pb::ServiceDeployment>, CliError> {
    let arns: Vec<String> = briefs.map(|one| one.service_deployment_arn.clone()).collect();
    let mut found = Vec::new();
    // ECS: twenty deployments per call.
    for arns in arns.chunks(20) {
        let request = pb::DescribeServiceDeploymentsRequest {
            service_deployment_arns: arns.to_vec(),
            stale: context.stale,
        };
        let call = async |mut ecs: EcsClient<Channel>, r| ecs.describe_service_deployments(r).await;
        found.extend(context.ecs(request, call).await?.service_deployments);
    }
    Ok(found)
}

/// Where one that shifts traffic stands, and what it waits for.
fn progress(one: &pb::ServiceDeployment) -> (String, String) {
    let hooks: Vec<&str> =
        one.lifecycle_hook_details.iter().map(|hook| hook.hook_id.as_str()).collect();
    let stage = match (one.lifecycle_stage.as_str(), hooks.is_empty()) {
        (stage, true) => stage.to_owned(),
        ("", false) => format!("waits: {}", hooks.join(", ")),
        (stage, false) => format!("{stage} (waits: {})", hooks.join(", ")),
    };
    let target = one.target_service_revision.as_ref();
    let weight = target.and_then(|target| target.requested_production_traffic_weight);
    (stage, weight.map(|weight| format!("{weight}%")).unwrap_or_default())
}

async fn list(context: &Context, service: &str) -> Result<(), CliError> {
    let all = deployments(context, service, None).await?;
    if context.output == Format::Json {
        let described = described(context, all.iter()).await?;
        return output::json(&context.list("serviceDeployments", &described));
    }
    // Only one goes on, or one and what it is rolled back to.
    let going = all.iter().filter(|one| one.status == "IN_PROGRESS");
    let going = described(context, going).await?;
    let of = |arn: &str| going.iter().find(|one| one.service_deployment_arn == arn).map(progress);
    output::print(&output::table(
        &["DEPLOYMENT", "STATUS", "STAGE", "TRAFFIC", "CREATED", "FINISHED", "REASON"],
        all.iter().map(|one| {
            let (stage, traffic) = of(&one.service_deployment_arn).unwrap_or_default();
            vec![
                output::short(&one.service_deployment_arn).to_owned(),
                one.status.clone(),
                stage,
                traffic,
                output::time(one.created_at.as_ref()),
                output::time(one.finished_at.as_ref()),
                one.status_reason.clone(),
            ]
        }),
    ))
}

/// What the deployments bring out, the newest first.
async fn revisions(context: &Context, service: &str) -> Result<(), CliError> {
    let all = deployments(context, service, None).await?;
    let arns: Vec<String> = all.into_iter().map(|one| one.target_service_revision_arn).collect();
    let mut found = Vec::new();
    // ECS: twenty revisions per call.
    for arns in arns.chunks(20) {
        let request = pb::DescribeServiceRevisionsRequest {
            service_revision_arns: arns.to_vec(),
            stale: context.stale,
        };
        let call = async |mut ecs: EcsClient<Channel>, r| ecs.describe_service_revisions(r).await;
        found.extend(context.ecs(request, call).await?.service_revisions);
    }
    if context.output == Format::Json {
        return output::json(&context.list("serviceRevisions", &found));
    }
    let row = |revision: &pb::ServiceRevision, image: &pb::ContainerImage| {
        vec![
            output::short(&revision.service_revision_arn).to_owned(),
            output::short(&revision.task_definition).to_owned(),
            output::time(revision.created_at.as_ref()),
            image.container_name.clone(),
            image.image.clone(),
            image.image_digest.clone(),
        ]
    };
    output::print(&output::table(
        &["REVISION", "TASK DEFINITION", "CREATED", "CONTAINER", "IMAGE", "DIGEST"],
        found.iter().flat_map(|one| one.container_images.iter().map(move |image| row(one, image))),
    ))
}

/// The deployment that is in progress: it is always the newest.
async fn newest(context: &Context, service: &str) -> Result<String, CliError> {
    let newest = deployments(context, service, Some(1)).await?.pop();
    let none = || CliError::Failed(format!("service {service} has no deployment"));
    newest.map(|one| one.service_deployment_arn).ok_or_else(none)
}

async fn stop(context: &Context, service: &str, stop_type: String) -> Result<(), CliError> {
    let request = pb::StopServiceDeploymentRequest {
        service_deployment_arn: newest(context, service).await?,
        stop_type,
        client_token: context.token(),
    };
    context.ecs(request, async |mut ecs, r| ecs.stop_service_deployment(r).await).await?;
    list(context, service).await
}

async fn pause(context: &Context, service: &str) -> Result<(), CliError> {
    let request = pb::PauseServiceDeploymentRequest {
        service_deployment_arn: newest(context, service).await?,
        client_token: context.token(),
    };
    let call = async |mut live: LiveClient<Channel>, r| live.pause_service_deployment(r).await;
    context.ask_live(request, call).await?;
    list(context, service).await
}

async fn resume(
    context: &Context,
    service: &str,
    action: String,
    hook_id: String,
) -> Result<(), CliError> {
    let request = pb::ContinueServiceDeploymentRequest {
        service_deployment_arn: newest(context, service).await?,
        hook_id,
        action,
        client_token: context.token(),
    };
    context.ecs(request, async |mut ecs, r| ecs.continue_service_deployment(r).await).await?;
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
