//! Fuzzing for long: compiles the targets with libFuzzer, runs each for its time, and says what
//! came of it. `cargo test` runs the same targets briefly.
//!
//! It does not know what a target parses. Invariant: what was found stays: new inputs in
//! target/fuzz, an input that crashed in chaos/fuzz/crashes, with the command that replays it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

pub const USAGE: &str =
    "usage: cargo xtask fuzz [--target NAME] [--seconds N] [--at-once N] [--list]
  --target NAME   this one; its name, or a part of it; may be said again
  --seconds N     how long each runs (default 60)
  --at-once N     how many run at a time, each on one core (default 1, at most 64)
  --replay FILE   this one input and nothing else, for one target
  --list          what there is
";

/// A target that ran for less is not called fuzzed.
const SECONDS_MIN: u64 = 600;
/// More than any machine that this is developed on has cores.
const AT_ONCE_MAX: usize = 64;
/// One input that takes longer hangs.
const INPUT_SECONDS_MAX: u32 = 10;
/// A parser that lets a small input have more memory than this does not bound it.
const RSS_MIB_MAX: u32 = 1024;

/// What the compiler adds for coverage. All of it is known to the stable toolchain; the allocator
/// and the standard library are as they are shipped.
const COVERAGE: &str = "--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Where a target is compiled: a test of a package.
#[derive(Clone, Copy)]
struct Home {
    package: &'static str,
    folder: &'static str,
    which: &'static [&'static str],
}

const HERE: Home =
    Home { package: "muster-fuzz", folder: "chaos/fuzz", which: &["--test", "targets"] };
/// What the store reads is known to nobody else, and only it may link RocksDB.
const STORE: Home = Home { package: "muster-store", folder: "raft/store", which: &["--lib"] };

/// The whole door needs a cluster behind it, which the API's own tests have.
const API: Home = Home { package: "muster-api", folder: "node/api", which: &["--test", "fuzz"] };

struct Target {
    name: &'static str,
    module: &'static str,
    home: Home,
    bytes_max: u32,
}

const fn here(name: &'static str, module: &'static str, bytes_max: u32) -> Target {
    Target { name, module, home: HERE, bytes_max }
}

const fn store(name: &'static str, bytes_max: u32) -> Target {
    Target { name, module: "tests::fuzz", home: STORE, bytes_max }
}

/// Those that read what strangers write come first.
const TARGETS: &[Target] = &[
    here("task_definition", "definition", 8192),
    here("image_layer", "layer", 16384),
    here("image_manifest", "image", 8192),
    here("image_config", "image", 8192),
    here("image_user", "image", 4096),
    here("image_reference", "names", 1100),
    here("api_request", "request", 8192),
    here("api_json", "request", 8192),
    here("api_status", "request", 4096),
    here("query", "query", 2048),
    here("schedule_expression", "calendar", 320),
    here("join_token", "names", 256),
    here("resource_name", "names", 1100),
    here("secret_reference", "names", 1100),
    here("environment_file", "names", 1100),
    here("small_text", "names", 256),
    here("signed_request", "signature", 4096),
    here("sts_form", "signature", 1024),
    Target { name: "ecs_door", module: "door", home: API, bytes_max: 8192 },
    here("certificate", "certificate", 4096),
    here("certificate_request", "certificate", 4096),
    here("pem", "certificate", 8192),
    here("dispatch_from_agent", "dispatch", 8192),
    here("dispatch_from_manager", "dispatch", 8192),
    here("agent_config", "config", 4096),
    here("registry_credentials", "config", 4096),
    store("stored_row", 4096),
    store("stored_value", 4096),
    store("log_entry", 4096),
    store("log_command", 8192),
    store("snapshot_parts", 16384),
    store("raft_message", 8192),
];

struct Options {
    only: Vec<String>,
    seconds: u64,
    at_once: usize,
    replay: Option<PathBuf>,
    list: bool,
}

struct Run {
    executions: u64,
    seconds: u64,
    crash: Option<String>,
}

