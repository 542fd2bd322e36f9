//! `failover`: kill -9 of the leader, under load, to the first acknowledged write and the first new
//! placement; beside etcd.
//!
//! Clients write all the time. A kill's time is from the signal to the first write that was begun
//! after it and acknowledged by a survivor; a placement's time is from that write on. Each client
//! has one row and counts up: at the end every row must hold the last acknowledged number or more.

use crate::agent::{self, Agent};
use crate::facts;
use crate::figure::{Good, figure};
use crate::local::{self, Local};
use crate::{Outcome, etcd, tags};
use clap::Args;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct Failover {
    /// Kills per setting.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Clients that write all the time.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Leave the peer out.
    #[arg(long)]
    alone: bool,
}

/// Between two tries of the probe: an open loop, so that a slow answer hides nothing.
const EVERY: Duration = Duration::from_millis(5);
/// How long one kill may take before it counts as lost.
const LIMIT: Duration = Duration::from_secs(20);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(2);
/// Between two writes of one client: load, but not all the machine can do.
const PAUSE: Duration = Duration::from_millis(5);
/// A quiet moment between two kills, so that the restarted member has caught up.
const SETTLE: Duration = Duration::from_millis(1500);

impl Failover {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let lan = self.ours("lan").await?;
        let fast = self.ours("fast").await?;
        if !self.alone {
            let default = self.theirs(self.kills.min(10), None).await?;
            show("etcd, its defaults (100/1000 ms): first write", &default);
            let tuned = self.theirs(self.kills, Some((50, 250))).await?;
            show("etcd, tuned (50/250 ms): first write", &tuned);
        }
        let (lan_p50, lan_max) = show("muster, defaults: first write", &lan.writes);
        let (placed_p50, placed_max) = show("muster, defaults: then placed", &lan.placements);
        let (fast_p50, _) = show("muster, fast profile: first write", &fast.writes);
        show("muster, fast profile: then placed", &fast.placements);
        println!("acknowledged under load: {} writes", lan.acknowledged + fast.acknowledged);
        println!();
        figure("failover.write_p50", lan_p50, "s", Good::AtMost, 0.6);
        figure("failover.write_max", lan_max, "s", Good::AtMost, 1.0);
        figure("failover.placement_after_write_p50", placed_p50, "s", Good::AtMost, 0.3);
        figure("failover.placement_after_write_max", placed_max, "s", Good::AtMost, 0.3);
        figure("failover.write_p50_fast", fast_p50, "s", Good::AtMost, 0.35);
        let lost = (lan.lost + fast.lost) as f64;
        figure("failover.acknowledged_writes_lost", lost, "writes", Good::AtMost, 0.0);
        Ok(())
    }

    async fn ours(&self, timing: &str) -> Outcome<Kills> {
        let mut local = Local::form(3, timing).await?;
        let services = tags::services(&local, self.clients + 1).await?;
        let mut agent = Agent::simulated(&local)?;
        agent::connected(&local.channel(&local::address(local.leader().await?))?).await?;
        let load = Load::start(&local, &services[1..]);
        let mut result = Kills::default();
        for kill in 0..self.kills {
            let leader = local.leader().await?;
            let survivors: Vec<_> = (0..3)
                .filter(|i| *i != leader)
                .map(|i| local.channel(&local::address(i)))
                .collect::<Outcome<_>>()?;
            // Both connections are warm before the kill, as an agent's or a program's are.
            for channel in &survivors {
                tags::write_at(channel.clone(), tags::write(&services[0], 0), LIMIT).await?;
            }
            local.kill(leader);
            let took = first_acknowledged(|n| {
                let channel = survivors[n % survivors.len()].clone();
                tags::write_at(channel, tags::write(&services[0], n as u64), TRY)
            });
            result.writes.push(took.await?.as_secs_f64());
            let began = Instant::now();
            place(&survivors, || local.client.fresh_token()).await?;
            result.placements.push(began.elapsed().as_secs_f64());
            local.start(leader)?;
            tokio::time::sleep(SETTLE).await;
            eprint!("\r{timing}: {} of {} kills", kill + 1, self.kills);
        }
        eprintln!();
        let channel = local.channel(&local::address(local.leader().await?))?;
        for (arn, last) in load.stop().await {
            result.acknowledged += last;
            result.lost += u64::from(tags::read(channel.clone(), &arn).await? < last);
        }
        agent.stop();
        Ok(result)
    }

    async fn theirs(&self, kills: usize, timing: Option<(u32, u32)>) -> Outcome<Vec<f64>> {
        let mut etcd = etcd::Etcd::form(timing).await?;
        let mut times = Vec::new();
        for kill in 0..kills {
            let leader = etcd.leader(None).await?;
            let survivors: Vec<_> =
                (0..3).filter(|i| *i != leader).map(|i| etcd.channel(i)).collect::<Outcome<_>>()?;
            for channel in &survivors {
                etcd::put(channel.clone(), b"warm".to_vec(), Vec::new()).await?;
            }
            let load = etcd_load(&survivors, self.clients);
            tokio::time::sleep(SETTLE).await;
            etcd.kill(leader);
            let took = first_acknowledged(|n| {
                etcd::put(survivors[n % survivors.len()].clone(), b"after".to_vec(), Vec::new())
            });
            times.push(took.await?.as_secs_f64());
            drop(load);
            etcd.start(leader)?;
            tokio::time::sleep(SETTLE).await;
            eprint!("\retcd: {} of {kills} kills", kill + 1);
        }
        eprintln!();
        Ok(times)
    }
}

