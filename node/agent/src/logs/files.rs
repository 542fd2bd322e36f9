//! The files of one log, in order, while the shim writes and rotates them (`muster-shim`'s `log`).
//!
//! A file is known by its inode, so a rotation between two looks neither repeats nor loses a line.
//! It does not know who reads, nor what becomes of a line.

use super::Frame;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Most rotated files looked for.
const FILES_MAX: u32 = 100;
/// A longer line in the file is no line of ours: JSON makes 16 KiB at most six times as long.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// What a line begins with, and the digits of a time after it.
const LINE_HEAD: &str = "{\"time\":";
const TIME_DIGITS_MAX: usize = 20;

/// How far a log has been read, so that another process can go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    inode: u64,
    /// Time of the file's first line: an inode may be given to a new file.
    begins: u64,
    /// Bytes of the file.
    offset: u64,
}

/// Where [`advance`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no other file yet.
    Stay,
    Next,
    /// To the oldest there is: the file that came after the current one is gone.
    Over,
}

/// Goes on to the file after the current one, if there is one by now.
pub fn advance(dirs: &[&Path], current: &mut Option<LogFile>) -> io::Result<Step> {
    let files = open_all(dirs)?;
    let (next, step) = match current {
        None => (0, Step::Next),
        Some(current) => match files.iter().position(|f| f.inode == current.inode) {
            Some(at) => (at + 1, Step::Next),
            None => (0, Step::Over),
        },
    };
    let Some(next) = files.into_iter().nth(next) else { return Ok(Step::Stay) };
    // Lines written to the old file between our last look and its rotation come first.
    if current.as_mut().is_some_and(LogFile::more) {
        return Ok(Step::Next);
    }
    *current = Some(next);
    Ok(step)
}

/// All files of the log, oldest first. Opened newest first, so that a rotation meanwhile can only
/// show a file twice, which the inode tells. Of a container that is being deleted they move from
/// the first of the directories to the next, one after the other: looked for in that order, each is
/// in one of them.
pub fn open_all(dirs: &[&Path]) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut absent = 0;
    for n in 0..FILES_MAX {
        let name = if n == 0 { "log".to_owned() } else { format!("log.{n}") };
        let opened = dirs.iter().map(|dir| LogFile::open(&dir.join(&name)));
        let missing = |file: &io::Result<LogFile>| {
            file.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        match opened
            .into_iter()
            .find(|file| !missing(file))
            .unwrap_or(Err(io::ErrorKind::NotFound.into()))
        {
            Ok(file) if files.iter().any(|f| f.inode == file.inode) => absent = 0,
            Ok(file) => {
                files.push(file);
                absent = 0;
            }
            // While they are being rotated one name is free; behind two there is nothing.
            Err(e) if e.kind() == io::ErrorKind::NotFound => absent += 1,
            Err(e) => return Err(e),
        }
        if absent > 1 {
            break;
        }
    }
    files.reverse();
    Ok(files)
}

pub struct LogFile {
    reader: BufReader<File>,
    inode: u64,
    /// A line that is not complete yet, and how long it is so far.
    partial: Vec<u8>,
    pending: u64,
    /// Bytes of the lines that have been given.
    given: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        let reader = BufReader::with_capacity(64 * 1024, file);
        Ok(Self { reader, inode, partial: Vec::new(), pending: 0, given: 0 })
    }

    fn more(&mut self) -> bool {
        self.reader.fill_buf().is_ok_and(|b| !b.is_empty())
    }

    /// The next complete line. Lines that are none of ours (torn by a crash) are passed over.
    pub fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let newline = buffer.iter().position(|b| *b == b'\n');
            let taken = newline.map_or(buffer.len(), |at| at + 1);
            if self.partial.len() <= LINE_BYTES_MAX {
                self.partial.extend_from_slice(&buffer[..taken]);
            }
            self.reader.consume(taken);
            self.pending += taken as u64;
            if newline.is_none() {
                continue;
            }
            self.given += std::mem::take(&mut self.pending);
            let line = std::mem::take(&mut self.partial);
            if let Ok(frame) = serde_json::from_slice(&line) {
                return Ok(Some(frame));
            }
        }
    }

    /// Whether it is the one that is written to.
    pub fn is_newest(&self, dir: &Path) -> bool {
        std::fs::metadata(dir.join("log")).is_ok_and(|newest| newest.ino() == self.inode)
    }

    /// Right after the last line that was given.
    pub fn position(&self) -> io::Result<Position> {
        let begins = self.begins()?;
        Ok(Position { inode: self.inode, begins, offset: self.given })
    }

    fn begins(&self) -> io::Result<u64> {
        let mut head = [0; LINE_HEAD.len() + TIME_DIGITS_MAX];
        let length = self.reader.get_ref().read_at(&mut head, 0)?;
        let text = std::str::from_utf8(&head[..length]).unwrap_or_default();
        let digits = text.strip_prefix(LINE_HEAD).unwrap_or_default();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Ok(digits[..end].parse().unwrap_or_default())
    }

    /// The file in which a position is, from there on; the oldest where it is in none.
    pub fn at(dir: &Path, from: Position) -> io::Result<(Option<Self>, Step)> {
        let mut files = open_all(&[dir])?;
        let found = files.iter().position(|file| {
            file.inode == from.inode && file.begins().is_ok_and(|at| at == from.begins)
        });
        if files.is_empty() {
            return Ok((None, Step::Over));
        }
        let mut file = files.swap_remove(found.unwrap_or_default());
        if found.is_none() {
            return Ok((Some(file), Step::Over));
        }
        file.reader.seek(SeekFrom::Start(from.offset))?;
        file.given = from.offset;
        Ok((Some(file), Step::Next))
    }
}
