//! How machines come into a cluster: founded, joined, and configured so that several clusters fit
//! one machine.

use super::{Cluster, FORM_WAIT, zone};
use crate::wait;

impl Cluster {
    pub(super) fn found(&mut self) {
        let address = self.manager_address(1);
        let (data, config) = (self.data("m1"), self.config("m1"));
        let words = [
            "init",
            "--address",
            &address,
            "--zone",
            zone(1),
            "--name",
            "m1",
            "--output",
            "json",
            "--data-dir",
            &data,
            "--config",
            &config,
        ];
        let tokens = self.json(&words);
        let token = |name: &str| tokens[name].as_str().unwrap_or_default().to_owned();
        self.manager_token = token("managerToken");
        self.worker_token = token("workerToken");
        self.tune_manager("m1");
        self.start("m1");
        wait::until("the first manager leads", FORM_WAIT, || self.leader().ok_or("none".into()));
    }

    /// Joins and starts another manager.
    pub fn join_manager(&mut self, number: u32) {
        let host = format!("m{number}");
        // A manager that is replaced cannot be asked.
        let first = self.manager_address(if number == 1 { 2 } else { 1 });
        let address = self.manager_address(number);
        let (data, config) = (self.data(&host), self.config(&host));
        self.lab.done(&["boot", &host]);
        self.on(
            &host,
            &[
                "join",
                "--manager",
                &first,
                "--zone",
                zone(number),
                "--name",
                &host,
                "--address",
                &address,
                "--token",
                &self.manager_token,
                "--data-dir",
                &data,
                "--config",
                &config,
            ],
        );
        self.managers = self.managers.max(number);
        self.tune_manager(&host);
        self.start(&host);
    }

    fn tune_manager(&self, host: &str) {
        let config = self.config(host);
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        let mib = |line: &str| match self.log_mib > 0 && line.starts_with("log_mib = ") {
            true => format!("log_mib = {}", self.log_mib),
            false => line.to_owned(),
        };
        let lines: Vec<_> = text.lines().map(mib).collect();
        std::fs::write(&config, lines.join("\n")).unwrap_or_else(|e| panic!("{config}: {e}"));
    }

    /// Joins and starts a worker; `more` are further words for `muster join`.
    pub fn join_worker(&mut self, number: u32, more: &[&str]) {
        self.enrol_worker(number, more);
        self.start(&format!("w{number}"));
    }

    /// Joins and starts a worker that pretends to run containers.
    ///
    /// # Panics
    /// Its configuration cannot be written.
    pub fn join_simulated(&mut self, number: u32) {
        self.enrol_worker(number, &[]);
        let host = format!("w{number}");
        self.pretend(&host);
        self.start(&host);
    }

    fn pretend(&self, name: &str) {
        let config = self.config(name);
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        let text = format!("{text}\n[simulate]\nstart_ms = 100\n");
        std::fs::write(&config, text).unwrap_or_else(|error| panic!("{config}: {error}"));
    }

    /// Joins and starts one more agent that pretends to run containers, on a host that has one.
    ///
    /// # Panics
    /// It does not join.
    pub fn join_guest(&mut self, number: u32, on: &str) {
        let name = format!("g{number}");
        self.enrol(&name, on, zone(number), &[]);
        self.pretend(&name);
        self.launch(&name, on, &[]);
    }

    /// Ends a guest, and forgets it.
    pub fn kill_guest(&mut self, number: u32) {
        let name = format!("g{number}");
        if let Some(mut child) = self.processes.remove(&name) {
            let pid = std::fs::read_to_string(self.path(&name).join("pid")).unwrap_or_default();
            let on = std::fs::read_to_string(self.path(&name).join("on")).unwrap_or_default();
            self.lab.done(&["run", on.trim(), "kill", "-9", pid.trim()]);
            child.wait().ok();
        }
        std::fs::remove_dir_all(self.path(&name)).ok();
    }

    /// Joins and starts a machine anew, as one that was never in any cluster.
    ///
    /// # Panics
    /// It does not join.
    pub fn rejoin_worker(&mut self, number: u32, more: &[&str]) {
        let host = format!("w{number}");
        self.crash(&host);
        let gone = std::fs::remove_dir_all(self.path(&host));
        gone.unwrap_or_else(|error| panic!("{host}: {error}"));
        self.lab.done(&["boot", &host]);
        self.join_worker(number, more);
    }

    fn enrol_worker(&mut self, number: u32, more: &[&str]) {
        let host = format!("w{number}");
        self.enrol(&host, &host, zone(number), more);
    }

    /// Makes a container instance of this name, on a host.
    fn enrol(&mut self, name: &str, on: &str, zone: &str, more: &[&str]) {
        let host = name.to_owned();
        let (first, address) = (self.any_manager(), self.lab.address(on));
        let (data, config) = (self.data(&host), self.config(&host));
        // The lab reaches no public registry: what has such a name is in its own.
        let mirror = |of: &str| format!("{of}=http://{}", self.registry.address);
        let (hub, public) = (mirror("docker.io"), mirror("public.ecr.aws"));
        let mut words = vec![
            "join",
            "--manager",
            &first,
            "--zone",
            zone,
            "--name",
            &host,
            "--address",
            &address,
            "--insecure-registry",
            &self.registry.address,
            "--registry-mirror",
            &hub,
            "--registry-mirror",
            &public,
            "--token",
            &self.worker_token,
            "--data-dir",
            &data,
            "--config",
            &config,
        ];
        words.extend(more);
        self.on(on, &words);
        // Names apart from any other cluster's on this machine: they tell what was left behind.
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        let lab = self.lab.prefix();
        let root = |line: &str| match line.starts_with("cgroup_root = ") {
            true => format!("run_dir = \"/run/{lab}/{host}\"\ncgroup_root = \"{lab}\""),
            false => line.to_owned(),
        };
        let lines: Vec<_> = text.lines().map(root).collect();
        std::fs::write(&config, lines.join("\n")).unwrap_or_else(|e| panic!("{config}: {e}"));
    }
}
