//! `muster service`: keep a number of tasks running.

use super::context::Context;
use super::output::{self, Format};
use super::placement::Placement;
use super::{CliError, deployment, foresight, logs, stats, task_set};
use clap::{Args, Subcommand};
use muster_proto::pb;
use muster_proto::pb::live_client::LiveClient;
use std::time::{Duration, Instant};

type Live = LiveClient<tonic::transport::Channel>;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a service and start its tasks.
    #[command(after_help = "Example:\n  muster service create web --task-definition web \
        --desired-count 6\n  muster service create logs --task-definition logs \
        --scheduling-strategy DAEMON\n  muster service create shop --task-definition shop \
        --deployment-strategy BLUE_GREEN --bake-time 10 --pause-at POST_TEST_TRAFFIC_SHIFT\n  \
        muster service create ledger --task-definition ledger --strict\n  \
        muster service create till --external --desired-count 6")]
    Create(Create),
    /// Change its count, its task definition, or both; a new definition rolls out.
    #[command(after_help = "Examples:\n  muster service update web --desired-count 9\n  \
        muster service update web --task-definition web:4")]
    Update(Update),
    /// What an update would stop, start and move, or a service that does not exist yet would start;
    /// nothing is changed.
    #[command(after_help = "Examples:\n  muster service plan web --task-definition web:4\n  \
        muster service plan web --task-definition web --desired-count 6 && \\\n    \
        muster service create web --task-definition web --desired-count 6")]
    Plan(Update),
    /// Services of the cluster.
    #[command(after_help = "Example:\n  muster service list")]
    List,
    /// One service: deployments and the newest events.
    #[command(after_help = "Example:\n  muster service describe web")]
    Describe { name: String },
    /// Stop its tasks and remove it.
    #[command(after_help = "Example:\n  muster service delete web --force")]
    Delete {
        name: String,
        /// Also while its desired count is above 0.
        #[arg(long)]
        force: bool,
    },
    /// Wait until it is stable: one deployment, and as many tasks running as desired. Fails with
    /// the reason if the newest deployment does.
    #[command(after_help = "Example:\n  muster service wait web --timeout 120")]
    Wait { name: String },
    /// What its tasks wrote, also those that stopped, each line under its task's id; with -f also
    /// tasks that it gets.
    #[command(after_help = "Examples:\n  muster service logs web --since 10m\n  \
        muster service logs -f web --tail 10\n  \
        muster service logs web --since 2026-01-31T15:00:00Z --until 2026-01-31T15:10:00Z")]
    Logs(logs::ServiceLogs),
    /// What the containers of its tasks use.
    #[command(after_help = "Example:\n  muster service stats -f web")]
    Stats(stats::ServiceStats),
    #[command(flatten)]
    Deployment(deployment::Command),
}

#[derive(Debug, Args)]
pub struct Create {
    name: String,
    /// family or family:revision.
    #[arg(long, required_unless_present = "external")]
    task_definition: Option<String>,
    /// 1 if left out; not with DAEMON.
    #[arg(long, allow_negative_numbers = true)]
    desired_count: Option<i32>,
    /// REPLICA, or DAEMON: one task on each instance that satisfies the constraints.
    #[arg(long, default_value = "REPLICA")]
    scheduling_strategy: String,
    /// A strict singleton: no two tasks of it ever run at the same time, also while one is out of
    /// reach; for good.
    #[arg(long)]
    strict: bool,
    /// Something else deploys it, with task sets (`muster task-set create`); for good.
    #[arg(long, conflicts_with = "task_definition")]
    external: bool,
    #[command(flatten)]
    rollout: deployment::Rollout,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    zones: Zones,
}

