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
    storage: PathBuf,
    /// host:port.
    pub address: String,
}

/// Makes an image as a directory; what `deploy/lib/mkimage` says of it.
fn layout_of(layout: &Path, tag: &str, more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(root().join("deploy/lib/mkimage"));
    let made = command.arg(layout).arg(tag).args(more).output();
    let made = made.map_err(|error| format!("deploy/lib/mkimage: {error}"))?;
    match made.status.success() {
        true => Ok(String::from_utf8_lossy(&made.stdout).into_owned()),
        false => Err(format!("mkimage: {}", String::from_utf8_lossy(&made.stderr))),
    }
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
        let registry = Self { process, config, storage, address };
        registry.wait(lab);
        let layout = dir.join("image");
        layout_of(&layout, "1", &[]).unwrap_or_else(|error| panic!("{error}"));
        let own = "test/busybox:1";
        registry.push(lab, &layout, "1", own).unwrap_or_else(|error| panic!("{error}"));
        registry
    }

    /// Nobody answers at its address until [`Registry::start_again`].
    pub fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// It answers, and lets nobody in: 401.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_locked(&mut self, lab: &Lab) {
        let open = std::fs::read_to_string(&self.config).unwrap_or_default();
        let (config, users) =
            (self.config.with_extension("locked.yml"), self.config.with_extension("users"));
        let auth = format!("auth: {{htpasswd: {{realm: lab, path: {}}}}}\n", users.display());
        let written =
            std::fs::write(&users, "").and_then(|()| std::fs::write(&config, open + &auth));
        written.unwrap_or_else(|error| panic!("{}: {error}", config.display()));
        self.process = serve(lab, &config);
        self.wait(lab);
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
                Ok(output) => match String::from_utf8_lossy(&output.stderr) {
                    text if text.contains(" 401 ") => Ok(()),
                    text => Err(text.into_owned()),
                },
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// Pushes an image whose layer has never been, and says where the registry keeps that layer.
    ///
    /// # Errors
    /// It cannot be made or pushed.
    pub fn push_unknown(
        &self,
        lab: &Lab,
        dir: &Path,
        number: u64,
    ) -> Result<(String, PathBuf), String> {
        let text = |error: std::io::Error| error.to_string();
        let (layout, seed) = (dir.join(format!("image-{number}")), dir.join("image-seed"));
        std::fs::write(&seed, number.to_string()).map_err(text)?;
        let tag = number.to_string();
        let told = layout_of(&layout, &tag, &["-f", &format!("seed={}", seed.display())])?;
        let manifest = told.trim().rsplit(':').next().unwrap_or_default().to_owned();
        let manifest = std::fs::read_to_string(layout.join("blobs/sha256").join(manifest));
        let manifest: serde_json::Value =
            serde_json::from_str(&manifest.map_err(text)?).map_err(|error| error.to_string())?;
        let digest = manifest["layers"][0]["digest"].as_str().unwrap_or_default();
        let digest = digest.trim_start_matches("sha256:");
        let start = digest.get(..2).ok_or("the manifest names no layer")?;
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        self.push(lab, &layout, &tag, &format!("test/busybox:{tag}"))?;
        std::fs::remove_dir_all(&layout).map_err(text)?;
        let image = format!("{}/test/busybox:{tag}", self.address);
        Ok((image, blobs.join(start).join(digest).join("data")))
    }

    /// Pushes a web server of busybox under a name that the public registries have: the lab's
    /// workers find it through their mirrors. It serves one page.
    ///
    /// # Panics
    /// It cannot be made or pushed.
    pub fn push_server(&self, lab: &Lab, dir: &Path, name: &str, page: &str) {
        let (layout, file) = (dir.join("image-server"), dir.join("index.html"));
        std::fs::write(&file, page).unwrap_or_else(|error| panic!("index.html: {error}"));
        let page = format!("www/index.html={}", file.display());
        let words = ["-f", &page, "-c", "httpd", "-f", "-p", "80", "-h", "/www"];
        let made = layout_of(&layout, "server", &words);
        let pushed = made.and_then(|_| self.push(lab, &layout, "server", name));
        pushed.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Pushes the image that every test may use under one more name.
    ///
    /// # Panics
    /// It cannot be pushed.
    pub fn push_as(&self, lab: &Lab, dir: &Path, name: &str) {
        let pushed = self.push(lab, &dir.join("image"), "1", name);
        pushed.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Pushes other bits under a name for each number, which is `VERSION` in their environment.
    ///
    /// # Panics
    /// They cannot be made or pushed.
    pub fn push_version(&self, lab: &Lab, dir: &Path, name: &str, number: u32) {
        let (layout, tag) = (dir.join("image-versions"), number.to_string());
        let made = layout_of(&layout, &tag, &["-e", &format!("VERSION={number}")]);
        let pushed = made.and_then(|_| self.push(lab, &layout, &tag, name));
        pushed.unwrap_or_else(|error| panic!("{error}"));
    }

    fn push(&self, lab: &Lab, layout: &Path, tag: &str, name: &str) -> Result<(), String> {
        let pushed = lab
            .hub_command("skopeo")
            .args(["copy", "-q", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:{tag}", layout.display()))
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .map_err(|error| format!("skopeo: {error}"))?;
        match pushed.status.success() {
            true => Ok(()),
            false => Err(format!("skopeo: {}", String::from_utf8_lossy(&pushed.stderr))),
        }
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
