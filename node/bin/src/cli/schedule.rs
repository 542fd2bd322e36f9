//! `muster schedule`: tasks and jobs at times, in the expressions of EventBridge Scheduler.

use super::context::Context;
use super::output::{self, Format};
use super::{CliError, job, task};
use clap::{Args, Subcommand};
use muster_calendar::Calendar;
use muster_model::Time;
use muster_proto::{json, pb};
use prost_types::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many times `plan` shows.
const PLANNED: usize = 10;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a task definition at times: what has no room at once is stopped, unless it is a job.
    #[command(
        after_help = "Examples:\n  muster schedule create nightly backup --expression 'cron(30 2 * * ? *)' \
        --timezone Europe/Berlin --overlap SKIP\n  \
        muster schedule create poll fetch --expression 'rate(5 minutes)' --count 2\n  \
        muster schedule create load import --expression 'cron(0 3 * * ? *)' --overlap SKIP \
        --job --completions 20 --parallelism 5\n  \
        muster schedule create once migrate --expression 'at(2026-11-20T13:00:00)' -- /bin/migrate --all"
    )]
    Create(Box<Create>),
    /// Change what is named here; the rest stays.
    #[command(
        after_help = "Examples:\n  muster schedule update nightly --expression 'cron(0 3 * * ? *)'\n  \
        muster schedule update nightly --state DISABLED"
    )]
    Update(Box<Update>),
    /// Schedules of the cluster, and when each is due.
    #[command(after_help = "Example:\n  muster schedule list")]
    List,
    /// One schedule and what became of its last due times.
    #[command(after_help = "Example:\n  muster schedule describe nightly")]
    Describe { name: String },
    /// Delete a schedule; tasks that it started go on.
    #[command(after_help = "Example:\n  muster schedule delete nightly")]
    Delete { name: String },
    /// The next ten times of an expression; asks no cluster.
    #[command(
        after_help = "Example:\n  muster schedule plan 'cron(0 9 ? * MON#1 *)' --timezone Europe/Berlin"
    )]
    Plan(Plan),
}

/// When, and what becomes of runs that meet or come late.
#[derive(Debug, Args)]
pub struct Times {
    /// IANA name, such as Europe/Berlin [default: UTC].
    #[arg(long)]
    timezone: Option<String>,
    /// ENABLED or DISABLED.
    #[arg(long)]
    state: Option<String>,
    /// Nothing is due before: 2026-11-20T13:00:00Z.
    #[arg(long)]
    start: Option<Timestamp>,
    /// Nothing is due after.
    #[arg(long)]
    end: Option<Timestamp>,
    /// While an earlier run goes on: ALLOW, SKIP or REPLACE it.
    #[arg(long)]
    overlap: Option<String>,
    /// Times that passed while no manager led: RUN_ONCE, the last of them, or SKIP.
    #[arg(long)]
    missed: Option<String>,
    /// With RUN_ONCE, how many seconds late: 60 to 86400.
    #[arg(long)]
    starting_deadline: Option<i32>,
}

#[derive(Debug, Args)]
pub struct Create {
    name: String,
    #[command(flatten)]
    what: task::What,
    #[command(flatten)]
    count: task::Count,
    /// rate(5 minutes), cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR) or
    /// at(YYYY-MM-DDThh:mm:ss).
    #[arg(long)]
    expression: String,
    #[command(flatten)]
    times: Times,
    /// Run it as a job, named NAME-SECONDS: its tasks wait for room, and what fails is tried again.
    #[arg(long, conflicts_with_all = ["count", "started_by"])]
    job: bool,
    #[command(flatten)]
    counts: job::Counts,
}