/// # Errors
/// A target crashed, hung or took too much memory, or could not be run at all.
pub fn run(root: &Path, words: impl Iterator<Item = String>) -> Result<(), String> {
    let options = options(words)?;
    let named = |t: &&Target| {
        options.only.is_empty() || options.only.iter().any(|only| t.name.contains(only.as_str()))
    };
    // A name that is also a part of others means itself.
    let exact = |t: &&Target| options.only.iter().any(|only| only == t.name);
    let mut targets: Vec<&Target> = TARGETS.iter().filter(exact).collect();
    if targets.len() < options.only.len() || targets.is_empty() {
        targets = TARGETS.iter().filter(named).collect();
    }
    if targets.is_empty() {
        return Err(format!("no such target; `cargo xtask fuzz --list` names all\n{USAGE}"));
    }
    if options.list {
        targets.iter().for_each(|t| println!("{:<24} {}", t.name, t.home.package));
        return Ok(());
    }
    if let Some(file) = &options.replay {
        return replay(root, &targets, file);
    }
    // Which are left is all that those who run them share.
    let left = Mutex::new(targets.iter().enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut runs = Vec::new();
        while let Some((at, target)) = next() {
            let name = target.name;
            println!("==> {}/{} {name} for {} s", at + 1, targets.len(), options.seconds);
            let run = fuzz(root, target, options.seconds)?;
            println!("    {name}: {} executions in {} s", run.executions, run.seconds);
            if let Some(crash) = &run.crash {
                println!("    FOUND by {name}: {crash}");
            }
            runs.push((name, run));
        }
        Ok(runs)
    };
    let runs = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.at_once).map(|_| scope.spawn(work)).collect();
        let ended = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err("a thread of this program panicked".into()))
        };
        let all: Result<Vec<Vec<_>>, String> = workers.into_iter().map(ended).collect();
        all.map(|runs| runs.into_iter().flatten().collect::<Vec<_>>())
    })?;
    summary(&runs)
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { only: Vec::new(), seconds: 60, at_once: 1, replay: None, list: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--target" => options.only.push(value()?),
            "--seconds" => {
                let text = value()?;
                let seconds = text.parse().ok().filter(|n| *n > 0);
                options.seconds =
                    seconds.ok_or_else(|| format!("--seconds: {text:?} is no number\n{USAGE}"))?;
            }
            "--at-once" => {
                let text = value()?;
                let number = text.parse().ok().filter(|n| (1..=AT_ONCE_MAX).contains(n));
                options.at_once = number.ok_or_else(|| {
                    format!("--at-once: {text:?} is not 1 to {AT_ONCE_MAX}\n{USAGE}")
                })?;
            }
            "--replay" => options.replay = Some(value()?.into()),
            "--list" => options.list = true,
            _ => return Err(format!("{word:?} is unknown\n{USAGE}")),
        }
    }
    Ok(options)
}

/// The figures of docs/RELIABILITY.md.
fn summary(runs: &[(&str, Run)]) -> Result<(), String> {
    let verdict = |good| if good { "ok" } else { "short" };
    let mut crashed = 0;
    for (name, run) in runs {
        let crashes = u32::from(run.crash.is_some());
        crashed += crashes;
        let (executions, seconds) = (run.executions, run.seconds);
        let (some, long) = (verdict(executions > 0), verdict(seconds >= SECONDS_MIN));
        let none = verdict(crashes == 0);
        println!("figure fuzz_{name}_crashes {crashes} crashes target <= 0 {none}");
        println!("figure fuzz_{name}_executions {executions} executions target >= 1 {some}");
        println!("figure fuzz_{name}_seconds {seconds} s target >= {SECONDS_MIN} {long}");
    }
    match crashed {
        0 => Ok(()),
        n => Err(format!("{n} of {} targets found something", runs.len())),
    }
}

/// The test of a target as cargo is asked for it.
fn words(target: &Target) -> Vec<String> {
    let fixed = ["test", "-q", "-p", target.home.package];
    fixed.iter().chain(target.home.which).map(ToString::to_string).collect()
}

fn name_of(target: &Target) -> Vec<String> {
    let exact = format!("{}::{}", target.module, target.name);
    ["--", "--exact", &exact, "--nocapture", "--test-threads", "1"].map(str::to_owned).to_vec()
}

