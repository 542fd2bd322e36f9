//! Marks on rows, and account settings: reading them, and the setters.

use super::State;
use crate::ids::{DefinitionId, TaskId};
use crate::instance::InstanceStatus;
use crate::mark::{AccountSetting, Deletion, Protection, SettingKey};
use crate::task::Task;
use crate::time::Time;
use std::sync::Arc;

impl State {
    /// Until when the task is protected, if it still is at the time of the newest entry.
    pub fn protected_until(&self, task: TaskId) -> Option<Time> {
        let until = self.protections.get(&task)?.until;
        (until > self.now()).then_some(until)
    }

    /// Tasks with a protection that has not run out, in order of id.
    pub fn protected_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        let lasting = self.protections.values().filter(|row| row.until > self.now());
        lasting.filter_map(|row| self.task(row.task))
    }

    /// Until when neither scale-in nor a deployment may stop the task. An instance that is drained
    /// is emptied all the same: its operator said so.
    pub fn spared_until(&self, task: &Task) -> Option<Time> {
        let until = self.protected_until(task.id)?;
        let instance = task.instance.and_then(|id| self.instance(id));
        let stays = instance.is_none_or(|row| row.status != InstanceStatus::Draining);
        stays.then_some(until)
    }

    /// Since when the definition is DELETE_IN_PROGRESS.
    pub fn deleted_since(&self, definition: DefinitionId) -> Option<Time> {
        self.deletions.get(&definition).map(|row| row.at)
    }

    /// Definitions that are DELETE_IN_PROGRESS.
    pub fn deleted_definitions(&self) -> impl Iterator<Item = DefinitionId> {
        self.deletions.keys().copied()
    }

    /// Whether it is the newest of its family: what the next one is counted from.
    pub fn is_newest(&self, definition: DefinitionId) -> bool {
        let Some(row) = self.definition(definition) else { return false };
        self.revisions(&row.family).next_back().is_some_and(|newest| newest.id == definition)
    }

    pub fn setting(&self, key: &SettingKey) -> Option<&Arc<AccountSetting>> {
        self.settings.get(key)
    }
    pub fn settings(&self) -> impl Iterator<Item = &Arc<AccountSetting>> {
        self.settings.values()
    }

    pub(crate) fn put_protection(&mut self, row: Arc<Protection>) {
        self.protections.insert(row.task, row);
    }

    pub(crate) fn remove_protection(&mut self, task: TaskId) {
        self.protections.remove(&task);
    }

    pub(crate) fn put_deletion(&mut self, row: Arc<Deletion>) {
        self.deletions.insert(row.definition, row);
    }

    /// Forgets a definition and its mark. Nothing may refer to it.
    pub(crate) fn remove_definition(&mut self, id: DefinitionId) {
        self.deletions.remove(&id);
        if let Some(old) = self.definitions.remove(&id) {
            self.index.revisions.remove(&(old.family.clone(), old.revision));
        }
    }

    pub(crate) fn put_setting(&mut self, row: Arc<AccountSetting>) {
        self.settings.insert(row.key.clone(), row);
    }

    pub(crate) fn remove_setting(&mut self, key: &SettingKey) {
        self.settings.remove(key);
    }
}