#[derive(Default)]
struct Kills {
    /// Seconds, one per kill.
    writes: Vec<f64>,
    placements: Vec<f64>,
    /// Writes of the load that were acknowledged.
    acknowledged: u64,
    /// Rows whose last acknowledged write a read did not find afterwards.
    lost: u64,
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

/// Begins a write every few milliseconds, without waiting for the answers, until one of them is
/// acknowledged; how long that took.
async fn first_acknowledged<F>(write: impl Fn(usize) -> F) -> Outcome<Duration>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let began = Instant::now();
    let mut turn = tokio::time::interval(EVERY);
    // Dropped with what is still under way.
    let mut tries = JoinSet::new();
    for n in 0.. {
        tokio::select! {
            biased;
            Some(Ok(Ok(()))) = tries.join_next() => return Ok(began.elapsed()),
            _ = turn.tick() => {}
        }
        if began.elapsed() > LIMIT {
            break;
        }
        tries.spawn(write(n));
    }
    Err(format!("no write was acknowledged within {LIMIT:?}").into())
}

/// Clients that write one after the other, each to a row of its own.
struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
    rows: Vec<(String, Arc<AtomicU64>)>,
}

impl Load {
    fn start(local: &Local, arns: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let row = |arn: &String| (arn.clone(), Arc::<AtomicU64>::default());
        let rows: Vec<_> = arns.iter().map(row).collect();
        let mut clients = JoinSet::new();
        for (arn, last) in rows.clone() {
            let (client, stop) = (local.client.clone(), stop.clone());
            clients.spawn(async move {
                for n in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let call = async |channel, request| {
                        EcsClient::new(channel).tag_resource(request).await
                    };
                    let deadline = Instant::now() + LIMIT;
                    match client.call_write(tags::write(&arn, n), deadline, call).await {
                        Ok(_) => last.store(n, Ordering::Relaxed),
                        Err(error) => eprintln!("\n{error}"),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { stop, clients, rows }
    }

    /// Each row with the last number that was acknowledged.
    async fn stop(self) -> Vec<(String, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.rows.into_iter().map(|(arn, last)| (arn, last.load(Ordering::Relaxed))).collect()
    }
}

/// The same load for etcd, through the members that survive; ends when dropped.
fn etcd_load(survivors: &[Channel], clients: usize) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for client in 0..clients {
        let channel = survivors[client % survivors.len()].clone();
        load.spawn(async move {
            loop {
                let value = vec![b'0'; tags::VALUE_BYTES];
                etcd::put(channel.clone(), format!("row-{client}").into_bytes(), value).await.ok();
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    load
}

/// Runs a task until one has an instance, at one manager after the other. A repeat of a request has
/// no second effect; after a refusal the next one is new.
async fn place(managers: &[Channel], fresh_token: impl Fn() -> String) -> Outcome<()> {
    let deadline = Instant::now() + LIMIT;
    let mut token = fresh_token();
    for n in 0.. {
        let mut request = tonic::Request::new(pb::RunTaskRequest {
            task_definition: "bench".into(),
            client_token: token.clone(),
            ..Default::default()
        });
        request.set_timeout(TRY);
        let answer = EcsClient::new(managers[n % managers.len()].clone()).run_task(request).await;
        if let Ok(answer) = answer.map(tonic::Response::into_inner) {
            let placed = |task: &pb::Task| !task.container_instance_arn.is_empty();
            if answer.tasks.first().is_some_and(placed) {
                return Ok(());
            }
            token = fresh_token();
        }
        if Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(EVERY).await;
    }
    Err(format!("no task was placed within {LIMIT:?}").into())
}
