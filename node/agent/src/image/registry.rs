//! Speaks to OCI Distribution registries: documents, blobs, credentials, bounds, retries.
//!
//! What comes back is checked against its digest here, whatever the library did. It does not know
//! what is cached, nor how a layer is unpacked.

use super::manifest::{digest_of, digest_text, hex_of};
use super::mirror::{Mirror, Place};
use super::{
    CONNECT_TIMEOUT, DOWNLOADS_MAX, MANIFEST_BYTES_MAX, READ_TIMEOUT, RETRY_PAUSE, TRIES_MAX,
};
use crate::error::{Error, Name};
use futures::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

/// Connections kept per registry and user.
const CLIENTS_MAX: usize = 64;

/// How to prove who pulls.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    Basic { username: String, password: String },
    Token(String),
}

impl fmt::Debug for Credentials {
    /// Never the secret: this ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// What the agent's configuration says about registries.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// `host:port` of registries that are spoken to in plain HTTP, besides those on loopback.
    pub insecure: Vec<String>,
    /// By `host[:port]`, for pulls that bring none of their own.
    pub credentials: BTreeMap<String, Credentials>,
    /// Additional certificate authorities, PEM.
    pub authorities: Vec<Vec<u8>>,
    /// By the registry that images name: whom to ask in its place, in this order.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
}

