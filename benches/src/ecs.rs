//! `ecs`: what a call costs the server through the ECS wire protocol, over the same call through
//! gRPC, and beside `moto_server`, which people use today for a local ECS.
//!
//! CPU time of the server process per call, both doors on their own TLS; the wire protocol's
//! requests are signed and the signatures verified. The load generator's own cost is not in it.

use crate::Outcome;
use crate::agent::Agent;
use crate::facts;
use crate::figure::{Good, figure};
use crate::local::{self, Local};
use crate::moto::Moto;
use crate::usage::cpu;
use crate::wire::{Key, Wire};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// Tasks in one DescribeTasks call: ECS's limit.
const TASKS: usize = 100;
/// Tasks of one RunTask call: ECS's limit.
const RUN: usize = 10;
/// Calls measured, of each kind; a tenth of them before it, unmeasured.
const READS: usize = 2000;
const WRITES: usize = 300;
const MOTO_CALLS: usize = 200;
/// How long tasks may take to run before reading them is measured.
const RUNNING_WAIT: Duration = Duration::from_secs(30);
/// The wire protocol's port, from a manager's own.
const PORT_STEP: u16 = 1000;

#[derive(Debug, clap::Args)]
pub struct Ecs {
    /// Leave out moto_server (it is installed from PyPI).
    #[arg(long)]
    without_moto: bool,
}

impl Ecs {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::tempdir()?;
        facts::print(here.path())?;
        let local = Local::form(1, "lan").await?;
        let _agent = Agent::simulated(&local)?;
        let pid = local.pid(0).ok_or("the manager has ended")?;
        let mut doors = Doors::open(&local).await?;
        let tasks = doors.tasks().await?;

        let describe = json!({ "tasks": tasks }).to_string();
        let grpc = pb::DescribeTasksRequest { tasks, ..Default::default() };
        let described = Both {
            json: doors.json(pid, READS, "DescribeTasks", &describe).await?,
            grpc: {
                let ecs = doors.grpc.clone();
                per_call(pid, READS, move || {
                    let (mut ecs, request) = (ecs.clone(), grpc.clone());
                    async move { ecs.describe_tasks(request).await.map(drop).map_err(Into::into) }
                })
                .await?
            },
        };
        let run = json!({ "taskDefinition": "bench" }).to_string();
        let ran = Both {
            json: doors.json(pid, WRITES, "RunTask", &run).await?,
            grpc: {
                let ecs = doors.grpc.clone();
                let request =
                    pb::RunTaskRequest { task_definition: "bench".into(), ..Default::default() };
                per_call(pid, WRITES, move || {
                    let (mut ecs, request) = (ecs.clone(), request.clone());
                    async move { ecs.run_task(request).await.map(drop).map_err(Into::into) }
                })
                .await?
            },
        };
        let small = doors.json(pid, READS, "DescribeClusters", "{}").await?;
        println!("\nserver CPU per call, in microseconds:");
        described.print("DescribeTasks, 100 tasks");
        ran.print("RunTask, one task");
        println!("  DescribeClusters, one: wire {small:.0}");
        if !self.without_moto {
            beside_moto(here.path(), [described.json, ran.json, small]).await?;
        }
        println!();
        figure("ecs.describe_tasks", described.ratio(), "x", Good::AtMost, 1.5);
        figure("ecs.run_task", ran.ratio(), "x", Good::AtMost, 1.5);
        figure("ecs.small_reads", 1e6 / small, "/s/core", Good::AtLeast, 5000.0);
        Ok(())
    }
}

/// One call through both doors, microseconds of CPU.
struct Both {
    json: f64,
    grpc: f64,
}

impl Both {
    fn ratio(&self) -> f64 {
        self.json / self.grpc
    }

    fn print(&self, what: &str) {
        println!("  {what}: wire {:.0}, gRPC {:.0}: {:.2}x", self.json, self.grpc, self.ratio());
    }
}

/// Both front ends of one manager.
struct Doors {
    wire: Wire,
    grpc: EcsClient<Channel>,
}

