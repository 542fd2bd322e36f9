//! Images: from a reference to verified layers on this disk.
//!
//! `reference` says what a text names, `mirror` whom to ask for it, `registry` and `layout` fetch
//! documents and blobs, `fetch` an image of them, `pull`
//! decides between those and what is here, `layer` unpacks one layer into overlayfs's form,
//! `store` keeps and shares what was unpacked, `sweep` removes what nothing uses any more, but for
//! what is `held`.
//! Invariant: what has a name in the store was verified down to its digest; half of a layer never
//! has a name.

pub mod archive;
mod fetch;
mod held;
pub mod layer;
pub mod layout;
pub mod manifest;
pub mod mirror;
mod pull;
pub mod reference;
pub mod registry;
pub mod store;
pub mod sweep;

pub use reference::ImageReference;
pub use registry::{Credentials, Registries};
pub use store::{Image, PullBehavior, Pulled, Store};

use std::time::Duration;

/// Layers of one image: Docker's maximum; more would not fit into one mount call.
pub const LAYERS_MAX: usize = 127;
/// A manifest or an index: the size up to which registries must accept them (OCI: 4 MiB).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// An image configuration; Docker's history makes them large, but never this large.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Blobs downloaded at the same time on one instance, as Docker does.
pub const DOWNLOADS_MAX: usize = 3;
/// Tries for one document or blob when the network or the registry fails for a moment.
pub const TRIES_MAX: u32 = 3;
/// Pause before the second try; it doubles.
pub const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A registry that does not even accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence within a download.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// ECS: a pull is given up after two hours.
pub const PULL_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// Registries with mirrors, in one agent's configuration: more than there are public ones.
pub const REGISTRIES_MAX: usize = 64;
/// Mirrors of one registry: a dead one costs each pull up to half a minute.
pub const MIRRORS_MAX: usize = 8;
/// A registry's name or URL in the configuration: DNS's longest name is 253 bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// Bounds of one layer. Tests use small ones.
#[derive(Clone, Copy, Debug)]
pub struct LayerLimits {
    /// As downloaded.
    pub packed_bytes_max: u64,
    /// Unpacked; stops archives made to fill a disk.
    pub unpacked_bytes_max: u64,
    pub files_max: u64,
}

impl LayerLimits {
    pub const STANDARD: Self =
        Self { packed_bytes_max: 16 << 30, unpacked_bytes_max: 64 << 30, files_max: 2_000_000 };
}
