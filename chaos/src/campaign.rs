//! The campaign: one real cluster, a mixed workload, one fault after another, and three observers
//! who must not see a promise broken.
//!
//! It decides the order and the time; faults are in `strikes`, what must hold after them in `heal`,
//! what clients saw in `linear`. Invariant: it ends by itself, with a report, and leaves nothing
//! behind.

mod field;
mod footprint;
mod heal;
pub(crate) mod hub;
mod intruder;
mod kernel;
mod linear;
mod only;
mod percents;
mod record;
mod registers;
mod report;
mod resuming;
mod rows;
mod soak;
mod strikes;
mod watching;
mod workload;

pub use field::INTERRUPTED;
pub use rows::{ROWS, Row, What};
pub use soak::{MINUTES_MAX as SOAK_MINUTES_MAX, MINUTES_MIN as SOAK_MINUTES_MIN};

use crate::cluster::{self, Shape};
use field::{Field, Load};
use record::Strike;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use strikes::Span;

/// Longest fault of the short campaign.
const SHORT_FAULT: Duration = Duration::from_secs(10);
const FULL_FAULT: Duration = Duration::from_secs(60);
/// Between a fault that healed and the next, so that gaps are told apart.
const BREATH: Duration = Duration::from_millis(1500);
/// What a strike takes until its row has measured it: for the remaining time.
const GUESS: Duration = Duration::from_secs(10);
/// A campaign does not begin another strike after so much of its time, so that it ends.
const SHORT_LIMIT: Duration = Duration::from_secs(40 * 60);
const FULL_LIMIT: Duration = Duration::from_secs(7 * 3600);

/// A short log, so that a manager that was away for seconds needs a snapshot.
const LOG_MIB: u64 = 2;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub full: bool,
    /// Only the rows of these names; none: all.
    pub rows: Vec<String>,
    /// Instead of the row's own number.
    pub times: Option<u32>,
    pub seed: u64,
    /// No faults: the workload alone for so long, and the strict form of I11.
    pub soak: Option<Duration>,
    /// Where the report goes.
    pub out: PathBuf,
}

impl Options {
    fn chosen(&self, row: &Row) -> bool {
        let named = self.rows.is_empty() || self.rows.iter().any(|name| name == row.name);
        named && self.soak.is_none()
    }
}

/// Runs a campaign; true: every invariant held.
///
/// # Errors
/// The cluster cannot be formed, or the report cannot be written.
pub fn run(options: &Options) -> Result<bool, String> {
    let binary = cluster::muster();
    if !binary.exists() {
        let binary = binary.display();
        return Err(format!(
            "{binary} is missing; cargo build --release -p muster -p muster-agent -p muster-shim"
        ));
    }
    let shape = Shape { managers: 3, spare: 1, workers: 2, simulated: 4, log_mib: LOG_MIB };
    let Shape { managers, workers, simulated, .. } = shape;
    println!(
        "forming {managers} managers, {workers} workers with real containers and {simulated} \
         without; seed {}",
        options.seed
    );
    let load = if options.soak.is_some() { Load::Steady } else { Load::Mixed };
    let opened = catch_unwind(|| Field::open(shape, options.seed, load));
    let mut field = opened.map_err(|_| "the cluster did not form".to_owned())??;
    let work = AssertUnwindSafe(|| match options.soak {
        Some(time) => soak(&mut field, time),
        None => strike_all(&mut field, options),
    });
    let mut ended = catch_unwind(work)
        .unwrap_or_else(|_| Err("a step of the campaign failed; see above".into()));
    field.stop.end();
    if let Err(why) = &ended {
        println!("the campaign ends early: {why}");
        keep_logs(&field, options);
        // An interruption is nobody's fault, but a campaign cut short has proven nothing.
        ended = Err(why.clone());
    }
    let report = report::Report::of(&field.record, options, ended.as_ref().err());
    drop(field);
    report.write(&options.out)?;
    println!("{report}");
    Ok(report.passed())
}

fn soak(field: &mut Field, time: Duration) -> Result<(), String> {
    field.record.begin_row("soak");
    heal::well(field)?;
    soak::run(field, time)?;
    heal::batch(field)
}

