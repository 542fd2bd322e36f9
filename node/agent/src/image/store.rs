//! The images of one instance on disk: pulled once, shared by all that use the same layers.
//!
//! ```text
//! layers/<key>/fs          one layer, unpacked for overlayfs; <key> = 132 bits of its diff id
//! layers/<key>/layer.json  which layer it is and in which boot it was written
//! layers/<key>/synced      written once it is known to have reached the disk
//! refs/<hash>.json         what a reference meant when it was last resolved
//! configs/<hex>            image configurations, by digest
//! tmp/                     everything unfinished; emptied at start
//! ```
//! A layer gets its name by a rename after its digest was checked. It is used at once and synced in
//! the background; a layer of an earlier boot that was never synced is thrown away at start, so a
//! power cut cannot leave a half-written one behind.

use super::held::{Held, Holds};
use super::layer::unpack;
use super::layout;
use super::manifest::{Config, ConfigFile, Descriptor, Document, Manifest, digest_of, hex_of};
use super::reference::ImageReference;
use super::registry::{Credentials, Failure, Registries, Registry};
use super::{CONFIG_BYTES_MAX, LayerLimits, MANIFEST_BYTES_MAX};
use crate::error::{Context, Name, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// ECS `ECS_IMAGE_PULL_BEHAVIOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullBehavior {
    /// Ask the registry each time; if it cannot answer, use the cache.
    Default,
    /// Ask the registry each time; if it cannot answer, fail.
    Always,
    /// Use what is cached; ask only for what was never pulled.
    PreferCached,
}

/// An image that is completely on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub reference: String,
    /// Of what the registry serves under the name, an index or a manifest, as Docker shows it; from
    /// a layout, of the manifest for this machine's platform.
    pub digest: String,
    /// Names under `layers/`, the lowest first.
    pub layers: Vec<String>,
    pub config: Config,
}

/// An image that a sweep leaves alone for as long as this is kept: until a record names its layers.
pub struct Pulled {
    pub image: Image,
    _held: Held,
}

/// What a reference meant when it was last resolved. The time of its file is that of its last use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Resolved {
    pub reference: String,
    pub digest: String,
    pub config: String,
    /// Size and time of an archive file, so that it is not unpacked again.
    pub stamp: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LayerRecord {
    diff_id: String,
    pub bytes: u64,
    files: u64,
    boot_id: String,
}

/// The store. Cheap to share; all methods take `&self`.
pub struct Store {
    root: PathBuf,
    pub(super) registry: Registry,
    pub(super) behavior: PullBehavior,
    limits: LayerLimits,
    boot_id: String,
    /// One lock per layer being fetched: whoever comes second finds it finished.
    fetching: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) holds: Arc<Holds>,
    next_tmp: AtomicU64,
    /// Threads that sync what was unpacked; joined at the end.
    syncs: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Store {
    fn drop(&mut self) {
        let syncs = std::mem::take(&mut *self.syncs.lock().unwrap_or_else(PoisonError::into_inner));
        for sync in syncs {
            // One that panicked left its layer unsynced, which the next start finds.
            let _ = sync.join();
        }
    }
}

