//! `deploy/lib/lab` as a value: hosts in namespaces, and what can be done to them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A set of hosts with its own prefix; removed when dropped.
pub struct Lab {
    prefix: String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The repository's top.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

impl Lab {
    /// Hosts m1.. and w1.., booted.
    ///
    /// # Panics
    /// They cannot be made: not root, no namespaces.
    pub fn up(managers: u32, workers: u32) -> Self {
        let lab = Self::new();
        lab.make(managers, workers);
        lab
    }

    /// A name for a lab of its own, without hosts yet.
    #[allow(clippy::new_without_default)] // each has another name
    pub fn new() -> Self {
        // Interface names have 15 characters: the prefix keeps to 8.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("t{:x}{number:x}", std::process::id()) }
    }

    /// Makes the hosts and boots them.
    ///
    /// # Panics
    /// They cannot be made: not root, no namespaces.
    pub fn make(&self, managers: u32, workers: u32) {
        self.done(&["up", &managers.to_string(), &workers.to_string()]);
        let managers = (1..=managers).map(|i| format!("m{i}"));
        for host in managers.chain((1..=workers).map(|i| format!("w{i}"))) {
            self.done(&["boot", &host]);
        }
    }

    /// `deploy/lib/janitor`, not started yet: it clears away this lab, and the directory, when its
    /// standard input ends.
    pub fn janitor(&self, dir: &Path) -> Command {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(root().join("deploy/lib/janitor")).arg(&self.prefix).arg(dir);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// What every name of this lab begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the network namespace of a host is.
    pub fn netns(&self, host: &str) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}-{host}", self.prefix))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(root().join("deploy/lib/lab"));
        command.env("LAB", &self.prefix).stdin(Stdio::null());
        command
    }

    /// Runs a lab command that must succeed.
    ///
    /// # Panics
    /// It fails; with what it said.
    pub fn done(&self, words: &[&str]) -> String {
        let output = self.try_done(words);
        assert!(
            output.status.success(),
            "lab {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a lab command.
    ///
    /// # Panics
    /// The script cannot be started.
    pub fn try_done(&self, words: &[&str]) -> Output {
        match self.command().args(words).output() {
            Ok(output) => output,
            Err(error) => panic!("starting deploy/lib/lab: {error}"),
        }
    }

    /// Starts a process on a booted host, in all of its namespaces; its output goes to `log`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&self, host: &str, program: &[&str], log: &Path) -> Child {
        let open = || std::fs::OpenOptions::new().create(true).append(true).open(log);
        let (Ok(out), Ok(err)) = (open(), open()) else { panic!("opening {}", log.display()) };
        let child =
            self.command().args(["run", host]).args(program).stdout(out).stderr(err).spawn();
        child.unwrap_or_else(|error| panic!("starting {program:?} on {host}: {error}"))
    }

    /// A command in the hub's network, from where every host is reached; not started yet.
    pub fn hub_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns("hub").display())).arg(program);
        command
    }

    /// The address of a host.
    pub fn address(&self, host: &str) -> String {
        let number = |prefix| host.strip_prefix(prefix).and_then(|n: &str| n.parse::<u32>().ok());
        match (number("m"), number("w")) {
            (Some(m), _) => format!("10.77.0.{m}"),
            (_, Some(w)) => format!("10.77.0.{}", 100 + w),
            _ => "10.77.0.254".to_owned(),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.try_done(&["down"]);
        if !output.status.success() {
            eprintln!("lab down: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
