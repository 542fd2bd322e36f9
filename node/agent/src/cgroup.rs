//! Control groups: where a task's processes are counted, limited and found again.
//!
//! Version 1 (one tree per controller) and version 2 (one tree) are told apart by the filesystem
//! at /sys/fs/cgroup. The limits of a container are written by the runtime; ours are the task's
//! parent group, reading use, counting OOM kills, killing all, and removing what is left.
//! Invariant: nothing outside our own prefix is ever touched.

use crate::error::{Context, Name, Result};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long members may take to go after SIGKILL before removal is given up.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
const EMPTY_POLL: Duration = Duration::from_millis(2);
/// Period of the CPU quota, the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// Linux shows times to programs in hundredths of a second, whatever its own clock.
pub const TICK_NANOS: u64 = 10_000_000;
/// CPU units of one core in ECS.
const CPU_UNITS_PER_CORE: u64 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What a group used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    pub pids: u64,
    pub oom_kills: u64,
    pub cpu_user_nanos: u64,
    pub cpu_system_nanos: u64,
    /// What the group may have; 0 without a limit.
    pub memory_limit_bytes: u64,
    /// Files in memory that the kernel would give up first: part of `memory_bytes`.
    pub memory_reclaimable_bytes: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// Size of a whole task, which caps the sum of its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    pub cpu_units: Option<u32>,
    pub memory_mib: Option<u32>,
}

/// The groups of one agent: `/sys/fs/cgroup[/controller]/<prefix>/<task>/<container>`.
#[derive(Clone, Debug)]
pub struct Cgroups {
    version: Version,
    root: PathBuf,
    prefix: String,
}

impl Cgroups {
    /// `prefix` is absolute inside the cgroup tree, such as `/muster/worker-1`.
    pub fn detect(prefix: &str) -> Result<Self> {
        Self::at(Path::new("/sys/fs/cgroup"), prefix)
    }