#[derive(Debug, Args)]
pub struct Update {
    name: String,
    /// rate(...), cron(...) or at(...).
    #[arg(long)]
    expression: Option<String>,
    #[command(flatten)]
    times: Times,
    /// family or family:revision.
    #[arg(long)]
    task_definition: Option<String>,
    /// 1 to 10; a job has --completions instead.
    #[arg(long)]
    count: Option<i32>,
    #[command(flatten)]
    counts: job::Counts,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// rate(...), cron(...) or at(...).
    expression: String,
    /// IANA name, such as Europe/Berlin.
    #[arg(long, default_value = "UTC")]
    timezone: String,
    /// The first is not before: 2026-11-20T13:00:00Z [default: now].
    #[arg(long)]
    from: Option<Timestamp>,
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::List => list(context).await,
            Self::Describe { name } => show(context, &described(context, name).await?),
            Self::Delete { name } => {
                let request = pb::DeleteScheduleRequest {
                    cluster: context.cluster.clone(),
                    name: name.clone(),
                    client_token: context.token(),
                };
                context.ask_live(request, async |mut l, r| l.delete_schedule(r).await).await?;
                match context.output {
                    Format::Json => output::json(&json::to_value(&pb::DeleteScheduleResponse {})),
                    Format::Table => output::print(&format!("schedule {name} is deleted\n")),
                }
            }
            Self::Plan(plan) => plan.run(context.output),
        }
    }
}

impl Times {
    fn put(self, spec: &mut pb::ScheduleSpec) {
        let put = |to: &mut String, from: Option<String>| *to = from.unwrap_or_else(|| to.clone());
        put(&mut spec.schedule_expression_timezone, self.timezone);
        put(&mut spec.state, self.state);
        put(&mut spec.overlap_policy, self.overlap);
        spec.start_date = self.start.or(spec.start_date);
        spec.end_date = self.end.or(spec.end_date);
        if let Some(missed) = self.missed {
            // A deadline is RUN_ONCE's.
            spec.starting_deadline_seconds = 0;
            spec.missed_run_policy = missed;
        }
        let deadline = self.starting_deadline.unwrap_or(spec.starting_deadline_seconds);
        spec.starting_deadline_seconds = deadline;
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let run = self.what.request(context).await?;
        let mut spec = pb::ScheduleSpec {
            name: self.name,
            schedule_expression: self.expression,
            ..Default::default()
        };
        match self.job {
            true => spec.run_job = Some(pb::JobSpec { run_task: Some(run), ..Default::default() }),
            false => spec.run_task = Some(self.count.of(run)),
        }
        counted(&mut spec, self.counts)?;
        self.times.put(&mut spec);
        let request = pb::CreateScheduleRequest {
            cluster: context.cluster.clone(),
            spec: Some(spec),
            client_token: context.token(),
        };
        let answer = context.ask_live(request, async |mut l, r| l.create_schedule(r).await).await?;
        show(context, &answer.schedule.unwrap_or_default())
    }
}

impl Update {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let old = described(context, self.name).await?;
        let mut spec = old.spec.unwrap_or_default();
        spec.schedule_expression = self.expression.unwrap_or(spec.schedule_expression);
        counted(&mut spec, self.counts)?;
        let of_job = spec.run_job.as_mut().and_then(|job| job.run_task.as_mut());
        if let Some(run) = spec.run_task.as_mut().or(of_job) {
            run.task_definition = self.task_definition.unwrap_or(run.task_definition.clone());
            run.count = self.count.unwrap_or(run.count);
        }
        self.times.put(&mut spec);
        let request = pb::UpdateScheduleRequest {
            cluster: context.cluster.clone(),
            spec: Some(spec),
            expected_version: Some(old.version),
            client_token: context.token(),
        };
        let answer = context.ask_live(request, async |mut l, r| l.update_schedule(r).await).await?;
        show(context, &answer.schedule.unwrap_or_default())
    }
}

impl Plan {
    pub fn run(self, format: Format) -> Result<(), CliError> {
        let calendar = Calendar::parse(&self.expression, &self.timezone)?;
        let from = match self.from {
            Some(from) => u64::try_from(from.seconds).unwrap_or(0).saturating_mul(1000),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
        };
        let due = std::iter::successors(calendar.first(Time(from)), |due| calendar.next(*due));
        let due: Vec<Time> = due.take(PLANNED).collect();
        let utc = |due: &Time| {
            let seconds = i64::try_from(due.0 / 1000).unwrap_or(i64::MAX);
            Timestamp { seconds, nanos: 0 }.to_string()
        };
        match format {
            Format::Json => {
                let all: Vec<String> = due.iter().map(utc).collect();
                output::json(&serde_json::json!({ "dueAt": all }))
            }
            Format::Table => output::print(&output::table(
                &["UTC", "LOCAL"],
                due.iter().map(|due| vec![utc(due), calendar.shown(*due)]),
            )),
        }
    }
}

