//! `muster cluster`: groups of container instances and what runs on them.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_model::cluster::ZONE_RESERVE_SETTING;
use muster_proto::pb;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a cluster; one that exists is left as it is.
    #[command(after_help = "Example:\n  muster cluster create staging")]
    Create { name: String },
    /// All clusters, with counts.
    #[command(after_help = "Example:\n  muster cluster list --output json")]
    List,
    /// One cluster.
    #[command(after_help = "Example:\n  muster cluster describe default")]
    Describe { name: String },
    /// Change settings; those that are not named stay as they are.
    #[command(after_help = "Examples:\n  muster cluster update default --setting \
        taskHealthyAfterSeconds=5\n  muster cluster update default --reserve-zone \
        az-a=cpu:2048,memory:4096\n  muster cluster update default --reserve-zone az-a=none")]
    Update {
        name: String,
        /// containerInsights; taskHealthyAfterSeconds: how long a task without a health check runs
        /// before it counts as healthy, 10 if it is not set; privilegedContainers, and
        /// instanceMetadataAccess: whether tasks placed from then on reach 169.254.169.254 from a
        /// bridge: enabled or disabled, which they are if they are not set.
        #[arg(
            long = "setting",
            required_unless_present = "reserve_zones",
            value_name = "NAME=VALUE"
        )]
        settings: Vec<String>,
        /// How many cpu units and MiB of a zone to keep free of growth, for tasks of services that
        /// lose their places; `none` ends it. The setting zoneReserve:ZONE.
        #[arg(long = "reserve-zone", value_name = "ZONE=cpu:N,memory:N")]
        reserve_zones: Vec<String>,
    },
    /// Remove an empty cluster.
    #[command(after_help = "Example:\n  muster cluster delete staging")]
    Delete { name: String },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create { name } => {
                let request = pb::CreateClusterRequest {
                    cluster_name: name,
                    client_token: context.token(),
                    ..Default::default()
                };
                let answer = context.ecs(request, async |mut ecs, r| ecs.create_cluster(r).await);
                show(context, &answer.await?.cluster.into_iter().collect::<Vec<_>>())
            }
            Self::List => {
                let clusters = describe(context, list(context).await?).await?;
                show(context, &clusters)
            }
            Self::Describe { name } => show(context, &describe(context, vec![name]).await?),
            Self::Update { name, settings, reserve_zones } => {
                let settings = settings.iter().map(|text| setting(text));
                let reserves = reserve_zones.iter().map(|text| reserve(text));
                let settings = settings.chain(reserves).collect::<Result<_, _>>()?;
                let request = pb::UpdateClusterSettingsRequest {
                    cluster: name,
                    settings,
                    client_token: context.token(),
                };
                let answer =
                    context.ecs(request, async |mut ecs, r| ecs.update_cluster_settings(r).await);
                show(context, &answer.await?.cluster.into_iter().collect::<Vec<_>>())
            }
            Self::Delete { name } => {
                let request =
                    pb::DeleteClusterRequest { cluster: name, client_token: context.token() };
                let answer = context.ecs(request, async |mut ecs, r| ecs.delete_cluster(r).await);
                show(context, &answer.await?.cluster.into_iter().collect::<Vec<_>>())
            }
        }
    }
}

fn setting(text: &str) -> Result<pb::Setting, CliError> {
    let Some((name, value)) = text.split_once('=') else {
        let why = format!("--setting {text:?}: NAME=VALUE, as in taskHealthyAfterSeconds=5");
        return Err(CliError::Usage(why));
    };
    Ok(pb::Setting { name: name.into(), value: value.into() })
}

fn reserve(text: &str) -> Result<pb::Setting, CliError> {
    let Some((zone, value)) = text.split_once('=') else {
        let why = format!("--reserve-zone {text:?}: ZONE=cpu:N,memory:N, or ZONE=none to end it");
        return Err(CliError::Usage(why));
    };
    let value = if value == "none" { "" } else { value };
    Ok(pb::Setting { name: format!("{ZONE_RESERVE_SETTING}{zone}"), value: value.into() })
}

async fn list(context: &Context) -> Result<Vec<String>, CliError> {
    let mut arns = Vec::new();
    let mut next_token = String::new();
    loop {
        let request =
            pb::ListClustersRequest { next_token, stale: context.stale, ..Default::default() };
        let page = context.ecs(request, async |mut ecs, r| ecs.list_clusters(r).await).await?;
        arns.extend(page.cluster_arns);
        if page.next_token.is_empty() {
            return Ok(arns);
        }
        next_token = page.next_token;
    }
}

async fn describe(context: &Context, names: Vec<String>) -> Result<Vec<pb::Cluster>, CliError> {
    let mut clusters = Vec::new();
    for names in names.chunks(100) {
        let request = pb::DescribeClustersRequest {
            clusters: names.to_vec(),
            include: vec!["TAGS".into(), "SETTINGS".into()],
            stale: context.stale,
        };
        let answer =
            context.ecs(request, async |mut ecs, r| ecs.describe_clusters(r).await).await?;
        context.check("cluster", &answer.failures)?;
        clusters.extend(answer.clusters);
    }
    Ok(clusters)
}

fn show(context: &Context, clusters: &[pb::Cluster]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("clusters", clusters)),
        Format::Table => output::print(&output::table(
            &["NAME", "STATUS", "INSTANCES", "SERVICES", "RUNNING", "PENDING"],
            clusters.iter().map(|c| {
                vec![
                    c.cluster_name.clone(),
                    c.status.clone(),
                    c.registered_container_instances_count.to_string(),
                    c.active_services_count.to_string(),
                    c.running_tasks_count.to_string(),
                    c.pending_tasks_count.to_string(),
                ]
            }),
        )),
    }
}