#[derive(Debug, Args)]
pub struct Update {
    name: String,
    #[arg(long)]
    task_definition: Option<String>,
    #[arg(long, allow_negative_numbers = true)]
    desired_count: Option<i32>,
    #[command(flatten)]
    rollout: deployment::Rollout,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    zones: Zones,
    /// Replace every task, also with an unchanged definition.
    #[arg(long)]
    force_new_deployment: bool,
    /// Refuse unless the service has this version (see describe --output json).
    #[arg(long)]
    expected_version: Option<i64>,
}

#[derive(Debug, Args)]
struct Zones {
    /// ENABLED: tasks move until the zones have equally many; DISABLED: they stay where they are.
    #[arg(long)]
    availability_zone_rebalancing: Option<String>,
}

impl Zones {
    /// Empty: as it is, or as ECS has it for a new service.
    fn rebalancing(self) -> String {
        self.availability_zone_rebalancing.unwrap_or_default()
    }
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::Plan(update) => update.plan(context).await,
            Self::List => {
                let services = match list(context).await? {
                    names if names.is_empty() => Vec::new(),
                    names => describe(context, names).await?,
                };
                show(context, &services)
            }
            Self::Describe { name } => {
                let services = describe(context, vec![name]).await?;
                match context.output {
                    Format::Json => show(context, &services),
                    Format::Table => services.iter().try_for_each(facts),
                }
            }
            Self::Delete { name, force } => {
                let request = pb::DeleteServiceRequest {
                    cluster: context.cluster.clone(),
                    service: name,
                    force,
                    client_token: context.token(),
                };
                let answer = context.ecs(request, async |mut ecs, r| ecs.delete_service(r).await);
                show(context, &answer.await?.service.into_iter().collect::<Vec<_>>())
            }
            Self::Wait { name } => wait(context, name).await,
            Self::Logs(logs) => logs.run(context).await,
            Self::Stats(stats) => stats.run(context).await,
            Self::Deployment(command) => command.run(context).await,
        }
    }
}

impl Create {
    fn request(self, context: &Context) -> Result<pb::CreateServiceRequest, CliError> {
        let daemon = self.scheduling_strategy == "DAEMON";
        Ok(pb::CreateServiceRequest {
            cluster: context.cluster.clone(),
            service_name: self.name,
            task_definition: self.task_definition.unwrap_or_default(),
            deployment_controller: self
                .external
                .then(|| pb::DeploymentController { r#type: "EXTERNAL".into() }),
            desired_count: self.desired_count.unwrap_or(if daemon { 0 } else { 1 }),
            scheduling_strategy: self.scheduling_strategy,
            deployment_configuration: self.rollout.configuration()?,
            availability_zone_rebalancing: self.zones.rebalancing(),
            placement_constraints: self.placement.constraints(),
            placement_strategy: self.placement.strategies()?,
            client_token: context.token(),
            strict: self.strict,
            ..Default::default()
        })
    }

    async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = self.request(context)?;
        let answer = context.ecs(request, async |mut ecs, r| ecs.create_service(r).await).await?;
        show(context, &answer.service.into_iter().collect::<Vec<_>>())
    }
}

impl Update {
    fn request(self, context: &Context) -> Result<pb::UpdateServiceRequest, CliError> {
        Ok(pb::UpdateServiceRequest {
            cluster: context.cluster.clone(),
            service: self.name,
            desired_count: self.desired_count,
            task_definition: self.task_definition.unwrap_or_default(),
            deployment_configuration: self.rollout.configuration()?,
            availability_zone_rebalancing: self.zones.rebalancing(),
            placement_constraints: self.placement.constraints(),
            placement_strategy: self.placement.strategies()?,
            set_placement: !self.placement.is_empty(),
            force_new_deployment: self.force_new_deployment,
            expected_version: self.expected_version,
            client_token: context.token(),
            ..Default::default()
        })
    }

