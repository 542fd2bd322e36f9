//! Whom an image is asked for: the registry in its name, or the mirrors that stand in for that one.
//!
//! It does not know how a registry answers. Invariant: a registry that has mirrors is asked itself
//! only where its own list names it, so nothing leaves a closed network by accident.

use super::registry::{Registries, plain};
use super::{MIRRORS_MAX, NAME_BYTES_MAX, REGISTRIES_MAX};
use muster_model::Error;
use oci_client::Reference;
use std::collections::BTreeMap;
use std::fmt;

const ALLOWED: &str = "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH], with a lower-case \
    path and without a slash at the end";

/// A registry that is asked in another's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `host` or `host:port`.
    pub registry: String,
    /// Put before the repository; empty for none. Proxies keep one path for each registry.
    path: String,
    /// Spoken to over HTTP.
    pub plain: bool,
}

impl Mirror {
    fn parse(text: &str) -> Option<Self> {
        let (plain, rest) = match text.split_once("://")? {
            ("http", rest) => (true, rest),
            ("https", rest) => (false, rest),
            _ => return None,
        };
        let (registry, path) = rest.split_once('/').unwrap_or((rest, ""));
        let part = |part: &str| {
            let allowed =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            !part.is_empty() && part.bytes().all(allowed)
        };
        let whole = !rest.ends_with('/') && text.len() <= NAME_BYTES_MAX;
        (whole && is_registry(registry) && (path.is_empty() || path.split('/').all(part)))
            .then(|| Self { registry: registry.to_owned(), path: path.to_owned(), plain })
    }

    /// What this mirror calls an image.
    fn reference(&self, name: &Reference) -> Reference {
        let repository = match self.path.as_str() {
            "" => name.repository().to_owned(),
            path => format!("{path}/{}", name.repository()),
        };
        let registry = self.registry.clone();
        match (name.tag(), name.digest()) {
            (_, Some(digest)) => Reference::with_digest(registry, repository, digest.to_owned()),
            (tag, None) => {
                Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
            }
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.path.is_empty() { "" } else { "/" };
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}{slash}{}", self.registry, self.path)
    }
}

fn is_registry(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed)
}

/// One registry to ask, and what it calls the image.
pub struct Place {
    pub reference: Reference,
    /// Which mirror this is; none: the registry that the image names.
    pub mirror: Option<Mirror>,
}

impl Registries {
    /// Whom to ask, in this order; never nobody.
    pub fn places(&self, name: &Reference) -> Vec<Place> {
        let Some(mirrors) = self.mirrors.get(name.registry()) else {
            return vec![Place { reference: name.clone(), mirror: None }];
        };
        let place = |mirror: &Mirror| Place {
            reference: mirror.reference(name),
            mirror: Some(mirror.clone()),
        };
        mirrors.iter().map(place).collect()
    }
}

/// `registry.mirrors` as it stands in the configuration, checked against `registry.insecure`.
///
/// # Errors
/// Names the key, its value and what is allowed.
pub fn read(
    configured: &BTreeMap<String, Vec<String>>,
    insecure: &[String],
) -> Result<BTreeMap<String, Vec<Mirror>>, Error> {
    if configured.len() > REGISTRIES_MAX {
        let found = format!("{} registries", configured.len());
        return Err(Error::invalid("registry.mirrors", found, format!("up to {REGISTRIES_MAX}")));
    }
    let list = |(name, urls): (&String, &Vec<String>)| {
        if !is_registry(name) || name.contains("index.docker.io") {
            let allowed =
                "a registry as images name it: HOST or HOST:PORT; Docker Hub is docker.io";
            return Err(Error::invalid("registry.mirrors", name, allowed));
        }
        let field = format!("registry.mirrors.\"{name}\"");
        if urls.is_empty() || urls.len() > MIRRORS_MAX {
            let found = format!("{} mirrors", urls.len());
            return Err(Error::invalid(&field, found, format!("1 to {MIRRORS_MAX}")));
        }
        let each = urls.iter().map(|url| mirror(&field, url, insecure));
        Ok((name.clone(), each.collect::<Result<_, _>>()?))
    };
    let read: BTreeMap<String, Vec<Mirror>> =
        configured.iter().map(list).collect::<Result<_, _>>()?;
    two_ways(&read)?;
    Ok(read)
}

fn mirror(field: &str, url: &str, insecure: &[String]) -> Result<Mirror, Error> {
    let mirror = Mirror::parse(url).ok_or_else(|| Error::invalid(field, url, ALLOWED))?;
    // Loopback and the listed ones are never spoken to over TLS: this would be a promise not kept.
    if !mirror.plain && plain(&mirror.registry, insecure) {
        let allowed = "http:// for a registry on loopback or in registry.insecure";
        return Err(Error::invalid(field, url, allowed));
    }
    Ok(mirror)
}

