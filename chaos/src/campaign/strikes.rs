//! The faults: each hurts the cluster, says what it did, and takes the fault back. What must hold
//! afterwards is not known here.

pub mod certificates;
pub mod crowd;
pub mod leash;
pub mod machine;
pub mod managers;
pub mod members;
pub mod network;
pub mod power;
pub mod registry;
pub mod relay;
pub mod runtime;
pub mod workers;

use super::field::Field;
use super::kernel;
use super::record::Micros;
use super::workload::ANCHORS;
use crate::lab::root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What a fault did.
pub struct Struck {
    pub what: String,
    pub struck: Micros,
    pub healed: Micros,
    /// Until the tasks of a dead worker ran elsewhere.
    pub replaced: Option<Micros>,
}

/// How long a fault may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub longest: Duration,
}

/// Processes of the anchors' tasks, which nobody has asked to stop: by task.
fn anchored(field: &Field) -> Result<BTreeMap<String, BTreeSet<kernel::Process>>, String> {
    let tasks = field.leaders_tasks()?;
    let anchors: BTreeSet<String> =
        ANCHORS.iter().map(|(name, _)| format!("service:{name}")).collect();
    let ids: BTreeSet<_> = tasks
        .iter()
        .filter(|(_, row)| anchors.contains(&row.group) && row.status == "RUNNING")
        .filter_map(|(arn, _)| arn.rsplit('/').next().map(str::to_owned))
        .collect();
    let running = kernel::running(field.cluster.lab.prefix());
    Ok(running.into_values().flatten().filter(|(task, _)| ids.contains(task)).collect())
}

/// Writes a file that a library or a script reads at any moment: replaced as a whole.
fn say(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// A library to load before a process, built from a C file of this repository once per campaign.
fn library(field: &Field, source: &str) -> Result<PathBuf, String> {
    let source = root().join(source);
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let library = field.cluster.dir.path().join(format!("{name}.so"));
    if !library.exists() {
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        let made = compiler.output().map_err(|error| format!("cc: {error}"))?;
        if !made.status.success() {
            return Err(format!("cc: {}", String::from_utf8_lossy(&made.stderr)));
        }
    }
    Ok(library)
}
