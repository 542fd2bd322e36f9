//! Three manager processes on loopback, each with its own data directory and real fsync.

use crate::Outcome;
use muster_identity::{ConnectOptions, Connector, Identity};
use muster_proto::client::{Client, Dialer};
use muster_proto::pb;
use pb::operator_client::OperatorClient;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const FIRST_PORT: u16 = 17400;
const FORM_WAIT: Duration = Duration::from_secs(30);

pub struct Local {
    pub dir: tempfile::TempDir,
    processes: Vec<Option<Child>>,
    pub client: Arc<Client>,
    dial: Dialer,
    timing: String,
    manager_token: String,
    pub worker_token: String,
}

/// The binary under test, built beside this one.
pub fn muster() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name("muster")
}

pub fn address(index: usize) -> String {
    format!("127.0.0.1:{}", FIRST_PORT as usize + index)
}

/// Where manager `index` serves its metrics.
pub fn metrics_address(index: usize) -> String {
    format!("127.0.0.1:{}", FIRST_PORT as usize + 50 + index)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Local {
    /// Founds a cluster of `count` managers with this timing profile, in a new directory.
    ///
    /// # Errors
    /// A command fails or the cluster does not form in time.
    pub async fn form(count: usize, timing: &str) -> Outcome<Self> {
        let dir = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
        let home = |index: usize| dir.path().join(format!("m{index}"));
        let admin = dir.path().join("admin");
        let first = address(0);
        let tokens = run(&[
            "init",
            "--address",
            &first,
            "--listen",
            &first,
            "--timing",
            timing,
            "--output",
            "json",
            "--data-dir",
            &text(&home(0).join("data")),
            "--config",
            &text(&home(0).join("manager.toml")),
            "--identity",
            &text(&admin),
        ])?;
        let tokens: Value = serde_json::from_str(&tokens)?;
        let token = |name: &str| tokens[name].as_str().unwrap_or_default().to_owned();
        let connector = Connector::new(Identity::load(&admin)?);
        let dial: Dialer = Arc::new(move |address: &str| {
            let connect_timeout = Duration::from_secs(1);
            let options = ConnectOptions { connect_timeout, ..ConnectOptions::default() };
            connector.connect_lazy(address, options).map_err(|error| error.to_string())
        });
        let client = Client::new((0..count).map(address).collect(), dial.clone())?;
        let mut local = Self {
            dir,
            processes: Vec::new(),
            client: Arc::new(client),
            dial,
            timing: timing.to_owned(),
            manager_token: token("managerToken"),
            worker_token: token("workerToken"),
        };
        local.start(0)?;
        local.wait(1).await?;
        for index in 1..count {
            local.join(index)?;
            local.start(index)?;
        }
        local.wait(count).await?;
        Ok(local)
    }

    /// Makes the files of one more manager; it is not started.
    ///
    /// # Errors
    /// It is not let in.
    pub fn join(&self, index: usize) -> Outcome<()> {
        let home = self.home(index);
        run(&[
            "join",
            "--manager",
            &address(0),
            "--zone",
            "az-a",
            "--name",
            &format!("m{index}"),
            "--address",
            &address(index),
            "--listen",
            &address(index),
            "--timing",
            &self.timing,
            "--token",
            &self.manager_token,
            "--data-dir",
            &text(&home.join("data")),
            "--config",
            &text(&home.join("manager.toml")),
        ])
        .map(drop)
    }

    pub fn home(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("m{index}"))
    }

    /// Starts (or restarts) a manager.
    ///
    /// # Errors
    /// Its files cannot be written or it cannot be started.
    pub fn start(&mut self, index: usize) -> Outcome<()> {
        let config = self.home(index).join("manager.toml");
        let written = std::fs::read_to_string(&config)?;
        if !written.contains("metrics_listen") {
            const SECTION: &str = "[telemetry]\n";
            let more = format!("{SECTION}metrics_listen = \"{}\"\n", metrics_address(index));
            let telling = match written.contains(SECTION) {
                true => written.replacen(SECTION, &more, 1),
                false => format!("{written}{more}"),
            };
            std::fs::write(&config, telling)?;
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home(index).join("log"))?;
        let process = Command::new(muster())
            .args(["manager", "--config"])
            .arg(&config)
            .env("MUSTER_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        while self.processes.len() <= index {
            self.processes.push(None);
        }
        self.processes[index] = Some(process);
        Ok(())
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.processes.get_mut(index).and_then(Option::take) {
            process.kill().ok();
            process.wait().ok();
        }
    }

    pub fn pid(&self, index: usize) -> Option<u32> {
        self.processes.get(index)?.as_ref().map(Child::id)
    }

    /// A channel of its own to a manager.
    ///
    /// # Errors
    /// The address is not valid.
    pub fn channel(&self, address: &str) -> Outcome<tonic::transport::Channel> {
        Ok((self.dial)(address)?)
    }

    /// # Errors
    /// No manager answers in time.
    pub async fn status(&self) -> Outcome<pb::RaftStatusResponse> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let call = async |channel, request| OperatorClient::new(channel).raft_status(request).await;
        Ok(self.client.call(pb::RaftStatusRequest::default(), deadline, call).await?)
    }

    /// Which manager leads, once a leader is known to whoever answers.
    ///
    /// # Errors
    /// None does in time.
    pub async fn leader(&self) -> Outcome<usize> {
        let deadline = Instant::now() + FORM_WAIT;
        loop {
            let status = self.status().await;
            if let Ok(status) = &status
                && let Some(index) =
                    (0..self.processes.len()).find(|i| address(*i) == status.leader_address)
            {
                return Ok(index);
            }
            if Instant::now() > deadline {
                return Err("no leader in time".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many managers vote and one leads.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn wait(&self, voters: usize) -> Outcome<()> {
        let deadline = Instant::now() + FORM_WAIT;
        loop {
            let status = self.status().await;
            if let Ok(status) = &status
                && status.leader.is_some()
                && status.members.iter().filter(|m| m.role != "learner").count() == voters
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{voters} voters did not form in time: {status:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for index in 0..self.processes.len() {
            self.kill(index);
        }
    }
}

/// Runs a `muster` command.
///
/// # Errors
/// It fails; with what it said.
pub fn run(words: &[&str]) -> Outcome<String> {
    let output = Command::new(muster()).args(words).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => {
            Err(format!("muster {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr))
                .into())
        }
    }
}

/// A plain HTTP GET on loopback; the body.
///
/// # Errors
/// Nobody answers within two seconds.
pub fn http_get(address: &str, path: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
