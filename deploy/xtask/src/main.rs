//! One front door for people who work on the code: `cargo xtask ci`, `tidy`, `sim`, `mutants`,
//! `fuzz`, `lab`.

mod fuzz;
mod mutants;
mod tidy;

use std::process::{Command, ExitCode};
use std::time::Instant;

const HELP: &str = "\
cargo xtask ci      everything CI runs, in its order
cargo xtask tidy    the style rules that a program can check
cargo xtask sim     a simulated cluster under faults, from seeds: --seed N, --seeds M, --shrink
cargo xtask model   every order of events of the protocols, and the bug behind each guard: --small
cargo xtask mutants seeded bugs, each of which the simulator or a test must notice: --only NAME
cargo xtask fuzz    every parser, guided by coverage: --target NAME, --seconds N, --replay FILE
cargo xtask lab     many hosts on this machine: deploy/lib/lab (as root)
";

/// What `ci` runs, cheapest first. One profile and one set of features for all, so that RocksDB is
/// compiled once.
const CI: &[(&str, &[&str])] = &[
    ("formatting", &["fmt", "--all", "--check"]),
    ("build", &["build", "--workspace", "--all-targets"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
    (
        "simulation, 500 seeds",
        // Without -p: with the features of all, as it was built.
        &["run", "-q", "--bin", "muster-sim", "--", "--seeds", "500", "--quiet"],
    ),
    ("tests", &["test", "--workspace", "--no-fail-fast"]),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("ci") => ci(),
        Some("tidy") => tidy::check(&root()),
        Some("sim") => chaos(&["--bin", "muster-sim"], arguments),
        Some("model") => chaos(&["--release", "--bin", "muster-model-check"], arguments),
        Some("mutants") => mutants::run(&root(), arguments),
        Some("fuzz") => fuzz::run(&root(), arguments),
        Some("lab") => run(&root().join("deploy/lib/lab").to_string_lossy(), arguments),
        _ => {
            print!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program of the chaos crate.
fn chaos(which: &[&str], arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let fixed = ["run", "-q", "-p", "muster-chaos"].iter().chain(which).chain(&["--"]);
    run("cargo", fixed.map(ToString::to_string).chain(arguments))
}

/// The repository's top, from where cargo was told this crate is.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

fn ci() -> Result<(), String> {
    let started = Instant::now();
    tidy::check(&root())?;
    for (what, words) in CI {
        let began = Instant::now();
        println!("==> {what}: cargo {}", words.join(" "));
        // What makes the next build faster is never used, and takes 4 GB of disk.
        done(Command::new("cargo").args(*words).env("CARGO_INCREMENTAL", "0"))?;
        println!("    {what} done in {} s", began.elapsed().as_secs());
    }
    println!("everything passed in {} s", started.elapsed().as_secs());
    Ok(())
}

fn run(program: &str, words: impl Iterator<Item = String>) -> Result<(), String> {
    done(Command::new(program).args(words))
}

fn done(command: &mut Command) -> Result<(), String> {
    let status = command.current_dir(root()).status();
    let status = status.map_err(|error| format!("starting {command:?}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {status}")),
    }
}
