//! `muster task`: run, look at and stop tasks; their logs, what they use and commands in them are
//! in `logs.rs`, `stats.rs` and `exec.rs`.

use super::context::Context;
use super::output::{self, Format};
use super::placement::Placement;
use super::{CliError, exec, foresight, logs, protection, stats};
use clap::{Args, Subcommand};
use muster_proto::pb;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a task definition once, or count times.
    #[command(after_help = "Examples:\n  muster task run migrate --env STEP=2 --count 2\n  \
        muster task run web --count 5 --strategy binpack:memory --dry-run")]
    Run(Run),
    /// Tasks of the cluster; stopped ones with --status STOPPED.
    #[command(after_help = "Example:\n  muster task list --service web")]
    List(List),
    /// One task, by id (or its beginning) or ARN; says why it waits or why it stopped.
    #[command(after_help = "Example:\n  muster task describe 7d2f01")]
    Describe { task: String },
    /// Stop a task; a service starts another in its place.
    #[command(after_help = "Example:\n  muster task stop 7d2f01 --reason 'stuck'")]
    Stop {
        task: String,
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// What the containers of a task wrote; of all tasks of a service: `muster service logs`.
    #[command(after_help = "Examples:\n  muster task logs -f --tail 100 7d2f01\n  \
        muster task logs 7d2f01 --since 1h --until 30m")]
    Logs(logs::Logs),
    /// What the containers of a task use: CPU (100% is one core), memory, processes, bytes on the
    /// network and of disks; of all tasks of a service: `muster service stats`.
    #[command(after_help = "Examples:\n  muster task stats 7d2f01\n  \
        muster task stats -f 7d2f01 --output json")]
    Stats(stats::Stats),
    /// Run a command in a container of a running task.
    #[command(after_help = "Examples:\n  muster task exec 7d2f01 -- /bin/ls /\n  \
        muster task exec -it 7d2f01 -- /bin/sh\n  \
        muster task exec -i 7d2f01 -- /bin/sh -c 'cat >/tmp/dump' <dump")]
    Exec(exec::Exec),
    #[command(flatten)]
    Protection(protection::Command),
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    count: Count,
    /// Run nothing: say where each task would go and why, or why nowhere.
    #[arg(long)]
    pub dry_run: bool,
}

/// What is to run: now, by a schedule or by a job.
#[derive(Debug, Args)]
pub struct What {
    /// family or family:revision.
    task_definition: String,
    /// What the tasks are spread with [default: family:FAMILY].
    #[arg(long, default_value = "", hide_default_value = true)]
    group: String,
    #[command(flatten)]
    placement: Placement,
    /// NAME=value for the first container; may be repeated.
    #[arg(long = "env", value_parser = pair)]
    environment: Vec<(String, String)>,
    /// Container that --env and the command are for [default: the only one].
    #[arg(long, default_value = "", hide_default_value = true)]
    container: String,
    /// Command instead of the definition's, after --.
    #[arg(last = true)]
    command: Vec<String>,
}

/// How many tasks a run is of, and in whose name.
#[derive(Debug, Args)]
pub struct Count {
    /// 1 to 10.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(1..=10))]
    count: i32,
    #[arg(long, default_value = "", hide_default_value = true)]
    started_by: String,
}

#[derive(Debug, Args)]
pub struct List {
    #[arg(long, default_value = "", hide_default_value = true)]
    service: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    family: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    instance: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    started_by: String,
    /// RUNNING (wanted, running or not yet) or STOPPED.
    #[arg(long, default_value = "RUNNING")]
    status: String,
    /// Ids only, one per line.
    #[arg(long, short)]
    quiet: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("{text:?} is not allowed; allowed: NAME=value")),
    }
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Run(run) => run.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Describe { task } => {
                let tasks = describe(context, vec![task]).await?;
                match context.output {
                    Format::Json => show(context, &tasks),
                    Format::Table => tasks.iter().try_for_each(facts),
                }
            }
            Self::Stop { task, reason } => {
                let request = pb::StopTaskRequest {
                    cluster: context.cluster.clone(),
                    task,
                    reason,
                    client_token: context.token(),
                };
                let answer = context.ecs(request, async |mut ecs, r| ecs.stop_task(r).await);
                show(context, &answer.await?.task.into_iter().collect::<Vec<_>>())
            }
            Self::Logs(logs) => logs.run(context).await,
            Self::Stats(stats) => stats.run(context).await,
            Self::Exec(exec) => exec.run(context).await,
            Self::Protection(command) => command.run(context).await,
        }
    }
}

