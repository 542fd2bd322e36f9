//! `start`: from the call to a running container with a cached image, over bare runc.
//!
//! The moment a container starts is the kernel's: the start time of its first process, which has
//! the kernel's clock tick (10 ms) as its grain; half a tick is added, so that the mean is true.

use crate::agent::{self, Agent};
use crate::facts::{self, micros, quantile_ms};
use crate::figure::{Good, figure};
use crate::load::histogram;
use crate::local::Local;
use crate::{Outcome, local};
use clap::Args;
use hdrhistogram::Histogram;
use muster_proto::pb;
use nix::time::{ClockId, clock_gettime};
use pb::ecs_client::EcsClient;
use pb::live_client::LiveClient;
use pb::watch_response::change::Row;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

#[derive(Debug, Args)]
pub struct Start {
    /// Single starts per network mode.
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Tasks started together.
    #[arg(long, default_value_t = 200)]
    together: usize,
}

/// ECS's bound of tasks per RunTask.
const RUN_TASK_MAX: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);
/// The agent's default bound of starts at once; bare runc gets the same.
const PARALLEL: usize = 16;

impl Start {
    pub async fn run(self) -> Outcome<()> {
        let here = tempfile::Builder::new().prefix("muster-bench-start-").tempdir()?;
        let floor = facts::print(here.path())?;
        let layout = here.path().join("image");
        done(Command::new(repository().join("deploy/lib/mkimage")).arg(&layout).arg("1"))?;
        let local = Local::form(3, "lan").await?;
        let mut agent = Agent::start(&local)?;
        let channel = local.channel(&local::address(local.leader().await?))?;
        let image = format!("oci-layout:{}:1", layout.display());
        for mode in ["host", "bridge"] {
            register(&channel, mode, &image).await?;
        }
        agent::connected(&channel).await?;

        // Bare runc gets the very container that Muster makes: its limits, seccomp profile, mounts.
        let model = run_tasks(&channel, "host", 1).await?;
        Tasks::watch(&channel).await?.wait(&model, "RUNNING").await?;
        let bare = Bare::prepare(here.path(), &layout, &agent.config_of(&model[0])?)?;
        let single_bare = bare.singles(self.starts)?;
        let together_bare = bare.together(self.together)?;
        stop_all(&channel, &model).await?;

        let host = singles(&channel, "host", self.starts).await?;
        let bridge = singles(&channel, "bridge", self.starts).await?;
        let (tasks, together) = all_at_once(&channel, "host", self.together).await?;
        stop_all(&channel, &tasks).await?;
        agent.stop();

        let p50 = |h: &Histogram<u64>| quantile_ms(h, 0.5);
        println!("bare runc create: p50 {:.1} ms to the container's start", p50(&single_bare));
        for (mode, measured) in [("host", &host), ("bridge", &bridge)] {
            println!(
                "muster, {mode}: p50 {:.1} ms, p99 {:.1} ms to the container's start; RUNNING seen \
                 after p50 {:.1} ms",
                p50(&measured.start),
                quantile_ms(&measured.start, 0.99),
                p50(&measured.seen)
            );
        }
        println!(
            "{} together: bare runc {:.2} s, muster {:.2} s\n",
            self.together, together_bare, together
        );
        let allowed = 10.0_f64.max(3.0 * floor.p50_ms + 5.0);
        let over = |h: &Histogram<u64>| p50(h) - p50(&single_bare);
        figure("start.overhead_p50_host", over(&host.start), "ms", Good::AtMost, allowed);
        let with_bridge = allowed + 10.0;
        figure("start.overhead_p50_bridge", over(&bridge.start), "ms", Good::AtMost, with_bridge);
        let tail = quantile_ms(&host.start, 0.99) - p50(&single_bare);
        figure("start.overhead_p99_host", tail, "ms", Good::AtMost, 40.0);
        let ratio = together / together_bare;
        figure("start.together_over_bare", ratio, "ratio", Good::AtMost, 1.5);
        Ok(())
    }
}

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Time since boot, on the clock that processes' start times are in.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// When a process started, since boot; half a tick later than its tick.
fn started(pid: i64) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; field 22 is the 20th after it.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * 10 + 5))
}

