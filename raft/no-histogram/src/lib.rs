//! Histograms that keep nothing, for openraft's run-time statistics, which Muster never reads.
//!
//! The crate whose name this one bears builds lookup tables of 27 MiB when the first histogram is
//! made: three quarters of an empty manager's memory. This has the part of its interface that
//! openraft compiles against, and answers as a histogram without samples does.
//! docs/decisions/0006 says what would make us drop it.

use std::fmt;
use std::marker::PhantomData;

/// Counts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Self(PhantomData)
    }

    pub fn record(&mut self, _value: u64) {}

    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// All zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[samples: 0]")
    }
}

/// Draws nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    pub fn new() -> Self {
        Self
    }

    #[must_use]
    pub fn add<T>(self, _name: &str, _histogram: Histogram<T>) -> Self {
        self
    }

    pub fn detailed(&self) -> &'static str {
        ""
    }
}
