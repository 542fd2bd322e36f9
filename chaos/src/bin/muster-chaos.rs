//! `muster-chaos run`: breaks a real cluster on this machine, row by row of the fault table.

use clap::{Args, Parser, Subcommand};
use muster_chaos::campaign::{self, INTERRUPTED, Options, ROWS, What};
use muster_chaos::campaign::{SOAK_MINUTES_MAX, SOAK_MINUTES_MIN};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Breaks a real cluster and says what held. Needs root; leaves nothing behind.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the campaign; exit status 0 only if every invariant held.
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// Each fault at most 10 s, about 25 minutes altogether (the default).
    #[arg(long, conflicts_with = "full")]
    short: bool,
    /// The whole table: hours.
    #[arg(long)]
    full: bool,
    /// Only this row; may be given more than once.
    #[arg(long = "row")]
    rows: Vec<String>,
    /// No faults: the workload alone for so many minutes (2 to 2880); memory, descriptors, threads
    /// and disk of every process must end within 10 % of their start.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["full", "rows", "times"],
          value_parser = clap::value_parser!(u64).range(SOAK_MINUTES_MIN..=SOAK_MINUTES_MAX))]
    soak: Option<u64>,
    /// Strike each row so often, instead of as often as the table says.
    #[arg(long)]
    times: Option<u32>,
    /// The seed of everything that is drawn by lot.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory for report.txt, report.json and report.html.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// Print the rows and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let Verb::Run(run) = Line::parse().command;
    if run.list {
        list();
        return ExitCode::SUCCESS;
    }
    let unknown = |name: &&String| !ROWS.iter().any(|row| row.name == **name);
    if let Some(name) = run.rows.iter().find(unknown) {
        eprintln!("row {name:?}: there is none; muster-chaos run --list names them");
        return ExitCode::from(2);
    }
    if let Err(error) = catch_signals() {
        eprintln!("signals cannot be caught: {error}");
        return ExitCode::FAILURE;
    }
    let Run { full, rows, times, seed, out, .. } = run;
    let soak = run.soak.map(|minutes| Duration::from_secs(minutes * 60));
    match campaign::run(&Options { full, rows, times, seed, soak, out }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("muster-chaos: {why}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("{:<18} {:>5} {:>5}  fault", "row", "short", "full");
    for row in ROWS {
        match row.what {
            What::Strike(_) => {
                println!("{:<18} {:>5} {:>5}  {}", row.name, row.short, row.full, row.fault);
            }
            What::NotBuilt(why) => {
                println!("{:<18} {:>11}  {}: {why}", row.name, "not built", row.fault);
            }
        }
    }
}

/// The campaign ends in order, with a report of what it saw so far.
fn catch_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                eprintln!("interrupted: the campaign ends");
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(())
}
