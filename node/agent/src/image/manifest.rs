//! The documents of an image: index, manifest and configuration, read strictly where it matters.
//!
//! Only what we use is named here; everything else in these documents may be anything.

use super::{LAYERS_MAX, MANIFEST_BYTES_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Documents we ask registries for.
pub const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The name by which an OCI layout lists this document.
    pub fn tag(&self) -> Option<&str> {
        self.annotations.get("org.opencontainers.image.ref.name").map(String::as_str)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub variant: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// What a document may be; told apart by what it holds, because media types are often missing.
#[derive(Clone, Debug)]
pub enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

impl Document {
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(format!("the manifest is larger than {MANIFEST_BYTES_MAX} bytes"));
        }
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let either: Either = serde_json::from_slice(bytes)
            .map_err(|e| format!("the manifest cannot be understood: {e}"))?;
        match either {
            Either { manifests: Some(manifests), .. } => {
                manifests.iter().try_for_each(check_digest)?;
                Ok(Self::Index(manifests))
            }
            Either { config: Some(config), layers: Some(layers), .. } => {
                if layers.len() > LAYERS_MAX {
                    return Err(format!(
                        "{} layers; at most {LAYERS_MAX} are allowed",
                        layers.len()
                    ));
                }
                check_digest(&config)?;
                layers.iter().try_for_each(check_digest)?;
                Ok(Self::Manifest(Manifest { config, layers }))
            }
            _ => Err("the manifest has neither manifests nor config and layers \
                      (schema version 1 is not supported)"
                .into()),
        }
    }
}

fn check_digest(descriptor: &Descriptor) -> Result<(), String> {
    hex_of(&descriptor.digest).map(|_| ())
}

/// The 64 hex digits of `sha256:...`. Anything else must never become a file name.
pub fn hex_of(digest: &str) -> Result<&str, String> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(lower) => Ok(hex),
        _ => {
            let shown: String = digest.chars().take(100).collect();
            Err(format!("digest {shown:?} is not sha256: and 64 lower-case hex digits"))
        }
    }
}

/// The digest of `bytes` in the form `sha256:...`.
pub fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::digest(bytes).as_slice())
}

pub fn digest_text(hash: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in hash {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// This machine's platform in Go's words, which images use.
pub fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The entry of an index for this machine.
pub fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let own = own_architecture();
    let fits = |d: &&Descriptor| {
        d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == own)
    };
    if let Some(found) = manifests.iter().find(fits) {
        return Ok(found);
    }
    match manifests {
        // A single entry without a platform is what small tools write.
        [only] if only.platform.is_none() => Ok(only),
        _ => {
            let mut offered: Vec<String> = manifests
                .iter()
                .filter_map(|d| d.platform.as_ref())
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            offered.truncate(20);
            Err(format!("no image for linux/{own}; it is offered for: {}", offered.join(", ")))
        }
    }
}

/// An image's configuration document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub config: Option<Config>,
    pub rootfs: RootFs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    pub diff_ids: Vec<String>,
}

/// What the image says about running it. JSON `null` stands for empty in old images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    pub user: Option<String>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
    pub stop_signal: Option<String>,
}

impl ConfigFile {
    /// Reads the configuration and checks that it belongs to `layers` layers and this machine.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes)
            .map_err(|e| format!("the image configuration cannot be understood: {e}"))?;
        let ids = file.rootfs.diff_ids.len();
        if ids != layers {
            return Err(format!("the configuration names {ids} layers, the manifest {layers}"));
        }
        for id in &file.rootfs.diff_ids {
            hex_of(id)?;
        }
        let own = own_architecture();
        if !file.architecture.is_empty() && file.architecture != own {
            return Err(format!("the image is for {}, this instance is {own}", file.architecture));
        }
        if !file.os.is_empty() && file.os != "linux" {
            return Err(format!("the image is for {}, this instance is linux", file.os));
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    #[test]
    fn digests_that_are_no_digests_are_refused() {
        assert!(hex_of(&hex('a')).is_ok());
        let long = "a".repeat(63);
        for bad in ["", "sha256:", "sha512:aa", "sha256:../../x", &format!("sha256:{long}G")] {
            assert!(hex_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn index_and_manifest_are_told_apart_by_content() {
        let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, hex('a'));
        assert!(
            matches!(Document::parse(index.as_bytes()), Ok(Document::Index(m)) if m.len() == 1)
        );
        let a = hex('a');
        let manifest = format!(r#"{{"config":{{"digest":"{a}"}},"layers":[{{"digest":"{a}"}}]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes()), Ok(Document::Manifest(_))));
        for bad in ["", "[]", "{}", r#"{"fsLayers":[]}"#, r#"{"manifests":[{"digest":"x"}]}"#] {
            assert!(Document::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_entry_for_this_machine_is_chosen_or_the_offers_are_named() {
        let entry = |arch: &str, c| Descriptor {
            digest: hex(c),
            size: 0,
            platform: Some(Platform {
                architecture: arch.into(),
                os: "linux".into(),
                variant: None,
            }),
            annotations: BTreeMap::new(),
        };
        let list = [entry("s390x", 'a'), entry(own_architecture(), 'b')];
        assert_eq!(choose(&list).unwrap().digest, hex('b'));
        let error = choose(&list[..1]).unwrap_err();
        assert!(error.contains("linux/s390x"), "{error}");
    }

    #[test]
    fn configuration_must_match_the_manifest_and_the_machine() {
        let text = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}},"config":null}}"#, hex('a'));
        assert!(ConfigFile::parse(text.as_bytes(), 1).is_ok());
        assert!(ConfigFile::parse(text.as_bytes(), 2).unwrap_err().contains("1 layers"));
        let other = text.replacen('{', r#"{"architecture":"s390x","#, 1);
        assert!(ConfigFile::parse(other.as_bytes(), 1).unwrap_err().contains("s390x"));
    }
}
