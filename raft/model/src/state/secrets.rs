//! Secrets: reading them, and the setters.

use super::State;
use crate::secret::Secret;
use std::sync::Arc;

impl State {
    pub fn secret(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(name)
    }
    /// By name.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    pub(crate) fn put_secret(&mut self, row: Arc<Secret>) {
        self.secrets.insert(row.name.clone(), row);
    }

    pub(crate) fn remove_secret(&mut self, name: &str) {
        self.secrets.remove(name);
    }
}
