//! `muster-agent`: the agent alone, without what managers and the command line are made of.

use clap::Parser;
use muster_agent::program::{Arguments, NAME, run};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = NAME, version)]
struct Program {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    muster_process::run(NAME, run(Program::parse().arguments))
}
