//! A local ECS for test suites, as a developer starts it: `muster dev --simulate --ecs-listen`.
//!
//! Neither root nor namespaces. Invariant: the process and its files are gone when it is dropped.

use crate::cluster::muster;
use crate::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long it may take to answer on a busy machine.
const START_WAIT: Duration = Duration::from_secs(30);

/// A running local ECS.
pub struct LocalEcs {
    process: Child,
    /// Where the wire protocol is served.
    pub address: SocketAddr,
    /// Where gRPC is.
    grpc: SocketAddr,
}

impl LocalEcs {
    /// # Panics
    /// It cannot be started, or does not answer in time.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more words of its command line.
    ///
    /// # Panics
    /// As [`LocalEcs::start`].
    pub fn start_with(words: &[&str]) -> Self {
        let [grpc, wire] = free_addresses();
        let mut command = Command::new(muster());
        command.args(["dev", "--simulate", "--port", &grpc.port().to_string()]);
        command.args(["--ecs-listen", &wire.to_string()]).args(words).stdin(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let local = Self { process, address: wire, grpc };
        wait::until("the local ECS answers", START_WAIT, || {
            TcpStream::connect(wire).map_err(|error| error.to_string())
        });
        local
    }

    /// A `muster` command as the administrator of a local ECS whose data are in this directory.
    pub fn client(&self, data_dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(muster());
        command.args(words).stdin(Stdio::null()).env("MUSTER_MANAGERS", self.grpc.to_string());
        command.env("MUSTER_IDENTITY", data_dir.join("admin"));
        command
    }

    /// Points a client at this ECS as any tool is, with made-up keys.
    pub fn enter(&self, command: &mut Command) {
        alone(command).env("AWS_ENDPOINT_URL_ECS", format!("http://{}", self.address));
        command.env("AWS_ACCESS_KEY_ID", "made-up").env("AWS_SECRET_ACCESS_KEY", "made-up");
        region(command, "eu-central-1");
    }
}

/// A client's region: boto3 and version 1 of `aws` read another name than all others.
pub fn region(command: &mut Command, region: &str) {
    command.env("AWS_REGION", region).env("AWS_DEFAULT_REGION", region);
}

/// Nothing of the person who runs the tests: no files, keys or region of theirs.
pub fn alone(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    // Scripts lie in the repository: nothing is written beside them.
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null())
}

impl Drop for LocalEcs {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // It removes its directory on the way out.
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        self.process.wait().ok();
    }
}

/// Ports of loopback that nobody listened on a moment ago.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let bind = |_| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|held| {
            let address = held.local_addr()?;
            Ok((held, address))
        })
    };
    // All are held until the last is found, so that they differ.
    let held: [_; N] = std::array::from_fn(bind);
    held.map(|one| one.unwrap_or_else(|error| panic!("a port of loopback: {error}")).1)
}
