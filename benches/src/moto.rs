//! `moto_server`, from PyPI: an ECS that is mocked in Python, for comparison.

use crate::Outcome;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "moto[server,ecs,ec2]==5.2.5";
const PORT: u16 = 17500;
const START_WAIT: Duration = Duration::from_secs(30);
/// A cluster with an instance and the definition `bench`, as a test suite on moto makes them.
const SET_UP: &str = r#"
import boto3, json, sys
words = dict(endpoint_url=sys.argv[1], region_name="us-east-1",
             aws_access_key_id="x", aws_secret_access_key="y")
ec2, ecs = boto3.client("ec2", **words), boto3.client("ecs", **words)
made = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
document = {"instanceId": made["Instances"][0]["InstanceId"], "region": "us-east-1"}
ecs.create_cluster()
ecs.register_container_instance(instanceIdentityDocument=json.dumps(document))
container = {"name": "main", "image": "none", "cpu": 1, "memory": 6}
ecs.register_task_definition(family="bench", containerDefinitions=[container])
"#;

/// A server; dropping it ends it.
pub struct Moto {
    process: Child,
    python: PathBuf,
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
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        let moto = Self { process, python: venv.join("bin/python"), address };
        let deadline = Instant::now() + START_WAIT;
        while tokio::net::TcpStream::connect(moto.address).await.is_err() {
            if Instant::now() > deadline {
                return Err("moto_server does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(moto)
    }

    /// Makes a cluster with room for some hundred tasks of the definition `bench`.
    ///
    /// # Errors
    /// It refuses to.
    pub fn set_up(&self) -> Outcome<()> {
        let python = self.python.to_string_lossy();
        run(&python, &["-c", SET_UP, &format!("http://{}", self.address)])
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
