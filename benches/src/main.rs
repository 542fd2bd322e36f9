//! Measures Muster beside its floor (what the machine can do) and its peers, in one run.
//!
//! `cargo run --release -p muster-benches -- commit | failover | start | footprint | ecs | decide |
//! place | latency | idle | replace | roll | state`. Each prints the machine's facts first and ends
//! with one line per target: `figure NAME VALUE UNIT target OP VALUE ok|short`.

mod agent;
mod certificates;
mod commit;
mod curve;
mod decide;
mod ecs;
mod etcd;
mod facts;
mod failover;
mod figure;
mod fill;
mod fleet;
mod footprint;
mod hollow;
mod idle;
mod latency;
mod load;
mod local;
mod moto;
mod place;
mod plans;
mod replace;
mod roll;
mod start;
mod state;
mod tags;
mod usage;
mod watch;
mod wire;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The load generator shares the machine's cores with what it measures: what it takes is missing
/// from both systems, and most from the faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures Muster beside the machine's floor and its peers")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Committed writes per second and their latency, beside etcd.
    Commit(commit::Commit),
    /// Kill -9 of the leader to the first acknowledged write, beside etcd.
    Failover(failover::Failover),
    /// Create to running with a cached image, over bare runc.
    Start(start::Start),
    /// Binary size, memory, and time from empty disks to a ready cluster.
    Footprint,
    /// CPU per call of the ECS wire protocol, over gRPC and beside moto_server.
    Ecs(ecs::Ecs),
    /// Placement decisions per second on one core, and how good they are.
    Decide(decide::Decide),
    /// Placements per second from a service's creation to what a watch tells.
    Place(place::Place),
    /// Create to assigned, on an idle cluster and on a busy one.
    Latency(latency::Latency),
    /// A worker's death, and a zone's, to its tasks being assigned elsewhere.
    Replace(replace::Replace),
    /// A rolling update over the least time it can take; also with leaders killed.
    Roll(roll::Roll),
    /// What a million tasks take of a manager, and how long a new one needs for them.
    State(state::State),
    /// What thousands of connected agents cost a leader, and how they follow the next one.
    Idle(idle::Idle),
    /// A process of hollow agents, which the benches of a whole cluster start.
    #[command(hide = true)]
    Fleet(fleet::process::Fleet),
}

/// Everything that can go wrong while measuring, as text: a bench is read by people.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().bench {
        Bench::Commit(commit) => commit.run().await,
        Bench::Failover(failover) => failover.run().await,
        Bench::Start(start) => start.run().await,
        Bench::Footprint => footprint::run().await,
        Bench::Ecs(ecs) => ecs.run().await,
        Bench::Decide(decide) => decide.run(),
        Bench::Place(place) => place.run().await,
        Bench::Latency(latency) => latency.run().await,
        Bench::Replace(replace) => replace.run().await,
        Bench::Roll(roll) => roll.run().await,
        Bench::State(state) => state.run().await,
        Bench::Idle(idle) => idle.run().await,
        Bench::Fleet(fleet) => fleet.run().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-benches: {error}");
            ExitCode::FAILURE
        }
    }
}
