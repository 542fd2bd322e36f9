//! Removes images that no container of this instance uses: by age, or until the disk has room.
//!
//! An image is what a reference was last resolved to; its last use is the time of that file, which
//! every pull and every sweep that sees a container of it renews. A layer goes with the last image
//! that has it. Layers of no image (of a tag that moved, of a pull that failed) have an age of
//! their own. What a sweep takes is renamed into `tmp/` and deleted from there: killed at any
//! moment, it leaves whole layers or none.
//! Invariant: what a journalled container or a pull has is never taken. If that is not known for
//! every container, nothing is.

use super::held::Sweeping;
use super::manifest::{ConfigFile, digest_of, hex_of};
use super::store::{self, LayerRecord, Resolved, Store, layer_key};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What journalled containers have of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Names under `layers/`.
    pub layers: BTreeSet<String>,
    /// Digests of images.
    pub images: BTreeSet<String>,
    /// Images of records that do not name their layers, by digest.
    pub unresolved: BTreeSet<String>,
}

/// Which of the unused ones go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that were last used longer ago than this.
    UnusedFor(Duration),
    /// All, the least recently used first.
    Any,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub images: u64,
    pub layers: u64,
    /// Content of the layers.
    pub bytes: u64,
}

/// A sweep under way.
pub struct Sweep<'a> {
    store: &'a Store,
    in_use: InUse,
    sweeping: Sweeping<'a>,
}

/// An image as the store remembers it.
struct Known {
    /// Its file under `refs/`.
    file: String,
    reference: String,
    digest: String,
    /// Its file under `configs/`.
    config: String,
    layers: Vec<String>,
    last_use: SystemTime,
}

impl<'a> Sweep<'a> {
    /// Learns from `read` what is in use, and renews the last use of all that is.
    ///
    /// # Errors
    /// Of `read` and of the disk, and when the layers of a container are not known.
    pub fn begin(store: &'a Store, read: impl FnOnce() -> io::Result<InUse>) -> io::Result<Self> {
        let sweeping = store.holds.begin_sweep();
        let mut in_use = read()?;
        let images = images(store)?;
        resolve(&mut in_use, &images)?;
        for image in images.iter().filter(|image| in_use.images.contains(&image.digest)) {
            renew(&store.refs_dir().join(&image.file))?;
        }
        for layer in &in_use.layers {
            renew(&store.layers_dir().join(layer))?;
        }
        Ok(Self { store, in_use, sweeping })
    }

