//! Hollow agents by the thousand, in processes of their own: what they cost is not counted as the
//! managers', and their connections fit a process's limit of descriptors.
//!
//! A process of agents obeys words on its input and answers each with one line: see
//! [`process`]. It ends with its input, so none outlives the bench.

pub mod process;

use crate::Outcome;
use crate::local::{self, Local};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

/// Agents of one process: with a connection to each of three managers they take 15,000 of the
/// 20,000 descriptors that a process may commonly have.
const PER_PROCESS: usize = 5000;
/// How long all agents may take to join and connect: a hundred a second, far below any target.
const CONNECT_WAIT: Duration = Duration::from_secs(300);
/// How long a process may take to answer one word.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// What is left of the leases of agents that are cut off: at least four of six seconds, and then
/// six more, as the loss of every zone at once is held back for a second lease.
const LEASES: Duration = Duration::from_secs(9);
/// The sockets of those that are cut off are closed by then; it is part of `LEASES`.
const CUT_OFF: Duration = Duration::from_secs(1);
pub const ZONES: usize = 3;

/// Processes of hollow agents, all of one cluster.
pub struct Fleet {
    members: Vec<Member>,
    pub agents: usize,
    /// From the first join to the last session.
    pub connected_in: Duration,
}

struct Member {
    _process: Child,
    words: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// An order to run a task, as an agent heard it.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    pub task: u128,
    pub at_us: u64,
}

impl Fleet {
    /// Joins so many agents over three zones and waits until each has a session.
    ///
    /// # Errors
    /// They do not connect in time.
    pub async fn connect(local: &Local, agents: usize) -> Outcome<Self> {
        let began = Instant::now();
        let leader = local.leader().await?;
        // The leader first: that is where a session is.
        let managers: Vec<String> =
            (0..3).map(|turn| local::address((leader + turn) % 3)).collect();
        let mut members = Vec::new();
        for first in (0..agents).step_by(PER_PROCESS) {
            let count = PER_PROCESS.min(agents - first);
            members.push(Member::start(&managers, &local.worker_token, first, count)?);
        }
        let mut fleet = Self { members, agents, connected_in: Duration::ZERO };
        fleet.wait_open(agents, CONNECT_WAIT).await?;
        fleet.connected_in = began.elapsed();
        Ok(fleet)
    }

    /// Cuts all agents off. For how long the managers still place tasks on their instances.
    pub async fn cut_off(self) -> Duration {
        drop(self);
        tokio::time::sleep(CUT_OFF).await;
        LEASES.saturating_sub(CUT_OFF)
    }

    /// Sessions that are open now.
    ///
    /// # Errors
    /// A process of agents has ended.
    pub async fn open(&mut self) -> Outcome<usize> {
        let answers = self.ask("open").await?;
        answers.iter().map(|answer| Ok(answer.parse::<usize>()?)).sum()
    }

    /// # Errors
    /// Fewer sessions than this are open within the time.
    pub async fn wait_open(&mut self, wanted: usize, wait: Duration) -> Outcome<()> {
        let deadline = Instant::now() + wait;
        loop {
            let open = self.open().await?;
            if open >= wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{open} of {wanted} agents connected in {wait:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether tasks are reported as RUNNING from now on.
    ///
    /// # Errors
    /// A process of agents has ended.
    pub async fn report(&mut self, yes: Reporting) -> Outcome<()> {
        let word = match yes {
            Reporting::Running => "report running",
            Reporting::Nothing => "report nothing",
        };
        self.ask(word).await.map(drop)
    }

    /// Tasks take so long to start from now on.
    ///
    /// # Errors
    /// A process of agents has ended.
    pub async fn start_after(&mut self, millis: u64) -> Outcome<()> {
        self.ask(&format!("start {millis}")).await.map(drop)
    }

    /// Tasks that were ordered and have not ended, and those of them that have run for so long and
    /// were not told to stop.
    ///
    /// # Errors
    /// A process of agents has ended.
    pub async fn count(&mut self, healthy_ms: u64) -> Outcome<(u64, u64)> {
        let (mut existing, mut healthy) = (0, 0);
        for answer in self.ask(&format!("count {healthy_ms}")).await? {
            let (one, other) = answer.split_once(' ').ok_or("a count is two numbers")?;
            existing += one.parse::<u64>()?;
            healthy += other.parse::<u64>()?;
        }
        Ok((existing, healthy))
    }

    /// Kills the agent with this number; when it last said that it lived, in microseconds.
    ///
    /// # Errors
    /// A process of agents has ended.
    pub async fn kill_one(&mut self, agent: usize) -> Outcome<u64> {
        self.kill(&format!("kill one {agent}")).await
    }

    /// Kills all of one zone; when the first of them last said that it lived.
    ///
    /// # Errors
    /// A process of agents has ended.
    pub async fn kill_zone(&mut self, zone: usize) -> Outcome<u64> {
        self.kill(&format!("kill zone {zone}")).await
    }

    async fn kill(&mut self, words: &str) -> Outcome<u64> {
        let answers = self.ask(words).await?;
        let beats = answers.iter().filter_map(|answer| answer.parse::<u64>().ok());
        beats.min().ok_or_else(|| format!("{words}: no such agent").into())
    }

    /// What has been received since this was last asked.
    ///
    /// # Errors
    /// A process of agents has ended, or its file cannot be read.
    pub async fn received(&mut self, dir: &Path) -> Outcome<Vec<Received>> {
        let path = dir.join("received");
        let mut all = Vec::new();
        for member in &mut self.members {
            member.ask(&format!("received {}", path.display())).await?;
            for record in std::fs::read(&path)?.as_chunks::<24>().0 {
                let [task, at_us] = [&record[..16], &record[16..]];
                all.push(Received {
                    task: u128::from_be_bytes(task.try_into()?),
                    at_us: u64::from_be_bytes(at_us.try_into()?),
                });
            }
        }
        Ok(all)
    }

    /// All processes are asked before the first is waited for.
    async fn ask(&mut self, words: &str) -> Outcome<Vec<String>> {
        for member in &mut self.members {
            member.say(words).await?;
        }
        let mut answers = Vec::new();
        for member in &mut self.members {
            answers.push(member.answer().await?);
        }
        Ok(answers)
    }
}

/// What agents say of tasks they are told to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    Running,
    Nothing,
}

impl Member {
    fn start(managers: &[String], token: &str, first: usize, count: usize) -> Outcome<Self> {
        // On machines of their own they would take nothing from the managers' cores.
        let mut process = Command::new("nice")
            .args(["-n", "5"])
            .arg(std::env::current_exe()?)
            .args(["fleet", "--managers", &managers.join(",")])
            .args(["--first", &first.to_string(), "--count", &count.to_string()])
            .env("MUSTER_BENCH_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let words = process.stdin.take().ok_or("no input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        Ok(Self { _process: process, words, answers })
    }

    async fn ask(&mut self, words: &str) -> Outcome<String> {
        self.say(words).await?;
        self.answer().await
    }

    async fn say(&mut self, words: &str) -> Outcome<()> {
        self.words.write_all(format!("{words}\n").as_bytes()).await?;
        Ok(self.words.flush().await?)
    }

    async fn answer(&mut self) -> Outcome<String> {
        let answer = tokio::time::timeout(ANSWER_WAIT, self.answers.next_line()).await??;
        answer.ok_or_else(|| "a process of agents has ended".into())
    }
}
