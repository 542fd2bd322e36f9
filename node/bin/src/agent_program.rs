//! The program `muster-agent`, and how `muster agent` becomes it.
//!
//! A program of its own because of its memory on every worker: docs/decisions/0007.

use crate::roles::{self, RoleError};
use clap::Parser;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const NAME: &str = "muster-agent";

/// Run an agent: it starts and watches this machine's containers.
#[derive(Debug, Parser)]
#[command(
    name = "muster-agent",
    version,
    after_help = "Example:\n  muster-agent --config /etc/muster/agent.toml"
)]
pub struct Arguments {
    #[command(flatten)]
    agent: roles::AgentArguments,
}

pub async fn run(arguments: Arguments) -> ExitCode {
    match roles::agent(arguments.agent).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Turns this process into `muster-agent`, which lies beside this program. Returns only if it
/// cannot.
pub fn become_agent(arguments: &roles::AgentArguments) -> RoleError {
    let here = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/muster"));
    let program = here.with_file_name(NAME);
    let error = Command::new(&program).arg("--config").arg(&arguments.config).exec();
    RoleError::Failed(format!(
        "starting {}: {error}; install {NAME} beside {}",
        program.display(),
        here.display()
    ))
}
