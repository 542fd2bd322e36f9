//! The documents of an image, and what its own passwd and group make of a user.
//!
//! A document that is accepted holds only digests that are safe as file names, within the limit of
//! layers; whatever is refused, is refused in words.

use super::{chosen, text, texts};
use muster_agent::image::LAYERS_MAX;
use muster_agent::image::manifest::{self, ConfigFile, Document, hex_of};
use muster_agent::runtime::user;

const DIGEST: &str = "sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7";

#[test]
fn image_manifest() {
    let seeds = || {
        let seed = |text: &str| text.replace("DIGEST", DIGEST).into_bytes();
        vec![
            seed(
                r#"{"schemaVersion":2,"manifests":[{"digest":"DIGEST","size":424,"platform":{"architecture":"amd64","os":"linux"}},{"digest":"DIGEST","size":424,"platform":{"architecture":"arm64","os":"linux","variant":"v8"},"annotations":{"org.opencontainers.image.ref.name":"1.0"}}]}"#,
            ),
            seed(
                r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"DIGEST","size":1469},"layers":[{"digest":"DIGEST","size":2219949}]}"#,
            ),
            seed(r#"{"fsLayers":[{"blobSum":"DIGEST"}]}"#),
        ]
    };
    muster_fuzz::target("image_manifest", seeds, |input| match Document::parse(input) {
        Ok(Document::Index(entries)) => {
            entries.iter().for_each(|entry| safe(&entry.digest));
            let _ = manifest::choose(&entries);
        }
        Ok(Document::Manifest(found)) => {
            assert!(found.layers.len() <= LAYERS_MAX);
            found.layers.iter().chain([&found.config]).for_each(|part| safe(&part.digest));
        }
        Err(why) => assert!(!why.is_empty()),
    });
}

fn safe(digest: &str) {
    let hex = hex_of(digest).expect("an accepted digest is one");
    assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn image_config() {
    let seeds = || {
        let seed = |text: &str| text.replace("DIGEST", DIGEST).into_bytes();
        vec![
            seed(
                "\u{1}{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"User\":\"1000:1000\",\"Env\":[\"PATH=/bin\"],\"Entrypoint\":[\"/bin/sh\"],\"Cmd\":null,\"WorkingDir\":\"/\",\"StopSignal\":\"SIGTERM\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"DIGEST\"]},\"history\":[]}",
            ),
            seed("\u{2}{\"config\":null,\"rootfs\":{\"diff_ids\":[\"DIGEST\",\"DIGEST\"]}}"),
        ]
    };
    muster_fuzz::target("image_config", seeds, |input| {
        let (layers, document) = chosen(input);
        let Ok(file) = ConfigFile::parse(document, usize::from(layers)) else { return };
        assert_eq!(file.rootfs.diff_ids.len(), usize::from(layers));
        file.rootfs.diff_ids.iter().for_each(|id| safe(id));
        let kept = serde_json::to_vec(&file).expect("what was read can be kept");
        let read: ConfigFile = serde_json::from_slice(&kept).expect("what was kept can be read");
        assert_eq!(read, file);
    });
}

#[test]
fn image_user() {
    let seeds = || {
        texts(&[
            "web\0root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n\0web:x:34:\nlog:x:50:other,web\n",
            "1000:log\0\0log:x:50:\n",
            "4294967295:-1\0:::\n\0::\n",
        ])
    };
    muster_fuzz::target("image_user", seeds, |input| {
        let Some(text) = text(input) else { return };
        let mut parts = text.splitn(3, '\0');
        let mut part = || parts.next().unwrap_or_default();
        let (who, passwd, group) = (part(), part(), part());
        if let Ok(user) = user::resolve_in(who, passwd, group) {
            let again = user::resolve_in(&format!("{}:{}", user.uid, user.gid), passwd, group);
            assert_eq!(again.map(|u| (u.uid, u.gid)), Ok((user.uid, user.gid)));
        }
    });
}
