//! Waiting for a condition with a deadline: what a test does instead of sleeping.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls `look` until it gives something.
///
/// # Panics
/// `what` did not happen within `limit`; says what the last look saw.
#[allow(clippy::panic)] // a test's way to fail
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(seen) if Instant::now() >= deadline => {
                panic!("{what}: not within {} s; last seen: {seen}", limit.as_secs())
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