    fn at(root: &Path, prefix: &str) -> Result<Self> {
        let kind = statfs(root)
            .context(Name::ResourceInitialization, "cannot read /sys/fs/cgroup (is it mounted?)")?;
        let v2 = kind.filesystem_type() == CGROUP2_SUPER_MAGIC;
        let version = if v2 { Version::V2 } else { Version::V1 };
        Ok(Self { version, root: root.to_owned(), prefix: prefix.trim_end_matches('/').to_owned() })
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The group of a task, as the runtime's `cgroupsPath` counts (from the root of the tree).
    pub fn task_path(&self, task: &str) -> String {
        format!("{}/{task}", self.prefix)
    }

    pub fn container_path(&self, task: &str, container: &str) -> String {
        format!("{}/{task}/{container}", self.prefix)
    }

    /// The file with the line `oom_kill N`.
    pub fn oom_file(&self, path: &str) -> PathBuf {
        match self.version {
            Version::V1 => self.file("memory", path, "memory.oom_control"),
            Version::V2 => self.file("", path, "memory.events"),
        }
    }

    fn file(&self, controller: &str, path: &str, file: &str) -> PathBuf {
        self.dir(controller, path).join(file)
    }

    fn dir(&self, controller: &str, path: &str) -> PathBuf {
        self.root.join(controller).join(path.trim_start_matches('/'))
    }

    /// Every tree of the machine; in version 2 just the one.
    fn trees(&self) -> Vec<PathBuf> {
        match self.version {
            Version::V2 => vec![self.root.clone()],
            Version::V1 => subdirectories(&self.root),
        }
    }

    /// Makes the task's own group if the task has a size of its own.
    pub fn limit_task(&self, task: &str, limits: TaskLimits) -> Result<()> {
        let path = self.task_path(task);
        let bytes = limits.memory_mib.map(|mib| u64::from(mib) << 20);
        let quota = limits.cpu_units.filter(|units| *units > 0).map(|units| {
            // The kernel refuses less than 1 ms per period.
            (u64::from(units) * CPU_PERIOD_US / CPU_UNITS_PER_CORE).max(1000)
        });
        let mut files = Vec::new();
        match self.version {
            Version::V1 => {
                if let Some(bytes) = bytes {
                    files.push((
                        self.file("memory", &path, "memory.limit_in_bytes"),
                        bytes.to_string(),
                    ));
                }
                if let Some(quota) = quota {
                    files.push((
                        self.file("cpu", &path, "cpu.cfs_period_us"),
                        CPU_PERIOD_US.to_string(),
                    ));
                    files.push((self.file("cpu", &path, "cpu.cfs_quota_us"), quota.to_string()));
                }
            }
            Version::V2 => {
                if let Some(bytes) = bytes {
                    files.push((self.file("", &path, "memory.max"), bytes.to_string()));
                    files.push((self.file("", &path, "memory.swap.max"), "0".into()));
                }
                if let Some(quota) = quota {
                    let text = format!("{quota} {CPU_PERIOD_US}");
                    files.push((self.file("", &path, "cpu.max"), text));
                }
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let failed = |file: &Path| format!("cannot limit task {task} through {}", file.display());
        if self.version == Version::V2 {
            self.delegate(&path).context(Name::CannotCreateContainer, failed(Path::new(&path)))?;
        }
        for (file, value) in files {
            if let Some(dir) = file.parent() {
                fs::create_dir_all(dir).context(Name::CannotCreateContainer, failed(&file))?;
            }
            match fs::write(&file, value) {
                // Kernels without swap accounting have no such file.
                Err(e)
                    if file.ends_with("memory.swap.max") && e.kind() == io::ErrorKind::NotFound => {
                }
                other => other.context(Name::CannotCreateContainer, failed(&file))?,
            }
        }
        Ok(())
    }

    /// Version 2: hands the controllers down to the parent of `path`, level by level.
    fn delegate(&self, path: &str) -> io::Result<()> {
        let mut dir = self.root.clone();
        for part in path.trim_start_matches('/').split('/') {
            let control = dir.join("cgroup.subtree_control");
            for controller in ["cpu", "cpuset", "memory", "pids", "io"] {
                // One write each: a controller that this kernel lacks must not spoil the others.
                let _ = fs::write(&control, format!("+{controller}"));
            }
            dir.push(part);
            fs::create_dir_all(&dir)?;
        }
        Ok(())
    }

    /// Use of a container or a whole task; zero for what this kernel does not count.
    pub fn usage(&self, path: &str) -> Usage {
        let number = |file: PathBuf| -> u64 {
            fs::read_to_string(file).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
        };
        let oom_kills = keyed(&self.oom_file(path), "oom_kill");
        // The kernel's way to say that there is none is a number near 2^63, or a word.
        let limit = |file| Some(number(file)).filter(|bytes| *bytes < 1 << 60).unwrap_or(0);
        match self.version {
            Version::V1 => Usage {
                cpu_nanos: number(self.file("cpuacct", path, "cpuacct.usage")),
                memory_bytes: number(self.file("memory", path, "memory.usage_in_bytes")),
                pids: number(self.file("pids", path, "pids.current")),
                oom_kills,
                cpu_user_nanos: keyed(&self.file("cpuacct", path, "cpuacct.stat"), "user")
                    * TICK_NANOS,
                cpu_system_nanos: keyed(&self.file("cpuacct", path, "cpuacct.stat"), "system")
                    * TICK_NANOS,
                memory_limit_bytes: limit(self.file("memory", path, "memory.limit_in_bytes")),
                memory_reclaimable_bytes: keyed(
                    &self.file("memory", path, "memory.stat"),
                    "total_inactive_file",
                ),
                read_bytes: self.io_v1(path, "Read"),
                written_bytes: self.io_v1(path, "Write"),
            },
            Version::V2 => Usage {
                cpu_nanos: keyed(&self.file("", path, "cpu.stat"), "usage_usec") * 1000,
                memory_bytes: number(self.file("", path, "memory.current")),
                pids: number(self.file("", path, "pids.current")),
                oom_kills,
                cpu_user_nanos: keyed(&self.file("", path, "cpu.stat"), "user_usec") * 1000,
                cpu_system_nanos: keyed(&self.file("", path, "cpu.stat"), "system_usec") * 1000,
                memory_limit_bytes: limit(self.file("", path, "memory.max")),
                memory_reclaimable_bytes: keyed(
                    &self.file("", path, "memory.stat"),
                    "inactive_file",
                ),
                read_bytes: self.io_v2(path, "rbytes="),
                written_bytes: self.io_v2(path, "wbytes="),
            },
        }
    }

    /// Lines `8:0 Read 4096`, one per device and kind.
    fn io_v1(&self, path: &str, kind: &str) -> u64 {
        let file = self.file("blkio", path, "blkio.throttle.io_service_bytes");
        let text = fs::read_to_string(file).unwrap_or_default();
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let of_kind = words.filter(|words| words.get(1) == Some(&kind));
        let bytes = of_kind.filter_map(|words| words.get(2)?.parse::<u64>().ok());
        bytes.fold(0, u64::saturating_add)
    }

    /// Lines `8:0 rbytes=4096 wbytes=0 ...`, one per device.
    fn io_v2(&self, path: &str, key: &str) -> u64 {
        let text = fs::read_to_string(self.file("", path, "io.stat")).unwrap_or_default();
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(key));
        words.filter_map(|n| n.parse::<u64>().ok()).fold(0, u64::saturating_add)
    }

    /// Moves a process of ours, and all that it will start, into a group of its own.
    pub fn join(&self, path: &str, pid: u32) -> io::Result<()> {
        // Version 1: those that count for the task, and need no more than the directory.
        let trees = match self.version {
            Version::V1 => ["memory", "pids"].map(|c| self.dir(c, path)).to_vec(),
            Version::V2 => vec![self.dir("", path)],
        };
        for dir in trees {
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Whether a process is in the group itself.
    pub fn has_members(&self, path: &str) -> bool {
        let controller = match self.version {
            Version::V1 => "pids",
            Version::V2 => "",
        };
        let members = fs::read_to_string(self.file(controller, path, "cgroup.procs"));
        members.is_ok_and(|text| !text.trim().is_empty())
    }

    /// Kills every process in the group and below, and waits until none is left.
    pub fn kill_all(&self, path: &str) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_WITHIN;
        loop {
            let mut found = false;
            for tree in self.trees() {
                found |= kill_tree(&tree.join(path.trim_start_matches('/')));
            }
            if !found {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = EMPTY_WITHIN.as_secs();
                let text = format!("processes in {path} are still there {seconds} s after SIGKILL");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(EMPTY_POLL);
        }
    }

    /// Removes the group and all below it in every tree. Missing ones are fine.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut result = Ok(());
        for tree in self.trees() {
            if let Err(e) = remove_tree(&tree.join(path.trim_start_matches('/'))) {
                result = Err(e);
            }
        }
        result
    }

    /// Tasks that have a group here, whoever made them (for the collector).
    pub fn tasks(&self) -> Vec<String> {
        let mut tasks = Vec::new();
        for tree in self.trees() {
            for dir in subdirectories(&tree.join(self.prefix.trim_start_matches('/'))) {
                tasks.extend(dir.file_name().and_then(|n| n.to_str()).map(str::to_owned));
            }
        }
        tasks.sort();
        tasks.dedup();
        tasks
    }

    /// Containers of a task that have a group here.
    pub fn containers(&self, task: &str) -> Vec<String> {
        let path = self.task_path(task);
        let mut names = Vec::new();
        for tree in self.trees() {
            for dir in subdirectories(&tree.join(path.trim_start_matches('/'))) {
                names.extend(dir.file_name().and_then(|n| n.to_str()).map(str::to_owned));
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect();
    dirs.sort();
    dirs
}

fn keyed(file: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(k, _)| *k == key).and_then(|(_, v)| v.trim().parse().ok()).unwrap_or(0)
}

/// SIGKILL to all members, children first. Says whether there was any.
fn kill_tree(dir: &Path) -> bool {
    let mut found = false;
    for child in subdirectories(dir) {
        found |= kill_tree(&child);
    }
    let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = members.lines().filter_map(|l| l.trim().parse().ok()).collect();
    if pids.is_empty() {
        return found;
    }
    // Where the kernel can do it at once, a fork bomb cannot outrun us.
    if fs::write(dir.join("cgroup.kill"), "1").is_err() {
        for pid in pids.into_iter().filter(|pid| *pid > 0) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
    true
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in subdirectories(dir) {
        remove_tree(&child)?;
    }
    let deadline = Instant::now() + EMPTY_WITHIN;
    loop {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The kernel lets go of the last process a moment after it has been reaped.
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(EMPTY_POLL);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_version() {
        let groups =
            |version| Cgroups { version, root: "/sys/fs/cgroup".into(), prefix: "/m/a".into() };
        let path = groups(Version::V1).container_path("t", "c");
        assert_eq!(path, "/m/a/t/c");
        assert_eq!(
            groups(Version::V1).oom_file(&path),
            Path::new("/sys/fs/cgroup/memory/m/a/t/c/memory.oom_control")
        );
        assert_eq!(
            groups(Version::V2).oom_file(&path),
            Path::new("/sys/fs/cgroup/m/a/t/c/memory.events")
        );
    }

    #[test]
    fn task_limits_are_written_and_the_group_goes_away_with_its_processes() {
        let prefix = format!("/muster-test-cgroup-{}", std::process::id());
        let groups = Cgroups::detect(&prefix).unwrap();
        let limits = TaskLimits { cpu_units: Some(512), memory_mib: Some(64) };
        groups.limit_task("t1", limits).unwrap();
        let path = groups.task_path("t1");
        if groups.version() == Version::V1 {
            let limit = fs::read_to_string(groups.file("memory", &path, "memory.limit_in_bytes"));
            assert_eq!(limit.unwrap().trim(), (64 << 20).to_string());
            let quota = fs::read_to_string(groups.file("cpu", &path, "cpu.cfs_quota_us"));
            assert_eq!(quota.unwrap().trim(), "50000");
        }
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let procs = match groups.version() {
            Version::V1 => groups.file("memory", &path, "cgroup.procs"),
            Version::V2 => groups.file("", &path, "cgroup.procs"),
        };
        fs::write(procs, sleeper.id().to_string()).unwrap();
        assert_eq!(groups.tasks(), ["t1"]);
        // Reaped here, because the process is this test's child and stays a member until then.
        let waiter = std::thread::spawn(move || sleeper.wait().unwrap());
        groups.kill_all(&path).unwrap();
        assert!(!waiter.join().unwrap().success());
        groups.remove(&path).unwrap();
        assert!(groups.tasks().is_empty());
        groups.remove(&prefix).unwrap();
    }
}