impl Store {
    /// Opens the store in `root` and throws away what was not finished.
    pub fn open(
        root: &Path,
        registries: Registries,
        behavior: PullBehavior,
        limits: LayerLimits,
    ) -> Result<Self> {
        let cannot = format!("cannot open the image store in {}", root.display());
        let init = Name::ResourceInitialization;
        let _ = fs::remove_dir_all(root.join("tmp"));
        for dir in ["layers", "refs", "configs", "tmp"] {
            fs::create_dir_all(root.join(dir)).context(init, &cannot)?;
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let store = Self {
            root: root.to_owned(),
            registry: Registry::new(registries).context(init, &cannot)?,
            behavior,
            limits,
            boot_id: boot_id.trim().to_owned(),
            fetching: Mutex::new(HashMap::new()),
            holds: Arc::default(),
            next_tmp: AtomicU64::new(0),
            syncs: Mutex::new(Vec::new()),
        };
        store.drop_unsynced().context(init, &cannot)?;
        Ok(store)
    }

    /// The directory that overlayfs mounts name their layers in.
    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn refs_dir(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub(super) fn configs_dir(&self) -> PathBuf {
        self.root.join("configs")
    }

    fn drop_unsynced(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(self.layers_dir())? {
            let dir = entry?.path();
            let known = fs::read(dir.join("layer.json")).ok();
            let record = known.and_then(|b| serde_json::from_slice::<LayerRecord>(&b).ok());
            let same_boot = record.is_some_and(|r| r.boot_id == self.boot_id);
            if !same_boot && !dir.join("synced").exists() {
                tracing::warn!(layer = %dir.display(), "dropping a layer that may be incomplete");
                fs::remove_dir_all(&dir)?;
            }
        }
        Ok(())
    }

    pub(super) async fn fetch(
        self: &Arc<Self>,
        reference: &ImageReference,
        credentials: Option<&Credentials>,
    ) -> std::result::Result<Pulled, Failure> {
        match reference {
            ImageReference::Registry(name) => {
                self.fetch_from_registries(reference, name, credentials).await
            }
            ImageReference::Layout { dir, tag } => {
                self.fetch_from_layout(reference, dir.clone(), tag.clone(), None).await
            }
            ImageReference::Archive { file, tag } => {
                let stamp = stamp_of(file).map_err(Failure::NotFound)?;
                if let Some(pulled) = self.cached_with(reference, Some(&stamp)) {
                    return Ok(pulled);
                }
                let tmp = self.tmp();
                let (file, limits) = (file.clone(), self.limits);
                let dir = tmp.path.clone();
                blocking(move || layout::extract(&file, &dir, &limits).map_err(Failure::Corrupt))
                    .await?;
                let dir = tmp.path.clone();
                self.fetch_from_layout(reference, dir, tag.clone(), Some(stamp)).await
            }
        }
    }

    async fn fetch_from_layout(
        self: &Arc<Self>,
        reference: &ImageReference,
        dir: PathBuf,
        tag: Option<String>,
        stamp: Option<String>,
    ) -> std::result::Result<Pulled, Failure> {
        let from = dir.clone();
        let documents = blocking(move || {
            let digest = layout::find(&from, tag.as_deref()).map_err(Failure::NotFound)?;
            let read = |digest: &str, max: u64| layout::read_document(&from, digest, max);
            let bytes = read(&digest, MANIFEST_BYTES_MAX as u64).map_err(Failure::Corrupt)?;
            let manifest = only_manifest(&bytes)?;
            let config =
                read(&manifest.config.digest, CONFIG_BYTES_MAX).map_err(Failure::Corrupt)?;
            Ok(Documents { digest, manifest, config, stamp })
        })
        .await?;
        self.keep(reference, documents, &Source::Layout(&dir)).await
    }

    /// Brings in the layers that are missing, then remembers what the reference means.
    pub(super) async fn keep(
        self: &Arc<Self>,
        reference: &ImageReference,
        documents: Documents,
        source: &Source<'_>,
    ) -> std::result::Result<Pulled, Failure> {
        let Documents { digest, manifest, config, stamp } = documents;
        let count = manifest.layers.len();
        let file = ConfigFile::parse(&config, count).map_err(Failure::Corrupt)?;
        let layers: Vec<String> = file.rootfs.diff_ids.iter().map(|id| layer_key(id)).collect();
        // Before anybody looks whether they are here.
        let held = self.hold(reference, &manifest.config.digest, &layers);
        let mut fetches = Vec::with_capacity(count);
        for (layer, diff_id) in manifest.layers.iter().zip(&file.rootfs.diff_ids) {
            fetches.push(self.layer(diff_id, layer, source));
        }
        futures::future::try_join_all(fetches).await?;
        let resolved = Resolved {
            reference: reference.to_string(),
            digest: digest.clone(),
            config: manifest.config.digest,
            stamp,
        };
        self.remember(reference, &resolved, &config).map_err(|e| Failure::Local(e.to_string()))?;
        let config = file.config.unwrap_or_default();
        let image = Image { reference: resolved.reference, digest, layers, config };
        Ok(Pulled { image, _held: held })
    }

    /// Keeps a sweep from all that an image is of.
    fn hold(&self, reference: &ImageReference, config: &str, layers: &[String]) -> Held {
        let config = hex_of(config).unwrap_or_default().to_owned();
        let names = [ref_file(reference), config].into_iter().chain(layers.iter().cloned());
        self.holds.hold(names.collect())
    }

    /// One layer, fetched by whoever asks first.
    async fn layer(
        self: &Arc<Self>,
        diff_id: &str,
        layer: &Descriptor,
        source: &Source<'_>,
    ) -> std::result::Result<(), Failure> {
        let key = layer_key(diff_id);
        let dir = self.layers_dir().join(&key);
        if dir.exists() {
            return Ok(());
        }
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody else holds what has only one owner left: this map.
            fetching.retain(|_, lock| Arc::strong_count(lock) > 1);
            fetching.entry(key).or_default().clone()
        };
        let _turn = turn.lock().await;
        if dir.exists() {
            return Ok(());
        }
        let tmp = self.tmp();
        let packed = match source {
            Source::Registry(name, credentials) => {
                let (file, max) = (tmp.path.with_extension("blob"), self.limits.packed_bytes_max);
                self.registry.blob(name, *credentials, &layer.digest, &file, max).await?;
                file
            }
            // The packed digest is not checked here: the unpacked one is, and it is the name.
            Source::Layout(dir) => {
                layout::blob_path(dir, &layer.digest).map_err(Failure::Corrupt)?
            }
        };
        let (store, wanted, unpacked) = (self.clone(), diff_id.to_owned(), tmp.path.clone());
        blocking(move || store.unpack_layer(&packed, &unpacked, &wanted, &dir)).await
    }

    fn unpack_layer(
        &self,
        packed: &Path,
        tmp: &Path,
        diff_id: &str,
        dir: &Path,
    ) -> std::result::Result<(), Failure> {
        let local = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Failure::Corrupt(format!("layer {diff_id}: {e}"))
            }
            _ => Failure::Local(format!("cannot unpack layer {diff_id}: {e}")),
        };
        fs::create_dir_all(tmp.join("fs")).map_err(local)?;
        let done = unpack(File::open(packed).map_err(local)?, &tmp.join("fs"), &self.limits)
            .map_err(local)?;
        if done.diff_id != diff_id {
            return Err(Failure::Corrupt(format!(
                "a layer unpacks to digest {}, wanted was {diff_id}",
                done.diff_id
            )));
        }
        let record = LayerRecord {
            diff_id: diff_id.to_owned(),
            bytes: done.bytes,
            files: done.files,
            boot_id: self.boot_id.clone(),
        };
        let record = serde_json::to_vec(&record).map_err(|e| Failure::Local(e.to_string()))?;
        fs::write(tmp.join("layer.json"), record).map_err(local)?;
        fs::rename(tmp, dir).map_err(local)?;
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.retain(|sync| !sync.is_finished());
        syncs.push(sync_later(dir.to_owned()));
        Ok(())
    }

    /// The image as last resolved, if every part of it is here.
    pub(super) fn cached(&self, reference: &ImageReference) -> Option<Pulled> {
        self.cached_with(reference, None)
    }

    fn cached_with(&self, reference: &ImageReference, stamp: Option<&str>) -> Option<Pulled> {
        let path = self.refs_dir().join(ref_file(reference));
        let resolved = fs::read(&path).ok()?;
        let resolved: Resolved = serde_json::from_slice(&resolved).ok()?;
        if stamp.is_some() && resolved.stamp.as_deref() != stamp {
            return None;
        }
        let config = self.read_config(&resolved.config)?;
        let file: ConfigFile = serde_json::from_slice(&config).ok()?;
        let layers: Vec<String> = file.rootfs.diff_ids.iter().map(|id| layer_key(id)).collect();
        let held = self.hold(reference, &resolved.config, &layers);
        // The reference last: if it is there, no sweep took any of it.
        let complete = layers.iter().all(|key| self.layers_dir().join(key).exists());
        if !complete || renew(&path).is_err() {
            return None;
        }
        let (digest, config) = (resolved.digest, file.config.unwrap_or_default());
        let image = Image { reference: reference.to_string(), digest, layers, config };
        Some(Pulled { image, _held: held })
    }

    /// A configuration from the cache; a damaged one counts as missing.
    pub(super) fn read_config(&self, digest: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.root.join("configs").join(hex_of(digest).ok()?)).ok()?;
        (digest_of(&bytes) == digest).then_some(bytes)
    }

    fn remember(
        &self,
        reference: &ImageReference,
        resolved: &Resolved,
        config: &[u8],
    ) -> std::io::Result<()> {
        if self.read_config(&resolved.config).is_none() {
            let hex = hex_of(&resolved.config).map_err(std::io::Error::other)?;
            self.replace(&self.root.join("configs").join(hex), config)?;
        }
        let path = self.refs_dir().join(ref_file(reference));
        let bytes = serde_json::to_vec(resolved)?;
        if fs::read(&path).is_ok_and(|known| known == bytes) {
            return renew(&path);
        }
        self.replace(&path, &bytes)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let tmp = self.tmp();
        fs::write(&tmp.path, bytes)?;
        fs::rename(&tmp.path, path)
    }

    pub(super) fn tmp(&self) -> Tmp {
        let n = self.next_tmp.fetch_add(1, Ordering::Relaxed);
        Tmp { path: self.root.join("tmp").join(n.to_string()) }
    }
}

