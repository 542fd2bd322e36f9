//! `cargo xtask sim`: lives through seeds of the simulator and says what broke.

use muster_chaos::sim::{self, Counts, Outcome};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: cargo xtask sim [--seed N] [--seeds M] [--trace]
  --seed N    the first seed; alone: only this one
  --seeds M   how many seeds from there on (default 100)
  --trace     print every event
";

struct Options {
    first: u64,
    number: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprint!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let mut broken = 0;
    let mut simulated = 0;
    let mut sum = Counts::default();
    let mut hash = 0u64;
    for seed in options.first..options.first.saturating_add(options.number) {
        let outcome = sim::run(seed, options.trace);
        println!("{outcome}");
        if let Some(violation) = &outcome.violation {
            broken += 1;
            explain(&outcome, &violation.law.replace('_', " "), &violation.what, options.trace);
        }
        simulated += outcome.simulated.0;
        hash = hash.rotate_left(5) ^ outcome.hash;
        add(&mut sum, &outcome.counts);
    }
    let real = began.elapsed().as_secs_f64();
    println!(
        "{} seeds, {broken} broken; {:.0} simulated minutes in {real:.0} s: {:.0} per minute; \
         {} entries, {} takeovers, {} faults, {} stale plans and {} stale orders refused, \
         {} unknown outcomes, {} acknowledged writes, {} containers; hash {hash:016x}",
        options.number,
        simulated as f64 / 60_000.0,
        simulated as f64 / 1000.0 / real,
        sum.entries,
        sum.takeovers,
        sum.faults,
        sum.stale_plans,
        sum.stale_orders,
        sum.unknown,
        sum.acknowledged,
        sum.containers,
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explain(outcome: &Outcome, law: &str, what: &str, traced: bool) {
    if !traced {
        for line in &outcome.tail {
            println!("    {line}");
        }
    }
    let seed = outcome.seed;
    println!("  seed {seed} breaks the law of {law}: {what}");
    println!("  see all of it: cargo xtask sim --seed {seed} --trace");
}

fn add(sum: &mut Counts, one: &Counts) {
    sum.entries += one.entries;
    sum.takeovers += one.takeovers;
    sum.faults += one.faults;
    sum.stale_plans += one.stale_plans;
    sum.stale_orders += one.stale_orders;
    sum.unknown += one.unknown;
    sum.acknowledged += one.acknowledged;
    sum.containers += one.containers;
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut first, mut number, mut trace) = (None, None, false);
    while let Some(word) = words.next() {
        let mut value = || {
            let text = words.next().unwrap_or_default();
            let number: Result<u64, _> = text.parse();
            number.map_err(|_| format!("{word}: {text:?} is not a number"))
        };
        match word.as_str() {
            "--seed" => first = Some(value()?),
            "--seeds" => number = Some(value()?),
            "--trace" => trace = true,
            _ => return Err(format!("{word:?} is not an option")),
        }
    }
    let number = number.unwrap_or(if first.is_some() { 1 } else { 100 });
    Ok(Options { first: first.unwrap_or(1), number, trace })
}