fn done(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// runc by hand: the floor.
struct Bare {
    dir: PathBuf,
    spec: serde_json::Value,
}

impl Bare {
    fn prepare(dir: &Path, layout: &Path, model: &Path) -> Outcome<Self> {
        let dir = dir.join("bare");
        let rootfs = dir.join("rootfs");
        std::fs::create_dir_all(&rootfs)?;
        let mut largest = (0, PathBuf::new());
        for blob in std::fs::read_dir(layout.join("blobs/sha256"))? {
            let blob = blob?;
            largest = largest.max((blob.metadata()?.len(), blob.path()));
        }
        // The layer is by far the largest blob of an image of one layer.
        done(Command::new("tar").arg("-xzf").arg(&largest.1).arg("-C").arg(&rootfs))?;
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(model)?)?;
        spec["root"]["path"] = rootfs.to_string_lossy().into_owned().into();
        // runc then takes one named like the container.
        spec["linux"]["cgroupsPath"] = serde_json::Value::Null;
        Ok(Self { dir, spec })
    }

    /// The bundle of a container, made before its time is taken.
    fn bundle(&self, id: &str) -> Outcome<PathBuf> {
        let bundle = self.dir.join(id);
        std::fs::create_dir_all(&bundle)?;
        std::fs::write(bundle.join("config.json"), self.spec.to_string())?;
        Ok(bundle)
    }

    fn runc(&self, words: &[&str]) -> Outcome<()> {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.join("root")).args(words);
        // A container inherits its creator's streams: a pipe would never end.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status()?.success() {
            true => Ok(()),
            false => Err(format!("runc {} failed", words.join(" ")).into()),
        }
    }

    /// From the call to the container's start.
    fn one(&self, id: &str, bundle: &Path) -> Outcome<Duration> {
        let pid_file = self.dir.join(format!("{id}.pid"));
        let bundle = bundle.to_string_lossy().into_owned();
        let called = since_boot();
        self.runc(&["create", "-b", &bundle, "--pid-file", &pid_file.to_string_lossy(), id])?;
        self.runc(&["start", id])?;
        let pid: i64 = std::fs::read_to_string(&pid_file)?.trim().parse()?;
        let at = started(pid).ok_or("the container has ended")?;
        Ok(at.saturating_sub(called))
    }

    fn singles(&self, count: usize) -> Outcome<Histogram<u64>> {
        let mut latencies = histogram();
        for n in 0..count {
            let id = format!("muster-bench-{}-{n}", std::process::id());
            let bundle = self.bundle(&id)?;
            latencies.saturating_record(micros(self.one(&id, &bundle)?));
            self.runc(&["delete", "-f", &id])?;
        }
        Ok(latencies)
    }

    /// Seconds until so many run, `PARALLEL` at a time.
    fn together(&self, count: usize) -> Outcome<f64> {
        let id = |n: usize| format!("muster-bench-{}-t{n}", std::process::id());
        let bundles: Vec<PathBuf> =
            (0..count).map(|n| self.bundle(&id(n))).collect::<Outcome<_>>()?;
        let bundles = &bundles;
        let began = Instant::now();
        let results: Vec<Outcome<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..PARALLEL)
                .map(|worker| {
                    scope.spawn(move || {
                        (worker..count)
                            .step_by(PARALLEL)
                            .try_for_each(|n| self.one(&id(n), &bundles[n]).map(|_| ()))
                    })
                })
                .collect();
            let lost = || Err("a thread has panicked".into());
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| lost())).collect()
        });
        let took = began.elapsed().as_secs_f64();
        for n in 0..count {
            // One that was never made has nothing to delete.
            self.runc(&["delete", "-f", &id(n)]).ok();
        }
        results.into_iter().collect::<Outcome<Vec<()>>>()?;
        Ok(took)
    }
}

struct Measured {
    /// From the call to the container's start.
    start: Histogram<u64>,
    /// From the call to RUNNING in a watch.
    seen: Histogram<u64>,
}

async fn register(channel: &Channel, mode: &str, image: &str) -> Outcome<()> {
    let container = pb::ContainerDefinition {
        name: "main".into(),
        image: image.into(),
        cpu: 4,
        memory: Some(16),
        stop_timeout: Some(1),
        command: ["/bin/busybox", "sleep", "1000"].map(String::from).to_vec(),
        ..Default::default()
    };
    let request = pb::RegisterTaskDefinitionRequest {
        family: mode.into(),
        network_mode: mode.into(),
        container_definitions: vec![container],
        ..Default::default()
    };
    EcsClient::new(channel.clone()).register_task_definition(request).await?;
    Ok(())
}

