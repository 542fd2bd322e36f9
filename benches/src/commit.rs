//! `commit`: acknowledged writes per second through the whole path, beside etcd on the same disk.
//!
//! A write is TagResource with 256 bytes of tags on one of as many services as there are clients:
//! a real rpc over mTLS, decoded, authorised, logged, synced on a quorum, applied, answered.

use crate::facts::{self, quantile_ms};
use crate::figure::{Good, figure};
use crate::load::{Measured, closed_loop};
use crate::local::{self, Local};
use crate::tags;
use crate::{Outcome, etcd};
use clap::Args;
use std::time::Duration;
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct Commit {
    /// Clients, one run each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256, 1024])]
    clients: Vec<usize>,
    /// Measured seconds per run; a quarter of it before is not measured.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Rounds; systems alternate, the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// How long one write may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Clients that share a connection.
const PER_CHANNEL: usize = 64;

/// One system's runs at one number of clients.
struct Row {
    clients: usize,
    ours: Vec<Measured>,
    theirs: Vec<Measured>,
    /// Synced writes of the leader per acknowledged write.
    fsyncs: Vec<f64>,
}

impl Commit {
    pub async fn run(self) -> Outcome<()> {
        etcd::install()?;
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let span = Duration::from_secs_f64(self.seconds);
        let mut rows: Vec<Row> = self
            .clients
            .iter()
            .map(|&clients| Row { clients, ours: vec![], theirs: vec![], fsyncs: vec![] })
            .collect();
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}: muster", self.rounds);
            ours(&mut rows, span).await?;
            eprintln!("round {round} of {}: etcd", self.rounds);
            theirs(&mut rows, span).await?;
        }
        report(&rows);
        Ok(())
    }
}

async fn ours(rows: &mut [Row], span: Duration) -> Outcome<()> {
    let local = Local::form(3, "lan").await?;
    let most = rows.iter().map(|row| row.clients).max().unwrap_or(1);
    let services = tags::services(&local, most).await?;
    let leader = local.leader().await?;
    for row in rows {
        let channels = channels(row.clients, || local.channel(&local::address(leader)))?;
        let services = services.clone();
        let before = fsyncs(leader).await;
        let measured = closed_loop(row.clients, span / 4, span, move |client, n| {
            let channel = channels[client % channels.len()].clone();
            tags::write_at(channel, tags::write(&services[client], n), LIMIT)
        })
        .await;
        if let (Some(before), Some(after)) = (before, fsyncs(leader).await) {
            // The unmeasured quarter writes too.
            let writes = measured.latencies.len() as f64 * 1.25;
            row.fsyncs.push((after - before) / writes.max(1.0));
        }
        row.ours.push(measured);
    }
    Ok(())
}

fn channels(clients: usize, mut make: impl FnMut() -> Outcome<Channel>) -> Outcome<Vec<Channel>> {
    (0..clients.div_ceil(PER_CHANNEL)).map(|_| make()).collect()
}

/// Synced log writes of a manager so far, from its metrics.
async fn fsyncs(index: usize) -> Option<f64> {
    let address = local::metrics_address(index);
    let text = tokio::task::spawn_blocking(move || local::http_get(&address, "/metrics")).await;
    let text = text.ok()?.ok()?;
    let line = text.lines().find(|line| {
        line.contains("fsync")
            && line.split([' ', '{']).next().is_some_and(|n| n.ends_with("_count"))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn theirs(rows: &mut [Row], span: Duration) -> Outcome<()> {
    let etcd = etcd::Etcd::form(None).await?;
    let leader = etcd.leader(None).await?;
    for row in rows {
        let channels = channels(row.clients, || etcd.channel(leader))?;
        let measured = closed_loop(row.clients, span / 4, span, move |client, n| {
            let channel = channels[client % channels.len()].clone();
            let key = format!("bench-{client}").into_bytes();
            let value = tags::padded(n).into_bytes();
            etcd::put(channel, key, value)
        })
        .await;
        row.theirs.push(measured);
    }
    Ok(())
}

fn report(rows: &[Row]) {
    println!(
        "\n{:>7} {:>10} {:>10} {:>6} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "clients",
        "muster/s",
        "etcd/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "etcd p50",
        "etcd p99",
        "fsync/w"
    );
    for row in rows {
        let (ours, theirs) = (median(&row.ours), median(&row.theirs));
        let failures: u64 = row.ours.iter().map(|m| m.failures).sum();
        println!(
            "{:>7} {:>10.0} {:>10.0} {:>6.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>8.3}{}",
            row.clients,
            ours.per_second,
            theirs.per_second,
            ours.per_second / theirs.per_second,
            quantile_ms(&ours.latencies, 0.5),
            quantile_ms(&ours.latencies, 0.99),
            quantile_ms(&theirs.latencies, 0.5),
            quantile_ms(&theirs.latencies, 0.99),
            row.fsyncs.iter().sum::<f64>() / row.fsyncs.len().max(1) as f64,
            if failures > 0 { format!("  {failures} writes failed") } else { String::new() }
        );
    }
    println!();
    for row in rows {
        let (ours, theirs) = (median(&row.ours), median(&row.theirs));
        match row.clients {
            1 => figure(
                "commit.p50_1_client_over_etcd",
                quantile_ms(&ours.latencies, 0.5) / quantile_ms(&theirs.latencies, 0.5),
                "ratio",
                Good::AtMost,
                1.2,
            ),
            n if n >= 64 => figure(
                &format!("commit.writes_{n}_clients_over_etcd"),
                ours.per_second / theirs.per_second,
                "ratio",
                Good::AtLeast,
                1.5,
            ),
            _ => {}
        }
    }
}

/// The run with the median rate.
fn median(runs: &[Measured]) -> &Measured {
    let mut order: Vec<&Measured> = runs.iter().collect();
    order.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    order[order.len() / 2]
}
