//! The container's log: lines as JSON, rotated by size, never in the container's way.
//!
//! One line is `{"time":MS,"stream":"stdout","log":"text\n"}`; a text without `\n` at its end goes
//! on in the next line of the same stream. `log` is the current file, `log.1` the one before.
//! If the disk is full, lines are dropped and counted; the count is logged once writing works.

use crate::record::{escape, now_ms};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Longest piece of text in one log line; longer lines are split here.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Lines are written together up to about this size. Short lines grow twentyfold as JSON, so this
/// bounds what is written, not what was read: a file must not outgrow its limit.
const BATCH_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
    /// The shim itself has something to say, such as lines it had to drop.
    Shim,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Shim => "shim",
        }
    }
}

/// Gathers bytes of one stream until they make a line.
pub struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    pub fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes what was read and logs each line that is complete (or as long as a line may be).
    pub fn push(&mut self, mut bytes: &[u8], log: &mut Log) {
        let mut out = Batch::default();
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            let newline = window.iter().position(|b| *b == b'\n');
            let taken = newline.map_or(window.len(), |at| at + 1);
            self.pending.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if newline.is_some() || self.pending.len() == LINE_BYTES_MAX {
                self.take(&mut out);
            }
            if out.text.len() >= BATCH_BYTES {
                log.append(&std::mem::take(&mut out));
            }
        }
        log.append(&out);
    }

    /// Logs what is left when the stream ends without a newline.
    pub fn finish(&mut self, log: &mut Log) {
        let mut out = Batch::default();
        while !self.pending.is_empty() {
            self.take(&mut out);
        }
        log.append(&out);
    }

    fn take(&mut self, out: &mut Batch) {
        // A character cut in two by the length limit goes to the next piece as a whole.
        let whole = match std::str::from_utf8(&self.pending) {
            Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
            _ => self.pending.len(),
        };
        out.add(self.stream, &String::from_utf8_lossy(&self.pending[..whole]));
        self.pending.drain(..whole);
    }
}

/// Lines that are written together.
#[derive(Default)]
pub struct Batch {
    text: String,
    lines: u64,
}

impl Batch {
    fn add(&mut self, stream: Stream, text: &str) {
        use std::fmt::Write as _;
        let (time, name) = (now_ms(), stream.name());
        let _ = write!(self.text, "{{\"time\":{time},\"stream\":\"{name}\",\"log\":\"");
        escape(&mut self.text, text);
        self.text.push_str("\"}\n");
        self.lines += 1;
    }
}

/// The files. `size` is that of the current one.
pub struct Log {
    path: PathBuf,
    bytes_max: u64,
    files: u32,
    file: Option<File>,
    size: u64,
    dropped: u64,
    dropped_untold: u64,
}

impl Log {
    pub fn open(dir: &Path, bytes_max: u64, files: u32) -> Self {
        let path = dir.join("log");
        let mut log =
            Self { path, bytes_max, files, file: None, size: 0, dropped: 0, dropped_untold: 0 };
        log.reopen();
        log
    }

    /// Lines lost so far because they could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        self.size = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }

    pub fn append(&mut self, batch: &Batch) {
        if batch.lines == 0 {
            return;
        }
        if self.size > 0 && self.size + batch.text.len() as u64 > self.bytes_max {
            self.rotate();
        }
        if self.dropped_untold > 0 {
            let mut note = Batch::default();
            let lost = self.dropped_untold;
            note.add(Stream::Shim, &format!("{lost} lines lost: the log could not be written\n"));
            if self.write(&note.text) {
                self.dropped_untold = 0;
            }
        }
        if !self.write(&batch.text) {
            self.dropped += batch.lines;
            self.dropped_untold += batch.lines;
        }
    }

    /// Writes all of it or nothing: a torn line would damage the one after it as well.
    fn write(&mut self, text: &str) -> bool {
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return false };
        if file.write_all(text.as_bytes()).is_ok() {
            self.size += text.len() as u64;
            return true;
        }
        let _ = file.set_len(self.size);
        false
    }

    fn rotate(&mut self) {
        let name = |n: u32| match n {
            0 => self.path.clone(),
            n => self.path.with_file_name(format!("log.{n}")),
        };
        if self.files == 1 {
            let _ = fs::remove_file(&self.path);
        }
        for n in (0..self.files - 1).rev() {
            let _ = fs::rename(name(n), name(n + 1));
        }
        self.reopen();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("muster-shim-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn texts(path: &Path) -> Vec<String> {
        let file = fs::read_to_string(path).unwrap();
        let text = |line: &str| {
            let (_, rest) = line.split_once("\"log\":\"").unwrap();
            rest.strip_suffix("\"}").unwrap().to_owned()
        };
        file.lines().map(text).collect()
    }

    #[test]
    fn lines_are_joined_over_reads_and_the_rest_comes_at_the_end() {
        let dir = scratch("join");
        let (mut log, mut lines) = (Log::open(&dir, 1 << 20, 2), Lines::new(Stream::Stdout));
        lines.push(b"one\ntw", &mut log);
        lines.push(b"o\nthree", &mut log);
        assert_eq!(texts(&dir.join("log")), ["one\\n", "two\\n"]);
        lines.finish(&mut log);
        assert_eq!(texts(&dir.join("log")), ["one\\n", "two\\n", "three"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn long_lines_are_split_between_characters_and_bad_bytes_are_replaced() {
        let dir = scratch("split");
        let (mut log, mut lines) = (Log::open(&dir, 1 << 20, 2), Lines::new(Stream::Stderr));
        let long = "a".repeat(LINE_BYTES_MAX - 1) + "é!\n";
        lines.push(long.as_bytes(), &mut log);
        lines.push(b"\xff\xfe\n", &mut log);
        let got = texts(&dir.join("log"));
        assert_eq!(got[0].len(), LINE_BYTES_MAX - 1);
        assert_eq!(got[1..], ["é!\\n", "\u{fffd}\u{fffd}\\n"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn rotation_keeps_the_named_number_of_files_within_their_size() {
        let dir = scratch("rotate");
        let (mut log, mut lines) = (Log::open(&dir, 1000, 3), Lines::new(Stream::Stdout));
        for n in 0..100 {
            lines.push(format!("line {n}\n").as_bytes(), &mut log);
        }
        let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap()).collect();
        files.sort_by_key(|f| f.file_name());
        let names: Vec<_> = files.iter().map(|f| f.file_name().into_string().unwrap()).collect();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        assert!(files.iter().all(|f| f.metadata().unwrap().len() <= 1000));
        assert_eq!(texts(&dir.join("log")).last().unwrap(), "line 99\\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn unwritable_log_drops_and_counts_and_says_so_later() {
        let dir = scratch("full");
        let gone = dir.join("not-yet");
        let (mut log, mut lines) = (Log::open(&gone, 1000, 1), Lines::new(Stream::Stdout));
        lines.push(b"a\nb\n", &mut log);
        assert_eq!(log.dropped(), 2);
        fs::create_dir(&gone).unwrap();
        lines.push(b"c\n", &mut log);
        let got = texts(&gone.join("log"));
        assert_eq!(got, ["2 lines lost: the log could not be written\\n", "c\\n"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
