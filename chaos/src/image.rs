//! A registry in the lab's hub, with images made of busybox.

use crate::lab::{Lab, root};
use crate::wait;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Port of the registry on the hub's address.
const PORT: u16 = 5000;

/// Debian's docker-registry, over plain HTTP; ends when dropped.
pub struct Registry {
    process: Child,
    /// host:port.
    pub address: String,
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
        let process = lab
            .hub_command("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("starting docker-registry: {error}"));
        let registry = Self { process, address };
        let url = format!("http://{}/v2/", registry.address);
        wait::until("the registry answers", Duration::from_secs(10), || {
            let output = lab.hub_command("busybox").args(["wget", "-q", "-O", "-", &url]).output();
            match output {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        registry.push(lab, dir);
        registry
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
