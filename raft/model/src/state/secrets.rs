//! Secrets and the signing key: reading them, and the setters.

use super::State;
use crate::secret::Secret;
use crate::signing_key::SigningKey;
use std::sync::Arc;

impl State {
    pub fn secret(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(name)
    }
    /// By name.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// None before the first statement about a task was asked for.
    pub fn signing_key(&self) -> Option<&Arc<SigningKey>> {
        self.signing_key.as_ref()
    }

    pub(crate) fn put_signing_key(&mut self, row: Arc<SigningKey>) {
        self.signing_key = Some(row);
    }

    pub(crate) fn put_secret(&mut self, row: Arc<Secret>) {
        self.secrets.insert(row.name.clone(), row);
    }

    pub(crate) fn remove_secret(&mut self, name: &str) {
        self.secrets.remove(name);
    }
}
