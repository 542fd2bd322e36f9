//! What a container is given of secrets and configs: variables of its environment, files, and
//! credentials of its image's registry.
//!
//! Whether a secret is there is found out when a task starts, as in ECS.

use super::container::{absolute, variable};
use crate::convert::{At, amount, at_most};
use crate::pb;
use muster_model::limits::{CONTAINER_FILES_MAX, CONTAINER_SECRETS_MAX, ENVIRONMENT_FILES_MAX};
use muster_model::spec::ContainerFile;
use muster_model::{Error, SecretReference, environment_file};
use std::collections::{BTreeMap, BTreeSet};

/// An ARN of Secrets Manager with the longest name, key and version.
const VALUE_FROM_CHARS_MAX: usize = 1024;
/// Its owner alone reads a file of which nothing else is said.
const MODE_DEFAULT: u32 = 0o400;
/// The last user and group of Linux: -1 means none.
const ID_MAX: u32 = u32::MAX - 1;
/// The kernel's own, which runtimes refuse to mount over.
const KERNELS: [&str; 2] = ["/proc", "/sys"];

/// By name of the variable; `plain` is the environment, which must not name them too.
pub fn variables(
    at: &At<'_>,
    wire: &[pb::Secret],
    plain: &[pb::KeyValuePair],
) -> Result<BTreeMap<String, String>, Error> {
    at_most(at, wire.len(), CONTAINER_SECRETS_MAX, "secrets")?;
    let mut variables = BTreeMap::new();
    for (index, secret) in wire.iter().enumerate() {
        let at = at.index(index);
        variable(&at.field("name"), &secret.name)?;
        value_from(&at.field("valueFrom"), &secret.value_from)?;
        let twice = plain.iter().any(|pair| pair.name == secret.name)
            || variables.insert(secret.name.clone(), secret.value_from.clone()).is_some();
        if twice {
            let allowed = "each name once, in environment and secrets together";
            return Err(at.field("name").invalid(&secret.name, allowed));
        }
    }
    Ok(variables)
}

pub fn credentials(
    at: &At<'_>,
    wire: Option<&pb::RepositoryCredentials>,
) -> Result<Option<String>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    let at = at.field("repositoryCredentials");
    value_from(&at.field("credentialsParameter"), &wire.credentials_parameter)?;
    Ok(Some(wire.credentials_parameter.clone()))
}

/// Of a container in a definition or in a run.
pub fn environment_files(at: &At<'_>, wire: &[pb::EnvironmentFile]) -> Result<Vec<String>, Error> {
    let list = at.field("environmentFiles");
    at_most(&list, wire.len(), ENVIRONMENT_FILES_MAX, "files")?;
    let file = |(index, wire): (usize, &pb::EnvironmentFile)| {
        let at = list.index(index);
        if wire.r#type != "s3" {
            return Err(at.field("type").invalid(&wire.r#type, "s3"));
        }
        let at = at.field("value");
        short(&at, &wire.value)?;
        moved(&at, environment_file::reference(&wire.value))?;
        Ok(wire.value.clone())
    };
    wire.iter().enumerate().map(file).collect()
}

/// Beyond ECS. The container's other mounts have other paths: which of two were seen, only their
/// order would say.
pub fn files(at: &At<'_>, wire: &pb::ContainerDefinition) -> Result<Vec<ContainerFile>, Error> {
    at_most(at, wire.files.len(), CONTAINER_FILES_MAX, "files")?;
    let tmpfs = wire.linux_parameters.iter().flat_map(|linux| &linux.tmpfs);
    let mounts = wire.mount_points.iter().map(|mount| &mount.container_path);
    let mut paths: BTreeSet<&str> =
        mounts.chain(tmpfs.map(|tmpfs| &tmpfs.container_path)).map(|path| trimmed(path)).collect();
    let mut files = Vec::with_capacity(wire.files.len());
    for (index, file) in wire.files.iter().enumerate() {
        let at = at.index(index);
        file_path(&at.field("path"), &file.path)?;
        if !paths.insert(&file.path) {
            let allowed = "each path once, in files, mountPoints and tmpfs together";
            return Err(at.field("path").invalid(&file.path, allowed));
        }
        value_from(&at.field("valueFrom"), &file.value_from)?;
        let id = |field, wire: Option<i64>| {
            wire.map(|wire| amount(&at.field(field), wire, 0..=ID_MAX, "")).transpose()
        };
        files.push(ContainerFile {
            path: file.path.clone(),
            value_from: file.value_from.clone(),
            mode: mode(&at.field("mode"), &file.mode)?,
            uid: id("uid", file.uid)?,
            gid: id("gid", file.gid)?,
        });
    }
    Ok(files)
}

fn file_path(at: &At<'_>, path: &str) -> Result<(), Error> {
    absolute(at, path)?;
    let below = |dir: &&str| path.strip_prefix(*dir).is_some_and(|rest| rest.starts_with('/'));
    if path.ends_with('/') || path.contains("//") || KERNELS.iter().any(below) {
        let allowed = "the absolute path of a file, without //, not below /proc or /sys";
        return Err(at.invalid(path, allowed));
    }
    Ok(())
}

fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// `0400`, `400`.
fn mode(at: &At<'_>, text: &str) -> Result<u32, Error> {
    if text.is_empty() {
        return Ok(MODE_DEFAULT);
    }
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let read = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
    read.ok_or_else(|| at.invalid(text, "three octal digits, such as 0400 or 0444"))
}

fn value_from(at: &At<'_>, text: &str) -> Result<(), Error> {
    short(at, text)?;
    moved(at, text.parse())
}

fn short(at: &At<'_>, text: &str) -> Result<(), Error> {
    if text.len() > VALUE_FROM_CHARS_MAX {
        return Err(at.invalid(text, format!("at most {VALUE_FROM_CHARS_MAX} characters")));
    }
    Ok(())
}

/// An error of a reference says where that stands.
fn moved(at: &At<'_>, read: Result<SecretReference, Error>) -> Result<(), Error> {
    match read {
        Err(Error::Invalid { value, allowed, .. }) => Err(at.invalid(value, allowed)),
        other => other.map(drop),
    }
}
