//! The log that is sent on, read in batches from where the last agent stopped.
//!
//! What has been taken by the receiver is written beside the log after each batch, and not synced:
//! an agent that is killed repeats a batch at most. While files are moved nobody reads them.

use crate::logs::Frame;
use crate::logs::files::{LogFile, Position, Step, advance};
use crate::runtime::now_ms;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines and bytes that are sent at once, and repeated if it is not known whether they arrived.
pub const BATCH_LINES_MAX: usize = 256;
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// What is sent on, and how far it has been, beside the log.
pub const ORDER_FILE: &str = "forward.json";
pub const POSITION_FILE: &str = "forwarded.json";

/// Where a log is.
#[derive(Debug)]
pub struct Place {
    pub dir: PathBuf,
    /// Nothing is written there any more.
    pub over: bool,
}

/// Shared with whoever moves the files.
pub type Shared = Arc<Mutex<Place>>;

pub fn lock(place: &Shared) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Source {
    place: Shared,
    current: Option<LogFile>,
    /// Lines were rotated away before they were read.
    missed: bool,
}

#[derive(Debug, Default)]
pub struct Batch {
    pub frames: Vec<Frame>,
    /// There is nothing more, and never will be.
    pub over: bool,
}

impl Source {
    /// # Errors
    /// The files cannot be read.
    pub fn open(place: Shared) -> io::Result<Self> {
        let (current, missed) = {
            let place = lock(&place);
            match position(&place.dir) {
                None => (None, false),
                Some(from) => {
                    let (file, step) = LogFile::at(&place.dir, from)?;
                    (file, step == Step::Over)
                }
            }
        };
        Ok(Self { place, current, missed })
    }

    /// What comes next. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn next(&mut self) -> io::Result<Batch> {
        let place = lock(&self.place);
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.frames.len() < BATCH_LINES_MAX && bytes < BATCH_BYTES_MAX {
            if std::mem::take(&mut self.missed) {
                batch.frames.push(missed());
            }
            if let Some(frame) = self.current.as_mut().map_or(Ok(None), LogFile::next)? {
                bytes += frame.text.len();
                batch.frames.push(frame);
                continue;
            }
            let newest = self.current.as_ref().is_some_and(|file| file.is_newest(&place.dir));
            let step = match newest {
                // Most looks end here: nothing was written.
                true => Step::Stay,
                false => advance(&[&place.dir], &mut self.current)?,
            };
            match step {
                Step::Stay => {
                    batch.over = place.over;
                    break;
                }
                Step::Next => {}
                Step::Over => self.missed = true,
            }
        }
        Ok(batch)
    }

    /// Remembers that everything given so far has been taken.
    ///
    /// # Errors
    /// It cannot be written: another agent would send it again.
    pub fn taken(&self) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let place = lock(&self.place);
        let tmp = place.dir.join(POSITION_FILE).with_extension("tmp");
        fs::write(&tmp, serde_json::to_vec(&current.position()?)?)?;
        fs::rename(tmp, place.dir.join(POSITION_FILE))
    }

    /// Forgets what was to be sent on.
    pub fn finish(&self) {
        let place = lock(&self.place);
        for name in [ORDER_FILE, POSITION_FILE] {
            // A log that aged out took them along.
            let _ = fs::remove_file(place.dir.join(name));
        }
    }
}

/// A file that cannot be read counts as none: lines may come twice, but none is lost.
fn position(dir: &Path) -> Option<Position> {
    serde_json::from_slice(&fs::read(dir.join(POSITION_FILE)).ok()?).ok()
}

fn missed() -> Frame {
    metrics::counter!("muster_agent_log_gaps_total").increment(1);
    Frame {
        at: now_ms(),
        stream: "shim".to_owned(),
        text: "lines lost: they were rotated away before they could be sent on\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(dir: &Path, name: &str, lines: std::ops::Range<u64>) {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(dir.join(name)).unwrap();
        for n in lines {
            let line = format!("{{\"time\":{n},\"stream\":\"stdout\",\"log\":\"{n}\\n\"}}\n");
            file.write_all(line.as_bytes()).unwrap();
        }
    }

    fn open(dir: &Path) -> Source {
        let place = Place { dir: dir.to_owned(), over: false };
        Source::open(Arc::new(Mutex::new(place))).unwrap()
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.frames.iter().map(|frame| frame.text.trim_end()).collect()
    }

    #[test]
    fn the_next_agent_goes_on_after_what_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, "log", 0..3);
        let mut first = open(dir);
        assert_eq!(texts(&first.next().unwrap()), ["0", "1", "2"]);
        first.taken().unwrap();
        write(dir, "log", 3..5);
        // Read, and never taken.
        assert_eq!(texts(&first.next().unwrap()), ["3", "4"]);
        let mut second = open(dir);
        assert_eq!(texts(&second.next().unwrap()), ["3", "4"]);
        second.taken().unwrap();
        // Rotated while no agent ran.
        fs::rename(dir.join("log"), dir.join("log.1")).unwrap();
        write(dir, "log", 5..6);
        assert_eq!(texts(&open(dir).next().unwrap()), ["5"]);
    }

    #[test]
    fn what_was_rotated_away_is_told_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, "log", 0..1);
        let mut source = open(dir);
        source.next().unwrap();
        source.taken().unwrap();
        for n in 1..3 {
            fs::rename(dir.join("log"), dir.join("log.1")).unwrap();
            write(dir, "log", n..n + 1);
        }
        // This one held its file; the other finds that it is gone.
        for mut source in [source, open(dir)] {
            let batch = source.next().unwrap();
            assert!(batch.frames[0].text.starts_with("lines lost"), "{batch:?}");
            assert_eq!(texts(&batch)[1..], ["1", "2"]);
        }
    }

    #[test]
    fn a_batch_has_a_limit_and_the_last_one_says_so() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "log", 0..300);
        let mut source = open(dir.path());
        let batch = source.next().unwrap();
        assert_eq!((batch.frames.len(), batch.over), (BATCH_LINES_MAX, false));
        lock(&source.place).over = true;
        let batch = source.next().unwrap();
        assert_eq!((batch.frames.len(), batch.over), (300 - BATCH_LINES_MAX, true));
        source.taken().unwrap();
        fs::write(dir.path().join(ORDER_FILE), "{}").unwrap();
        source.finish();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
