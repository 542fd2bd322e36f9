//! What the text in `image` names: a registry's repository, an OCI-layout folder or its tar.

use crate::error::{Error, Name, Result};
use oci_client::Reference;
use std::fmt;
use std::path::PathBuf;

const ALLOWED: &str = "allowed are [REGISTRY/]NAME[:TAG][@sha256:DIGEST], \
    oci-layout:/DIR[:TAG] and oci-archive:/FILE.tar[:TAG]";
/// ECS: characters of an image name.
const IMAGE_CHARS_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReference {
    /// As Docker reads it: `nginx` is `docker.io/library/nginx:latest`.
    Registry(Reference),
    /// An OCI image layout on this instance.
    Layout { dir: PathBuf, tag: Option<String> },
    /// An OCI image layout in a tar file on this instance.
    Archive { file: PathBuf, tag: Option<String> },
}

impl ImageReference {
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(200).collect();
            Error::new(Name::CannotPullContainer, format!("image {shown:?} {why}; {ALLOWED}"))
        };
        if text.len() > IMAGE_CHARS_MAX {
            return Err(bad("is longer than 1024 characters"));
        }
        if let Some(rest) = text.strip_prefix("oci-layout:") {
            let (dir, tag) =
                path_and_tag(rest).ok_or_else(|| bad("has no absolute path, or an empty tag"))?;
            return Ok(Self::Layout { dir, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, tag) =
                path_and_tag(rest).ok_or_else(|| bad("has no absolute path, or an empty tag"))?;
            return Ok(Self::Archive { file, tag });
        }
        let reference = text.parse::<Reference>().map_err(|e| bad(&format!("is no name: {e}")))?;
        // The parser lets them pass behind what looks like a host; no registry has such a name.
        if reference.repository().bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("is no name: upper-case letters may only stand in its tag"));
        }
        Ok(Self::Registry(reference))
    }

    /// Whether the name fixes the content, so that what is in the cache needs no asking.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Registry(reference) => reference.digest(),
            Self::Layout { .. } | Self::Archive { .. } => None,
        }
    }

    /// The name of one version of what it names. `None` where there is but one: it names its digest
    /// itself, or is of this instance alone.
    pub fn at(&self, digest: &str) -> Option<Self> {
        match self {
            Self::Registry(reference) if reference.digest().is_none() => {
                Some(Self::Registry(reference.clone_with_digest(digest.to_owned())))
            }
            _ => None,
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, tag) = match self {
            Self::Registry(reference) => return f.write_str(&reference.whole()),
            Self::Layout { dir, tag } => ("oci-layout", dir, tag),
            Self::Archive { file, tag } => ("oci-archive", file, tag),
        };
        write!(f, "{kind}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

/// A tag holds no slash, so a colon after the last slash begins one.
fn path_and_tag(text: &str) -> Option<(PathBuf, Option<String>)> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
        _ => (text, None),
    };
    // `/a:b:` would be written as `/a:b`, which names another folder.
    let told = tag.as_ref().is_none_or(|tag| !tag.is_empty());
    (told && path.starts_with('/')).then(|| (path.into(), tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub() {
        let whole = |text| ImageReference::parse(text).unwrap().to_string();
        assert_eq!(whole("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(whole("127.0.0.1:5055/lab/bb:1"), "127.0.0.1:5055/lab/bb:1");
    }

    #[test]
    fn layouts_and_archives_are_paths_with_an_optional_tag() {
        let parse = |text| ImageReference::parse(text).unwrap();
        let layout = |dir: &str, tag: Option<&str>| ImageReference::Layout {
            dir: dir.into(),
            tag: tag.map(str::to_owned),
        };
        assert_eq!(parse("oci-layout:/a/b"), layout("/a/b", None));
        assert_eq!(parse("oci-layout:/a/b:1.0"), layout("/a/b", Some("1.0")));
        assert_eq!(parse("oci-layout:/a:x/b"), layout("/a:x/b", None));
        assert_eq!(parse("oci-archive:/i.tar:t").to_string(), "oci-archive:/i.tar:t");
    }

    #[test]
    fn bad_names_say_what_is_allowed() {
        for text in
            ["", "UPPER CASE", "oci-layout:relative", "oci-layout:/a:b:", "aB/c", &"a".repeat(2000)]
        {
            let error = ImageReference::parse(text).unwrap_err().to_string();
            assert!(error.contains("allowed are"), "{error}");
            assert!(error.starts_with("CannotPullContainerError: "), "{error}");
        }
    }

    #[test]
    fn only_a_digest_fixes_the_content() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = ImageReference::parse(&format!("r.example/a@{digest}")).unwrap();
        assert_eq!(pinned.digest(), Some(digest.as_str()));
        assert_eq!(ImageReference::parse("r.example/a:1").unwrap().digest(), None);
    }
}
