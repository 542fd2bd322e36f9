//! `cargo xtask sim`: lives through seeds of the simulator and says what broke.

use muster_chaos::sim::{self, Counts, Outcome, Part, Violation};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: cargo xtask sim [--seed N] [--seeds M] [--trace] [--shrink] [--stop]
  --seed N       the first seed; alone: only this one
  --seeds M      how many seeds from there on (default 100)
  --trace        print every event
  --shrink       a seed that fails: find a shorter history that breaks the same law
  --stop         end at the first seed that fails
  --quiet        a line only for seeds that fail
what --shrink prints, to replay a part of a seed:
  --no-faults 0-3,7      faults that do not strike
  --no-wishes 0:1-5/2:7  wishes that are not made, by user
  --calm-at MS           the faults end then
  --agents N             no more machines than these
";

/// Simulated minutes per real minute on one core: below it a night is too short for 10,000 seeds.
const SPEED_MIN: f64 = 1000.0;
/// Histories that one shrinking may try.
const SHRINK_RUNS_MAX: u64 = 600;

#[derive(Default)]
struct Options {
    first: Option<u64>,
    number: Option<u64>,
    part: Part,
    trace: bool,
    shrink: bool,
    stop: bool,
    quiet: bool,
}

/// All seeds together.
#[derive(Default)]
struct Sum {
    seeds: u64,
    broken: u64,
    simulated_ms: u64,
    /// Seconds, without what shrinking took.
    real: f64,
    healed_ms_max: u64,
    counts: Counts,
    hash: u64,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprint!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let first = options.first.unwrap_or(1);
    let number = options.number.unwrap_or(if options.first.is_some() { 1 } else { 100 });
    let mut sum = Sum::default();
    for seed in first..first.saturating_add(number) {
        let began = Instant::now();
        let outcome = sim::run_part(seed, &options.part, options.trace);
        if !options.quiet || outcome.violation.is_some() {
            println!("{outcome}");
        }
        sum.real += began.elapsed().as_secs_f64();
        sum.add(&outcome);
        if let Some(violation) = &outcome.violation {
            explain(&outcome, violation, &options);
            if options.shrink {
                shrink(seed, &options.part);
            }
            if options.stop {
                break;
            }
        }
    }
    sum.print();
    if sum.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explain(outcome: &Outcome, violation: &Violation, options: &Options) {
    if !options.trace {
        for line in &outcome.tail {
            println!("    {line}");
        }
    }
    let seed = outcome.seed;
    let part = &options.part;
    println!("  seed {seed} breaks the law of {}: {}", spoken(violation), violation.what);
    println!("  see all of it: cargo xtask sim --seed {seed}{part} --trace");
    println!("  make it shorter: cargo xtask sim --seed {seed}{part} --shrink");
}

fn spoken(violation: &Violation) -> String {
    violation.law.replace('_', " ")
}

fn shrink(seed: u64, part: &Part) {
    let Some(shrunk) = sim::shrink(seed, part, SHRINK_RUNS_MAX) else { return };
    let outcome = &shrunk.outcome;
    let Some(violation) = &outcome.violation else { return };
    for line in &outcome.tail {
        println!("    {line}");
    }
    println!(
        "  shrunk in {} runs to {} faults, {} wishes, {} machines and {:.1} s; it breaks the law \
         of {}: {}",
        shrunk.runs,
        outcome.struck.len(),
        outcome.wished.len(),
        outcome.counts.agents,
        outcome.simulated.0 as f64 / 1000.0,
        spoken(violation),
        violation.what,
    );
    println!("  see it: cargo xtask sim --seed {seed}{} --trace", shrunk.part);
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.broken += u64::from(outcome.violation.is_some());
        self.simulated_ms += outcome.simulated.0;
        self.hash = self.hash.rotate_left(5) ^ outcome.hash;
        self.healed_ms_max = self.healed_ms_max.max(outcome.counts.healed_ms);
        self.counts.add(&outcome.counts);
    }

    fn print(&self) {
        let real = self.real;
        let minutes = self.simulated_ms as f64 / 60_000.0;
        let speed = self.simulated_ms as f64 / 1000.0 / real;
        let c = &self.counts;
        println!(
            "{} seeds, {} broken; {minutes:.0} simulated minutes in {real:.0} s; {} machines, {} \
             entries, {} takeovers, {} faults, {} disks lost, {} snapshots, {} stale plans and {} \
             stale orders refused, {} unknown outcomes, {} wishes, {} acknowledged writes, {} \
             containers, {} tags settled, {} unhealthy tasks given up, {} for other bits, \
             {} task sets made and {} gone, {} strict ones killed by their shims; hash {:016x}",
            self.seeds,
            self.broken,
            c.agents,
            c.entries,
            c.takeovers,
            c.faults,
            c.disks_lost,
            c.snapshots,
            c.stale_plans,
            c.stale_orders,
            c.unknown,
            c.wishes,
            c.acknowledged,
            c.containers,
            c.pins,
            c.unhealthy,
            c.strays,
            c.sets_made,
            c.sets_gone,
            c.leashes,
            self.hash,
        );
        println!("takeovers met deployments at: {}", c.met);
        let verdict = |ok: bool| if ok { "ok" } else { "short" };
        let (broken, ok) = (self.broken, verdict(self.broken == 0));
        println!("figure sim.broken_seeds {broken} seeds target <= 0 {ok}");
        println!("figure sim.seeds {} seeds target >= 1 {}", self.seeds, verdict(self.seeds > 0));
        let unmet = c.met.unmet().len();
        println!("figure sim.phases_unmet {unmet} phases target <= 0 {}", verdict(unmet == 0));
        let ok = verdict(speed >= SPEED_MIN);
        println!("figure sim.speed {speed:.0} min/min target >= {SPEED_MIN:.0} {ok}");
        let healed = self.healed_ms_max as f64 / 1000.0;
        println!("figure sim.healed_max {healed:.1} s target <= 540 {}", verdict(healed <= 540.0));
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => options.trace = true,
            "--shrink" => options.shrink = true,
            "--stop" => options.stop = true,
            "--quiet" => options.quiet = true,
            _ => {
                let value = words.next().unwrap_or_default();
                let number =
                    || value.parse().map_err(|_| format!("{word}: {value:?} is no number"));
                match word.as_str() {
                    "--seed" => options.first = Some(number()?),
                    "--seeds" => options.number = Some(number()?),
                    _ if options.part.take(&word, &value)? => {}
                    _ => return Err(format!("{word:?} is not an option")),
                }
            }
        }
    }
    Ok(options)
}
