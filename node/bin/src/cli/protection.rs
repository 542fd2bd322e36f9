//! `muster task protect`, `unprotect`, `protected`: tasks that neither scaling in nor a deployment
//! may stop.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::{Args, Subcommand};
use muster_proto::pb;
use muster_proto::pb::ecs_client::EcsClient;
use tonic::transport::Channel;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep tasks of services from scaling in and from deployments, for a time; a drained instance
    /// is emptied all the same.
    #[command(after_help = "Example:\n  muster task protect 7d2f01 --minutes 90")]
    Protect(Protect),
    /// End the protection of tasks.
    #[command(after_help = "Example:\n  muster task unprotect 7d2f01")]
    Unprotect {
        #[arg(required = true)]
        tasks: Vec<String>,
    },
    /// Tasks that are protected, and until when.
    #[command(after_help = "Example:\n  muster task protected")]
    Protected,
}

#[derive(Debug, Args)]
pub struct Protect {
    /// Ids (or their beginnings) or ARNs, at most 10.
    #[arg(required = true)]
    tasks: Vec<String>,
    /// 1 to 2880 from now on.
    #[arg(long, default_value_t = 120, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(1..=2880))]
    minutes: i32,
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Protect(Protect { tasks, minutes }) => {
                change(context, tasks, true, Some(minutes)).await
            }
            Self::Unprotect { tasks } => change(context, tasks, false, None).await,
            Self::Protected => {
                let request = pb::GetTaskProtectionRequest {
                    cluster: context.cluster.clone(),
                    stale: context.stale,
                    ..Default::default()
                };
                let call = async |mut ecs: EcsClient<Channel>, r| ecs.get_task_protection(r).await;
                show(context, &context.ecs(request, call).await?.protected_tasks)
            }
        }
    }
}

async fn change(
    context: &Context,
    tasks: Vec<String>,
    protection_enabled: bool,
    expires_in_minutes: Option<i32>,
) -> Result<(), CliError> {
    let request = pb::UpdateTaskProtectionRequest {
        cluster: context.cluster.clone(),
        tasks,
        protection_enabled,
        expires_in_minutes,
        client_token: context.token(),
    };
    let call = async |mut ecs: EcsClient<Channel>, r| ecs.update_task_protection(r).await;
    let answer = context.ecs(request, call).await?;
    show(context, &answer.protected_tasks)?;
    context.check("task", &answer.failures)
}

fn show(context: &Context, tasks: &[pb::ProtectedTask]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("protectedTasks", tasks)),
        Format::Table => output::print(&output::table(
            &["TASK", "PROTECTED", "UNTIL"],
            tasks.iter().map(|task| {
                let protected = if task.protection_enabled { "yes" } else { "no" };
                vec![
                    output::short(&task.task_arn).to_owned(),
                    protected.to_owned(),
                    output::time(task.expiration_date.as_ref()),
                ]
            }),
        )),
    }
}
