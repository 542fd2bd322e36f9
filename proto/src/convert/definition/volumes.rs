//! `volumes`: where the data is that containers mount.

use super::container::{absolute, labels};
use crate::convert::{At, at_most, given, name, one_of};
use crate::{pb, spelled};
use muster_model::Error;
use muster_model::limits::NAME_CHARS_MAX;
use muster_model::spec::Volume;
use muster_model::volume::{DockerVolume, EfsVolume, VolumeScope};
use std::collections::BTreeSet;

/// Volumes of one task; ECS names no bound, each is a directory and some mounts.
const VOLUMES_MAX: usize = 50;
/// The driver of Docker's own.
pub const LOCAL: &str = "local";
const ENABLED: &str = "ENABLED";

pub fn volumes(wire: &[pb::Volume]) -> Result<Vec<Volume>, Error> {
    let list = At::Field("volumes");
    at_most(&list, wire.len(), VOLUMES_MAX, "volumes")?;
    let mut names = BTreeSet::new();
    let mut volumes = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let at = list.index(index);
        name(&at.field("name"), &wire.name)?;
        if !names.insert(wire.name.as_str()) {
            return Err(at.field("name").invalid(&wire.name, "each volume name once"));
        }
        volumes.push(volume(&at, wire)?);
    }
    Ok(volumes)
}

fn volume(at: &At<'_>, wire: &pb::Volume) -> Result<Volume, Error> {
    let host_path = wire.host.as_ref().and_then(|host| given(&host.source_path));
    if let Some(path) = &host_path {
        absolute(&at.field("host").field("sourcePath"), path)?;
    }
    let docker = &wire.docker_volume_configuration;
    let efs = &wire.efs_volume_configuration;
    let kinds = [host_path.is_some(), docker.is_some(), efs.is_some()];
    if kinds.iter().filter(|said| **said).count() > 1 {
        let allowed =
            "one of host.sourcePath, dockerVolumeConfiguration and efsVolumeConfiguration";
        return Err(at.invalid(&wire.name, allowed));
    }
    let docker_at = at.field("dockerVolumeConfiguration");
    let efs_at = at.field("efsVolumeConfiguration");
    Ok(Volume {
        name: wire.name.clone(),
        host_path,
        docker: docker.as_ref().map(|wire| docker_volume(&docker_at, wire)).transpose()?,
        efs: efs.as_ref().map(|wire| efs_volume(&efs_at, wire)).transpose()?,
    })
}

fn docker_volume(at: &At<'_>, wire: &pb::DockerVolumeConfiguration) -> Result<DockerVolume, Error> {
    let scope = match wire.scope.as_str() {
        "" | "task" => VolumeScope::Task,
        "shared" => VolumeScope::Shared,
        other => return Err(at.field("scope").invalid(other, one_of(spelled::SCOPE))),
    };
    if !["", LOCAL].contains(&wire.driver.as_str()) {
        let instead = "Docker's volume drivers are not built; use local, or efsVolumeConfiguration";
        return Err(at.field("driver").unsupported(&wire.driver, instead));
    }
    if let Some(option) = wire.driver_opts.keys().next() {
        let instead = "the driver local takes no options here; use host or efsVolumeConfiguration";
        return Err(at.field("driverOpts").unsupported(option, instead));
    }
    Ok(DockerVolume {
        scope,
        autoprovision: wire.autoprovision.unwrap_or_default(),
        labels: labels(&at.field("labels"), &wire.labels)?,
    })
}

fn efs_volume(at: &At<'_>, wire: &pb::EfsVolumeConfiguration) -> Result<EfsVolume, Error> {
    let id = &wire.file_system_id;
    // It is part of a command's word, and names a server where no agent's file knows it.
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let begins = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || id.len() > NAME_CHARS_MAX || !id.bytes().all(charset) {
        let allowed = format!(
            "1 to {NAME_CHARS_MAX} letters, digits, hyphens, dots and underscores: a name in the \
             agents' files, or the address of an NFS server"
        );
        return Err(at.field("fileSystemId").invalid(id, allowed));
    }
    let root = given(&wire.root_directory).unwrap_or_else(|| "/".to_owned());
    absolute(&at.field("rootDirectory"), &root)?;
    let instead = "NFS is not encrypted on its way; leave it out where the network may be trusted";
    let encryption = at.field("transitEncryption");
    disabled(&encryption, &wire.transit_encryption, spelled::EFS_TRANSIT_ENCRYPTION, instead)?;
    if let Some(port) = wire.transit_encryption_port {
        return Err(at.field("transitEncryptionPort").unsupported(&port.to_string(), instead));
    }
    if let Some(authorization) = &wire.authorization_config {
        let at = at.field("authorizationConfig");
        let instead = "there is no IAM; the server's exports say who may mount";
        let spellings = spelled::EFS_AUTHORIZATION_CONFIG_IAM;
        disabled(&at.field("iam"), &authorization.iam, spellings, instead)?;
        if let Some(id) = given(&authorization.access_point_id) {
            let instead = "access points are EFS's own; name the directory in rootDirectory";
            return Err(at.field("accessPointId").unsupported(&id, instead));
        }
    }
    Ok(EfsVolume { file_system_id: id.clone(), root_directory: root })
}

/// What may be said, and not be wanted.
fn disabled(at: &At<'_>, text: &str, spellings: &[&str], instead: &str) -> Result<(), Error> {
    match text {
        "" | "DISABLED" => Ok(()),
        ENABLED => Err(at.unsupported(ENABLED, instead)),
        other => Err(at.invalid(other, one_of(spellings))),
    }
}
