//! Images from an OCI-layout folder or its tar: for machines without a registry.
//!
//! A layout is untrusted input like any registry: documents are bounded, digests are checked, and
//! file names are made from digests only.

use super::manifest::{self, Descriptor, Document, digest_of, hex_of};
use super::{LayerLimits, MANIFEST_BYTES_MAX, archive};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where a blob of the layout lies.
pub fn blob_path(dir: &Path, digest: &str) -> Result<PathBuf, String> {
    Ok(dir.join("blobs/sha256").join(hex_of(digest)?))
}

/// Reads a document and checks it against its digest.
pub fn read_document(dir: &Path, digest: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    let path = blob_path(dir, digest)?;
    let bytes = read_bounded(&path, bytes_max)?;
    let found = digest_of(&bytes);
    if found != digest {
        return Err(format!("{} has digest {found}, not its name's", path.display()));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let cannot = |e: io::Error| format!("cannot read {}: {e}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

/// The digest of the manifest for `tag` (or the only one) and this machine.
pub fn find(dir: &Path, tag: Option<&str>) -> Result<String, String> {
    let bytes = read_bounded(&dir.join("index.json"), MANIFEST_BYTES_MAX as u64)?;
    let Document::Index(entries) = Document::parse(&bytes)? else {
        return Err(format!("{} is not an index", dir.join("index.json").display()));
    };
    let tagged: Vec<&Descriptor> = match tag {
        Some(tag) => entries.iter().filter(|e| e.tag() == Some(tag)).collect(),
        None => entries.iter().collect(),
    };
    let digest = match (tagged.as_slice(), tag) {
        ([], Some(tag)) => {
            let tags: Vec<&str> = entries.iter().filter_map(Descriptor::tag).take(20).collect();
            return Err(format!(
                "no tag {tag:?} in {}; it has: {}",
                dir.display(),
                tags.join(", ")
            ));
        }
        ([only], _) => only.digest.clone(),
        _ => manifest::choose(&tagged.into_iter().cloned().collect::<Vec<_>>())?.digest.clone(),
    };
    let bytes = read_document(dir, &digest, MANIFEST_BYTES_MAX as u64)?;
    match Document::parse(&bytes)? {
        Document::Manifest(_) => Ok(digest),
        // One level of index inside the index is what multi-platform images look like.
        Document::Index(platforms) => Ok(manifest::choose(&platforms)?.digest.clone()),
    }
}

/// Takes the layout's files out of a tar into `dir`; every other entry is passed over.
pub fn extract(file: &Path, dir: &Path, limits: &LayerLimits) -> Result<(), String> {
    let cannot = |e: io::Error| format!("cannot read {}: {e}", file.display());
    let opened = File::open(file).map_err(cannot)?;
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|e| format!("cannot make {}: {e}", blobs.display()))?;
    let told = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let buffered = io::BufReader::with_capacity(128 << 10, opened);
    archive::for_each(buffered, |entry| {
        let Some(target) = target_of(&entry.path_bytes(), dir, &blobs) else { return Ok(()) };
        if !entry.header().entry_type().is_file() {
            return Ok(());
        }
        if entry.size() > limits.packed_bytes_max {
            return Err(told(format!("a blob is larger than {} bytes", limits.packed_bytes_max)));
        }
        let mut out = File::create(&target)
            .map_err(|e| told(format!("cannot write {}: {e}", target.display())))?;
        io::copy(entry, &mut out).map(drop)
    })
    .map_err(cannot)
}

fn target_of(path: &[u8], dir: &Path, blobs: &Path) -> Option<PathBuf> {
    let path = std::str::from_utf8(path).ok()?;
    let path = path.strip_prefix("./").unwrap_or(path);
    if path == "index.json" {
        return Some(dir.join("index.json"));
    }
    let hex = path.strip_prefix("blobs/sha256/")?;
    hex_of(&format!("sha256:{hex}")).ok().map(|_| blobs.join(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_layouts_own_files_are_taken_from_an_archive() {
        let (dir, blobs) = (Path::new("/d"), Path::new("/d/blobs/sha256"));
        let hex = "a".repeat(64);
        let good = target_of(format!("./blobs/sha256/{hex}").as_bytes(), dir, blobs);
        assert_eq!(good, Some(blobs.join(&hex)));
        for bad in ["blobs/sha256/../../x", "../index.json", "/index.json", "blobs/sha256/AA"] {
            assert_eq!(target_of(bad.as_bytes(), dir, blobs), None, "{bad}");
        }
    }
}
