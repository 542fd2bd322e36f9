//! The command line: one file per noun. Tables by default, `--output json` for programs.
//!
//! Exit codes: 0 done; 1 refused or failed; 2 the words of the command are wrong; 3 no manager
//! answered in time (the outcome may be unknown: repeat it); 4 something named does not exist.

mod access_key;
mod alarm;
mod capacity_provider;
mod cluster;
mod config;
mod context;
mod deployment;
mod error;
mod events;
mod exec;
mod follow;
mod foresight;
mod import;
mod init;
mod instance;
mod job;
mod join;
mod logs;
mod moment;
mod operator;
mod output;
mod placement;
mod policy;
mod protection;
mod schedule;
mod secret;
mod service;
mod stats;
mod strategy;
mod task;
mod task_set;
mod taskdef;
mod terminal;
mod token;
mod user;

use crate::roles;
use clap::{Args, Parser, Subcommand};
pub use context::write_managers;
pub use error::CliError;
pub use init::account;
pub use join::join_worker;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The open ECS: containers on your own machines, on managers that survive each other.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    after_help = "Examples:\n  muster dev                         a whole cluster in one process, for a laptop\n  \
    muster service list                services of the default cluster\n  \
    muster task run web --count 2      run a task definition twice\n\n\
    Start a cluster on machines: muster init --help"
)]
pub struct Arguments {
    #[command(flatten)]
    pub client: ClientArguments,
    #[command(subcommand)]
    command: Command,
}

/// Heading of the options that every command takes.
const GLOBAL: &str = "Options of every command";

/// How to reach a cluster; every command that talks to one takes these.
#[derive(Clone, Debug, Args)]
pub struct ClientArguments {
    /// Managers to ask, host:port, separated by commas; any of them will do.
    #[arg(long, global = true, help_heading = GLOBAL, env = "MUSTER_MANAGERS", value_delimiter = ',')]
    pub managers: Vec<String>,
    /// Directory with ca.pem, cert.pem and key.pem of the user [default: ~/.muster].
    #[arg(long, global = true, help_heading = GLOBAL, env = "MUSTER_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// table, or json for programs.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum,
        default_value_t = output::Format::Table)]
    pub output: output::Format,
    /// Seconds until a command gives up, retries and failovers included.
    #[arg(long, global = true, help_heading = GLOBAL, default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// Answer reads from the asked manager's own state, even if it is behind.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub stale: bool,
    /// Cluster that names without one belong to.
    #[arg(long, global = true, help_heading = GLOBAL, env = "MUSTER_CLUSTER", default_value = "default")]
    pub cluster: String,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is not allowed; allowed: 0.1 to 86400 seconds")),
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new cluster on this machine: its authority, its first manager, its join tokens.
    Init(init::Init),
    /// Make this machine a manager or a worker of an existing cluster.
    Join(join::Join),
    /// Run a manager (what the systemd unit calls).
    Manager(roles::ManagerArguments),
    /// Run an agent.
    Agent(muster_agent::program::Arguments),
    /// Run one manager and one worker in this process, loopback only, no configuration.
    Dev(roles::DevArguments),
    /// Clusters: groups of container instances and what runs on them.
    #[command(after_help = "Example:\n  muster cluster list")]
    Cluster {
        #[command(subcommand)]
        command: cluster::Command,
    },
    /// Task definitions, registered from files in ECS's JSON form.
    #[command(after_help = "Example:\n  muster taskdef register web.json")]
    Taskdef {
        #[command(subcommand)]
        command: taskdef::Command,
    },
    /// Make here what `aws ecs describe-task-definition` or `describe-services` printed there.
    Import(import::Import),
    /// Services keep a number of tasks running.
    #[command(
        after_help = "Example:\n  muster service create web --task-definition web --desired-count 6"
    )]
    Service {
        #[command(subcommand)]
        command: service::Command,
    },
    /// Tasks: run, look at, stop, read their logs and what they use, run commands in them.
    #[command(after_help = "Example:\n  muster task run migrate")]
    Task {
        #[command(subcommand)]
        command: task::Command,
    },
    /// Jobs run tasks until enough of them have succeeded.
    #[command(
        after_help = "Example:\n  muster job run import load-orders --completions 20 --parallelism 5"
    )]
    Job {
        #[command(subcommand)]
        command: job::Command,
    },
    /// Schedules run tasks and jobs at times: every so often, by the calendar, or once.
    #[command(
        after_help = "Example:\n  muster schedule create nightly backup --expression 'cron(30 2 * * ? *)' \
        --timezone Europe/Berlin"
    )]
    Schedule {
        #[command(subcommand)]
        command: schedule::Command,
    },
    /// Container instances: the worker machines.
    #[command(after_help = "Example:\n  muster instance list")]
    Instance {
        #[command(subcommand)]
        command: instance::Command,
    },
    /// Capacity providers: kept and shown; nothing is started or placed by them.
    #[command(after_help = "Example:\n  muster capacity-provider list")]
    CapacityProvider {
        #[command(subcommand)]
        command: capacity_provider::Command,
    },
    /// The managers themselves.
    #[command(after_help = "Example:\n  muster operator raft status")]
    Operator {
        #[command(subcommand)]
        command: operator::Command,
    },
    /// Users and their certificates.
    #[command(after_help = "Example:\n  muster user create ci --role operator --out ./ci-identity")]
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Access keys, for ECS's own tools.
    #[command(after_help = "Example:\n  muster access-key create --user ci")]
    AccessKey {
        #[command(subcommand)]
        command: access_key::Command,
    },
    /// Policies in IAM's language, of users and roles.
    #[command(after_help = "Example:\n  muster policy put blue --user ann --file blue.json\n  \
        muster policy put --help               a whole policy to start from")]
    Policy {
        #[command(subcommand)]
        command: policy::Command,
    },
    /// Secrets: what tasks are given by name, and nobody is shown.
    #[command(after_help = "Example:\n  printf %s \"$PASSWORD\" | muster secret create prod/db")]
    Secret {
        #[command(subcommand)]
        command: secret::Command,
    },
    /// Configs: what tasks are given by name, and users may read.
    #[command(after_help = "Example:\n  muster config create prod/app.env app.env")]
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Alarms: what monitoring says, for deployments to fail by.
    #[command(after_help = "Example:\n  muster alarm set shop-5xx ALARM")]
    Alarm {
        #[command(subcommand)]
        command: alarm::Command,
    },
    /// Task sets: the revisions of a service that something else deploys.
    #[command(after_help = "Example:\n  muster task-set list shop")]
    TaskSet {
        #[command(subcommand)]
        command: task_set::Command,
    },
    /// Join tokens.
    #[command(after_help = "Example:\n  muster token rotate worker")]
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
    /// What happens: service events and task transitions, as they are applied.
    Events(events::Events),
}