    /// The service it would be if there is none of this name.
    fn create(self) -> Result<Create, CliError> {
        let Some(task_definition) = self.task_definition else {
            return Err(CliError::Usage(format!(
                "service {0} does not exist; plan a new one: muster service plan {0} \
                 --task-definition FAMILY",
                self.name
            )));
        };
        Ok(Create {
            name: self.name,
            task_definition: Some(task_definition),
            desired_count: self.desired_count,
            scheduling_strategy: String::new(),
            strict: false,
            external: false,
            rollout: self.rollout,
            placement: self.placement,
            zones: self.zones,
        })
    }

    async fn plan(self, context: &Context) -> Result<(), CliError> {
        let name = self.name.clone();
        let told = match exists(context, &name).await? {
            true => {
                let request = self.request(context)?;
                let call = async |mut live: Live, r| live.plan_update_service(r).await;
                context.ask_live(request, call).await?
            }
            false => {
                let request = self.create()?.request(context)?;
                let call = async |mut live: Live, r| live.plan_create_service(r).await;
                context.ask_live(request, call).await?
            }
        };
        foresight::show_plan(context, &name, &told)
    }

    async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = self.request(context)?;
        let answer = context.ecs(request, async |mut ecs, r| ecs.update_service(r).await).await?;
        show(context, &answer.service.into_iter().collect::<Vec<_>>())
    }
}

/// One that is being deleted counts as there: the answer says so.
async fn exists(context: &Context, name: &str) -> Result<bool, CliError> {
    let request = pb::DescribeServicesRequest {
        cluster: context.cluster.clone(),
        services: vec![name.to_owned()],
        ..Default::default()
    };
    let answer = context.ecs(request, async |mut ecs, r| ecs.describe_services(r).await).await?;
    Ok(answer.services.iter().any(|service| service.status != "INACTIVE"))
}

async fn list(context: &Context) -> Result<Vec<String>, CliError> {
    let mut arns = Vec::new();
    let mut next_token = String::new();
    loop {
        let request = pb::ListServicesRequest {
            cluster: context.cluster.clone(),
            next_token,
            stale: context.stale,
            ..Default::default()
        };
        let page = context.ecs(request, async |mut ecs, r| ecs.list_services(r).await).await?;
        arns.extend(page.service_arns);
        if page.next_token.is_empty() {
            return Ok(arns);
        }
        next_token = page.next_token;
    }
}

async fn describe(context: &Context, names: Vec<String>) -> Result<Vec<pb::Service>, CliError> {
    let mut services = Vec::new();
    // ECS: ten services per call.
    for names in names.chunks(10) {
        let request = pb::DescribeServicesRequest {
            cluster: context.cluster.clone(),
            services: names.to_vec(),
            include: vec!["TAGS".into()],
            stale: context.stale,
        };
        let answer =
            context.ecs(request, async |mut ecs, r| ecs.describe_services(r).await).await?;
        context.check("service", &answer.failures)?;
        services.extend(answer.services);
    }
    Ok(services)
}

/// ECS's waiter `services_stable`: one deployment and running = desired. What something else
/// deploys is stable when each of its task sets is.
fn stable(service: &pb::Service) -> bool {
    if !service.task_sets.is_empty() {
        let steady = |set: &pb::TaskSet| set.stability_status == "STEADY_STATE";
        return service.task_sets.iter().all(steady);
    }
    service.deployments.len() == 1
        && service.running_count == service.desired_count
        && service.pending_count == 0
}

