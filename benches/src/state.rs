//! `state`: a million tasks, placed and RUNNING: the memory of each manager, and how long one with
//! an empty disk needs to have them all.
//!
//! The newcomer is a fourth manager: an empty disk never comes back under a known id, and the log
//! no longer reaches back to the beginning, so it is sent a snapshot. Its time runs from the start
//! of its process until it has applied what the leader had applied by then.

use crate::Outcome;
use crate::facts;
use crate::figure::{Good, figure};
use crate::fill::Filler;
use crate::fleet::{Fleet, Reporting};
use crate::local::{self, Local};
use crate::usage::{self, MIB};
use crate::watch::Placements;
use clap::Args;
use muster_proto::pb;
use pb::operator_client::OperatorClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct State {
    /// Tasks; the managers take at most a million.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: usize,
    /// Registered instances, each with its agent.
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// Tasks of each service.
    #[arg(long, default_value_t = 10_000)]
    each: usize,
    /// Leave the tasks placed, not RUNNING: without what agents say of containers.
    #[arg(long)]
    quiet: bool,
}

const SETTLE: Duration = Duration::from_secs(10);
const FILL_WAIT: Duration = Duration::from_secs(900);
const LOOK: Duration = Duration::from_millis(20);
const RUN_LOOK: Duration = Duration::from_secs(2);
const INSTALL_WAIT: Duration = Duration::from_secs(300);
/// The place of the newcomer.
const NEW: usize = 3;

impl State {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let mut local = Local::form(3, "lan").await?;
        let mut fleet = Fleet::connect(&local, self.instances).await?;
        println!("{} agents joined and connected in {:.1?}", fleet.agents, fleet.connected_in);
        let reporting = if self.quiet { Reporting::Nothing } else { Reporting::Running };
        fleet.report(reporting).await?;
        tokio::time::sleep(SETTLE).await;
        let before = memory(&local);
        let mut filler = Filler::new(&local).await?;
        self.fill(&local, &mut filler).await?;
        tokio::time::sleep(SETTLE).await;
        let after = memory(&local);
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            let each = (after - before) * MIB / self.tasks as f64;
            println!("manager {index}: {before:.0} MiB before, {after:.0} MiB, {each:.0} B a task");
        }
        let most = after.iter().copied().fold(0.0, f64::max);

        let took = newcomer(&mut local).await?;
        let rss = local.pid(NEW).and_then(usage::rss_mib).unwrap_or_default();
        println!("newcomer: all of it after {took:.2} s, then {rss:.0} MiB\n");
        figure("state.rss", most / 1024.0, "GiB", Good::AtMost, 1.2);
        figure("state.snapshot_install", took, "s", Good::AtMost, 10.0);
        Ok(())
    }

    async fn fill(&self, local: &Local, filler: &mut Filler) -> Outcome<()> {
        let follower = (local.leader().await? + 1) % 3;
        let mut placements = Placements::start(local.channel(&local::address(follower))?).await?;
        let began = Instant::now();
        filler.fill(self.tasks, self.each, 2).await?;
        placements.wait(self.tasks, FILL_WAIT).await?;
        println!("{} tasks placed after {:.1?}", self.tasks, began.elapsed());
        while !self.quiet && filler.running().await? < self.tasks {
            if began.elapsed() > FILL_WAIT {
                let running = filler.running().await?;
                return Err(format!("{running} of {} tasks run", self.tasks).into());
            }
            tokio::time::sleep(RUN_LOOK).await;
        }
        println!("ready after {:.1?}", began.elapsed());
        Ok(())
    }
}

/// Of each manager, MiB.
fn memory(local: &Local) -> Vec<f64> {
    (0..3).filter_map(|index| local.pid(index)).filter_map(usage::rss_mib).collect()
}

/// Adds a manager; seconds until it has what the leader had when it started.
async fn newcomer(local: &mut Local) -> Outcome<f64> {
    let leader = local.channel(&local::address(local.leader().await?))?;
    local.join(NEW)?;
    let target = status(leader).await?;
    let began = Instant::now();
    local.start(NEW)?;
    let channel = local.channel(&local::address(NEW))?;
    loop {
        if let Ok(seen) = status(channel.clone()).await
            && seen.applied_index >= target.applied_index
        {
            let took = began.elapsed().as_secs_f64();
            let log_mib = target.log_bytes as f64 / MIB;
            println!(
                "leader: log of {log_mib:.0} MiB, snapshot at {}, applied {}; \
                 newcomer: snapshot at {}",
                target.snapshot_index, target.applied_index, seen.snapshot_index
            );
            return Ok(took);
        }
        if began.elapsed() > INSTALL_WAIT {
            return Err("the newcomer did not catch up in time".into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn status(channel: Channel) -> Outcome<pb::RaftStatusResponse> {
    let mut request = tonic::Request::new(pb::RaftStatusRequest::default());
    request.set_timeout(Duration::from_secs(5));
    Ok(OperatorClient::new(channel).raft_status(request).await?.into_inner())
}
