//! Closed-loop load: so many clients, each with one call under way, for so long.

use crate::facts::micros;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a run measured.
pub struct Measured {
    pub per_second: f64,
    pub failures: u64,
    /// Microseconds.
    pub latencies: Histogram<u64>,
}

/// Runs `call(client, n)` in `clients` loops, `warm` unmeasured, then `span` measured.
///
/// # Panics
/// Never: histograms are auto-sized.
pub async fn closed_loop<C, F>(clients: usize, warm: Duration, span: Duration, call: C) -> Measured
where
    C: Fn(usize, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send,
{
    let call = Arc::new(call);
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Instant::now() + warm;
    let loops: Vec<_> = (0..clients)
        .map(|client| {
            let (call, stop) = (call.clone(), stop.clone());
            tokio::spawn(async move {
                // A histogram a client would be 140 KiB each: more than the caches hold.
                let mut latencies: Vec<u64> = Vec::new();
                let (mut failures, mut n) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let result = call(client, n).await;
                    n += 1;
                    if started < begin {
                        continue;
                    }
                    match result {
                        Ok(()) => latencies.push(micros(started.elapsed())),
                        Err(error) => {
                            if failures == 0 {
                                eprintln!("client {client}: {error}");
                            }
                            failures += 1;
                        }
                    }
                }
                (latencies, failures)
            })
        })
        .collect();
    tokio::time::sleep(warm + span).await;
    stop.store(true, Ordering::Relaxed);
    let measured_for = begin.elapsed();
    let mut all = histogram();
    let mut failures = 0;
    for done in loops {
        if let Ok((latencies, failed)) = done.await {
            latencies.into_iter().for_each(|latency| all.saturating_record(latency));
            failures += failed;
        }
    }
    Measured { per_second: all.len() as f64 / measured_for.as_secs_f64(), failures, latencies: all }
}

/// One microsecond to a minute, three digits.
#[allow(clippy::expect_used)] // constant bounds
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds are in range")
}
