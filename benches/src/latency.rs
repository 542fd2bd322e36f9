//! `latency`: RunTask to the answer that names the instance, of an idle cluster and of one that
//! places many others at a fixed rate meanwhile.
//!
//! Calls follow one another with a pause, so that each meets the cluster as it is. The others are
//! services made in an open loop, whatever becomes of them. That is measured twice: with ten
//! thousand agents that are told of their tasks, which takes more than half of this machine's cores
//! for themselves and their connections, and with agents that were cut off, for as long as their
//! leases run.

use crate::Outcome;
use crate::facts::{self, micros, quantile_ms};
use crate::figure::{Good, figure};
use crate::fill::{Filler, run_one};
use crate::fleet::{Fleet, Reporting};
use crate::load::histogram;
use crate::local::{self, Local};
use crate::watch::Placements;
use clap::Args;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct Latency {
    /// Registered instances, each with its agent.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Measured calls on the idle cluster.
    #[arg(long, default_value_t = 500)]
    calls: usize,
    /// Placements per second beside the measured calls.
    #[arg(long, default_value_t = 20_000)]
    background: usize,
    /// Tasks of each service of the background.
    #[arg(long, default_value_t = 1000)]
    each: usize,
    /// Seconds of background beside agents.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Seconds of background without, at most what their leases run: eight.
    #[arg(long, default_value_t = 7)]
    alone: u64,
    /// Agents report the background's tasks as RUNNING, too: as much again for the log to take.
    #[arg(long)]
    reporting: bool,
}

const SETTLE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
const WARM: usize = 50;
const LIMIT: Duration = Duration::from_secs(120);

impl Latency {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        let floor = facts::print(here.path())?;
        let local = Local::form(3, "lan").await?;
        let mut fleet = Fleet::connect(&local, self.instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        let reporting = if self.reporting { Reporting::Running } else { Reporting::Nothing };
        fleet.report(reporting).await?;
        tokio::time::sleep(SETTLE).await;
        let mut filler = Filler::new(&local).await?;
        let channel = local.channel(&local::address(local.leader().await?))?;

        calls(&channel, WARM).await?;
        let idle = calls(&channel, self.calls).await?;
        show("idle", &idle, floor.p50_ms);

        let follower = (local.leader().await? + 1) % 3;
        let mut placements = Placements::start(local.channel(&local::address(follower))?).await?;
        let told = self.beside(&mut filler, &mut placements, &channel, self.seconds).await?;
        show("busy, agents are told", &told, floor.p50_ms);
        tokio::time::sleep(SETTLE).await;
        let seconds = self.alone.min(fleet.cut_off().await.as_secs());
        let busy = self.beside(&mut filler, &mut placements, &channel, seconds).await?;
        show("busy, agents are cut off", &busy, floor.p50_ms);
        println!();
        figure("latency.idle_p50", quantile_ms(&idle, 0.5), "ms", Good::AtMost, 5.0);
        figure("latency.idle_p99", quantile_ms(&idle, 0.99), "ms", Good::AtMost, 25.0);
        figure("latency.busy_p99", quantile_ms(&busy, 0.99), "ms", Good::AtMost, 100.0);
        figure("latency.busy_told_p99", quantile_ms(&told, 0.99), "ms", Good::AtMost, 100.0);
        Ok(())
    }

    /// Measures while services are made at their own pace.
    async fn beside(
        &self,
        filler: &mut Filler,
        placements: &mut Placements,
        channel: &Channel,
        seconds: u64,
    ) -> Outcome<Histogram<u64>> {
        let span = Duration::from_secs(seconds);
        let skip = placements.count();
        let measured = tokio::spawn(calls_for(channel.clone(), span));
        let services = self.background * span.as_secs() as usize / self.each;
        let began = Instant::now();
        let mut turn = tokio::time::interval(Duration::from_secs_f64(
            self.each as f64 / self.background as f64,
        ));
        for _ in 0..services {
            turn.tick().await;
            filler.service(self.each).await?;
        }
        let offered = began.elapsed();
        let busy = measured.await??;
        let calls = usize::try_from(busy.len())?;
        let placed = placements.count().saturating_sub(skip + calls);
        let kept = placed as f64 / began.elapsed().as_secs_f64();
        placements.wait(skip + services * self.each + calls, LIMIT).await?;
        println!(
            "background: {services} services of {} made in {offered:.2?}, {kept:.0} placements/s \
             meanwhile, all placed after {:.2?}",
            self.each,
            began.elapsed()
        );
        Ok(busy)
    }
}

fn show(what: &str, calls: &Histogram<u64>, floor_ms: f64) {
    let p50 = quantile_ms(calls, 0.5);
    println!(
        "{what}: create to assigned p50 {p50:.2} ms, p99 {:.2} ms, max {:.2} ms ({} calls); \
         p50 over fdatasync's: {:.1}",
        quantile_ms(calls, 0.99),
        quantile_ms(calls, 1.0),
        calls.len(),
        p50 / floor_ms
    );
}

async fn calls(channel: &Channel, number: usize) -> Outcome<Histogram<u64>> {
    let mut times = histogram();
    for _ in 0..number {
        times.saturating_record(micros(run_one(channel.clone()).await?));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

async fn calls_for(channel: Channel, span: Duration) -> Outcome<Histogram<u64>> {
    let began = Instant::now();
    let mut times = histogram();
    while began.elapsed() < span {
        times.saturating_record(micros(run_one(channel.clone()).await?));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}