/// Where missing layers come from.
pub(super) enum Source<'a> {
    Registry(&'a oci_client::Reference, Option<&'a Credentials>),
    Layout(&'a Path),
}

pub(super) struct Documents {
    pub digest: String,
    pub manifest: Manifest,
    pub config: Vec<u8>,
    pub stamp: Option<String>,
}

pub(super) fn only_manifest(bytes: &[u8]) -> std::result::Result<Manifest, Failure> {
    match Document::parse(bytes).map_err(Failure::Corrupt)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(Failure::Corrupt("an index inside an index".into())),
    }
}

/// A path under `tmp/` that is gone when this is dropped, whatever became of it.
pub(super) struct Tmp {
    pub path: PathBuf,
}

impl Drop for Tmp {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path.with_extension("blob"));
        if fs::remove_file(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// 132 bits of the digest in 22 characters: 127 layers must fit into one mount call of 4 KiB.
pub(super) fn layer_key(diff_id: &str) -> String {
    let hash = Sha256::digest(diff_id.as_bytes());
    let mut text = URL_SAFE_NO_PAD.encode(hash);
    text.truncate(22);
    text
}

/// The name of a reference under `refs/`.
fn ref_file(reference: &ImageReference) -> String {
    let digest = digest_of(reference.to_string().as_bytes());
    format!("{}.json", digest.strip_prefix("sha256:").unwrap_or(&digest))
}

/// Says that it is used now.
pub(super) fn renew(path: &Path) -> std::io::Result<()> {
    File::open(path)?.set_modified(std::time::SystemTime::now())
}

fn stamp_of(file: &Path) -> std::result::Result<String, String> {
    let meta = fs::metadata(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let (ino, size) = (meta.ino(), meta.size());
    Ok(format!("{ino} {size} {}.{:09}", meta.mtime(), meta.mtime_nsec()))
}

/// Syncs in a thread of its own, because on a busy disk it takes seconds.
fn sync_later(dir: PathBuf) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let synced = File::open(&dir)
            .and_then(|fd| rustix::fs::syncfs(&fd).map_err(Into::into))
            .and_then(|()| File::create(dir.join("synced")).map(drop));
        if let Err(e) = synced {
            tracing::warn!(layer = %dir.display(), error = %e, "cannot sync a layer");
        }
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, Failure> + Send + 'static,
) -> std::result::Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Failure::Local(format!("unpacking was interrupted: {e}"))),
    }
}
