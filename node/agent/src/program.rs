//! The agent as a process: its file, its identity, its end.

use crate::config::{AGENT_CONFIG, AgentConfig};
use clap::Args;
use muster_identity::Identity;
use muster_process::{clock, config, telemetry};
use std::path::PathBuf;
use std::process::ExitCode;

/// The program's name; `muster agent` starts the one beside it.
pub const NAME: &str = "muster-agent";

/// Run an agent (what the systemd unit calls).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster agent --config /etc/muster/agent.toml")]
pub struct Arguments {
    /// What `muster join` wrote.
    #[arg(long, default_value = AGENT_CONFIG)]
    pub config: PathBuf,
}

/// Why the process cannot go on.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until SIGTERM or SIGINT; containers go on without it.
pub async fn run(arguments: Arguments) -> ExitCode {
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), Failure> {
    let config: AgentConfig = config::read(&arguments.config, "muster join")?;
    config.check()?;
    let telemetry = telemetry::start("agent", &config.telemetry)
        .await
        .map_err(|error| format!("telemetry: {error}"))?;
    if telemetry.exports_spans() {
        crate::spans::adopt_with(telemetry::adopt_trace);
    }
    let identity = Identity::load(&config.identity_dir())?;
    let stop = muster_process::stop_on_signal()?;
    let result = crate::run(config, identity, clock::start(), stop).await;
    telemetry.finish();
    Ok(result?)
}