    /// Removes one after the other while `go_on` says so: first layers of no image, then images.
    ///
    /// # Errors
    /// Of the disk; what was removed before is told to the log.
    pub fn remove(&self, which: Which, go_on: impl Fn() -> bool) -> io::Result<Swept> {
        let mut images = images(self.store)?;
        images.sort_by(|a, b| (a.last_use, &a.file).cmp(&(b.last_use, &b.file)));
        // How many images have a layer.
        let mut had: HashMap<String, usize> = HashMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            *had.entry(layer.clone()).or_default() += 1;
        }
        let mut swept = Swept::default();
        for (layer, last_use) in self.layers()? {
            if !had.contains_key(&layer) && which.takes(last_use) && go_on() {
                self.take_layer(&layer, &mut swept)?;
            }
        }
        let mut kept: HashSet<String> = HashSet::new();
        for image in images {
            let free = !self.in_use.images.contains(&image.digest) && which.takes(image.last_use);
            if !(free && go_on() && self.forget(&image)?) {
                kept.insert(image.config);
                continue;
            }
            swept.images += 1;
            metrics::counter!("muster_agent_images_removed_total").increment(1);
            for layer in &image.layers {
                let left = had.get_mut(layer).map_or(0, |count| {
                    *count -= 1;
                    *count
                });
                if left == 0 {
                    self.take_layer(layer, &mut swept)?;
                }
            }
            tracing::info!(image = image.reference, digest = image.digest, "unused image removed");
        }
        self.forget_configs(&kept)?;
        Ok(swept)
    }

    /// Layers on disk with the time of their last use, the longest unused first.
    fn layers(&self) -> io::Result<Vec<(String, SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.store.layers_dir())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            found.push((name, entry.metadata()?.modified()?));
        }
        found.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        Ok(found)
    }

    /// Whether the reference could be forgotten: it cannot while it is being pulled.
    fn forget(&self, image: &Known) -> io::Result<bool> {
        let path = self.store.refs_dir().join(&image.file);
        self.sweeping
            .unless_held(&image.file, || fs::remove_file(path))
            .transpose()
            .map(|gone| gone.is_some())
    }

    fn take_layer(&self, layer: &str, swept: &mut Swept) -> io::Result<()> {
        let dir = self.store.layers_dir().join(layer);
        // What has not reached the disk was unpacked a moment ago, and is being synced.
        if self.in_use.layers.contains(layer) || !dir.join("synced").exists() {
            return Ok(());
        }
        let record = fs::read(dir.join("layer.json")).unwrap_or_default();
        let bytes = serde_json::from_slice(&record).map_or(0, |r: LayerRecord| r.bytes);
        let tmp = self.store.tmp();
        if let Some(taken) = self.sweeping.unless_held(layer, || fs::rename(dir, &tmp.path)) {
            taken?;
            swept.layers += 1;
            swept.bytes += bytes;
            metrics::counter!("muster_agent_layers_removed_total").increment(1);
            metrics::counter!("muster_agent_layer_bytes_removed_total").increment(bytes);
        }
        // With `tmp` the files go: not while pulls wait for what is held.
        drop(tmp);
        Ok(())
    }

    /// Configurations that no image has.
    fn forget_configs(&self, kept: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(self.store.configs_dir())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !kept.contains(&name) {
                self.sweeping.unless_held(&name, || fs::remove_file(entry.path())).transpose()?;
            }
        }
        Ok(())
    }
}

impl Which {
    fn takes(self, last_use: SystemTime) -> bool {
        match self {
            Self::Any => true,
            // A clock that was set back makes nothing old.
            Self::UnusedFor(kept) => last_use.elapsed().is_ok_and(|age| age > kept),
        }
    }
}

/// Every reference; one that cannot be understood has no layers.
fn images(store: &Store) -> io::Result<Vec<Known>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store.refs_dir())? {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let last_use = entry.metadata()?.modified()?;
        let resolved = serde_json::from_slice(&fs::read(entry.path())?);
        let Ok(Resolved { reference, digest, config, .. }) = resolved else {
            let (reference, digest, config, layers) = Default::default();
            found.push(Known { file, reference, digest, config, layers, last_use });
            continue;
        };
        let layers = layers_of(&store.configs_dir(), &config)?;
        let config = hex_of(&config).unwrap_or_default().to_owned();
        found.push(Known { file, reference, digest, config, layers, last_use });
    }
    Ok(found)
}

/// None where the configuration is missing or damaged: such an image is pulled again anyway.
fn layers_of(configs: &Path, digest: &str) -> io::Result<Vec<String>> {
    let Ok(hex) = hex_of(digest) else { return Ok(Vec::new()) };
    let bytes = match fs::read(configs.join(hex)) {
        Ok(bytes) if digest_of(&bytes) == digest => bytes,
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => return Ok(Vec::new()),
    };
    let file = serde_json::from_slice::<ConfigFile>(&bytes);
    Ok(file.map_or(Vec::new(), |f| f.rootfs.diff_ids.iter().map(|id| layer_key(id)).collect()))
}

/// Finds the layers of images that containers' records name by digest only.
fn resolve(in_use: &mut InUse, images: &[Known]) -> io::Result<()> {
    for digest in std::mem::take(&mut in_use.unresolved) {
        let known = images.iter().find(|i| i.digest == digest && !i.layers.is_empty());
        let known = known.ok_or_else(|| {
            io::Error::other(format!(
                "a container uses image {digest}, and its layers are not known; no image is \
                 removed until that container is deleted"
            ))
        })?;
        in_use.layers.extend(known.layers.iter().cloned());
    }
    Ok(())
}

/// Somebody may have removed files of the store; the container runs on with what it has open.
fn renew(path: &Path) -> io::Result<()> {
    match store::renew(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
