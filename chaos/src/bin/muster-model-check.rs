//! `cargo xtask model`: proves each model with all its guards, then takes out one guard at a time
//! and shows the bug that it prevents.

use muster_chaos::model::assign::Assign;
use muster_chaos::model::bounds::Bounds;
use muster_chaos::model::takeover::Takeover;
use muster_chaos::model::{self, Guarded, Size};
use std::fmt::Debug;
use std::hash::Hash;
use std::process::ExitCode;
use std::time::Instant;

/// The whole run, on one core.
const SECONDS_MAX: f64 = 600.0;

#[derive(Default)]
struct Sum {
    states: usize,
    /// Properties broken with all guards on, or never reached.
    bugs: usize,
    guards: usize,
    shown: usize,
}

fn main() -> ExitCode {
    let size = match std::env::args().nth(1).as_deref() {
        None => Size::Full,
        Some("--small") => Size::Small,
        Some(word) => {
            eprintln!("{word:?} is not an option\nusage: cargo xtask model [--small]");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let mut sum = Sum::default();
    prove::<Takeover>(size, &mut sum);
    prove::<Assign>(size, &mut sum);
    prove::<Bounds>(size, &mut sum);
    let seconds = began.elapsed().as_secs_f64();
    let ok = |good: bool| if good { "ok" } else { "short" };
    println!("figure model_states {} states target >= 1 ok", sum.states);
    println!("figure model_bugs {} bugs target <= 0 {}", sum.bugs, ok(sum.bugs == 0));
    println!(
        "figure model_guards_shown {} guards target >= {} {}",
        sum.shown,
        sum.guards,
        ok(sum.shown == sum.guards)
    );
    println!(
        "figure model_time {seconds:.0} s target <= {SECONDS_MAX} {}",
        ok(seconds <= SECONDS_MAX)
    );
    match sum.bugs == 0 && sum.shown == sum.guards {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn prove<M>(size: Size, sum: &mut Sum)
where
    M: Guarded + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let verdict = model::check(M::new(size, None));
    let (states, depth) = (verdict.states, verdict.depth);
    sum.states += states;
    let seconds = verdict.took.as_secs_f64();
    print!("{}: all guards on: ", M::NAME);
    match &verdict.broken {
        None => println!("held; {states} states, {depth} steps deep, {seconds:.1} s"),
        Some((property, path)) => {
            println!("BROKEN: {property}, in {} steps:", path.len());
            print_path(path);
            sum.bugs += 1;
        }
    }
    for property in &verdict.never {
        println!("  never seen: {property}: the model proves nothing about it");
        sum.bugs += 1;
    }
    for (position, guard) in M::GUARDS.iter().enumerate() {
        let verdict = model::check(M::new(size, Some(position)));
        sum.guards += 1;
        sum.states += verdict.states;
        print!("{}: without \"{}\" ({}): ", M::NAME, guard.name, guard.code);
        match &verdict.broken {
            None => println!("NO BUG FOUND in {} states", verdict.states),
            Some((property, path)) => {
                sum.shown += 1;
                println!("broken: {property}; {} steps", path.len());
                println!("  {}", guard.loses);
                print_path(path);
            }
        }
    }
}

fn print_path(path: &[String]) {
    for (number, step) in (1..).zip(path) {
        println!("    {number}. {step}");
    }
}
