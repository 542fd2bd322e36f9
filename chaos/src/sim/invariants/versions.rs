//! An update made for one version of a service changes no other. Without it two people who edit the
//! same service overwrite each other, and neither is told.

use crate::sim::world::short;
use muster_model::{Changes, Command, Entry, State};

pub(super) fn check_entry(before: &State, changes: &Changes, entry: &Entry) -> Result<(), String> {
    let Command::UpdateService(update) = &entry.command else { return Ok(()) };
    let Some(expected) = update.expected_version else { return Ok(()) };
    let found = before.service(update.service).map(|row| row.version);
    if found == Some(expected) || changes.services.is_empty() {
        return Ok(());
    }
    let name = short(update.service);
    Err(format!("{name} was changed for version {expected}, and was at {found:?}"))
}