impl Doors {
    async fn open(local: &Local) -> Outcome<Self> {
        let address = local::address(0);
        let key: Value = serde_json::from_str(&local::run(&[
            "access-key",
            "create",
            "--managers",
            &address,
            "--identity",
            &local.dir.path().join("admin").to_string_lossy(),
            "--output",
            "json",
        ])?)?;
        let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
        let region = "local".to_owned();
        let key = Key { id: text("accessKeyId"), secret: text("secretAccessKey"), region };
        let mut listens: SocketAddr = address.parse()?;
        listens.set_port(listens.port() + PORT_STEP);
        let ca = local.dir.path().join("admin/ca.pem");
        let wire = Wire::connect(listens, Some(&ca), key).await?;
        let grpc = EcsClient::new(local.channel(&address)?);
        Ok(Self { wire, grpc })
    }

    /// ARNs of [`TASKS`] tasks that run.
    async fn tasks(&mut self) -> Outcome<Vec<String>> {
        let container = json!({ "name": "main", "image": "none", "cpu": 1, "memory": 6 });
        let definition = json!({ "family": "bench", "containerDefinitions": [container] });
        self.wire.call("RegisterTaskDefinition", definition.to_string()).await?;
        let run = json!({ "taskDefinition": "bench", "count": RUN }).to_string();
        let deadline = Instant::now() + RUNNING_WAIT;
        let mut arns: Vec<String> = Vec::new();
        while arns.len() < TASKS {
            // The agent connects a moment after it has joined.
            let answer = match self.wire.call("RunTask", run.clone()).await {
                Ok(answer) => answer,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => continue,
            };
            let answer: Value = serde_json::from_slice(&answer)?;
            let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
            arns.extend(tasks.iter().filter_map(|t| t["taskArn"].as_str().map(str::to_owned)));
        }
        arns.truncate(TASKS);
        Ok(arns)
    }

    async fn json(&mut self, pid: u32, calls: usize, operation: &str, body: &str) -> Outcome<f64> {
        for _ in 0..calls / 10 {
            self.wire.call(operation, body.to_owned()).await?;
        }
        let before = cpu(pid)?;
        for _ in 0..calls {
            self.wire.call(operation, body.to_owned()).await?;
        }
        Ok(micros(cpu(pid)? - before) / calls as f64)
    }
}

/// The same, of any call.
async fn per_call<F>(pid: u32, calls: usize, call: impl Fn() -> F) -> Outcome<f64>
where
    F: Future<Output = Outcome<()>>,
{
    for _ in 0..calls / 10 {
        call().await?;
    }
    let before = cpu(pid)?;
    for _ in 0..calls {
        call().await?;
    }
    Ok(micros(cpu(pid)? - before) / calls as f64)
}

/// The same calls to `moto_server`, and what ours cost: DescribeTasks, RunTask, DescribeClusters.
async fn beside_moto(dir: &std::path::Path, ours: [f64; 3]) -> Outcome<()> {
    let moto = Moto::start(dir).await?;
    moto.set_up()?;
    let nobody = Key { id: "x".into(), secret: "y".into(), region: "us-east-1".into() };
    // It closes a connection behind each answer.
    let ask = async |operation: &str, body: &str| {
        let mut wire = Wire::connect(moto.address, None, nobody.clone()).await?;
        wire.call(operation, body.to_owned()).await
    };
    let mut tasks: Vec<Value> = Vec::new();
    while tasks.len() < TASKS {
        let run = json!({ "taskDefinition": "bench", "count": RUN }).to_string();
        let answer: Value = serde_json::from_slice(&ask("RunTask", &run).await?)?;
        let made = answer["tasks"].as_array().cloned().unwrap_or_default();
        tasks.extend(made.iter().map(|task| task["taskArn"].clone()));
    }
    tasks.truncate(TASKS);
    let calls = [
        ("DescribeTasks", json!({ "tasks": tasks }).to_string()),
        ("RunTask", json!({ "taskDefinition": "bench" }).to_string()),
        ("DescribeClusters", "{}".to_owned()),
    ];
    for ((operation, body), ours) in calls.iter().zip(ours) {
        let before = cpu(moto.pid())?;
        for _ in 0..MOTO_CALLS {
            ask(operation, body).await?;
        }
        let each = micros(cpu(moto.pid())? - before) / MOTO_CALLS as f64;
        println!("  {operation}: moto_server {each:.0}, {:.0} times as much", each / ours);
    }
    Ok(())
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
