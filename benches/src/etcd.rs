//! Debian's etcd-server as the peer: three processes on loopback, the same disk, TLS on.

use crate::Outcome;
use crate::certificates::{self, Files};
use muster_identity::{ConnectOptions, Connector, Identity, IdentityPem};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// etcd's `PutRequest`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// Any answer: its fields are not read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {}

/// etcd's `StatusResponse`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(uint64, tag = "4")]
    pub leader: u64,
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    #[prost(uint64, tag = "2")]
    pub member: u64,
}

const FIRST_PORT: usize = 17500;
const FORM_WAIT: Duration = Duration::from_secs(30);

pub struct Etcd {
    dir: tempfile::TempDir,
    files: Files,
    peer_files: Files,
    connector: Connector,
    timing: Vec<String>,
    processes: Vec<Option<Child>>,
}

/// Installs Debian's etcd-server if it is missing; the bench is run as root.
///
/// # Errors
/// It cannot be installed.
pub fn install() -> Outcome<()> {
    if Command::new("etcd").arg("--version").output().is_ok() {
        return Ok(());
    }
    println!("installing etcd-server, the peer");
    let status = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends", "etcd-server"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err("etcd-server cannot be installed (root? apt-get update?)".into()),
    }
}

impl Etcd {
    /// Three members. `timing`: heartbeat and election timeout in milliseconds, or etcd's own.
    ///
    /// # Errors
    /// They do not form in time.
    pub async fn form(timing: Option<(u32, u32)>) -> Outcome<Self> {
        install()?;
        let dir = tempfile::Builder::new().prefix("muster-bench-etcd-").tempdir()?;
        let files = certificates::for_clients(dir.path())?;
        let peer_files = certificates::for_peers(dir.path())?;
        let identity = Identity::from_pem(IdentityPem {
            ca: std::fs::read_to_string(&files.ca)?,
            cert: std::fs::read_to_string(&files.cert)?,
            key: std::fs::read_to_string(&files.key)?,
        })?;
        let timing = timing.map_or(Vec::new(), |(heartbeat, election)| {
            vec![
                format!("--heartbeat-interval={heartbeat}"),
                format!("--election-timeout={election}"),
            ]
        });
        let connector = Connector::new(identity);
        let processes = vec![None, None, None];
        let mut etcd = Self { dir, files, peer_files, connector, timing, processes };
        for index in 0..3 {
            etcd.start(index)?;
        }
        etcd.leader(None).await?;
        Ok(etcd)
    }

    /// # Errors
    /// The process cannot be started.
    pub fn start(&mut self, index: usize) -> Outcome<()> {
        let client = |i: usize| format!("https://127.0.0.1:{}", FIRST_PORT + i);
        let peer = |i: usize| format!("https://127.0.0.1:{}", FIRST_PORT + 10 + i);
        let all: Vec<_> = (0..3).map(|i| format!("e{i}={}", peer(i))).collect();
        let log = std::fs::File::create(self.dir.path().join(format!("log{index}")))?;
        let process = Command::new("etcd")
            .args(["--name", &format!("e{index}"), "--initial-cluster-state", "new"])
            .args(["--data-dir", &self.dir.path().join(format!("e{index}")).to_string_lossy()])
            .args(["--listen-client-urls", &client(index)])
            .args(["--advertise-client-urls", &client(index)])
            .args(["--listen-peer-urls", &peer(index)])
            .args(["--initial-advertise-peer-urls", &peer(index)])
            .args(["--initial-cluster", &all.join(","), "--log-level", "error"])
            .args(["--client-cert-auth", "--trusted-ca-file", &self.files.ca.to_string_lossy()])
            .args(["--cert-file", &self.files.cert.to_string_lossy()])
            .args(["--key-file", &self.files.key.to_string_lossy()])
            .args(["--peer-client-cert-auth", "--peer-trusted-ca-file"])
            .arg(&self.peer_files.ca)
            .arg("--peer-cert-file")
            .arg(&self.peer_files.cert)
            .arg("--peer-key-file")
            .arg(&self.peer_files.key)
            .args(&self.timing)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.processes[index] = Some(process);
        Ok(())
    }

    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.processes[index].take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    /// A channel of its own to a member.
    ///
    /// # Errors
    /// The address is not valid.
    pub fn channel(&self, index: usize) -> Outcome<Channel> {
        let address = format!("127.0.0.1:{}", FIRST_PORT + index);
        let connect_timeout = Duration::from_secs(1);
        let options = ConnectOptions { connect_timeout, ..ConnectOptions::default() };
        Ok(self.connector.connect_lazy(&address, options)?)
    }

    /// The index of the leader, other than `not`.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn leader(&self, not: Option<usize>) -> Outcome<usize> {
        let deadline = Instant::now() + FORM_WAIT;
        loop {
            for index in (0..3).filter(|i| Some(*i) != not && self.processes[*i].is_some()) {
                let status: Result<Status, _> =
                    unary(self.channel(index)?, "/etcdserverpb.Maintenance/Status", Answer {})
                        .await;
                if let Ok(status) = status
                    && status.leader != 0
                    && status.header.as_ref().is_some_and(|h| h.member == status.leader)
                {
                    return Ok(index);
                }
            }
            if Instant::now() > deadline {
                return Err("etcd: no leader in time".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..3).for_each(|index| self.kill(index));
    }
}

/// One call of one of etcd's rpcs.
///
/// # Errors
/// What the server said, as text.
pub async fn unary<Q, A>(channel: Channel, path: &'static str, message: Q) -> Result<A, String>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let codec = ProstCodec::<Q, A>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(10));
    let answer = grpc.unary(request, path, codec).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
}

/// # Errors
/// What the server said, as text.
pub async fn put(channel: Channel, key: Vec<u8>, value: Vec<u8>) -> Result<(), String> {
    unary::<_, Answer>(channel, "/etcdserverpb.KV/Put", Put { key, value }).await.map(|_| ())
}
