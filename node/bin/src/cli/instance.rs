//! `muster instance`: the worker machines.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_model::Query;
use muster_proto::pb;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Container instances of the cluster.
    #[command(after_help = "Examples:\n  muster instance list\n  muster instance list --filter \
            'attribute:ecs.availability-zone == az-a and runningTasksCount < 10'")]
    List {
        /// Only those that this expression of ECS's cluster query language means.
        #[arg(long, default_value = "", hide_default_value = true)]
        filter: String,
        /// ACTIVE, DRAINING or INACTIVE; empty: all but INACTIVE.
        #[arg(long, default_value = "", hide_default_value = true)]
        status: String,
        /// Ids only, one per line.
        #[arg(long, short)]
        quiet: bool,
    },
    /// One container instance, by id (or its beginning) or ARN.
    #[command(after_help = "Example:\n  muster instance describe 4f1c20")]
    Describe { instance: String },
    /// Place nothing new on it, and move its service tasks elsewhere.
    #[command(after_help = "Example:\n  muster instance drain 4f1c20")]
    Drain { instance: String },
    /// Let tasks be placed on it again.
    #[command(after_help = "Example:\n  muster instance activate 4f1c20")]
    Activate { instance: String },
    /// Remove it from the cluster for good; its certificate is refused from then on.
    #[command(after_help = "Example:\n  muster instance deregister 4f1c20 --force")]
    Deregister {
        instance: String,
        /// Also while tasks run on it; services replace theirs elsewhere.
        #[arg(long)]
        force: bool,
    },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::List { filter, status, quiet } => {
                readable(&filter)?;
                let instances = describe(context, list(context, filter, status).await?).await?;
                if quiet {
                    let ids = instances.iter().map(|i| output::short(&i.container_instance_arn));
                    return output::print(&ids.fold(String::new(), |all, id| all + id + "\n"));
                }
                show(context, &instances)
            }
            Self::Describe { instance } => {
                let instances = describe(context, vec![instance]).await?;
                match context.output {
                    Format::Json => show(context, &instances),
                    Format::Table => instances.iter().try_for_each(facts),
                }
            }
            Self::Drain { instance } => set_status(context, instance, "DRAINING").await,
            Self::Activate { instance } => set_status(context, instance, "ACTIVE").await,
            Self::Deregister { instance, force } => {
                let request = pb::DeregisterContainerInstanceRequest {
                    cluster: context.cluster.clone(),
                    container_instance: instance,
                    force,
                    client_token: context.token(),
                };
                let answer = context
                    .ecs(request, async |mut ecs, r| ecs.deregister_container_instance(r).await);
                show(context, &answer.await?.container_instance.into_iter().collect::<Vec<_>>())
            }
        }
    }
}

/// Here as well as there: only here can the column be pointed at.
fn readable(filter: &str) -> Result<(), CliError> {
    match Query::parse(filter) {
        Err(error) if !filter.is_empty() => {
            Err(CliError::Usage(format!("--filter, {error}\n{}", error.caret(filter))))
        }
        _ => Ok(()),
    }
}

async fn list(context: &Context, filter: String, status: String) -> Result<Vec<String>, CliError> {
    let mut arns = Vec::new();
    let mut next_token = String::new();
    loop {
        let request = pb::ListContainerInstancesRequest {
            cluster: context.cluster.clone(),
            filter: filter.clone(),
            status: status.clone(),
            next_token,
            stale: context.stale,
            ..Default::default()
        };
        let page =
            context.ecs(request, async |mut ecs, r| ecs.list_container_instances(r).await).await?;
        arns.extend(page.container_instance_arns);
        if page.next_token.is_empty() {
            return Ok(arns);
        }
        next_token = page.next_token;
    }
}

async fn describe(
    context: &Context,
    names: Vec<String>,
) -> Result<Vec<pb::ContainerInstance>, CliError> {
    let mut instances = Vec::new();
    for names in names.chunks(100) {
        let request = pb::DescribeContainerInstancesRequest {
            cluster: context.cluster.clone(),
            container_instances: names.to_vec(),
            include: vec!["TAGS".into()],
            stale: context.stale,
        };
        let answer = context
            .ecs(request, async |mut ecs, r| ecs.describe_container_instances(r).await)
            .await?;
        context.check("container instance", &answer.failures)?;
        instances.extend(answer.container_instances);
    }
    Ok(instances)
}

async fn set_status(context: &Context, instance: String, status: &str) -> Result<(), CliError> {
    let request = pb::UpdateContainerInstancesStateRequest {
        cluster: context.cluster.clone(),
        container_instances: vec![instance],
        status: status.into(),
        client_token: context.token(),
    };
    let answer = context
        .ecs(request, async |mut ecs, r| ecs.update_container_instances_state(r).await)
        .await?;
    context.check("container instance", &answer.failures)?;
    show(context, &answer.container_instances)
}

/// "left of total", for a resource by ECS's name.
fn amount(instance: &pb::ContainerInstance, name: &str) -> String {
    let find = |all: &[pb::InstanceResource]| {
        // GPUs are listed by their ids.
        let units = |r: &pb::InstanceResource| match r.r#type.as_str() {
            "STRINGSET" => r.string_set_value.len().to_string(),
            _ => r.integer_value.to_string(),
        };
        all.iter().find(|r| r.name == name).map_or("0".to_owned(), units)
    };
    format!("{}/{}", find(&instance.remaining_resources), find(&instance.registered_resources))
}

fn show(context: &Context, instances: &[pb::ContainerInstance]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("containerInstances", instances)),
        Format::Table => output::print(&output::table(
            &["ID", "HOST", "ZONE", "STATUS", "AGENT", "RUNNING", "CPU FREE", "MIB FREE"],
            instances.iter().map(|i| {
                vec![
                    output::short(&i.container_instance_arn).to_owned(),
                    i.ec2_instance_id.clone(),
                    i.availability_zone.clone(),
                    i.status.clone(),
                    if i.agent_connected { "connected" } else { "lost" }.into(),
                    i.running_tasks_count.to_string(),
                    amount(i, "CPU"),
                    amount(i, "MEMORY"),
                ]
            }),
        )),
    }
}

fn facts(instance: &pb::ContainerInstance) -> Result<(), CliError> {
    let attributes: Vec<String> = instance
        .attributes
        .iter()
        .map(|a| a.value.as_ref().map_or(a.name.clone(), |v| format!("{}={v}", a.name)))
        .collect();
    let named = instance.registered_resources.iter().map(|r| r.name.as_str());
    let named = named.filter(|name| !["CPU", "MEMORY", "PORTS", "PORTS_UDP"].contains(name));
    let named: Vec<String> =
        named.map(|name| format!("{name} {}", amount(instance, name))).collect();
    output::print(&output::facts(&[
        ("id", output::short(&instance.container_instance_arn).to_owned()),
        ("arn", instance.container_instance_arn.clone()),
        ("host", instance.ec2_instance_id.clone()),
        ("address", instance.address.clone()),
        ("zone", instance.availability_zone.clone()),
        ("status", instance.status.clone()),
        ("agent", if instance.agent_connected { "connected" } else { "lost" }.into()),
        ("running tasks", instance.running_tasks_count.to_string()),
        ("cpu free", amount(instance, "CPU")),
        ("memory MiB free", amount(instance, "MEMORY")),
        ("resources free", named.join(", ")),
        ("attributes", attributes.join(", ")),
        ("agent version", instance.version_info.clone().unwrap_or_default().agent_version),
        ("registered", output::time(instance.registered_at.as_ref())),
    ]))
}