impl Registries {
    /// Plain HTTP over a public network would let anybody replace an image's manifest.
    pub fn check(&self) -> Result<(), String> {
        let mirrors = self.mirrors.values().flatten().filter(|mirror| mirror.plain);
        for entry in self.insecure.iter().chain(mirrors.map(|mirror| &mirror.registry)) {
            match host_of(entry).parse::<IpAddr>() {
                Ok(ip) if !private(ip) => {
                    return Err(format!(
                        "insecure registry {entry:?} is a public address; allowed are loopback, \
                         private addresses and names"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn plain(&self, registry: &str) -> bool {
        let mut mirrors = self.mirrors.values().flatten();
        plain(registry, &self.insecure)
            || mirrors.any(|mirror| mirror.plain && mirror.registry == registry)
    }
}

/// Whether a registry is spoken to over HTTP for where it is, or because it is listed.
pub(super) fn plain(registry: &str, insecure: &[String]) -> bool {
    let host = host_of(registry);
    let loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || host == "localhost" || insecure.iter().any(|i| i == registry)
}

fn host_of(registry: &str) -> &str {
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    registry.split(':').next().unwrap_or(registry)
}

fn private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Why a registry did not give something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be reached or cannot answer now: the cache may stand in.
    Unreachable(String),
    /// It refuses this user.
    Denied(String),
    /// It has no such image or blob.
    NotFound(String),
    /// What it sent is not what was asked for.
    Corrupt(String),
    /// This instance cannot keep it (disk) or cannot ask for it.
    Local(String),
}

impl Failure {
    /// The error a user sees, with what to do about it.
    pub fn explain(self, image: &str) -> Error {
        let (name, text) = match self {
            Self::Unreachable(why) => (
                Name::CannotPullContainer,
                format!("{image}: {why}; is the registry up and reachable from this instance?"),
            ),
            Self::Denied(why) => (
                Name::CannotPullContainerAuth,
                format!("{image}: the registry refused access: {why}; check the credentials"),
            ),
            // ECS's agent asks what a tag means before it pulls, and what has a digest it pulls.
            Self::NotFound(why) if image.contains('@') => (
                Name::CannotPullContainer,
                format!("{image}: not found in the registry: {why}; check name and digest"),
            ),
            Self::NotFound(why) => (
                Name::CannotPullImageManifest,
                format!("{image}: not found in the registry: {why}; check name and tag"),
            ),
            Self::Corrupt(why) => (Name::CannotPullContainer, format!("{image}: {why}")),
            Self::Local(why) => (Name::CannotPullContainer, format!("{image}: {why}")),
        };
        Error::new(name, text)
    }
}

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        use OciDistributionError as E;
        let text = chain(&error);
        match &error {
            E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => Self::Denied(text),
            E::ImageManifestNotFoundError(_) => Self::NotFound(text),
            E::DigestError(_) => Self::Corrupt(text),
            E::ServerError { code: 404, .. } => Self::NotFound(text),
            E::ServerError { code: 401 | 403, .. } => Self::Denied(text),
            E::ServerError { code: 400..=428, .. } => Self::Corrupt(text),
            E::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| {
                    envelope.errors.iter().any(|e| codes.contains(&e.code))
                };
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Self::Denied(text)
                } else if has(&[OciErrorCode::Toomanyrequests]) {
                    Self::Unreachable(text)
                } else {
                    Self::NotFound(text)
                }
            }
            E::ServerError { .. } | E::RequestError(_) | E::IoError(_) => Self::Unreachable(text),
            E::RegistryTokenDecodeError(_) => Self::Unreachable(text),
            _ => Self::Corrupt(text),
        }
    }
}

/// An error with its causes: reqwest names only the URL at the top.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The door to all registries.
pub struct Registry {
    registries: Registries,
    clients: Mutex<HashMap<(String, Option<Credentials>), Client>>,
    downloads: Semaphore,
}

impl Registry {
    pub fn new(registries: Registries) -> Result<Self, String> {
        registries.check()?;
        // reqwest is built without a default; a second installation is refused and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            registries,
            clients: Mutex::new(HashMap::new()),
            downloads: Semaphore::new(DOWNLOADS_MAX),
        })
    }

    pub(super) fn places(&self, name: &Reference) -> Vec<Place> {
        self.registries.places(name)
    }

    /// One client per registry and user: a client remembers tokens, and they must not be mixed.
    fn client(
        &self,
        image: &Reference,
        given: Option<&Credentials>,
    ) -> Result<(Client, RegistryAuth), Failure> {
        let registry = image.resolve_registry().to_owned();
        let configured = self.registries.credentials.get(image.registry());
        let credentials = given.or(configured).cloned();
        let auth = match credentials.clone() {
            None => RegistryAuth::Anonymous,
            Some(Credentials::Basic { username, password }) => {
                RegistryAuth::Basic(username, password)
            }
            Some(Credentials::Token(token)) => RegistryAuth::Bearer(token),
        };
        let key = (registry, credentials);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok((client.clone(), auth));
        }
        let plain = self.registries.plain(&key.0);
        let pem = |data: &[u8]| {
            let encoding = oci_client::client::CertificateEncoding::Pem;
            oci_client::client::Certificate { encoding, data: data.to_vec() }
        };
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            extra_root_certificates: self.registries.authorities.iter().map(|a| pem(a)).collect(),
            user_agent: concat!("muster/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // The library makes a default client on the side, which panics on a machine that has no
        // certificate authority at all.
        let made = std::panic::catch_unwind(AssertUnwindSafe(|| Client::try_from(config)));
        let client = match made {
            Ok(Ok(client)) => client,
            Ok(Err(e)) => return Err(Failure::Local(no_tls(&chain(&e)))),
            Err(_) => return Err(Failure::Local(no_tls("no certificate authorities"))),
        };
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok((client, auth))
    }

    /// The manifest or index of `image`, and its digest as computed here.
    pub async fn document(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<(Vec<u8>, String), Failure> {
        let (client, auth) = self.client(image, credentials)?;
        let accepted = &super::manifest::ACCEPTED;
        let mut retry = Retry::new();
        let bytes = loop {
            match client.pull_manifest_raw(image, &auth, accepted).await {
                Ok((bytes, _)) => break bytes,
                Err(e) => retry.after(e.into()).await?,
            }
        };
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Failure::Corrupt(format!(
                "the manifest is larger than {MANIFEST_BYTES_MAX} bytes"
            )));
        }
        let found = digest_of(&bytes);
        match image.digest() {
            Some(wanted) if wanted != found => Err(Failure::Corrupt(format!(
                "the manifest has digest {found}, wanted was {wanted}"
            ))),
            _ => Ok((bytes.to_vec(), found)),
        }
    }

    /// Downloads a blob into `file` and checks it against its digest.
    pub async fn blob(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
        digest: &str,
        file: &Path,
        bytes_max: u64,
    ) -> Result<(), Failure> {
        hex_of(digest).map_err(Failure::Corrupt)?;
        let (client, auth) = self.client(image, credentials)?;
        client.store_auth_if_needed(image.resolve_registry(), &auth).await;
        let _turn = self.downloads.acquire().await;
        let mut retry = Retry::new();
        loop {
            match download(&client, image, digest, file, bytes_max).await {
                Ok(()) => return Ok(()),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }
}

fn no_tls(why: &str) -> String {
    format!("cannot set up TLS: {why}; install the package ca-certificates on this instance")
}

async fn download(
    client: &Client,
    image: &Reference,
    digest: &str,
    file: &Path,
    bytes_max: u64,
) -> Result<(), Failure> {
    let cannot =
        |e: std::io::Error| Failure::Local(format!("cannot write {}: {e}", file.display()));
    let too_large = || Failure::Corrupt(format!("blob {digest} is larger than {bytes_max} bytes"));
    let mut blob = client.pull_blob_stream(image, digest).await?;
    if blob.content_length.is_some_and(|n| n > bytes_max) {
        return Err(too_large());
    }
    let mut out = tokio::fs::File::create(file).await.map_err(cannot)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while let Some(chunk) = blob.stream.next().await {
        let chunk = chunk.map_err(|e| interrupted(digest, &e))?;
        bytes += chunk.len() as u64;
        if bytes > bytes_max {
            return Err(too_large());
        }
        hash.update(&chunk);
        out.write_all(&chunk).await.map_err(cannot)?;
    }
    out.flush().await.map_err(cannot)?;
    let found = digest_text(hash.finalize().as_slice());
    if found == digest {
        return Ok(());
    }
    Err(Failure::Corrupt(format!("a blob has digest {found}, wanted was {digest}")))
}

/// The library reports a wrong digest as an error of the stream.
fn interrupted(digest: &str, error: &std::io::Error) -> Failure {
    let text = chain(error);
    if text.to_lowercase().contains("digest") {
        return Failure::Corrupt(format!("blob {digest}: {text}"));
    }
    Failure::Unreachable(format!("download of {digest} was interrupted: {text}"))
}

/// Waits before another try, as long as one makes sense.
struct Retry {
    left: u32,
    pause: Duration,
}

impl Retry {
    fn new() -> Self {
        Self { left: TRIES_MAX - 1, pause: RETRY_PAUSE }
    }

    async fn after(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure {
            Failure::Unreachable(why) if self.left > 0 => {
                tracing::debug!(why, "registry did not answer, trying again");
                tokio::time::sleep(self.pause).await;
                self.left -= 1;
                self.pause *= 2;
                Ok(())
            }
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_listed_registries_only() {
        let registries =
            Registries { insecure: vec!["10.77.0.254:5055".into()], ..Default::default() };
        assert!(registries.plain("127.0.0.1:5000") && registries.plain("localhost:5000"));
        assert!(registries.plain("[::1]:5000") && registries.plain("10.77.0.254:5055"));
        assert!(!registries.plain("10.77.0.254:5056") && !registries.plain("index.docker.io"));
    }

    #[test]
    fn public_addresses_cannot_be_made_insecure() {
        let check =
            |entry: &str| Registries { insecure: vec![entry.into()], ..Default::default() }.check();
        assert!(check("10.0.0.1:5000").is_ok() && check("registry.local:5000").is_ok());
        assert!(check("8.8.8.8:5000").unwrap_err().contains("8.8.8.8"));
    }

    #[test]
    fn secrets_never_show() {
        let basic = Credentials::Basic { username: "u".into(), password: "secret".into() };
        assert_eq!(format!("{basic:?} {:?}", Credentials::Token("t0ken".into())), "Basic(u) Token");
    }
}
