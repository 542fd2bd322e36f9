//! The report: what was done, what was measured, and each invariant as held or broken.
//!
//! One value, shown three ways: text, JSON, and a page with pictures. It judges by what is on
//! record only.

mod html;
mod text;

use super::record::{Breach, Calls, Record, Strike, Write, histogram};
use super::rows::{ROWS, What};
use super::{Options, times};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Each invariant as the campaign checks it; `None`: it does not, and why.
pub const INVARIANTS: [(&str, &str, Option<&str>); 12] = [
    ("I1", "clients see one history (registers and compare-and-set rows)", None),
    ("I2", "no acknowledged write is missing; managers have equal states", None),
    ("I3", "agents obey no older leader than they have obeyed", None),
    ("I4", "services keep between floor and ceiling, by what the managers do", None),
    ("I5", "of a strict singleton one task runs at any moment", None),
    ("I6", "no instance has more than its capacity, no port twice", None),
    ("I7", "no task goes back; none runs in two places", None),
    ("I8", "no orphans; nothing stops without a reason", None),
    ("I9", "after the fault: a leader, all agents, all desired tasks, in time", None),
    ("I10", "a watch that is cut off and resumed leaves nothing out", None),
    ("I11", "memory, descriptors, threads and disk stay bounded", None),
    ("I12", "no request without identity is answered, no secret is logged", None),
];

pub struct Report {
    seed: u64,
    full: bool,
    soak: bool,
    seconds: f64,
    early: Option<String>,
    strikes: Vec<Strike>,
    breaches: Vec<Breach>,
    breaches_more: u64,
    calls: BTreeMap<&'static str, Calls>,
    counts: BTreeMap<&'static str, u64>,
    evidence: BTreeMap<&'static str, Vec<String>>,
    writes: Vec<Write>,
    /// Row, fault, times planned, why it is not built.
    rows: Vec<(&'static str, &'static str, u32, Option<&'static str>)>,
}

/// One line that says whether a target was reached.
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub at_most: f64,
}

impl Report {
    pub fn of(record: &Record, options: &Options, early: Option<&String>) -> Self {
        let chosen = ROWS.iter().filter(|row| options.chosen(row));
        let rows = chosen.map(|row| match row.what {
            What::Strike(_) => (row.name, row.fault, times(row, options), None),
            What::NotBuilt(why) => (row.name, row.fault, 0, Some(why)),
        });
        Self {
            seed: options.seed,
            full: options.full,
            soak: options.soak.is_some(),
            seconds: record.now() as f64 / 1e6,
            early: early.cloned(),
            strikes: record.strikes(),
            breaches: record.breaches(),
            breaches_more: record.breaches_more(),
            calls: record.calls(),
            counts: record.counts(),
            evidence: record.evidences(),
            writes: record.writes(),
            rows: rows.collect(),
        }
    }

    pub fn passed(&self) -> bool {
        self.breaches.is_empty() && self.early.is_none()
    }

    fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// A percentile of something that strikes of these rows have; `None`: none has.
    fn of_strikes(
        &self,
        rows: &[&str],
        value: impl Fn(&Strike) -> Option<u64>,
    ) -> Option<Histogram<u64>> {
        let mut all = histogram();
        for strike in self.strikes.iter().filter(|strike| rows.contains(&strike.row)) {
            if let Some(value) = value(strike) {
                all.saturating_record(value.max(1));
            }
        }
        (!all.is_empty()).then_some(all)
    }

    fn broken(&self, invariant: &str) -> u64 {
        self.breaches.iter().filter(|breach| breach.invariant == invariant).count() as u64
    }

    /// The targets that this campaign measured.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |name, value, unit, at_most| {
            figures.push(Figure { name, value, unit, at_most });
        };
        add("chaos.acknowledged_writes_lost", self.broken("I2") as f64, "writes", 0.0);
        let all = self.breaches.len() as u64 + self.breaches_more;
        add("chaos.invariant_breaches", all as f64, "breaches", 0.0);
        add("chaos.orphans_60s_after_heal", self.broken("I8") as f64, "orphans", 0.0);
        if self.soak {
            add("chaos.soak_growth_beyond_10_percent", self.broken("I11") as f64, "processes", 0.0);
        }
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e6;
        let change = ["leader-kill"];
        if let Some(seen) = self.of_strikes(&change, |strike| strike.next_write) {
            add("chaos.leader_change_p99", p99(&seen), "s", 1.5);
        }
        if let Some(seen) = self.of_strikes(&["leader-pause"], |strike| strike.next_write) {
            add("chaos.paused_leader_change_p99", p99(&seen), "s", 2.5);
        }
        if let Some(seen) = self.of_strikes(&["worker-crash"], |strike| strike.replaced) {
            add("chaos.dead_workers_tasks_elsewhere_p99", p99(&seen), "s", 12.0);
        }
        if let Some(seen) = self.of_strikes(&["zone-loss"], |strike| strike.replaced) {
            add("chaos.lost_zones_tasks_elsewhere_p99", p99(&seen), "s", 15.0);
        }
        if self.strikes.iter().any(|strike| strike.row == "agent-kill") {
            let lost = self.count("containers lost by an agent's restart");
            add("chaos.container_exits_by_agent_restart", lost as f64, "exits", 0.0);
        }
        figures
    }

    fn json(&self) -> Value {
        let micros = |seen: &Histogram<u64>| {
            let at = |q| seen.value_at_quantile(q);
            json!({ "count": seen.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99),
                    "max": seen.max() })
        };
        let strikes: Vec<_> = self
            .strikes
            .iter()
            .map(|s| {
                json!({ "row": s.row, "what": s.what, "struckUs": s.struck, "healedUs": s.healed,
                        "wellUs": s.well, "nextWriteUs": s.next_write, "gapUs": s.gap,
                        "replacedUs": s.replaced })
            })
            .collect();
        let breaches: Vec<_> = self
            .breaches
            .iter()
            .map(
                |b| json!({ "invariant": b.invariant, "what": b.what, "atUs": b.at, "row": b.row }),
            )
            .collect();
        let calls: BTreeMap<_, _> = self
            .calls
            .iter()
            .map(|(kind, c)| {
                let value = json!({ "answered": c.answered, "refused": c.refused,
                    "unavailable": c.unavailable, "unknown": c.unknown,
                    "latencyUs": micros(&c.latency) });
                (*kind, value)
            })
            .collect();
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|(name, fault, times, not_built)| {
                let done = self.strikes.iter().filter(|s| s.row == *name).count();
                json!({ "row": name, "fault": fault, "planned": times, "done": done,
                        "notBuilt": not_built })
            })
            .collect();
        json!({
            "seed": self.seed, "full": self.full, "soak": self.soak,
            "seconds": self.seconds, "early": self.early,
            "passed": self.passed(), "rows": rows, "strikes": strikes, "breaches": breaches,
            "moreBreaches": self.breaches_more, "calls": calls, "counts": self.counts,
            "evidence": self.evidence,
        })
    }

    /// Writes `report.json`, `report.txt` and `report.html`.
    ///
    /// # Errors
    /// The directory refuses.
    pub fn write(&self, directory: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        std::fs::create_dir_all(directory).map_err(failed)?;
        let json = serde_json::to_string_pretty(&self.json()).map_err(|error| error.to_string())?;
        std::fs::write(directory.join("report.json"), json).map_err(failed)?;
        std::fs::write(directory.join("report.txt"), self.to_string()).map_err(failed)?;
        std::fs::write(directory.join("report.html"), html::page(self)).map_err(failed)
    }
}
