//! The report as text: rows, percentiles, invariants with their evidence, figures.

use super::{INVARIANTS, Report};
use crate::campaign::record::Strike;
use std::fmt;

/// Of each breach's evidence in the text.
const EVIDENCE_CHARS: usize = 600;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match (self.soak, self.full) {
            (true, _) => "soak",
            (false, true) => "fault campaign, full",
            (false, false) => "fault campaign, short",
        };
        writeln!(f, "\n== {form}, seed {}, {:.0} s ==", self.seed, self.seconds)?;
        if let Some(why) = &self.early {
            writeln!(f, "ENDED EARLY: {why}")?;
        }
        if !self.soak {
            self.rows(f)?;
        }
        self.latencies(f)?;
        writeln!(f, "\ninvariants")?;
        for (name, what, unchecked) in INVARIANTS {
            let verdict = match (self.broken(name), unchecked) {
                (0, None) => "held".to_owned(),
                (0, Some(why)) => format!("not built: {why}"),
                (times, _) => format!("BROKEN {times} times"),
            };
            writeln!(f, "  {name:<4} {what}: {verdict}")?;
            for line in self.evidence.get(name).into_iter().flatten() {
                writeln!(f, "       {line}")?;
            }
            for breach in self.breaches.iter().filter(|b| b.invariant == name).take(10) {
                let at = breach.at as f64 / 1e6;
                // A history is some pages long: all of it is in report.json.
                let what: String = breach.what.chars().take(EVIDENCE_CHARS).collect();
                writeln!(f, "       at {at:.1} s, row {}: {what}", breach.row)?;
            }
        }
        writeln!(f, "\nlooked at")?;
        for (what, count) in &self.counts {
            writeln!(f, "  {what}: {count}")?;
        }
        writeln!(f)?;
        for figure in self.figures() {
            let verdict = if figure.value <= figure.at_most { "ok" } else { "short" };
            let (name, unit, target) = (figure.name, figure.unit, figure.at_most);
            let value = rounded(figure.value);
            writeln!(f, "figure {name} {value} {unit} target <= {target} {verdict}")?;
        }
        Ok(())
    }
}

/// Three significant digits; whole numbers stay whole.
fn rounded(value: f64) -> String {
    match value {
        v if v.fract() == 0.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

impl Report {
    fn rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["row", "times", "next write p50/p99", "gap p99", "well p99", "replaced p99"];
        let [row, times, next, gap, well, replaced] = head;
        writeln!(f, "\n{row:<18} {times:>7} {next:>19} {gap:>8} {well:>8} {replaced:>13}")?;
        for (name, fault, planned, not_built) in &self.rows {
            if let Some(why) = not_built {
                writeln!(f, "{name:<18} not built: {why} ({fault})")?;
                continue;
            }
            let done = self.strikes.iter().filter(|strike| strike.row == *name).count();
            let at = |q: f64, value: &dyn Fn(&Strike) -> Option<u64>| {
                let seen = self.of_strikes(&[name], value);
                seen.map_or("-".to_owned(), |seen| {
                    format!("{:.2} s", seen.value_at_quantile(q) as f64 / 1e6)
                })
            };
            let next = |q| at(q, &|strike| strike.next_write);
            writeln!(
                f,
                "{name:<18} {:>7} {:>19} {:>8} {:>8} {:>13}",
                format!("{done}/{planned}"),
                format!("{} / {}", next(0.5), next(0.99)),
                at(0.99, &|strike| Some(strike.gap)),
                at(0.99, &|strike| Some(strike.well.saturating_sub(strike.healed))),
                at(0.99, &|strike| strike.replaced),
            )?;
        }
        Ok(())
    }

    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ncalls, faults included")?;
        for (kind, calls) in &self.calls {
            let at = |q| calls.latency.value_at_quantile(q) as f64 / 1e3;
            writeln!(
                f,
                "  {kind:<6} {} answered, {} refused, {} unavailable, {} unknown; \
                 p50 {:.1} ms, p90 {:.1} ms, p99 {:.0} ms, p99.9 {:.0} ms, max {:.0} ms",
                calls.answered,
                calls.refused,
                calls.unavailable,
                calls.unknown,
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                calls.latency.max() as f64 / 1e3,
            )?;
        }
        Ok(())
    }
}
