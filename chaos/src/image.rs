//! A registry in the lab's hub, with images made of busybox.

use crate::lab::{Lab, root};
use crate::wait;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Port of the registry on the hub's address.
const PORT: u16 = 5000;

/// Debian's docker-registry, over plain HTTP; ends when dropped.
pub struct Registry {
    process: Child,
    config: PathBuf,
    /// host:port.
    pub address: String,
}

fn serve(lab: &Lab, config: &Path) -> Child {
    let mut command = lab.hub_command("docker-registry");
    command.arg("serve").arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("starting docker-registry: {error}"))
}

impl Registry {
    /// Starts it with one image, `test/busybox:1`.
    ///
    /// # Panics
    /// It does not start, or the image cannot be pushed.
    pub fn start(lab: &Lab, dir: &Path) -> Self {
        let address = format!("{}:{PORT}", lab.address("hub"));
        let config = dir.join("registry.yml");
        let storage = dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap_or_else(|e| panic!("registry.yml: {e}"));
        let process = serve(lab, &config);
        let registry = Self { process, config, address };
        registry.wait(lab);
        registry.push(lab, dir);
        registry
    }

    /// Nobody answers at its address until [`Registry::start_again`].
    pub fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self, lab: &Lab) {
        self.process = serve(lab, &self.config);
        self.wait(lab);
    }

    fn wait(&self, lab: &Lab) {
        let url = format!("http://{}/v2/", self.address);
        wait::until("the registry answers", Duration::from_secs(10), || {
            let output = lab.hub_command("busybox").args(["wget", "-q", "-O", "-", &url]).output();
            match output {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    fn push(&self, lab: &Lab, dir: &Path) {
        let layout = dir.join("image");
        let made = Command::new(root().join("deploy/lib/mkimage")).arg(&layout).arg("1").output();
        let made = made.unwrap_or_else(|error| panic!("deploy/lib/mkimage: {error}"));
        assert!(made.status.success(), "mkimage: {}", String::from_utf8_lossy(&made.stderr));
        let pushed = lab
            .hub_command("skopeo")
            .args(["copy", "-q", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:1", layout.display()))
            .arg(format!("docker://{}/test/busybox:1", self.address))
            .output();
        let pushed = pushed.unwrap_or_else(|error| panic!("skopeo: {error}"));
        assert!(pushed.status.success(), "skopeo: {}", String::from_utf8_lossy(&pushed.stderr));
    }

    /// The image that every test may use.
    pub fn busybox(&self) -> String {
        format!("{}/test/busybox:1", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
