//! Images made of what a test says, as OCI-layout folders.

use muster_agent::image::manifest::digest_of;
use std::fs;
use std::path::Path;

/// A layout with one image of the given layers (as they are, whatever their compression).
pub fn layout(dir: &Path, layers: &[(Vec<u8>, String)]) {
    let put = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        digest
    };
    let diff_ids: Vec<&String> = layers.iter().map(|(_, id)| id).collect();
    let config =
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(config.to_string().as_bytes());
    let layers: Vec<_> =
        layers.iter().map(|(bytes, _)| serde_json::json!({"digest": put(bytes)})).collect();
    let manifest =
        serde_json::json!({"schemaVersion": 2, "config": {"digest": config}, "layers": layers});
    let manifest = put(manifest.to_string().as_bytes());
    let index = serde_json::json!({"manifests": [{"digest": manifest}]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// A layer with these files.
pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