/// Runs the command and says how it ended.
pub async fn run(arguments: Arguments) -> ExitCode {
    let client = arguments.client;
    let result = match arguments.command {
        Command::Init(init) => init.run(&client),
        Command::Join(join) => join.run(&client).await,
        Command::Manager(arguments) => roles::manager(arguments).await.map_err(CliError::Role),
        Command::Agent(arguments) => Err(CliError::Role(roles::become_agent(&arguments))),
        Command::Dev(arguments) => roles::dev(arguments).await.map_err(CliError::Role),
        // Asks no cluster.
        Command::Schedule { command: schedule::Command::Plan(plan) } => plan.run(client.output),
        other => match context::Context::open(client) {
            Ok(context) => other.ask(&context).await,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever read our output has what they wanted.
            if !matches!(error, CliError::PipeClosed) {
                eprintln!("muster: {error}");
            }
            error.exit_code()
        }
    }
}

impl Command {
    /// The commands that need a cluster to talk to.
    async fn ask(self, context: &context::Context) -> Result<(), CliError> {
        match self {
            Self::Cluster { command } => command.run(context).await,
            Self::Taskdef { command } => command.run(context).await,
            Self::Import(import) => import.run(context).await,
            Self::Service { command } => command.run(context).await,
            Self::Task { command } => command.run(context).await,
            Self::Job { command } => command.run(context).await,
            Self::Schedule { command } => command.run(context).await,
            Self::Instance { command } => command.run(context).await,
            Self::CapacityProvider { command } => command.run(context).await,
            Self::Operator { command } => command.run(context).await,
            Self::User { command } => command.run(context).await,
            Self::AccessKey { command } => command.run(context).await,
            Self::Policy { command } => command.run(context).await,
            Self::Secret { command } => command.run(context).await,
            Self::Alarm { command } => command.run(context).await,
            Self::TaskSet { command } => command.run(context).await,
            Self::Config { command } => command.run(context).await,
            Self::Token { command } => command.run(context).await,
            Self::Events(events) => events.run(context).await,
            Self::Init(_) | Self::Join(_) | Self::Manager(_) | Self::Agent(_) | Self::Dev(_) => {
                Ok(())
            }
        }
    }
}
