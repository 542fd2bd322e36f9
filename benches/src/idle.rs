//! `idle`: what thousands of connected agents cost a leader that has nothing to do, how fast they
//! all follow the next one after a kill -9, and whether a worker that dies in just that moment is
//! still noticed, and no other is taken for dead.

use crate::facts;
use crate::figure::{Good, figure};
use crate::fleet::Fleet;
use crate::local::{self, Local};
use crate::usage::{cpu, rss_mib};
use crate::{Outcome, hollow, watch};
use clap::Args;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Streaming;

#[derive(Debug, Args)]
pub struct Idle {
    /// Connected agents.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Measured seconds of idling.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// After connecting: certificates are forgotten, buffers are freed, leases run evenly.
const SETTLE: Duration = Duration::from_secs(15);
/// How long reconnecting and noticing may take before they count as failed.
const LIMIT: Duration = Duration::from_secs(90);
/// After the dead worker was noticed: would a living one be taken for dead, it is by then.
const MORE: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(20);

impl Idle {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let mut local = Local::form(3, "lan").await?;
        let leader = local.leader().await?;
        let pid = |local: &Local| local.pid(leader).ok_or("the leader has ended");
        let empty = rss_mib(pid(&local)?).ok_or("no memory")?;
        let mut fleet = Fleet::connect(&local, self.instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        tokio::time::sleep(SETTLE).await;

        let span = Duration::from_secs(self.seconds);
        let before: Vec<Duration> = cpus(&local)?;
        tokio::time::sleep(span).await;
        let after = cpus(&local)?;
        let share = |index: usize| {
            (after[index] - before[index]).as_secs_f64() / span.as_secs_f64() * 100.0
        };
        let rss = rss_mib(pid(&local)?).ok_or("no memory")?;
        let each = (rss - empty) * 1024.0 / self.instances as f64;
        for index in (0..3).filter(|index| *index != leader) {
            println!("follower {index}: CPU {:.1} % of a core", share(index));
        }
        println!("leader: {each:.1} KiB per agent over {empty:.0} MiB when empty");
        let leader_share = share(leader);

        let told = self.fail_over(&mut local, &mut fleet, leader).await?;
        println!("agents back after the kill: half {:.2} s, 99 % {:.2} s", told.half, told.most);
        println!();
        figure("idle.leader_cpu", leader_share, "%", Good::AtMost, 25.0);
        figure("idle.leader_rss", rss, "MiB", Good::AtMost, 600.0);
        figure("idle.reconnect_all", told.all, "s", Good::AtMost, 10.0);
        figure("idle.death_noticed_in_failover", told.noticed, "s", Good::AtMost, 12.0);
        let wrongly = told.wrongly as f64;
        figure("idle.living_taken_for_dead", wrongly, "agents", Good::AtMost, 0.0);
        Ok(())
    }

    /// Kills a worker and the leader at once.
    async fn fail_over(
        &self,
        local: &mut Local,
        fleet: &mut Fleet,
        leader: usize,
    ) -> Outcome<FailedOver> {
        let survivor = local.channel(&local::address((leader + 1) % 3))?;
        let told = watch::changes(survivor, "container-instance").await?;
        let victim = self.instances / 2;
        let last_beat_us = fleet.kill_one(victim).await?;
        let began = Instant::now();
        local.kill(leader);
        let verdicts = tokio::spawn(verdicts(told, format!("hollow-{victim}")));
        // All sessions have broken before the first is open again.
        let alive = self.instances - 1;
        while fleet.open().await? > alive / 2 {
            if began.elapsed() > LIMIT {
                return Err("the agents did not notice the leader's end".into());
            }
            tokio::time::sleep(LOOK).await;
        }
        let mut times = FailedOver::default();
        for (time, wanted) in [
            (&mut times.half, alive / 2),
            (&mut times.most, alive * 99 / 100),
            (&mut times.all, alive),
        ] {
            while fleet.open().await? < wanted {
                if began.elapsed() > LIMIT {
                    let open = fleet.open().await?;
                    return Err(format!("{open} of {alive} agents came back").into());
                }
                tokio::time::sleep(LOOK).await;
            }
            *time = began.elapsed().as_secs_f64();
        }
        let (noticed_us, wrongly) = verdicts.await??;
        times.noticed = noticed_us.saturating_sub(last_beat_us) as f64 / 1e6;
        times.wrongly = wrongly;
        Ok(times)
    }
}

/// Seconds from the kill, and from the dead worker's last word.
#[derive(Default)]
struct FailedOver {
    half: f64,
    most: f64,
    all: f64,
    noticed: f64,
    /// Living agents that were called disconnected.
    wrongly: usize,
}

fn cpus(local: &Local) -> Outcome<Vec<Duration>> {
    (0..3).map(|index| cpu(local.pid(index).ok_or("a manager has ended")?)).collect()
}

/// When this instance was called disconnected, and how many others were.
async fn verdicts(mut told: Streaming<watch::Told>, victim: String) -> Outcome<(u64, usize)> {
    let mut noticed = None;
    let mut wrongly = HashSet::new();
    let mut deadline = Instant::now() + LIMIT;
    loop {
        let message = match tokio::time::timeout_at(deadline, told.message()).await {
            Ok(message) => message?.ok_or("the watch has ended")?,
            Err(_) => {
                let at = noticed.ok_or("the dead worker was not noticed")?;
                return Ok((at, wrongly.len()));
            }
        };
        let rows = message.changes.into_iter().filter_map(|change| change.instance);
        for row in rows.filter(|row| !row.connected) {
            if row.host_name != victim {
                wrongly.insert(row.host_name);
            } else if noticed.is_none() {
                noticed = Some(hollow::now_us());
                deadline = Instant::now() + MORE;
            }
        }
    }
}
