//! The strict singleton, and I5 by the kernel's word: at any moment at most one task of it has
//! processes.
//!
//! Which tasks are its, the managers' rows say; what runs, the lists of cgroups. It looks all the
//! time, about as long as a process takes to start. It does not know the faults.

use super::kernel;
use super::record::Record;
use super::watching::Views;
use super::workload::Stop;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The service.
pub const NAME: &str = "only";
/// Its family: a task that ends soon after it is told to.
pub const FAMILY: &str = "only";
/// Seconds until it is killed; with that it is replaced 15 s after the last confirmed heartbeat.
pub const STOP_TIMEOUT_SECS: u32 = 2;
/// Marks the workers with real containers, which it has to run on.
pub const ATTRIBUTE: &str = "real";

const LOOK_EVERY: Duration = Duration::from_millis(10);

pub fn group() -> String {
    format!("service:{NAME}")
}

/// Blocks until told to stop.
pub fn look(lab: &str, views: &Arc<Views>, record: &Arc<Record>, stop: &Stop) {
    let mut told = BTreeSet::new();
    while !stop.now() {
        let both = kernel::running_of(lab, &views.strict());
        record.count("I5 looks", 1);
        if both.len() > 1 && told.insert(both.clone()) {
            record.breach("I5", format!("tasks {both:?} of {NAME} run at the same time"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
