//! A real registry for a test: Debian's `docker-registry` with what the test pushes.

use super::{image_dir, sh, until};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use tempfile::TempDir;

/// A `docker-registry` of this test's own network, gone with this value.
pub struct Registry {
    dir: TempDir,
    process: Child,
    address: String,
}

impl Registry {
    pub async fn start(address: &str, users: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = Self::serve(dir.path(), address, users);
        let registry = Self { dir, process, address: address.into() };
        registry.answers().await;
        registry
    }

    fn serve(dir: &Path, address: &str, users: Option<&str>) -> Child {
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {0}/store}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'}}\n",
            dir.display()
        );
        if let Some(users) = users {
            fs::write(dir.join("users"), users).unwrap();
            config +=
                &format!("auth: {{htpasswd: {{realm: lab, path: {}/users}}}}\n", dir.display());
        }
        fs::write(dir.join("config.yml"), config).unwrap();
        let config = dir.join("config.yml");
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(config).stdout(log.try_clone().unwrap()).stderr(log);
        registry.spawn().unwrap()
    }

    async fn answers(&self) {
        until("the registry answers", async || TcpStream::connect(&self.address).ok()).await;
    }

    pub fn push(&self, tag: &str, name: &str, options: &str) {
        let from = format!("oci:{}:{tag}", image_dir().display());
        let to = format!("docker://{}/{name}", self.address);
        sh(&format!("skopeo copy -q --dest-tls-verify=false {options} {from} {to}"));
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn stop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// The file in which the registry keeps a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.dir.path().join("store/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Sends one request and returns the status line.
    pub fn put_manifest(&self, name: &str, tag: &str, kind: &str, body: &str) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "PUT /v2/{name}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
