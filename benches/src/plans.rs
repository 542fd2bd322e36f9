//! What a leader says of its own plans, from its metrics.

use crate::Outcome;
use crate::local;

/// Buckets of how long plans took from proposal to applied: upper bound in seconds, plans so far.
pub struct Plans(Vec<(f64, f64)>);

impl Plans {
    /// # Errors
    /// The manager does not answer.
    pub async fn of(leader: usize) -> Outcome<Self> {
        let address = local::metrics_address(leader);
        let get = move || local::http_get(&address, "/metrics");
        let text = tokio::task::spawn_blocking(get).await??;
        let mut buckets = Vec::new();
        for line in text.lines() {
            let plan = line.starts_with("muster_leader_propose_seconds_bucket")
                && line.contains("command=\"plan\"");
            let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            if let (true, Some(bound)) = (plan, bound) {
                let count = line.rsplit(' ').next().unwrap_or_default().parse()?;
                buckets.push((bound.parse().unwrap_or(f64::INFINITY), count));
            }
        }
        Ok(Self(buckets))
    }

    /// Plans since `before`.
    pub fn since(&self, before: &Self) -> f64 {
        let total = |plans: &Self| plans.0.last().map_or(0.0, |(_, count)| *count);
        total(self) - total(before)
    }

    /// A quantile of those since `before`, in milliseconds, from the buckets around it.
    pub fn quantile_ms(&self, before: &Self, quantile: f64) -> f64 {
        let old = |at: usize| before.0.get(at).map_or(0.0, |(_, count)| *count);
        let wanted = self.since(before) * quantile;
        let (mut low, mut below) = (0.0, 0.0);
        for (at, (bound, count)) in self.0.iter().enumerate() {
            let here = count - old(at);
            if here >= wanted && here > below {
                let share = (wanted - below) / (here - below);
                let high = if bound.is_finite() { *bound } else { low };
                return (low + (high - low) * share) * 1000.0;
            }
            (low, below) = (*bound, here);
        }
        0.0
    }
}
