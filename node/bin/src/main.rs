//! `muster`: a manager, both roles on a laptop, and the command line.

mod cli;
mod config;
mod files;
mod roles;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    muster_process::run("muster", cli::run(cli::Arguments::parse()))
}
