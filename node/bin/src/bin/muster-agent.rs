//! `muster-agent`: the agent alone, so that a worker carries neither RocksDB nor the command line.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    muster::muster_agent(muster::AgentArguments::parse())
}
