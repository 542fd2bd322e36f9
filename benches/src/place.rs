//! `place`: placements per second from services' creation to what a watch tells, durable on three
//! managers, with agents that receive their orders and without any.
//!
//! The time runs from before the first call until a follower's watch has told of the last task's
//! instance. Two clusters are measured, one after the other. In the first the agents are cut off as
//! soon as they have joined; their leases still run for some seconds, so the scheduler has their
//! instances and nobody to tell. In the second, services are made at the pace that is asked for
//! while the agents only listen, to see how soon they hear of their tasks: in a flood that would be
//! how long the flood is, and ten thousand agents' reports are work for this machine's cores that
//! ten thousand machines would do. Then the agents report their tasks as RUNNING, and services are
//! made as fast as they are accepted, then at that pace again. At last these agents are cut off as
//! well: the first cluster's measurement once more, beside all the tasks that have come together.

use crate::facts::{self, Fdatasync, quantile_ms};
use crate::figure::{Good, figure};
use crate::fill::Filler;
use crate::fleet::{Fleet, Received, Reporting};
use crate::hollow::now_us;
use crate::load::histogram;
use crate::local::{self, Local};
use crate::plans::Plans;
use crate::watch::Placements;
use crate::{Outcome, usage};
use clap::Args;
use hdrhistogram::Histogram;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub struct Place {
    /// Registered instances, each with its agent.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Tasks placed with agents connected.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// Tasks placed while nobody has to be told.
    #[arg(long, default_value_t = 200_000)]
    alone: usize,
    /// Tasks of each service.
    #[arg(long, default_value_t = 1000)]
    each: usize,
    /// Tasks per second of the parts with a pace; each lasts ten seconds.
    #[arg(long, default_value_t = 10_500)]
    pace: usize,
    /// CreateService calls under way.
    #[arg(long, default_value_t = 8)]
    clients: usize,
}

const RUN_LOOK: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_secs(10);
/// How long a part with agents may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Of the parts with a pace: how long, and tasks of each service.
const PACED_SECONDS: usize = 10;
const PACED_EACH: usize = 100;
/// After the last placement its order is under way for this long, at most.
const DELIVERY_WAIT: Duration = Duration::from_secs(3);

/// How services come.
#[derive(Clone, Copy)]
enum Load {
    Flood { tasks: usize, each: usize, clients: usize },
    Paced { tasks: usize, each: usize, per_second: f64 },
}

impl Load {
    fn tasks(self) -> usize {
        match self {
            Self::Flood { tasks, .. } | Self::Paced { tasks, .. } => tasks,
        }
    }

    async fn put_on(self, filler: &mut Filler) -> Outcome<()> {
        match self {
            Self::Flood { tasks, each, clients } => filler.fill(tasks, each, clients).await,
            Self::Paced { tasks, each, per_second } => filler.pace(tasks, each, per_second).await,
        }
    }
}

/// What one part measured.
struct Part {
    per_second: f64,
    commit_p99_ms: f64,
}

impl Place {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        let floor = facts::print(here.path())?;
        println!("\nwithout agents:");
        let alone = self.without_agents(World::form(self.instances).await?, &floor).await?;

        let mut world = World::form(self.instances).await?;
        let (tasks, per_second) = (self.pace * PACED_SECONDS, self.pace as f64);
        let pace = Load::Paced { tasks, each: PACED_EACH, per_second };
        println!("\nwith agents that only listen, {per_second} tasks/s:");
        world.fleet.report(Reporting::Nothing).await?;
        let paced = world.part(pace, LIMIT, &floor).await?;
        let heard = world.told(here.path(), tasks).await?;

        println!("\nwith agents:");
        world.fleet.report(Reporting::Running).await?;
        world.all_run(tasks).await?;
        let with = world.part(self.flood(self.tasks), LIMIT, &floor).await?;
        world.told(here.path(), self.tasks).await?;

        println!("\nwith agents, {per_second} tasks/s:");
        let busy = world.part(pace, LIMIT, &floor).await?;
        let heard_busy = world.told(here.path(), tasks).await?;

        println!("\nwithout agents, beside all these tasks:");
        self.without_agents(world, &floor).await?;
        println!();
        let p99 = |heard| quantile_ms(heard, 0.99);
        figure("place.with_agents", with.per_second, "/s", Good::AtLeast, 10_000.0);
        figure("place.paced", paced.per_second, "/s", Good::AtLeast, 10_000.0);
        figure("place.delivery_p99", p99(&heard), "ms", Good::AtMost, 200.0);
        figure("place.paced_reporting", busy.per_second, "/s", Good::AtLeast, 10_000.0);
        figure("place.delivery_reporting_p99", p99(&heard_busy), "ms", Good::AtMost, 200.0);
        figure("place.alone", alone.per_second, "/s", Good::AtLeast, 50_000.0);
        figure("place.commit_p99", alone.commit_p99_ms, "ms", Good::AtMost, 50.0);
        Ok(())
    }

    fn flood(&self, tasks: usize) -> Load {
        Load::Flood { tasks, each: self.each, clients: self.clients }
    }

    /// Cuts the agents off, and measures before their leases are over.
    async fn without_agents(&self, world: World, floor: &Fdatasync) -> Outcome<Part> {
        let World { local, fleet, mut filler, mut placements } = world;
        let load = (self.flood(self.alone), fleet.cut_off().await);
        part(&local, &mut filler, &mut placements, load, floor).await
    }
}