/// One registry is spoken to in one way, whatever it stands in for.
fn two_ways(read: &BTreeMap<String, Vec<Mirror>>) -> Result<(), Error> {
    let mut ways = BTreeMap::new();
    for mirror in read.values().flatten() {
        if *ways.entry(&mirror.registry).or_insert(mirror.plain) != mirror.plain {
            let allowed = "the same scheme wherever a registry is a mirror";
            return Err(Error::invalid("registry.mirrors", mirror.to_string(), allowed));
        }
    }
    Ok(())
}

/// `NAME=URL`, as command lines say it.
///
/// # Errors
/// What is allowed.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, url)| !name.is_empty() && !url.is_empty());
    pair.map(|(name, url)| (name.to_owned(), url.to_owned())).ok_or_else(|| {
        format!(
            "{text:?} is not allowed; allowed: REGISTRY=URL, such as docker.io=http://HOST:5000"
        )
    })
}

/// Pairs as the configuration holds them: a registry's mirrors in the order they were named.
pub fn gather(pairs: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut gathered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, url) in pairs {
        gathered.entry(name.clone()).or_default().push(url.clone());
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageReference;

    fn read_one(name: &str, urls: &[&str]) -> Result<Registries, String> {
        let urls = urls.iter().map(|&url| url.to_owned()).collect();
        let read = read(&BTreeMap::from([(name.to_owned(), urls)]), &["10.0.0.9:5000".to_owned()]);
        let mirrors = read.map_err(|error| error.to_string())?;
        Ok(Registries { mirrors, ..Registries::default() })
    }

    fn asked(registries: &Registries, image: &str) -> Vec<String> {
        let Ok(ImageReference::Registry(name)) = ImageReference::parse(image) else {
            panic!("{image} names a registry")
        };
        registries.places(&name).iter().map(|place| place.reference.whole()).collect()
    }

    #[test]
    fn mirrors_are_asked_in_order_and_the_registry_itself_where_it_is_listed() {
        let urls = ["http://10.0.0.5:5000", "https://harbor.example/hub", "https://docker.io"];
        let hub = read_one("docker.io", &urls).unwrap();
        assert_eq!(
            asked(&hub, "busybox"),
            [
                "10.0.0.5:5000/library/busybox:latest",
                "harbor.example/hub/library/busybox:latest",
                "docker.io/library/busybox:latest",
            ]
        );
        assert_eq!(asked(&hub, "quay.io/a/b:1"), ["quay.io/a/b:1"]);
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = asked(&hub, &format!("busybox:1@{digest}"));
        assert_eq!(pinned[0], format!("10.0.0.5:5000/library/busybox@{digest}"));
    }

    #[test]
    fn what_is_no_mirror_is_refused_by_name() {
        let refused = |name: &str, urls: &[&str]| read_one(name, urls).map(drop).unwrap_err();
        for url in ["10.0.0.5:5000", "ftp://h", "http://", "http://h/", "http://h/A", "http://h//a"]
        {
            let told = refused("docker.io", &[url]);
            assert!(
                told.contains("registry.mirrors.\"docker.io\"") && told.contains(url),
                "{told}"
            );
        }
        for name in ["", "https://docker.io", "docker.io/library", "index.docker.io"] {
            assert!(refused(name, &["http://h:1"]).contains("as images name it"), "{name}");
        }
        assert!(refused("docker.io", &[]).contains("1 to 8"));
        assert!(refused("docker.io", &["http://h"; 9]).contains("1 to 8"));
        for url in ["https://127.0.0.1:5000", "https://10.0.0.9:5000/p"] {
            assert!(refused("docker.io", &[url]).contains("http:// for"), "{url}");
        }
        assert!(refused("docker.io", &["http://h:1", "https://h:1"]).contains("the same scheme"));
    }

    #[test]
    fn plain_http_is_for_mirrors_that_say_so() {
        let registries = read_one("a.example", &["http://10.0.0.5:5000", "https://b.example"]);
        let mut registries = registries.unwrap();
        assert!(registries.plain("10.0.0.5:5000") && !registries.plain("b.example"));
        assert!(registries.check().is_ok());
        registries.mirrors.extend(read_one("c.example", &["http://8.8.8.8"]).unwrap().mirrors);
        assert!(registries.check().unwrap_err().contains("8.8.8.8"));
    }
}
