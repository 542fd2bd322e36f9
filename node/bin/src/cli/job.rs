//! `muster job`: tasks that are run until enough of them have succeeded.

use super::context::Context;
use super::output::{self, Format};
use super::{CliError, task};
use clap::{Args, Subcommand};
use muster_proto::{json, pb};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a task definition until enough tasks have ended with 0; what fails is tried again.
    #[command(
        after_help = "Examples:\n  muster job run import load-orders --completions 20 --parallelism 5\n  \
        muster job run migrate db --retries 0 --job-timeout 600 -- /bin/migrate --all"
    )]
    Run(Box<Run>),
    /// Jobs of the cluster, ended ones included.
    #[command(after_help = "Example:\n  muster job list --status RUNNING")]
    List {
        /// PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        #[arg(long, default_value = "", hide_default_value = true)]
        status: String,
    },
    /// One job, by name or id: how far it is, what failed last, and why it ended.
    #[command(after_help = "Example:\n  muster job describe import")]
    Describe { job: String },
    /// Wait until it has ended. Fails with the reason unless it succeeded, and after --timeout.
    #[command(after_help = "Example:\n  muster job wait import --timeout 3600")]
    Wait { job: String },
    /// Stop a job and its tasks.
    #[command(after_help = "Example:\n  muster job stop import --reason 'wrong input'")]
    Stop {
        job: String,
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Forget a job that has ended.
    #[command(after_help = "Example:\n  muster job delete import")]
    Delete { job: String },
}

#[derive(Debug, Args)]
pub struct Run {
    name: String,
    #[command(flatten)]
    what: task::What,
    #[command(flatten)]
    counts: Counts,
}

/// How many tasks a job is of, and how long it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct Counts {
    /// Tasks that are to succeed: 1 to 10000 [default: 1].
    #[arg(long)]
    completions: Option<i32>,
    /// Tasks that may be there at once: 1 to 10000 [default: 1].
    #[arg(long)]
    parallelism: Option<i32>,
    /// Tasks that may fail before the job does: 0 to 10000 [default: 6].
    #[arg(long)]
    retries: Option<i32>,
    /// Seconds from its beginning until the job fails: 1 to 1209600 [default: never].
    #[arg(long)]
    job_timeout: Option<i32>,
    /// Seconds from RUNNING until a task is stopped and has failed: 1 to 1209600 [default: never].
    #[arg(long)]
    attempt_timeout: Option<i32>,
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Run(run) => run.run(context).await,
            Self::List { status } => list(context, status).await,
            Self::Describe { job } => show(context, &described(context, job).await?),
            Self::Wait { job } => wait(context, job).await,
            Self::Stop { job, reason } => {
                let request = pb::StopJobRequest {
                    cluster: context.cluster.clone(),
                    job,
                    reason,
                    client_token: context.token(),
                };
                let answer = context.ask_live(request, async |mut l, r| l.stop_job(r).await);
                show(context, &answer.await?.job.unwrap_or_default())
            }
            Self::Delete { job } => {
                let request = pb::DeleteJobRequest {
                    cluster: context.cluster.clone(),
                    job: job.clone(),
                    client_token: context.token(),
                };
                context.ask_live(request, async |mut l, r| l.delete_job(r).await).await?;
                match context.output {
                    Format::Json => output::json(&json::to_value(&pb::DeleteJobResponse {})),
                    Format::Table => output::print(&format!("job {job} is deleted\n")),
                }
            }
        }
    }
}

impl Counts {
    /// Puts what is given into the job.
    pub fn put(self, spec: &mut pb::JobSpec) {
        spec.completions = self.completions.or(spec.completions);
        spec.parallelism = self.parallelism.or(spec.parallelism);
        spec.retries = self.retries.or(spec.retries);
        spec.timeout_seconds = self.job_timeout.or(spec.timeout_seconds);
        spec.attempt_timeout_seconds = self.attempt_timeout.or(spec.attempt_timeout_seconds);
    }
}

impl Run {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let run_task = Some(self.what.request(context).await?);
        let mut spec = pb::JobSpec { name: self.name, run_task, ..Default::default() };
        self.counts.put(&mut spec);
        let request = pb::RunJobRequest {
            cluster: context.cluster.clone(),
            spec: Some(spec),
            client_token: context.token(),
        };
        let answer = context.ask_live(request, async |mut l, r| l.run_job(r).await).await?;
        show(context, &answer.job.unwrap_or_default())
    }
}

