//! Reads a container's log: the last lines, those since a time, and what is still to come.
//!
//! It reads the shim's files while they grow and rotate. The reader waits for whoever reads it:
//! nothing is gathered beyond a small queue.

pub(crate) mod files;

use crate::runtime::now_ms;
use files::{LogFile, Step, advance, open_all};
use futures::stream::{BoxStream, Stream, StreamExt};
use serde::Deserialize;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pause between two looks for more.
const POLL: Duration = Duration::from_millis(50);
/// Lines on their way to a slow reader.
const QUEUE_MAX: usize = 256;
/// Most lines that `tail` may name.
pub const TAIL_MAX: usize = 100_000;
/// One line, or a piece of a long one (then `text` does not end with a newline).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Frame {
    /// Milliseconds since 1970.
    #[serde(rename = "time")]
    pub at: u64,
    /// `stdout`, `stderr`, or `shim` for a note about lost lines.
    pub stream: String,
    #[serde(rename = "log")]
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only so many lines from the end; `None` means all that are kept.
    pub tail: Option<usize>,
    /// Only lines from this time on, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Only lines up to this time and of it.
    pub until: Option<u64>,
    /// Stay and give what is written from now on, until the container has ended or `until` is over.
    pub follow: bool,
}

impl Query {
    fn wants(&self, frame: &Frame) -> bool {
        self.since.is_none_or(|since| frame.at >= since)
            && self.until.is_none_or(|until| frame.at <= until)
    }
}

/// Reads the log in `dir`, and in `moved` what a deletion has put there. The stream ends at the end
/// of the log or, with `follow`, of the container; dropping the receiver ends the reading. Needs a
/// tokio runtime.
pub fn read(dir: PathBuf, moved: PathBuf, query: Query) -> mpsc::Receiver<io::Result<Frame>> {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    tokio::task::spawn_blocking(move || {
        if let Err(e) = run(&dir, &moved, query, &sender) {
            let _ = sender.blocking_send(Err(e));
        }
    });
    receiver
}

/// Says that nobody listens any more.
struct Closed;

