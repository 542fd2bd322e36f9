//! `muster`: a manager, both roles on a laptop, and the command line.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    muster::muster(muster::Arguments::parse())
}