fn fuzz(root: &Path, target: &Target, seconds: u64) -> Result<Run, String> {
    // libFuzzer's arguments are split at spaces: paths are said from the package's folder, which is
    // where cargo starts a test.
    let up = "../".repeat(Path::new(target.home.folder).components().count());
    let (found, crashes) = (format!("target/fuzz/{}", target.name), crashes(target));
    for folder in [&found, &crashes] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(|e| format!("making {}: {e}", folder.display()))?;
    }
    let arguments = format!(
        "{up}{found} {up}chaos/fuzz/corpus/{name} -artifact_prefix={up}{crashes}/ \
         -max_total_time={seconds} -max_len={} -timeout={INPUT_SECONDS_MAX} \
         -rss_limit_mb={RSS_MIB_MAX} -print_final_stats=1 -verbosity=1",
        target.bytes_max,
        name = target.name,
    );
    let mut command = Command::new("cargo");
    command
        .args(words(target))
        .args(["--profile", "fuzz"])
        // Named even if it is this machine's: build scripts and macros are then left as they are.
        .args(["--target", &host()?])
        .args(name_of(target))
        .current_dir(root)
        .env("RUSTFLAGS", COVERAGE)
        .env("BOLERO_LIBTEST_HARNESS", "1")
        .env("BOLERO_LIBFUZZER_ARGS", arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    watch(root, target, command)
}

/// Runs libFuzzer and reads what it says.
fn watch(root: &Path, target: &Target, mut command: Command) -> Result<Run, String> {
    let mut child = command.spawn().map_err(|error| format!("starting cargo: {error}"))?;
    let stderr = child.stderr.take().ok_or("cargo has no standard error")?;
    let (mut began, mut executions, mut artifact) = (None, None, None);
    let mut log = String::new();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(log, "{line}");
        if line.contains("INITED") || line.contains("INFO: Seed") {
            began = began.or_else(|| Some(Instant::now()));
        }
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            executions = count.trim().parse::<u64>().ok();
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            artifact = Path::new(file.trim()).file_name().map(|n| n.to_owned());
        }
    }
    let status = child.wait().map_err(|error| format!("waiting for cargo: {error}"))?;
    let told = root.join("target/fuzz").join(format!("{}.log", target.name));
    fs::write(&told, &log).map_err(|e| format!("writing {}: {e}", told.display()))?;
    let Some(began) = began else {
        eprint!("{log}");
        return Err(format!("{} did not start: {status}", target.name));
    };
    let crash = match (status.success(), artifact) {
        (true, _) => None,
        (false, Some(file)) => {
            let file = Path::new(&crashes(target)).join(file);
            let file = file.display();
            Some(format!(
                "replay it: cargo xtask fuzz --target {} --replay {file}\n    what was said: {}",
                target.name,
                told.display()
            ))
        }
        // A stack that overflowed takes libFuzzer with it.
        (false, None) => Some(format!("{status} without an input; see {}", told.display())),
    };
    Ok(Run { executions: executions.unwrap_or(0), seconds: began.elapsed().as_secs(), crash })
}

fn crashes(target: &Target) -> String {
    format!("chaos/fuzz/crashes/{}", target.name)
}

fn replay(root: &Path, targets: &[&Target], file: &Path) -> Result<(), String> {
    let [target] = targets else {
        return Err(format!("--replay is for one target: --target NAME\n{USAGE}"));
    };
    let file = fs::canonicalize(file).map_err(|e| format!("reading {}: {e}", file.display()))?;
    let status = Command::new("cargo")
        .args(words(target))
        .args(name_of(target))
        .current_dir(root)
        .env("MUSTER_FUZZ_FILE", &file)
        .status()
        .map_err(|error| format!("starting cargo: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{} fails on {}", target.name, file.display())),
    }
}

/// The machine that this toolchain compiles for.
fn host() -> Result<String, String> {
    let told = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|error| format!("starting rustc: {error}"))?;
    let told = String::from_utf8_lossy(&told.stdout);
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::TARGETS;
    use std::collections::BTreeSet;

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        let corpus = crate::root().join("chaos/fuzz/corpus");
        let names = std::fs::read_dir(corpus).unwrap();
        let corpora: BTreeSet<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let targets: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
        assert_eq!(corpora, targets);
    }
}