/// Three managers with their agents, who makes services, and what a follower's watch tells.
struct World {
    local: Local,
    fleet: Fleet,
    filler: Filler,
    placements: Placements,
}

impl World {
    async fn form(instances: usize) -> Outcome<Self> {
        let local = Local::form(3, "lan").await?;
        let fleet = Fleet::connect(&local, instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        tokio::time::sleep(SETTLE).await;
        let filler = Filler::new(&local).await?;
        let follower = (local.leader().await? + 1) % 3;
        let placements = Placements::start(local.channel(&local::address(follower))?).await?;
        Ok(Self { local, fleet, filler, placements })
    }

    /// Waits until all tasks that were placed so far are reported as RUNNING.
    async fn all_run(&self, tasks: usize) -> Outcome<()> {
        let began = Instant::now();
        while self.filler.running().await? < tasks {
            if began.elapsed() > LIMIT {
                return Err(format!("not all {tasks} tasks run after {LIMIT:?}").into());
            }
            tokio::time::sleep(RUN_LOOK).await;
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    async fn part(&mut self, load: Load, limit: Duration, floor: &Fdatasync) -> Outcome<Part> {
        part(&self.local, &mut self.filler, &mut self.placements, (load, limit), floor).await
    }

    async fn told(&mut self, dir: &Path, orders: usize) -> Outcome<Histogram<u64>> {
        told(&mut self.fleet, dir, &self.placements, orders).await
    }
}

async fn part(
    local: &Local,
    filler: &mut Filler,
    placements: &mut Placements,
    (load, limit): (Load, Duration),
    floor: &Fdatasync,
) -> Outcome<Part> {
    let leader = local.leader().await?;
    let (before, skip) = (Plans::of(leader).await?, placements.count());
    let idle = cpus(local)?;
    filler.calls.reset();
    let (tasks, began_us) = (load.tasks(), now_us());
    let all = async {
        load.put_on(filler).await?;
        placements.wait(skip + tasks, LIMIT).await
    };
    match tokio::time::timeout(limit, all).await {
        Ok(all) => all?,
        Err(_) => println!("cut off after {limit:?}:"),
    }
    let placed = placements.after(skip);
    let last_us = placed.iter().map(|placed| placed.at_us).max().unwrap_or(began_us);
    let took = Duration::from_micros(last_us.saturating_sub(began_us).max(1));
    let used = cpus(local)?;
    let plans = Plans::of(leader).await?;
    let part = Part {
        per_second: placed.len() as f64 / took.as_secs_f64(),
        commit_p99_ms: plans.quantile_ms(&before, 0.99),
    };
    let number = plans.since(&before).max(1.0);
    println!(
        "{} of {tasks} tasks in {took:.2?}: {:.0}/s; CreateService p50 {:.1}, p99 {:.1} ms",
        placed.len(),
        part.per_second,
        quantile_ms(&filler.calls, 0.5),
        quantile_ms(&filler.calls, 0.99)
    );
    let p50 = plans.quantile_ms(&before, 0.5);
    println!(
        "{number:.0} plans of {:.0} placements: commit p50 {p50:.1} ms, p99 {:.1} ms; \
         p50 over fdatasync's: {:.0}",
        placed.len() as f64 / number,
        part.commit_p99_ms,
        p50 / floor.p50_ms
    );
    for index in 0..3 {
        let role = if index == leader { "leader" } else { "follower" };
        let busy = (used[index] - idle[index]).as_secs_f64() / took.as_secs_f64() * 100.0;
        let rss = local.pid(index).and_then(usage::rss_mib).unwrap_or_default();
        println!("{role} {index}: CPU {busy:.0} % of a core, {rss:.0} MiB");
    }
    Ok(part)
}

/// How much later than the watch the agents heard of what they were told since the last time.
async fn told(
    fleet: &mut Fleet,
    dir: &Path,
    placements: &Placements,
    orders: usize,
) -> Outcome<Histogram<u64>> {
    tokio::time::sleep(DELIVERY_WAIT).await;
    let received = fleet.received(dir).await?;
    println!("orders received: {} of {orders}", received.len());
    let delivered = delivery(&placements.times(), &received);
    let quantile = |q| quantile_ms(&delivered, q);
    println!(
        "from the watch's word to the agent's: p50 {:.1} ms, p99 {:.1} ms",
        quantile(0.5),
        quantile(0.99)
    );
    tokio::time::sleep(SETTLE).await;
    Ok(delivered)
}

fn cpus(local: &Local) -> Outcome<Vec<Duration>> {
    (0..3).map(|index| usage::cpu(local.pid(index).ok_or("a manager has ended")?)).collect()
}

/// How much later than the watch each agent heard of its task: nothing, where it was first.
fn delivery(placed: &HashMap<u128, u64>, received: &[Received]) -> Histogram<u64> {
    let mut delays = histogram();
    for order in received {
        if let Some(seen) = placed.get(&order.task) {
            delays.saturating_record(order.at_us.saturating_sub(*seen).max(1));
        }
    }
    delays
}
