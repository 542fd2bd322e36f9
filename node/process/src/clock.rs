//! The one clock of a process: the wall clock as it was at start, plus monotonic time since.
//!
//! It never steps back, and a wall clock that jumps changes no timer.

use muster_model::Time;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A cheap handle to the process's clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Starts the clock. Called once, by `main`'s roles.
pub fn start() -> Clock {
    let started = Instant::now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Arc::new(move || {
        let now = wall.saturating_add(started.elapsed());
        Time(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    })
}
