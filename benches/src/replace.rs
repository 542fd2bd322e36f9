//! `replace`: a worker dies, then a whole zone of three; from the last word of the dead to the
//! watch's word of each replacement's instance.
//!
//! A dead agent stops talking with its connections open, as a machine that lost its power does. The
//! time of a zone runs from the earliest last word in it, so it is at most a heartbeat too long.

use crate::Outcome;
use crate::facts;
use crate::figure::{Good, figure};
use crate::fill::Filler;
use crate::fleet::{Fleet, Reporting, ZONES};
use crate::local::{self, Local};
use crate::watch::{Placed, Placements};
use clap::Args;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Args)]
pub struct Replace {
    /// Registered instances, each with its agent.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Tasks of each instance.
    #[arg(long, default_value_t = 10)]
    tasks: usize,
    /// Workers that die alone, one after the other.
    #[arg(long, default_value_t = 5)]
    deaths: usize,
    /// Tasks of each service.
    #[arg(long, default_value_t = 1000)]
    each: usize,
}

const SETTLE: Duration = Duration::from_secs(10);
/// How long the cluster may take to run everything, and to replace what it lost.
const FILL_WAIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(90);
/// No more replacements for this long: all are there.
const QUIET: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(20);

impl Replace {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let local = Local::form(3, "lan").await?;
        let mut fleet = Fleet::connect(&local, self.instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        fleet.report(Reporting::Running).await?;
        tokio::time::sleep(SETTLE).await;
        let mut filler = Filler::new(&local).await?;
        let follower = (local.leader().await? + 1) % 3;
        let mut placements = Placements::start(local.channel(&local::address(follower))?).await?;
        let all = self.instances * self.tasks;
        let began = Instant::now();
        filler.fill(all, self.each, 4).await?;
        placements.wait(all, FILL_WAIT).await?;
        println!("{all} tasks placed after {:.1?}", began.elapsed());
        tokio::time::sleep(SETTLE).await;

        let mut alone = Vec::new();
        for death in 0..self.deaths {
            // Of every zone, and none twice.
            let victim = death * self.instances / self.deaths;
            let skip = placements.count();
            let last_us = fleet.kill_one(victim).await?;
            alone.extend(replaced(&placements, skip, 1, last_us).await?);
        }
        let (p50, p99) = show("one worker", &mut alone);
        let before = placements.count();
        let lost = all / ZONES;
        let last_us = fleet.kill_zone(1).await?;
        let mut zone = replaced(&placements, before, lost / 2, last_us).await?;
        let (_, zone_p99) = show("a zone", &mut zone);
        let zone_all = zone.last().copied().unwrap_or(f64::INFINITY);
        println!("a zone: last {zone_all:.2} s, 99 % {zone_p99:.2} s");
        println!("a zone: about {lost} tasks lost; placements beyond it were moved once more\n");
        figure("replace.worker_p50", p50, "s", Good::AtMost, 8.0);
        figure("replace.worker_p99", p99, "s", Good::AtMost, 12.0);
        figure("replace.zone_all", zone_all, "s", Good::AtMost, 15.0);
        Ok(())
    }
}

/// Seconds from `last_us` to each placement after the first `skip`, once at least `wanted` were
/// seen and no more come.
async fn replaced(
    placements: &Placements,
    skip: usize,
    wanted: usize,
    last_us: u64,
) -> Outcome<Vec<f64>> {
    let began = Instant::now();
    let (mut count, mut since) = (placements.count(), began);
    while count < skip + wanted || since.elapsed() < QUIET {
        if began.elapsed() > LIMIT {
            return Err(format!("{} of {wanted} tasks replaced", count - skip).into());
        }
        tokio::time::sleep(LOOK).await;
        if placements.count() > count {
            (count, since) = (placements.count(), Instant::now());
        }
    }
    let seconds = |placed: Placed| placed.at_us.saturating_sub(last_us) as f64 / 1e6;
    Ok(placements.after(skip).into_iter().map(seconds).collect())
}

/// p50 and p99; leaves the times in order.
fn show(what: &str, times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let index = (times.len().saturating_sub(1) as f64 * q).round() as usize;
        times.get(index).copied().unwrap_or(f64::INFINITY)
    };
    let (p50, p99) = (at(0.5), at(0.99));
    println!("{what}: {} tasks assigned elsewhere, p50 {p50:.2} s, p99 {p99:.2} s", times.len());
    (p50, p99)
}