/// Puts into the job what is given of one.
fn counted(spec: &mut pb::ScheduleSpec, counts: job::Counts) -> Result<(), CliError> {
    match &mut spec.run_job {
        Some(job) => counts.put(job),
        None if counts == job::Counts::default() => {}
        None => {
            let why = "--completions, --parallelism, --retries, --job-timeout and \
                       --attempt-timeout are of schedules made with --job";
            return Err(CliError::Usage(why.into()));
        }
    }
    Ok(())
}

/// The definition that it runs, and how often each time.
fn runs(spec: &pb::ScheduleSpec) -> (String, String) {
    match (&spec.run_job, &spec.run_task) {
        (Some(job), _) => {
            let run = job.run_task.clone().unwrap_or_default();
            let wanted = job.completions.unwrap_or(1);
            (run.task_definition.clone(), format!("job of {wanted} x {}", run.task_definition))
        }
        (None, run) => {
            let run = run.clone().unwrap_or_default();
            let all = format!("{} x {}", run.count, run.task_definition);
            (run.task_definition, all)
        }
    }
}

async fn described(context: &Context, name: String) -> Result<pb::Schedule, CliError> {
    let request = pb::DescribeSchedulesRequest {
        cluster: context.cluster.clone(),
        names: vec![name.clone()],
        stale: context.stale,
    };
    let answer = context.ask_live(request, async |mut l, r| l.describe_schedules(r).await).await?;
    let missing = || muster_model::Error::not_found(muster_model::Kind::Schedule, name);
    Ok(answer.schedules.into_iter().next().ok_or_else(missing)?)
}

async fn list(context: &Context) -> Result<(), CliError> {
    let mut all = pb::ListSchedulesResponse::default();
    loop {
        let request = pb::ListSchedulesRequest {
            cluster: context.cluster.clone(),
            next_token: all.next_token,
            stale: context.stale,
            ..Default::default()
        };
        let page = context.ask_live(request, async |mut l, r| l.list_schedules(r).await).await?;
        all.schedules.extend(page.schedules);
        all.next_token = page.next_token;
        if all.next_token.is_empty() {
            break;
        }
    }
    match context.output {
        Format::Json => output::json(&json::to_value(&all)),
        Format::Table => output::print(&output::table(
            &["NAME", "EXPRESSION", "TIME ZONE", "STATE", "NEXT DUE", "TASK DEFINITION"],
            all.schedules.iter().map(|row| {
                let spec = row.spec.clone().unwrap_or_default();
                let (definition, _) = runs(&spec);
                vec![
                    spec.name,
                    spec.schedule_expression,
                    spec.schedule_expression_timezone,
                    spec.state,
                    output::time(row.next_due_at.as_ref()),
                    definition,
                ]
            }),
        )),
    }
}

fn show(context: &Context, row: &pb::Schedule) -> Result<(), CliError> {
    if context.output == Format::Json {
        return output::json(&json::to_value(row));
    }
    let spec = row.spec.clone().unwrap_or_default();
    let (_, runs) = runs(&spec);
    let deadline = match spec.starting_deadline_seconds {
        0 => String::new(),
        seconds => format!(", up to {seconds} s late"),
    };
    output::print(&output::facts(&[
        ("schedule", spec.name),
        ("expression", spec.schedule_expression),
        ("time zone", spec.schedule_expression_timezone),
        ("state", spec.state),
        ("next due", output::time(row.next_due_at.as_ref())),
        ("from", output::time(spec.start_date.as_ref())),
        ("until", output::time(spec.end_date.as_ref())),
        ("overlap", spec.overlap_policy),
        ("missed", spec.missed_run_policy + &deadline),
        ("runs", runs),
        ("version", row.version.to_string()),
    ]))?;
    if row.runs.is_empty() {
        return Ok(());
    }
    output::print("\n")?;
    output::print(&output::table(
        &["DUE", "DECIDED", "OUTCOME", "MISSED", "TASKS", "JOB", "REASON"],
        row.runs.iter().map(|run| {
            let tasks: Vec<_> = run.task_arns.iter().map(|arn| output::short(arn)).collect();
            vec![
                output::time(run.due_at.as_ref()),
                output::time(run.decided_at.as_ref()),
                run.outcome.clone(),
                run.missed_count.to_string(),
                tasks.join(","),
                run.job_id.clone(),
                run.reason.clone(),
            ]
        }),
    ))
}
