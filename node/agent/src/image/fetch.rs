//! One image out of registries: the places are asked in turn until one has it.
//!
//! It does not know where layers are kept. Invariant: all of an image comes from one place, and
//! credentials that were given for a registry never go to its mirrors.

use super::CONFIG_BYTES_MAX;
use super::manifest::{Document, choose};
use super::mirror::Place;
use super::reference::ImageReference;
use super::registry::{Credentials, Failure};
use super::store::{Documents, Pulled, Source, Store, only_manifest};
use std::fs;
use std::sync::Arc;

impl Store {
    pub(super) async fn fetch_from_registries(
        self: &Arc<Self>,
        reference: &ImageReference,
        name: &oci_client::Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Pulled, Failure> {
        let mut refusals = Vec::new();
        for place in self.registry.places(name) {
            let given = credentials.filter(|_| place.mirror.is_none());
            match self.fetch_from_registry(reference, &place.reference, given).await {
                Ok(pulled) => return Ok(pulled),
                // No other place can help this instance's own disk.
                Err(failure @ Failure::Local(_)) => return Err(failure),
                Err(failure) => refusals.push(told_by(&place, failure)),
            }
        }
        Err(Failure::of_all(refusals))
    }

    async fn fetch_from_registry(
        self: &Arc<Self>,
        reference: &ImageReference,
        name: &oci_client::Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Pulled, Failure> {
        let (mut bytes, digest) = self.registry.document(name, credentials).await?;
        if let Document::Index(entries) = Document::parse(&bytes).map_err(Failure::Corrupt)? {
            let own = choose(&entries).map_err(Failure::NotFound)?.digest.clone();
            let own = name.clone_with_digest(own);
            (bytes, _) = self.registry.document(&own, credentials).await?;
        }
        let manifest = only_manifest(&bytes)?;
        let config = match self.read_config(&manifest.config.digest) {
            Some(bytes) => bytes,
            None => {
                let tmp = self.tmp();
                let digest = &manifest.config.digest;
                self.registry.blob(name, credentials, digest, &tmp.path, CONFIG_BYTES_MAX).await?;
                fs::read(&tmp.path).map_err(|e| Failure::Local(e.to_string()))?
            }
        };
        let documents = Documents { digest, manifest, config, stamp: None };
        self.keep(reference, documents, &Source::Registry(name, credentials)).await
    }
}

/// A mirror is in no image's name: without this nobody would know who was asked.
fn told_by(place: &Place, failure: Failure) -> Failure {
    match &place.mirror {
        Some(mirror) => {
            tracing::warn!(%mirror, image = %place.reference, ?failure, "not from this mirror");
            failure.map(|why| format!("mirror {mirror}: {why}"))
        }
        None => failure,
    }
}

impl Failure {
    fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Unreachable(why) => Self::Unreachable(change(why)),
            Self::Denied(why) => Self::Denied(change(why)),
            Self::NotFound(why) => Self::NotFound(change(why)),
            Self::Corrupt(why) => Self::Corrupt(change(why)),
            Self::Local(why) => Self::Local(change(why)),
        }
    }

    /// One failure for several, with all that was said. What a later try may mend comes first: only
    /// for that may the cache stand in.
    fn of_all(mut refusals: Vec<Self>) -> Self {
        refusals.sort_by_key(|failure| match failure {
            Self::Unreachable(_) => 0,
            Self::Corrupt(_) => 1,
            Self::Denied(_) => 2,
            Self::NotFound(_) => 3,
            Self::Local(_) => 4,
        });
        let mut all = refusals.into_iter();
        let first = all.next().unwrap_or_else(|| Self::NotFound("nobody to ask".into()));
        let more: String = all.map(|failure| format!("; {}", failure.why())).collect();
        first.map(|why| why + &more)
    }

    fn why(&self) -> &str {
        match self {
            Self::Unreachable(why)
            | Self::Denied(why)
            | Self::NotFound(why)
            | Self::Corrupt(why)
            | Self::Local(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_the_one_that_may_pass_decides_and_all_are_told() {
        let all = vec![Failure::NotFound("a: no".into()), Failure::Unreachable("b: down".into())];
        assert_eq!(Failure::of_all(all), Failure::Unreachable("b: down; a: no".into()));
        let one = Failure::Denied("c".into());
        assert_eq!(Failure::of_all(vec![one.clone()]), one);
    }
}