fn strike_all(field: &mut Field, options: &Options) -> Result<(), String> {
    let chosen = |row: &&Row| options.chosen(row);
    let mut progress = Progress::new(ROWS.iter().filter(chosen), options);
    field.record.begin_row("start");
    heal::well(field)?;
    let start = footprint::all(field);
    let mut obeyed = BTreeMap::new();
    for row in ROWS.iter().filter(chosen) {
        let strike = match row.what {
            What::Strike(strike) => strike,
            What::NotBuilt(why) => {
                println!("{:<18} not built: {why}", row.name);
                continue;
            }
        };
        field.record.begin_row(row.name);
        for _ in 0..times(row, options) {
            if progress.over() {
                return Err("its time is over; the rows that are left were not run".into());
            }
            let longest = if options.full { FULL_FAULT } else { SHORT_FAULT };
            let span = Span { longest };
            let struck = catch_unwind(AssertUnwindSafe(|| strike(field, span)))
                .unwrap_or_else(|_| Err("it panicked; see above".into()));
            let struck = match struck {
                Ok(struck) => struck,
                Err(why) if why == "interrupted" => return Err(why),
                Err(why) => {
                    field.record.breach("I9", format!("row {}: {why}", row.name));
                    field.revive();
                    heal::well(field)?;
                    continue;
                }
            };
            heal::well(field)?;
            heal::kernel_holds(field, &mut obeyed);
            let done = field.record.strike(Strike {
                row: row.name,
                what: struck.what,
                struck: struck.struck,
                healed: struck.healed,
                well: field.record.now(),
                next_write: None,
                gap: 0,
                replaced: struck.replaced,
            });
            progress.tell(row, &done);
            field.last(BREATH)?;
        }
        heal::batch(field)?;
    }
    field.record.begin_row("end");
    footprint::compare(field, &start);
    Ok(())
}

fn times(row: &Row, options: &Options) -> u32 {
    let own = if options.full { row.full } else { row.short };
    options.times.unwrap_or(own)
}

/// What each process said, for whoever looks for the cause.
fn keep_logs(field: &Field, options: &Options) {
    let hosts = (1..=field.shape.managers).map(|n| format!("m{n}"));
    let workers = (1..=field.shape.workers + field.shape.simulated).map(|n| format!("w{n}"));
    std::fs::create_dir_all(&options.out).ok();
    for host in hosts.chain(workers) {
        let log = field.cluster.path(&host).join("log");
        std::fs::copy(log, options.out.join(format!("{host}.log"))).ok();
    }
}

/// How far the campaign is, and when it will be done.
struct Progress {
    began: Instant,
    limit: Duration,
    left: BTreeMap<&'static str, u32>,
    took: BTreeMap<&'static str, (Duration, u32)>,
    last: Instant,
}

impl Progress {
    fn new<'a>(rows: impl Iterator<Item = &'a Row>, options: &Options) -> Self {
        let strikes = rows.filter(|row| matches!(row.what, What::Strike(_)));
        Self {
            began: Instant::now(),
            limit: if options.full { FULL_LIMIT } else { SHORT_LIMIT },
            left: strikes.map(|row| (row.name, times(row, options))).collect(),
            took: BTreeMap::new(),
            last: Instant::now(),
        }
    }

    fn over(&self) -> bool {
        self.began.elapsed() > self.limit || INTERRUPTED.load(Ordering::Relaxed)
    }

    fn tell(&mut self, row: &Row, strike: &Strike) {
        let took = self.took.entry(row.name).or_default();
        *took = (took.0 + self.last.elapsed(), took.1 + 1);
        self.last = Instant::now();
        if let Some(left) = self.left.get_mut(row.name) {
            *left = left.saturating_sub(1);
        }
        let each = |name| {
            let (all, count) = self.took.get(name).copied().unwrap_or((GUESS, 1));
            all / count
        };
        let remaining: Duration = self.left.iter().map(|(name, left)| each(name) * *left).sum();
        let seconds = |micros: u64| micros as f64 / 1e6;
        let next = strike.next_write.map_or("none".to_owned(), |m| format!("{:.2} s", seconds(m)));
        println!(
            "{:>4} s  {:<17} {}; next write {next}, gap {:.2} s, well after {:.1} s; {} s left",
            self.began.elapsed().as_secs(),
            row.name,
            strike.what,
            seconds(strike.gap),
            seconds(strike.well.saturating_sub(strike.healed)),
            remaining.as_secs(),
        );
    }
}
