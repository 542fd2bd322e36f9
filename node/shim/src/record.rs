//! What the shim writes for the agent: the outcome of creation, `shim.json` and `exit.json`.
//!
//! The JSON is put together by hand: a JSON crate would double this program's memory, and there is
//! one such process per container. The agent reads these files with a real parser.

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::ftruncate;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Room kept for the exit record, so that it can be written when the disk is full.
const EXIT_RECORD_ROOM: i64 = 4096;

/// Wall-clock milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Appends `text` as the inside of a JSON string.
pub fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// The line for a container that could not be made.
pub fn failure(why: &str) -> String {
    let mut text = String::from("{\"error\":\"");
    escape(&mut text, why);
    text.push_str("\"}\n");
    text
}

/// Who watches which container: enough to tell a living pair from recycled process ids.
pub struct Watch {
    pub shim_pid: i32,
    pub init_pid: i32,
}

impl Watch {
    pub fn json(&self) -> String {
        format!(
            "{{\"shim_pid\":{},\"shim_start\":{},\"pid\":{},\"start\":{},\"boot_id\":\"{}\"}}\n",
            self.shim_pid,
            start_ticks(self.shim_pid),
            self.init_pid,
            start_ticks(self.init_pid),
            boot_id(),
        )
    }
}

/// When a process started, in clock ticks since boot (field 22 of /proc/PID/stat); 0 if it is gone.
pub fn start_ticks(pid: i32) -> u64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    // The command name may hold spaces and brackets; what follows the last bracket may not.
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0 };
    rest.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Replaces `path` in one step. Not synced: after a power cut there is no such shim any more.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    fs::write(&tmp, text)?;
    fs::rename(&tmp, path)
}

/// The container's end.
pub struct Exit {
    pub pid: i32,
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub oom_kills: u64,
    pub log_lines_dropped: u64,
}

/// The place of `exit.json`, opened and given room before the container exists.
pub struct ExitFile {
    dir: PathBuf,
    tmp: File,
}

impl ExitFile {
    pub fn prepare(dir: &Path) -> io::Result<Self> {
        let tmp = File::create(dir.join("exit.json.tmp"))?;
        // Not every filesystem can do it; then a full disk is met by retrying.
        let _ = fallocate(&tmp, FallocateFlags::empty(), 0, EXIT_RECORD_ROOM);
        Ok(Self { dir: dir.to_owned(), tmp })
    }

    /// Writes the record, syncs it, and only then gives it its name.
    pub fn publish(&self, exit: &Exit) -> io::Result<()> {
        let started = fs::read_to_string(self.dir.join("started")).unwrap_or_default();
        let started = started.trim().parse::<u64>().map_or("null".into(), |ms| ms.to_string());
        let text = format!(
            "{{\"pid\":{},\"exit_code\":{},\"signal\":{},\"oom_kills\":{},\"started_at\":{started},\
             \"finished_at\":{},\"log_lines_dropped\":{},\"boot_id\":\"{}\"}}\n",
            exit.pid,
            exit.exit_code,
            exit.signal.map_or("null".into(), |s| s.to_string()),
            exit.oom_kills,
            now_ms(),
            exit.log_lines_dropped,
            boot_id(),
        );
        self.tmp.write_all_at(text.as_bytes(), 0)?;
        ftruncate(&self.tmp, text.len() as i64)?;
        self.tmp.sync_all()?;
        fs::rename(self.dir.join("exit.json.tmp"), self.dir.join("exit.json"))
    }
}

/// Processes of this cgroup that the kernel killed for want of memory; 0 where nobody counts.
pub fn oom_kills(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_json() {
        let mut out = String::new();
        escape(&mut out, "a\"b\\c\nd\u{1}é");
        assert_eq!(out, "a\\\"b\\\\c\\nd\\u0001é");
    }

    #[test]
    fn own_start_time_is_known_and_that_of_nobody_is_zero() {
        assert!(start_ticks(std::process::id() as i32) > 0);
        assert_eq!(start_ticks(-1), 0);
    }

    #[test]
    fn exit_record_holds_code_and_start_and_takes_its_name_last() {
        let dir = std::env::temp_dir().join(format!("muster-shim-exit-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = ExitFile::prepare(&dir).unwrap();
        fs::write(dir.join("started"), "17").unwrap();
        assert!(!dir.join("exit.json").exists());
        file.publish(&Exit {
            pid: 5,
            exit_code: 137,
            signal: Some(9),
            oom_kills: 1,
            log_lines_dropped: 0,
        })
        .unwrap();
        let text = fs::read_to_string(dir.join("exit.json")).unwrap();
        assert!(text.starts_with("{\"pid\":5,\"exit_code\":137,\"signal\":9,\"oom_kills\":1,"));
        assert!(text.contains("\"started_at\":17,") && text.ends_with("\"}\n"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn oom_count_is_read_from_both_kinds_of_file() {
        let file = std::env::temp_dir().join(format!("muster-shim-oom-{}", std::process::id()));
        fs::write(&file, "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n").unwrap();
        assert_eq!(oom_kills(&file), 3);
        fs::write(&file, "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n").unwrap();
        assert_eq!(oom_kills(&file), 2);
        fs::remove_file(&file).unwrap();
        assert_eq!(oom_kills(&file), 0);
    }
}
