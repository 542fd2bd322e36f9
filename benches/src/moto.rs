//! `moto_server`, from PyPI: an ECS that is mocked in Python, for comparison.

use crate::Outcome;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "moto[server,ecs,ec2]==5.2.5";
const PORT: u16 = 17500;
const START_WAIT: Duration = Duration::from_secs(30);

/// A server; dropping it ends it.
pub struct Moto {
    process: Child,
    pub address: SocketAddr,
}

impl Moto {
    /// Installs it below `dir` and starts it.
    ///
    /// # Errors
    /// The package cannot be had, or the server does not listen in time.
    pub async fn start(dir: &Path) -> Outcome<Self> {
        let venv = dir.join("moto");
        let pip = venv.join("bin/pip").to_string_lossy().into_owned();
        run("python3", &["-m", "venv", &venv.to_string_lossy()])?;
        run(&pip, &["install", "--quiet", VERSION])?;
        let process = Command::new(venv.join("bin/moto_server"))
            .args(["-p", &PORT.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let moto = Self { process, address: SocketAddr::from(([127, 0, 0, 1], PORT)) };
        let deadline = Instant::now() + START_WAIT;
        while tokio::net::TcpStream::connect(moto.address).await.is_err() {
            if Instant::now() > deadline {
                return Err("moto_server does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(moto)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &str, words: &[&str]) -> Outcome<()> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