async fn described(context: &Context, job: String) -> Result<pb::Job, CliError> {
    let request = pb::DescribeJobsRequest {
        cluster: context.cluster.clone(),
        jobs: vec![job.clone()],
        stale: context.stale,
    };
    let answer = context.ask_live(request, async |mut l, r| l.describe_jobs(r).await).await?;
    let missing = || muster_model::Error::not_found(muster_model::Kind::Job, job);
    Ok(answer.jobs.into_iter().next().ok_or_else(missing)?)
}

/// The job that is meant now, also if another of its name is run meanwhile.
async fn wait(context: &Context, job: String) -> Result<(), CliError> {
    let deadline = Instant::now() + context.timeout;
    let mut row = described(context, job).await?;
    let mut said = String::new();
    loop {
        let name = row.spec.as_ref().map_or("", |spec| spec.name.as_str());
        match row.status.as_str() {
            "SUCCEEDED" => return show(context, &row),
            status @ ("FAILED" | "STOPPED") => {
                let why = format!("job {name} is {status}: {}", row.reason);
                return Err(CliError::Failed(why));
            }
            _ => {}
        }
        let progress = format!("{name}: {}, {}", row.status, counts(&row));
        if progress != said {
            eprintln!("{progress}");
            said = progress;
        }
        if Instant::now() >= deadline {
            return Err(CliError::Failed(format!(
                "{said}: it has not ended within {} s; see `muster job describe {name}`",
                context.timeout.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        row = described(context, row.id).await?;
    }
}

/// `3 of 20 succeeded, 1 failed`.
fn counts(row: &pb::Job) -> String {
    let wanted = row.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(1);
    format!("{} of {wanted} succeeded, {} failed", row.succeeded, row.failed)
}

async fn list(context: &Context, status: String) -> Result<(), CliError> {
    let mut all = pb::ListJobsResponse::default();
    loop {
        let request = pb::ListJobsRequest {
            cluster: context.cluster.clone(),
            status: status.clone(),
            next_token: all.next_token,
            stale: context.stale,
            ..Default::default()
        };
        let page = context.ask_live(request, async |mut l, r| l.list_jobs(r).await).await?;
        all.jobs.extend(page.jobs);
        all.next_token = page.next_token;
        if all.next_token.is_empty() {
            break;
        }
    }
    match context.output {
        Format::Json => output::json(&json::to_value(&all)),
        Format::Table => output::print(&output::table(
            &["NAME", "ID", "STATUS", "SUCCEEDED", "FAILED", "TASK DEFINITION", "CREATED", "ENDED"],
            all.jobs.iter().map(|row| {
                let spec = row.spec.clone().unwrap_or_default();
                vec![
                    spec.name,
                    row.id.clone(),
                    row.status.clone(),
                    format!("{}/{}", row.succeeded, spec.completions.unwrap_or(1)),
                    row.failed.to_string(),
                    output::short(&row.task_definition_arn).to_owned(),
                    output::time(row.created_at.as_ref()),
                    output::time(row.ended_at.as_ref()),
                ]
            }),
        )),
    }
}

fn show(context: &Context, row: &pb::Job) -> Result<(), CliError> {
    if context.output == Format::Json {
        return output::json(&json::to_value(row));
    }
    let spec = row.spec.clone().unwrap_or_default();
    let seconds = |limit: Option<i32>| limit.map(|secs| format!("{secs} s")).unwrap_or_default();
    let tasks: Vec<_> = row.task_arns.iter().map(|arn| output::short(arn)).collect();
    let failure = row.last_failure.clone().unwrap_or_default();
    output::print(&output::facts(&[
        ("job", spec.name),
        ("id", row.id.clone()),
        ("status", row.status.clone()),
        ("reason", row.reason.clone()),
        ("task definition", output::short(&row.task_definition_arn).to_owned()),
        ("tasks", counts(row)),
        ("at once", spec.parallelism.unwrap_or(1).to_string()),
        ("retries", spec.retries.unwrap_or_default().to_string()),
        ("timeout", seconds(spec.timeout_seconds)),
        ("per attempt", seconds(spec.attempt_timeout_seconds)),
        ("created", output::time(row.created_at.as_ref())),
        ("started", output::time(row.started_at.as_ref())),
        ("ended", output::time(row.ended_at.as_ref())),
        ("next attempt", output::time(row.next_attempt_at.as_ref())),
        ("last failed", output::short(&failure.task_arn).to_owned()),
        ("because", failure.reason),
        ("now", tasks.join(",")),
    ]))
}