async fn run_tasks(channel: &Channel, family: &str, count: i32) -> Outcome<Vec<String>> {
    let request =
        pb::RunTaskRequest { task_definition: family.into(), count, ..Default::default() };
    let answer = EcsClient::new(channel.clone()).run_task(request).await?.into_inner();
    match answer.failures.first() {
        Some(failure) => Err(format!("{} {}", failure.reason, failure.detail).into()),
        None => Ok(answer.tasks.into_iter().map(|task| task.task_arn).collect()),
    }
}

async fn stop(channel: &Channel, task: &str) -> Outcome<()> {
    let request = pb::StopTaskRequest { task: task.into(), ..Default::default() };
    EcsClient::new(channel.clone()).stop_task(request).await?;
    Ok(())
}

/// Tasks as a program sees them: through one watch.
struct Tasks {
    changes: tonic::Streaming<pb::WatchResponse>,
    newest: HashMap<String, pb::Task>,
}

impl Tasks {
    async fn watch(channel: &Channel) -> Outcome<Self> {
        let request = pb::WatchRequest { kinds: vec!["task".into()], ..Default::default() };
        let changes = LiveClient::new(channel.clone()).watch(request).await?.into_inner();
        Ok(Self { changes, newest: HashMap::new() })
    }

    /// Waits until all of these have `status`; a task that ended instead is an error.
    async fn wait(&mut self, tasks: &[String], status: &str) -> Outcome<()> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        let mut missing: HashSet<&String> = tasks.iter().collect();
        loop {
            for arn in tasks {
                let Some(task) = self.newest.get(arn) else { continue };
                if task.last_status == status {
                    missing.remove(arn);
                } else if task.last_status == "STOPPED" {
                    return Err(task.stopped_reason.clone().into());
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            let left = format!("{} of {} are not {status} in time", missing.len(), tasks.len());
            let next = tokio::time::timeout_at(deadline, self.changes.message());
            let changes = next.await.map_err(|_| left)??.ok_or("the watch has ended")?.changes;
            for change in changes {
                if let Some(Row::Task(task)) = change.row {
                    self.newest.insert(task.task_arn.clone(), *task);
                }
            }
        }
    }

    fn pid(&self, task: &str) -> Option<i64> {
        self.newest.get(task)?.containers.first()?.pid.map(i64::from)
    }
}

async fn singles(channel: &Channel, family: &str, count: usize) -> Outcome<Measured> {
    let mut measured = Measured { start: histogram(), seen: histogram() };
    let mut watch = Tasks::watch(channel).await?;
    // The first start pulls the image: it is not measured.
    for n in 0..=count {
        let (called, began) = (since_boot(), Instant::now());
        let tasks = run_tasks(channel, family, 1).await?;
        watch.wait(&tasks, "RUNNING").await?;
        let seen = began.elapsed();
        let pid = watch.pid(&tasks[0]).ok_or("a running task without a pid")?;
        let at = started(pid).ok_or("the container has ended")?;
        if n > 0 {
            measured.seen.saturating_record(micros(seen));
            measured.start.saturating_record(micros(at.saturating_sub(called)));
        }
        stop(channel, &tasks[0]).await?;
        // The next one must not wait for this one's end.
        watch.wait(&tasks, "STOPPED").await?;
    }
    Ok(measured)
}

/// The tasks, and the seconds from the first call until all run.
async fn all_at_once(channel: &Channel, family: &str, count: usize) -> Outcome<(Vec<String>, f64)> {
    let mut watch = Tasks::watch(channel).await?;
    let began = Instant::now();
    let calls = (0..count.div_ceil(RUN_TASK_MAX)).map(|call| {
        let left = (count - call * RUN_TASK_MAX).min(RUN_TASK_MAX);
        run_tasks(channel, family, i32::try_from(left).unwrap_or(1))
    });
    let mut tasks = Vec::new();
    for call in calls {
        tasks.extend(call.await?);
    }
    watch.wait(&tasks, "RUNNING").await?;
    Ok((tasks, began.elapsed().as_secs_f64()))
}

/// Stops them and waits until all have ended: a shim without an agent would live on.
async fn stop_all(channel: &Channel, tasks: &[String]) -> Outcome<()> {
    let mut watch = Tasks::watch(channel).await?;
    for task in tasks {
        stop(channel, task).await?;
    }
    watch.wait(tasks, "STOPPED").await
}