impl What {
    /// The request, without a token.
    pub async fn request(self, context: &Context) -> Result<pb::RunTaskRequest, CliError> {
        let container = match self.container.is_empty()
            && !(self.environment.is_empty() && self.command.is_empty())
        {
            true => only_container(context, &self.task_definition).await?,
            false => self.container,
        };
        let over = pb::ContainerOverride {
            name: container,
            command: self.command,
            environment: self
                .environment
                .into_iter()
                .map(|(name, value)| pb::KeyValuePair { name, value })
                .collect(),
            ..Default::default()
        };
        Ok(pb::RunTaskRequest {
            cluster: context.cluster.clone(),
            task_definition: self.task_definition,
            group: self.group,
            placement_constraints: self.placement.constraints(),
            placement_strategy: self.placement.strategies()?,
            overrides: (!over.name.is_empty()).then(|| pb::TaskOverride {
                container_overrides: vec![over],
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}

impl Count {
    /// The request, of so many tasks.
    pub fn of(self, request: pb::RunTaskRequest) -> pb::RunTaskRequest {
        pb::RunTaskRequest { count: self.count, started_by: self.started_by, ..request }
    }
}

impl Run {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client_token = context.token();
        let request = self.count.of(self.what.request(context).await?);
        let request = pb::RunTaskRequest { client_token, ..request };
        let count = request.count;
        if self.dry_run {
            let told = context.ask_live(request, async |mut live, r| live.plan_task(r).await);
            return foresight::show_run(context, &told.await?);
        }
        let answer = context.ecs(request, async |mut ecs, r| ecs.run_task(r).await).await?;
        show(context, &answer.tasks)?;
        match answer.failures.as_slice() {
            [] => Ok(()),
            failures => {
                let reasons: Vec<_> =
                    failures.iter().map(|f| format!("{} {}", f.reason, f.detail)).collect();
                Err(CliError::Failed(format!(
                    "{} of {} tasks could not be placed: {}; see `muster instance list`",
                    failures.len(),
                    count,
                    reasons.join("; ")
                )))
            }
        }
    }
}

/// The name of a definition's only container.
async fn only_container(context: &Context, definition: &str) -> Result<String, CliError> {
    let request = pb::DescribeTaskDefinitionRequest {
        task_definition: definition.into(),
        stale: context.stale,
        ..Default::default()
    };
    let answer =
        context.ecs(request, async |mut ecs, r| ecs.describe_task_definition(r).await).await?;
    let containers = answer.task_definition.unwrap_or_default().container_definitions;
    match containers.as_slice() {
        [only] => Ok(only.name.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|c| c.name.as_str()).collect();
            Err(CliError::Usage(format!(
                "--container is needed: {definition} has {} containers: {}",
                names.len(),
                names.join(", ")
            )))
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = pb::ListTasksRequest {
            cluster: context.cluster.clone(),
            container_instance: self.instance.clone(),
            family: self.family.clone(),
            service_name: self.service.clone(),
            started_by: self.started_by.clone(),
            desired_status: self.status.clone(),
            stale: context.stale,
            ..Default::default()
        };
        let arns = arns(context, request).await?;
        if self.quiet {
            let ids = arns.iter().map(|arn| output::short(arn));
            return output::print(&ids.fold(String::new(), |all, id| all + id + "\n"));
        }
        let mut tasks = match arns.is_empty() {
            true => Vec::new(),
            false => present(context, arns).await?,
        };
        tasks.sort_by(|a, b| a.availability_zone.cmp(&b.availability_zone));
        show(context, &tasks)
    }
}

/// All that a list has, page by page.
pub async fn arns(
    context: &Context,
    mut request: pb::ListTasksRequest,
) -> Result<Vec<String>, CliError> {
    let mut arns = Vec::new();
    loop {
        let list = context.ecs(request.clone(), async |mut ecs, r| ecs.list_tasks(r).await);
        let page = list.await?;
        arns.extend(page.task_arns);
        if page.next_token.is_empty() {
            return Ok(arns);
        }
        request.next_token = page.next_token;
    }
}

/// Those of the tasks that still exist: one may be forgotten between the list and the question.
pub async fn present(context: &Context, arns: Vec<String>) -> Result<Vec<pb::Task>, CliError> {
    let mut tasks = Vec::new();
    for arns in arns.chunks(100) {
        let request = pb::DescribeTasksRequest {
            cluster: context.cluster.clone(),
            tasks: arns.to_vec(),
            include: vec!["TAGS".into()],
            stale: context.stale,
        };
        let answer = context.ecs(request, async |mut ecs, r| ecs.describe_tasks(r).await).await?;
        tasks.extend(answer.tasks);
    }
    Ok(tasks)
}

pub async fn describe(context: &Context, names: Vec<String>) -> Result<Vec<pb::Task>, CliError> {
    let request = pb::DescribeTasksRequest {
        cluster: context.cluster.clone(),
        tasks: names,
        include: vec!["TAGS".into()],
        stale: context.stale,
    };
    let answer = context.ecs(request, async |mut ecs, r| ecs.describe_tasks(r).await).await?;
    context.check("task", &answer.failures)?;
    Ok(answer.tasks)
}

fn show(context: &Context, tasks: &[pb::Task]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("tasks", tasks)),
        Format::Table => output::print(&output::table(
            &["TASK", "DEFINITION", "GROUP", "STATUS", "ZONE", "HOST", "PID", "PORTS", "WHY"],
            tasks.iter().map(|t| {
                let ports: Vec<_> = t
                    .containers
                    .iter()
                    .flat_map(|c| &c.network_bindings)
                    .map(|b| format!("{}->{}", b.host_port, b.container_port))
                    .collect();
                let pids: Vec<_> =
                    t.containers.iter().filter_map(|c| c.pid).map(|p| p.to_string()).collect();
                vec![
                    output::short(&t.task_arn).to_owned(),
                    output::short(&t.task_definition_arn).to_owned(),
                    t.group.clone(),
                    t.last_status.clone(),
                    t.availability_zone.clone(),
                    t.instance_name.clone(),
                    pids.join(","),
                    ports.join(","),
                    match t.stopped_reason.is_empty() {
                        true => t.waiting_reason.clone(),
                        false => t.stopped_reason.clone(),
                    },
                ]
            }),
        )),
    }
}

fn facts(task: &pb::Task) -> Result<(), CliError> {
    output::print(&output::facts(&[
        ("task", output::short(&task.task_arn).to_owned()),
        ("arn", task.task_arn.clone()),
        ("definition", output::short(&task.task_definition_arn).to_owned()),
        ("group", task.group.clone()),
        ("started by", task.started_by.clone()),
        ("status", format!("{} (wanted: {})", task.last_status, task.desired_status)),
        ("health", task.health_status.clone()),
        ("waits because", task.waiting_reason.clone()),
        ("stop code", task.stop_code.clone()),
        ("stopped because", task.stopped_reason.clone()),
        ("host", task.instance_name.clone()),
        ("zone", task.availability_zone.clone()),
        ("created", output::time(task.created_at.as_ref())),
        ("started", output::time(task.started_at.as_ref())),
        ("stopped", output::time(task.stopped_at.as_ref())),
    ]))?;
    output::print("\n")?;
    output::print(&output::table(
        &[
            "CONTAINER",
            "IMAGE",
            "STATUS",
            "HEALTH",
            "RESTARTS",
            "PID",
            "ADDRESS",
            "PORTS",
            "EXIT",
            "REASON",
        ],
        task.containers.iter().map(|c| {
            let ports: Vec<_> = c
                .network_bindings
                .iter()
                .map(|b| format!("{}->{}/{}", b.host_port, b.container_port, b.protocol))
                .collect();
            vec![
                c.name.clone(),
                c.image.clone(),
                c.last_status.clone(),
                c.health_status.clone(),
                c.restart_count.map(|n| n.to_string()).unwrap_or_default(),
                c.pid.map(|p| p.to_string()).unwrap_or_default(),
                c.address.clone(),
                ports.join(","),
                c.exit_code.map(|e| e.to_string()).unwrap_or_default(),
                c.reason.clone(),
            ]
        }),
    ))
}
