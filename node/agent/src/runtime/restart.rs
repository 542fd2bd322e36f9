//! Starts a container that has ended again in place: its files, address, ports and log stay.
//!
//! Why, the worker's brain knows. How often is written beside the container before it is made
//! again, so that an agent which starts anew can tell. Whatever fails leaves a container that has
//! ended.

use super::Runtime;
use super::create::log_limits;
use super::delete::blocking;
use super::shim::{self, Launch};
use crate::error::{Context, Error, Name, Result};
use crate::journal::ContainerKey;
use std::fs;
use std::path::Path;

/// How often the container in this directory was started again.
const COUNT_FILE: &str = "restarts";

/// A container that runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarted {
    pub pid: i32,
    /// Milliseconds since 1970.
    pub at: u64,
}

impl Runtime {
    pub async fn restart(&self, key: &ContainerKey) -> Result<Restarted> {
        let missing = |what: &str| {
            let text = format!("container {:?} of task {}: no {what}", key.name, key.task);
            Error::new(Name::CannotStartContainer, text)
        };
        let record = self.journal().read_container(key).ok_or_else(|| missing("record"))?;
        let task = self.journal().read_task(key.task).ok_or_else(|| missing("task record"))?;
        let containers = &task.assignment.spec.containers;
        let definition = containers.iter().find(|c| *c.name == *key.name);
        let definition = definition.ok_or_else(|| missing("definition"))?;
        let log = log_limits(definition, self.config().log)?;
        // Its values went with it when it ended.
        let given = self.take_secrets(&task.assignment, key).await?;
        self.forget_process(key).await?;
        let dir = self.journal().container_dir(key);
        count(&dir).context(Name::CannotStartContainer, "cannot count the restart")?;
        if let Some(attachment) = &record.attachment {
            self.network().publish(attachment).await?;
        }
        let group = self.cgroups().container_path(&key.task.to_string(), &key.name);
        let launched = shim::launch(Launch {
            program: &self.config().shim,
            runc: self.runc(),
            id: &record.id,
            dir: &dir,
            bundle: &self.bundle(key, Some(definition), given).await?,
            oom_file: self.cgroups().oom_file(&group),
            log,
            stdin: definition.interactive,
            terminal: definition.pseudo_terminal,
            leash: self.leash(&task.assignment),
        })
        .await;
        let watch = launched.inspect_err(|_| self.wipe_secrets(key))?;
        let pid = watch.pid;
        self.watch(key.clone(), &record, watch);
        let at = self.start(key).await?;
        Ok(Restarted { pid, at })
    }

    /// Clears what is left of the process that ended, so that the next one is not taken for it.
    async fn forget_process(&self, key: &ContainerKey) -> Result<()> {
        self.end_process(key).await?;
        let dir = self.journal().container_dir(key);
        blocking(move || {
            for name in ["started", "exit.json", "shim.json", "init.pid"] {
                match fs::remove_file(dir.join(name)) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        let text = format!("cannot remove {}: {e}", dir.join(name).display());
                        return Err(Error::new(Name::CannotStartContainer, text));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

fn count(dir: &Path) -> std::io::Result<()> {
    fs::write(dir.join(COUNT_FILE), restarts(dir).saturating_add(1).to_string())
}

/// How often it was started again; 0 where nothing says.
pub(crate) fn restarts(dir: &Path) -> u32 {
    let text = fs::read_to_string(dir.join(COUNT_FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}
