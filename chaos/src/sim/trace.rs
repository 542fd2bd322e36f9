//! What happened, line by line: hashed, so that two runs can be compared, and the newest lines
//! kept, so that a failure can be read.

use muster_model::Time;
use std::collections::VecDeque;

/// Lines kept for a failure's report.
const TAIL_MAX: usize = 120;
/// FNV-1a, 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Debug)]
pub(super) struct Trace {
    begin: Time,
    print: bool,
    hash: u64,
    tail: VecDeque<String>,
}

impl Trace {
    pub fn new(begin: Time, print: bool) -> Self {
        Self { begin, print, hash: OFFSET, tail: VecDeque::new() }
    }

    pub fn line(&mut self, now: Time, text: &str) {
        let since = now.since(self.begin).0;
        let line = format!("{:>4}.{:03} {text}", since / 1000, since % 1000);
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        if self.print {
            println!("{line}");
        }
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
