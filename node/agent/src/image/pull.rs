//! Which version of an image is made ready, and whether what is here may serve: ECS's way.
//!
//! It does not know how an image is fetched, nor who settled which version it should be. Invariant:
//! of an image that is wanted at a digest nothing but that version comes back.

use super::PULL_TIMEOUT;
use super::manifest::hex_of;
use super::reference::ImageReference;
use super::registry::{Credentials, Failure};
use super::store::{PullBehavior, Pulled, Store};
use crate::error::{Error, Name, Result};
use std::sync::Arc;

impl Store {
    /// Makes the image ready to use. The tag is resolved each time, cached layers are used, and if
    /// the registry is down the image as last seen stands in.
    pub async fn pull(
        self: &Arc<Self>,
        image: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Pulled> {
        let parsed = ImageReference::parse(image)?;
        self.find(&parsed, credentials).await.map_err(|failure| failure.explain(image))
    }

    /// The same, but of the version with this digest, which the other tasks of a deployment run. An
    /// image that has but one version, for its name says which, is pulled as it is.
    pub async fn pull_pinned(
        self: &Arc<Self>,
        image: &str,
        digest: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Pulled> {
        // It becomes part of URLs and of file names.
        hex_of(digest).map_err(|why| {
            Error::new(Name::CannotPullContainer, format!("{image} of a deployment: {why}"))
        })?;
        let tagged = ImageReference::parse(image)?;
        let Some(pinned) = tagged.at(digest) else { return self.pull(image, credentials).await };
        // What the tag meant here when it was last asked for may be that very version.
        if let Some(pulled) = self.cached(&tagged).filter(|pulled| pulled.image.digest == digest) {
            return Ok(pulled);
        }
        self.find(&pinned, credentials).await.map_err(|failure| match failure {
            Failure::NotFound(why) => {
                let text = format!(
                    "{image}: its deployment runs {digest}, which is not found in the registry: \
                     {why}; force a new deployment to have the tag resolved anew"
                );
                Error::new(Name::CannotPullContainer, text)
            }
            other => other.explain(&pinned.to_string()),
        })
    }

    async fn find(
        self: &Arc<Self>,
        image: &ImageReference,
        credentials: Option<&Credentials>,
    ) -> std::result::Result<Pulled, Failure> {
        let prefer_cached = self.behavior == PullBehavior::PreferCached;
        if (prefer_cached || image.digest().is_some())
            && let Some(pulled) = self.cached(image)
        {
            return Ok(pulled);
        }
        let pulled = tokio::time::timeout(PULL_TIMEOUT, self.fetch(image, credentials)).await;
        let failure = match pulled {
            Ok(Ok(pulled)) => return Ok(pulled),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let seconds = PULL_TIMEOUT.as_secs();
                Failure::Unreachable(format!("pull took longer than {seconds} s"))
            }
        };
        if matches!(failure, Failure::Unreachable(_))
            && self.behavior == PullBehavior::Default
            && let Some(pulled) = self.cached(image)
        {
            tracing::warn!(%image, ?failure, "registry is down, using the cache");
            return Ok(pulled);
        }
        Err(failure)
    }
}
