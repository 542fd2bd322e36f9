//! `failover`: kill -9 of the leader to the first acknowledged write, under load, beside etcd.
//!
//! A client writes through the survivors all the time; a kill's time is from the signal to the
//! first write that was begun after it and acknowledged. Afterwards every acknowledged write is
//! looked for.

use crate::facts;
use crate::figure::{Good, figure};
use crate::local::{self, Local};
use crate::{Outcome, etcd};
use clap::Args;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct Failover {
    /// Kills per setting.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Leave the peer out.
    #[arg(long)]
    alone: bool,
}

/// Between two tries of the client: an open loop, so that a slow answer hides nothing.
const EVERY: Duration = Duration::from_millis(5);
/// How long one kill may take before it counts as lost.
const LIMIT: Duration = Duration::from_secs(20);
/// A quiet moment between two kills, so that the restarted member has caught up.
const SETTLE: Duration = Duration::from_millis(1500);

impl Failover {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let lan = ours(self.kills, "lan").await?;
        let fast = ours(self.kills, "fast").await?;
        if !self.alone {
            show("etcd, its defaults (100/1000 ms)", &theirs(self.kills.min(10), None).await?);
            show("etcd, tuned (50/250 ms)", &theirs(self.kills, Some((50, 250))).await?);
        }
        let (lan_p50, lan_max) = show("muster, defaults", &lan.times);
        let (fast_p50, _) = show("muster, fast profile", &fast.times);
        println!();
        figure("failover.write_p50", lan_p50, "s", Good::AtMost, 0.6);
        figure("failover.write_max", lan_max, "s", Good::AtMost, 1.0);
        figure("failover.write_p50_fast", fast_p50, "s", Good::AtMost, 0.35);
        let lost = lan.lost + fast.lost;
        figure("failover.acknowledged_writes_lost", lost as f64, "writes", Good::AtMost, 0.0);
        Ok(())
    }
}

struct Kills {
    /// Seconds, one per kill.
    times: Vec<f64>,
    /// Acknowledged writes that a read did not find afterwards.
    lost: usize,
}

/// p50 and maximum.
fn show(what: &str, times: &[f64]) -> (f64, f64) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    let (p50, p90, max) = (at(0.5), at(0.9), at(1.0));
    println!("{what}: p50 {p50:.3} s, p90 {p90:.3} s, max {max:.3} s ({} kills)", times.len());
    (p50, max)
}

async fn ours(kills: usize, timing: &str) -> Outcome<Kills> {
    let mut local = Local::form(3, timing).await?;
    let mut result = Kills { times: Vec::new(), lost: 0 };
    let mut acknowledged = Vec::new();
    for kill in 0..kills {
        let leader = local.leader().await?;
        let survivors: Vec<_> = (0..3)
            .filter(|i| *i != leader)
            .map(|i| local.channel(&local::address(i)))
            .collect::<Outcome<_>>()?;
        // Both connections are warm before the kill, as an agent's or a program's are.
        for channel in &survivors {
            write(channel.clone(), format!("warm-{kill}"), LIMIT).await?;
        }
        local.kill(leader);
        let killed = Instant::now();
        let name = first_write(&survivors, kill, killed).await?;
        result.times.push(killed.elapsed().as_secs_f64());
        acknowledged.push(name);
        local.start(leader)?;
        tokio::time::sleep(SETTLE).await;
        eprint!("\r{timing}: {} of {kills} kills", kill + 1);
    }
    eprintln!();
    result.lost = missing(&local, &acknowledged).await?;
    Ok(result)
}

/// Writes every few milliseconds to the survivors in turn, without waiting for the answers, until
/// one is acknowledged; its name.
async fn first_write(survivors: &[Channel], kill: usize, killed: Instant) -> Outcome<String> {
    let mut turn = tokio::time::interval(EVERY);
    let (done, mut first) = tokio::sync::mpsc::channel(1);
    let mut n = 0;
    loop {
        tokio::select! {
            name = first.recv() => return name.ok_or_else(|| "no answer".into()),
            _ = turn.tick() => {}
        }
        if killed.elapsed() > LIMIT {
            return Err(format!("kill {kill}: no write acknowledged within {LIMIT:?}").into());
        }
        let channel = survivors[n % survivors.len()].clone();
        let name = format!("after-{kill}-{n}");
        let done = done.clone();
        n += 1;
        tokio::spawn(async move {
            if write(channel, name.clone(), Duration::from_secs(2)).await.is_ok() {
                // Only the first counts; later ones find the queue full or closed.
                done.try_send(name).ok();
            }
        });
    }
}

async fn write(channel: Channel, name: String, limit: Duration) -> Outcome<()> {
    let mut request =
        tonic::Request::new(pb::CreateClusterRequest { cluster_name: name, ..Default::default() });
    request.set_timeout(limit);
    EcsClient::new(channel).create_cluster(request).await?;
    Ok(())
}

async fn missing(local: &Local, names: &[String]) -> Outcome<usize> {
    let mut ecs = EcsClient::new(local.channel(&local::address(local.leader().await?))?);
    let mut missing = 0;
    for names in names.chunks(50) {
        let request =
            pb::DescribeClustersRequest { clusters: names.to_vec(), ..Default::default() };
        missing += ecs.describe_clusters(request).await?.into_inner().failures.len();
    }
    Ok(missing)
}

async fn theirs(kills: usize, timing: Option<(u32, u32)>) -> Outcome<Vec<f64>> {
    let mut etcd = etcd::Etcd::form(timing).await?;
    let mut times = Vec::new();
    for kill in 0..kills {
        let leader = etcd.leader(None).await?;
        let survivors: Vec<_> =
            (0..3).filter(|i| *i != leader).map(|i| etcd.channel(i)).collect::<Outcome<_>>()?;
        for channel in &survivors {
            etcd::put(channel.clone(), b"warm".to_vec(), Vec::new()).await?;
        }
        etcd.kill(leader);
        let killed = Instant::now();
        let (done, mut first) = tokio::sync::mpsc::channel(1);
        let mut turn = tokio::time::interval(EVERY);
        let mut n = 0;
        loop {
            tokio::select! {
                _ = first.recv() => break,
                _ = turn.tick() => {}
            }
            if killed.elapsed() > LIMIT {
                return Err("etcd: no write acknowledged in time".into());
            }
            let (channel, done) = (survivors[n % 2].clone(), done.clone());
            n += 1;
            tokio::spawn(async move {
                if etcd::put(channel, b"after".to_vec(), Vec::new()).await.is_ok() {
                    done.try_send(()).ok();
                }
            });
        }
        times.push(killed.elapsed().as_secs_f64());
        etcd.start(leader)?;
        tokio::time::sleep(SETTLE).await;
        eprint!("\retcd: {} of {kills} kills", kill + 1);
    }
    eprintln!();
    Ok(times)
}
