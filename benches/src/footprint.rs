//! `footprint`: binary size, memory of an empty manager and an idle agent, time to a ready cluster.

use crate::Outcome;
use crate::agent::Agent;
use crate::facts;
use crate::figure::{Good, figure};
use crate::local::{self, Local};
use crate::usage::{MIB, rss_mib};
use std::time::{Duration, Instant};

/// How long processes idle before their memory is read.
const IDLE: Duration = Duration::from_secs(5);

pub async fn run() -> Outcome<()> {
    let here = tempfile::tempdir()?;
    facts::print(here.path())?;
    for name in ["muster", "muster-agent", "muster-shim"] {
        let size = std::fs::metadata(local::muster().with_file_name(name))?.len() as f64 / MIB;
        println!("binary: {name} {size:.1} MiB");
    }

    let started = Instant::now();
    let local = Local::form(3, "lan").await?;
    let ready = started.elapsed().as_secs_f64();
    let mut agent = Agent::start(&local)?;
    tokio::time::sleep(IDLE).await;
    let manager =
        (0..3).filter_map(|index| local.pid(index)).filter_map(rss_mib).fold(0.0, f64::max);
    let agent_rss = rss_mib(agent.pid()).ok_or("the agent has ended")?;
    agent.stop();
    println!("empty disks to three voting managers: {ready:.2} s");
    println!("resident memory: manager {manager:.1} MiB, agent {agent_rss:.1} MiB\n");
    figure("footprint.agent_rss", agent_rss, "MiB", Good::AtMost, 15.0);
    figure("footprint.manager_rss", manager, "MiB", Good::AtMost, 50.0);
    figure("footprint.cluster_ready", ready, "s", Good::AtMost, 2.0);
    Ok(())
}