fn run(
    dir: &Path,
    moved: &Path,
    query: Query,
    to: &mpsc::Sender<io::Result<Frame>>,
) -> io::Result<()> {
    let dirs = [dir, moved];
    let give = |frame: Frame| to.blocking_send(Ok(frame)).map_err(|_| Closed);
    let mut files = open_all(&dirs)?;
    let mut last: VecDeque<Frame> = VecDeque::new();
    let tail = query.tail.map(|n| n.min(TAIL_MAX));
    for file in &mut files {
        while let Some(frame) = file.next()? {
            if !query.wants(&frame) {
                continue;
            }
            let Some(tail) = tail else {
                if give(frame).is_err() {
                    return Ok(());
                }
                continue;
            };
            last.push_back(frame);
            if last.len() > tail {
                last.pop_front();
            }
        }
    }
    for frame in last {
        if give(frame).is_err() {
            return Ok(());
        }
    }
    let mut current = files.pop();
    drop(files);
    if !query.follow {
        return Ok(());
    }
    loop {
        // Asked before reading: what was written before the end is then read below.
        let over = query.until.is_some_and(|until| now_ms() > until);
        let ended = over || !dir.exists() || dir.join("exit.json").exists();
        let mut more = true;
        while more {
            while let Some(frame) = current.as_mut().map_or(Ok(None), LogFile::next)? {
                if query.wants(&frame) && give(frame).is_err() {
                    return Ok(());
                }
            }
            more = advance(&dirs, &mut current)? != Step::Stay;
        }
        if ended || to.is_closed() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// Streams that are each in order of time, as one that is: `at` says when an item was. Of one
/// moment, those of an earlier stream come first. It is as far as its slowest stream, and holds one
/// item of each.
pub fn in_order<T: Send + 'static, E: Send + 'static>(
    streams: Vec<BoxStream<'static, Result<T, E>>>,
    at: impl Fn(&T) -> u64 + Send + 'static,
) -> impl Stream<Item = Result<T, E>> + Send {
    let heads = streams.into_iter().map(|stream| (None, stream)).collect::<Vec<_>>();
    futures::stream::unfold((heads, at), |(mut heads, at)| async move {
        let mut open = Vec::with_capacity(heads.len());
        for (head, mut stream) in heads {
            let head = match head {
                None => stream.next().await,
                some => some,
            };
            if let Some(head) = head {
                open.push((head, stream));
            }
        }
        // An error is as early as can be.
        let moment = |head: &Result<T, E>| head.as_ref().map_or(0, &at);
        let first = (0..open.len()).min_by_key(|&n| moment(&open[n].0))?;
        heads = Vec::with_capacity(open.len());
        let mut given = None;
        for (n, (head, stream)) in open.into_iter().enumerate() {
            let head = match n == first {
                true => {
                    given = Some(head);
                    None
                }
                false => Some(head),
            };
            heads.push((head, stream));
        }
        given.map(|item| (item, (heads, at)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn line(at: u64, text: &str) -> String {
        format!("{{\"time\":{at},\"stream\":\"stdout\",\"log\":\"{text}\\n\"}}\n")
    }

    fn append(dir: &Path, text: &str) {
        let path = dir.join("log");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn all(dir: &Path, query: Query) -> Vec<String> {
        let mut frames = read(dir.to_owned(), dir.join("moved"), query);
        let mut texts = Vec::new();
        while let Some(frame) = frames.recv().await {
            texts.push(frame.unwrap().text.trim_end().to_owned());
        }
        texts
    }

    #[tokio::test]
    async fn tail_and_since_look_over_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.2"), line(1, "a")).unwrap();
        fs::write(dir.path().join("log.1"), line(2, "b") + "torn{\n" + &line(3, "c")).unwrap();
        append(dir.path(), &line(4, "d"));
        let query = |tail, since| Query { tail, since, ..Default::default() };
        assert_eq!(all(dir.path(), query(None, None)).await, ["a", "b", "c", "d"]);
        assert_eq!(all(dir.path(), query(Some(2), None)).await, ["c", "d"]);
        assert_eq!(all(dir.path(), query(None, Some(3))).await, ["c", "d"]);
        assert_eq!(all(dir.path(), query(Some(0), None)).await, [""; 0]);
        let until = |tail, until| Query { tail, until: Some(until), ..Default::default() };
        assert_eq!(all(dir.path(), until(None, 3)).await, ["a", "b", "c"]);
        // The last ones of that time, not of all.
        assert_eq!(all(dir.path(), until(Some(1), 2)).await, ["b"]);
        let between = Query { since: Some(2), ..until(None, 3) };
        assert_eq!(all(dir.path(), between).await, ["b", "c"]);
    }

    #[tokio::test]
    async fn following_ends_when_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &line(1, "a"));
        append(dir.path(), &line(u64::MAX, "too late"));
        let query = Query { follow: true, until: Some(now_ms() + 100), ..Default::default() };
        let read = tokio::time::timeout(PATIENCE, all(dir.path(), query)).await;
        assert_eq!(read.unwrap(), ["a"]);
    }

    #[tokio::test]
    async fn streams_in_order_become_one_in_order() {
        let stream = |items: &[u64]| {
            let items: Vec<Result<u64, &str>> = items.iter().map(|n| Ok(*n)).collect();
            futures::stream::iter(items).boxed()
        };
        let merged =
            in_order(vec![stream(&[10, 30, 31]), stream(&[]), stream(&[20, 25, 90])], |n| *n);
        let merged: Vec<_> = merged.map(Result::unwrap).collect().await;
        assert_eq!(merged, [10, 20, 25, 30, 31, 90]);
        // Of one moment the first stream's come first; an error comes when its stream gets there.
        let broken = futures::stream::iter([Ok(12), Err("broke")]).boxed();
        let equal = in_order(vec![stream(&[12, 121]), broken, stream(&[12])], |n| n / 10);
        let equal: Vec<_> = equal.collect().await;
        assert_eq!(equal, [Ok(12), Ok(12), Err("broke"), Ok(12), Ok(121)]);
    }

    #[tokio::test]
    async fn following_goes_over_rotations_without_loss_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &line(1, "0"));
        let follow = Query { follow: true, ..Default::default() };
        let mut frames = read(dir.path().to_owned(), dir.path().join("moved"), follow);
        let mut got = Vec::new();
        for n in 1..=50 {
            append(dir.path(), &line(1, &n.to_string()));
            if n % 7 == 0 {
                let _ = fs::rename(dir.path().join("log.1"), dir.path().join("log.2"));
                fs::rename(dir.path().join("log"), dir.path().join("log.1")).unwrap();
            }
            if n % 5 == 0 {
                // Only as far behind as the files kept allow.
                while got.len() < n - 3 {
                    let next = tokio::time::timeout(PATIENCE, frames.recv()).await;
                    got.push(next.expect("no line is lost").unwrap().unwrap().text);
                }
            }
        }
        append(dir.path(), "{\"time\":1,\"stream\":\"stdout\",");
        append(dir.path(), "\"log\":\"51\\n\"}\n");
        fs::write(dir.path().join("exit.json"), "{}").unwrap();
        while let Some(frame) = tokio::time::timeout(PATIENCE, frames.recv()).await.unwrap() {
            got.push(frame.unwrap().text);
        }
        let expected: Vec<String> = (0..=51).map(|n| format!("{n}\n")).collect();
        assert_eq!(got, expected);
    }

    /// A deletion moves one file after the other, and then takes the rest away.
    #[tokio::test]
    async fn a_log_that_is_being_moved_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (live, moved) = (dir.path(), dir.path().join("moved"));
        fs::create_dir(&moved).unwrap();
        fs::write(live.join("log.1"), line(1, "a")).unwrap();
        append(live, &line(2, "b"));
        fs::write(live.join("exit.json"), "{}").unwrap();
        let follow = Query { follow: true, ..Default::default() };
        for name in ["log", "log.1"] {
            fs::rename(live.join(name), moved.join(name)).unwrap();
            assert_eq!(all(live, Query::default()).await, ["a", "b"], "{name} has moved");
            assert_eq!(all(live, follow).await, ["a", "b"], "{name} has moved");
        }
    }

    #[tokio::test]
    async fn a_missing_log_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let follow = Query { follow: true, ..Default::default() };
        assert!(all(&dir.path().join("gone"), follow).await.is_empty());
        assert!(all(dir.path(), Query::default()).await.is_empty());
    }
}
