//! `muster task-set`: the revisions of a service that somebody else deploys.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::{Args, Subcommand};
use muster_proto::pb;
use muster_proto::pb::ecs_client::EcsClient;
use tonic::transport::Channel;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start another revision of the service beside the others.
    #[command(
        after_help = "Example:\n  muster service create shop --external --desired-count 6\n  \
        muster task-set create shop --task-definition shop:1 --scale 100\n  \
        muster task-set set-primary shop ecs-svc/1234567890123456789"
    )]
    Create(Create),
    /// Task sets of a service, the newest first.
    #[command(after_help = "Example:\n  muster task-set list shop")]
    List { service: String },
    /// Give a set another share of its service's desired count.
    #[command(after_help = "Example:\n  muster task-set scale shop \
        ecs-svc/1234567890123456789 50")]
    Scale {
        service: String,
        /// Its id, as `list` shows it, or its ARN.
        set: String,
        /// Percent, 0 to 100; rounded up to whole tasks.
        percent: f64,
    },
    /// Say which set serves production traffic.
    #[command(after_help = "Example:\n  muster task-set set-primary shop \
        ecs-svc/1234567890123456789")]
    SetPrimary { service: String, set: String },
    /// Stop a set's tasks and remove it.
    #[command(after_help = "Example:\n  muster task-set delete shop \
        ecs-svc/1234567890123456789 --force")]
    Delete {
        service: String,
        set: String,
        /// Also while its scale is above 0.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    service: String,
    /// family or family:revision.
    #[arg(long)]
    task_definition: String,
    /// Percent of the service's desired count, 0 to 100.
    #[arg(long, default_value_t = 100.0)]
    scale: f64,
    /// What your deploy system calls it.
    #[arg(long, default_value = "", hide_default_value = true)]
    external_id: String,
}

fn scale(percent: f64) -> Option<pb::Scale> {
    Some(pb::Scale { value: percent, unit: "PERCENT".into() })
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let (cluster, client_token) = (context.cluster.clone(), context.token());
        let set = match self {
            Self::List { service } => return list(context, service).await,
            Self::Create(create) => {
                let request = pb::CreateTaskSetRequest {
                    cluster,
                    service: create.service,
                    task_definition: create.task_definition,
                    external_id: create.external_id,
                    scale: scale(create.scale),
                    client_token,
                    ..Default::default()
                };
                let answer = context.ecs(request, async |mut ecs, r| ecs.create_task_set(r).await);
                answer.await?.task_set
            }
            Self::Scale { service, set: task_set, percent } => {
                let scale = scale(percent);
                let request =
                    pb::UpdateTaskSetRequest { cluster, service, task_set, scale, client_token };
                let answer = context.ecs(request, async |mut ecs, r| ecs.update_task_set(r).await);
                answer.await?.task_set
            }
            Self::SetPrimary { service, set: primary_task_set } => {
                let request = pb::UpdateServicePrimaryTaskSetRequest {
                    cluster,
                    service,
                    primary_task_set,
                    client_token,
                };
                let call = async |mut ecs: EcsClient<Channel>, r| {
                    ecs.update_service_primary_task_set(r).await
                };
                context.ecs(request, call).await?.task_set
            }
            Self::Delete { service, set: task_set, force } => {
                let request =
                    pb::DeleteTaskSetRequest { cluster, service, task_set, force, client_token };
                let answer = context.ecs(request, async |mut ecs, r| ecs.delete_task_set(r).await);
                answer.await?.task_set
            }
        };
        show(context, &set.into_iter().collect::<Vec<_>>())
    }
}

async fn list(context: &Context, service: String) -> Result<(), CliError> {
    let request = pb::DescribeTaskSetsRequest {
        cluster: context.cluster.clone(),
        service,
        include: vec!["TAGS".into()],
        stale: context.stale,
        ..Default::default()
    };
    let answer = context.ecs(request, async |mut ecs, r| ecs.describe_task_sets(r).await).await?;
    show(context, &answer.task_sets)
}

fn show(context: &Context, sets: &[pb::TaskSet]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("taskSets", sets)),
        Format::Table => output::print(&table(sets)),
    }
}

pub(super) fn table(sets: &[pb::TaskSet]) -> String {
    output::table(
        &["TASK SET", "STATUS", "TASK DEFINITION", "SCALE", "DESIRED", "RUNNING", "STABILITY"],
        sets.iter().map(|set| {
            vec![
                set.id.clone(),
                set.status.clone(),
                output::short(&set.task_definition).to_owned(),
                set.scale.as_ref().map_or(String::new(), |scale| format!("{}%", scale.value)),
                set.computed_desired_count.to_string(),
                set.running_count.to_string(),
                set.stability_status.clone(),
            ]
        }),
    )
}