async fn wait(context: &Context, name: String) -> Result<(), CliError> {
    let deadline = Instant::now() + context.timeout;
    let mut said = String::new();
    loop {
        let service = describe(context, vec![name.clone()]).await?.pop();
        let Some(service) = service else { return Ok(()) };
        if service.status != "ACTIVE" {
            return Err(CliError::Failed(format!("service {name} is {}", service.status)));
        }
        if let Some(why) = deployment::failure(context, &name).await? {
            return Err(CliError::Failed(format!(
                "service {name}: {why} See `muster service describe {name}`"
            )));
        }
        if stable(&service) {
            return show(context, &[service]);
        }
        let progress = format!(
            "{name}: {} of {} running, {} pending, {} deployments",
            service.running_count,
            service.desired_count,
            service.pending_count,
            service.deployments.len()
        );
        if progress != said {
            eprintln!("{progress}");
            said = progress;
        }
        if Instant::now() >= deadline {
            let event = service.events.first().map_or("no event", |e| e.message.as_str());
            return Err(CliError::Failed(format!(
                "{said}: not stable within {} s; newest event: {event}; see `muster service \
                 describe {name}`",
                context.timeout.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn show(context: &Context, services: &[pb::Service]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("services", services)),
        Format::Table => output::print(&output::table(
            &["NAME", "STATUS", "TASK DEFINITION", "DESIRED", "RUNNING", "PENDING", "ROLLOUT"],
            services.iter().map(|s| {
                vec![
                    s.service_name.clone(),
                    s.status.clone(),
                    output::short(&s.task_definition).to_owned(),
                    s.desired_count.to_string(),
                    s.running_count.to_string(),
                    s.pending_count.to_string(),
                    s.deployments.first().map(|d| d.rollout_state.clone()).unwrap_or_default(),
                ]
            }),
        )),
    }
}

/// Newest events shown by `describe`; `--output json` has all that are kept.
const EVENTS_SHOWN: usize = 10;

/// What a deployment has of its service's traffic, while some shifts.
fn traffic(service: &pb::Service, deployment: &pb::Deployment) -> String {
    // The revision has the number of its deployment.
    let number = output::short(&deployment.id);
    let mut revisions = service.current_service_revisions.iter();
    let Some(revision) = revisions.find(|revision| output::short(&revision.arn) == number) else {
        return String::new();
    };
    let weights =
        (revision.requested_production_traffic_weight, revision.requested_test_traffic_weight);
    match weights {
        (Some(production), Some(test)) if production != test => {
            format!("{production}% (test {test}%)")
        }
        (Some(production), _) => format!("{production}%"),
        (None, _) => String::new(),
    }
}

fn facts(service: &pb::Service) -> Result<(), CliError> {
    output::print(&output::facts(&[
        ("name", service.service_name.clone()),
        ("arn", service.service_arn.clone()),
        ("status", service.status.clone()),
        ("task definition", output::short(&service.task_definition).to_owned()),
        ("desired", service.desired_count.to_string()),
        ("running", service.running_count.to_string()),
        ("pending", service.pending_count.to_string()),
        ("strict", if service.strict { "no two tasks at once" } else { "" }.to_owned()),
        ("version", service.version.to_string()),
        ("created", output::time(service.created_at.as_ref())),
        ("no start before", output::time(service.throttled_until.as_ref())),
        (
            "rollout",
            service.deployments.first().map(|d| d.rollout_state_reason.clone()).unwrap_or_default(),
        ),
    ]))?;
    output::print("\n")?;
    if !service.task_sets.is_empty() {
        output::print(&task_set::table(&service.task_sets))?;
        return events(service);
    }
    output::print(&output::table(
        &[
            "DEPLOYMENT",
            "STATUS",
            "TASK DEFINITION",
            "DESIRED",
            "RUNNING",
            "FAILED",
            "TRAFFIC",
            "ROLLOUT",
        ],
        service.deployments.iter().map(|d| {
            vec![
                d.id.clone(),
                d.status.clone(),
                output::short(&d.task_definition).to_owned(),
                d.desired_count.to_string(),
                d.running_count.to_string(),
                d.failed_tasks.to_string(),
                traffic(service, d),
                d.rollout_state.clone(),
            ]
        }),
    ))?;
    events(service)
}

fn events(service: &pb::Service) -> Result<(), CliError> {
    output::print("\n")?;
    let events = service.events.iter().take(EVENTS_SHOWN);
    output::print(&events.fold(String::new(), |all, event| {
        all + &output::time(event.created_at.as_ref()) + "  " + &event.message + "\n"
    }))
}
