//! `place`: placements per second from services' creation to what a watch tells, durable on three
//! managers; first with agents that receive their orders and report, then without any.
//!
//! Services are made as fast as they are accepted. The time runs from before the first call until a
//! follower's watch has told of the last task's instance. Second part: the agents are cut off and
//! their leases still run for some seconds, so the scheduler has the same instances and nobody to
//! tell.

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
use std::collections::HashMap;
use std::time::Duration;

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
    /// CreateService calls under way.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Agents that receive their orders and report nothing.
    #[arg(long)]
    quiet: bool,
}

const SETTLE: Duration = Duration::from_secs(10);
/// How long the part with agents may take.
const LIMIT: Duration = Duration::from_secs(120);
/// What is left of the leases of agents that are cut off: at least four of six seconds, and then
/// six more, as the loss of every zone at once is held back for a second lease.
const LEASES: Duration = Duration::from_secs(9);
/// After the last placement its order is under way for this long, at most.
const DELIVERY_WAIT: Duration = Duration::from_secs(3);

/// What one part measured.
struct Part {
    per_second: f64,
    commit_p99_ms: f64,
}

impl Place {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        let floor = facts::print(here.path())?;
        let local = Local::form(3, "lan").await?;
        let mut fleet = Fleet::connect(&local, self.instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        let reporting = if self.quiet { Reporting::Nothing } else { Reporting::Running };
        fleet.report(reporting).await?;
        tokio::time::sleep(SETTLE).await;
        let mut filler = Filler::new(&local).await?;
        let follower = (local.leader().await? + 1) % 3;
        let mut placements = Placements::start(local.channel(&local::address(follower))?).await?;

        println!("\nwith agents:");
        let with =
            self.part(&local, &mut filler, &mut placements, (self.tasks, LIMIT), &floor).await?;
        tokio::time::sleep(DELIVERY_WAIT).await;
        let received = fleet.received(here.path()).await?;
        let delivered = delivery(&placements.times(), &received);
        println!("orders received: {} of {}", received.len(), self.tasks);
        println!(
            "from the watch's word to the agent's: p50 {:.1} ms, p99 {:.1} ms",
            quantile_ms(&delivered, 0.5),
            quantile_ms(&delivered, 0.99)
        );
        tokio::time::sleep(SETTLE).await;

        println!("\nwithout agents:");
        drop(fleet);
        let alone =
            self.part(&local, &mut filler, &mut placements, (self.alone, LEASES), &floor).await?;
        println!();
        figure("place.with_agents", with.per_second, "/s", Good::AtLeast, 10_000.0);
        let p99 = quantile_ms(&delivered, 0.99);
        figure("place.delivery_p99", p99, "ms", Good::AtMost, 200.0);
        figure("place.alone", alone.per_second, "/s", Good::AtLeast, 50_000.0);
        figure("place.commit_p99", alone.commit_p99_ms, "ms", Good::AtMost, 50.0);
        Ok(())
    }

    async fn part(
        &self,
        local: &Local,
        filler: &mut Filler,
        placements: &mut Placements,
        (tasks, limit): (usize, Duration),
        floor: &Fdatasync,
    ) -> Outcome<Part> {
        let leader = local.leader().await?;
        let (before, skip, cpus) = (Plans::of(leader).await?, placements.count(), cpus(local)?);
        filler.calls.reset();
        let began_us = now_us();
        let all = async {
            filler.fill(tasks, self.each, self.clients).await?;
            placements.wait(skip + tasks, LIMIT).await
        };
        match tokio::time::timeout(limit, all).await {
            Ok(all) => all?,
            Err(_) => println!("cut off after {limit:?}:"),
        }
        let placed = placements.after(skip);
        let last_us = placed.iter().map(|placed| placed.at_us).max().unwrap_or(began_us);
        let took = Duration::from_micros(last_us.saturating_sub(began_us).max(1));
        let used = self::cpus(local)?;
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
            let busy = (used[index] - cpus[index]).as_secs_f64() / took.as_secs_f64() * 100.0;
            let rss = local.pid(index).and_then(usage::rss_mib).unwrap_or_default();
            println!("{role} {index}: CPU {busy:.0} % of a core, {rss:.0} MiB");
        }
        Ok(part)
    }
}

fn cpus(local: &Local) -> Outcome<Vec<Duration>> {
    (0..3).map(|index| usage::cpu(local.pid(index).ok_or("a manager has ended")?)).collect()
}

/// How much later than the watch each agent heard of its task: nothing, where it was first.
fn delivery(placed: &HashMap<u128, u64>, received: &[Received]) -> hdrhistogram::Histogram<u64> {
    let mut delays = histogram();
    for order in received {
        if let Some(seen) = placed.get(&order.task) {
            delays.saturating_record(order.at_us.saturating_sub(*seen).max(1));
        }
    }
    delays
}
