//! This process's identity: its key, its certificate and the authorities it believes.
//!
//! A handle is cheap to clone and all clones are one identity: `replace` changes them all, and
//! the next handshake uses the new one, without a restart. It does not know when to renew or how
//! to ask for a new certificate; `renew_after` says when.
//!
//! Invariant: key, certificate and authorities belong together, always; they change as one.

use crate::digest::CaDigest;
use crate::error::Error;
use crate::limits::{BACKDATE, BUNDLE_MAX, RENEW_FROM, RENEW_UNTIL};
use crate::subject::{Facts, read};
use crate::{files, pem, tls};
use muster_model::Principal;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use crate::subject::principal_of;

/// An identity as text: what is stored and sent.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityPem {
    /// The authorities to believe, at most eight; the current one first.
    pub ca: String,
    /// Our certificate.
    pub cert: String,
    /// Our private key, PKCS #8: a secret.
    pub key: String,
}

impl fmt::Debug for IdentityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityPem").finish_non_exhaustive()
    }
}

/// A handle on this process's identity.
#[derive(Clone)]
pub struct Identity {
    current: Arc<RwLock<Arc<Material>>>,
}

/// One version of an identity, ready for handshakes.
pub(crate) struct Material {
    pem: IdentityPem,
    facts: Facts,
    ca: CaDigest,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Identity {
    /// # Errors
    /// When a part is malformed, the key is not the certificate's, or the certificate is not by
    /// one of the authorities. An expired certificate is no error: see `not_after`.
    pub fn from_pem(pem: IdentityPem) -> Result<Self, Error> {
        let material = Material::new(pem)?;
        Ok(Self { current: Arc::new(RwLock::new(Arc::new(material))) })
    }

    /// Reads `ca.pem`, `cert.pem` and `key.pem` in `dir`, finishing a `save` that a crash cut off.
    /// It blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read, and as `from_pem`.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        Self::from_pem(files::read(dir)?)
    }

    /// Writes the identity into `dir` (made with mode 0700 if missing; the key has mode 0600), all
    /// of it or, after a crash, nothing of it. It blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses; the identity stored before is then still there.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        files::write(dir, &self.current().pem)
    }

    /// Makes every handle of this identity use `pem` from the next handshake on. Connections that
    /// stand are not cut; each ends with the certificate it was made with.
    ///
    /// # Errors
    /// As `from_pem`, and when `pem` is of another principal. Nothing changes then.
    pub fn replace(&self, pem: IdentityPem) -> Result<(), Error> {
        let material = Material::new(pem)?;
        let (old, new) = (self.principal(), &material.facts.principal);
        if old != *new {
            let problem = format!("it is of {new}, but this process is {old}");
            return Err(Error::certificate(problem));
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        Ok(())
    }

    /// Who we are.
    pub fn principal(&self) -> Principal {
        self.current().facts.principal.clone()
    }

    /// The serial number of our certificate in lower-case hex.
    pub fn serial(&self) -> String {
        self.current().facts.serial.clone()
    }

    /// The digest of the first authority in our bundle: the cluster we belong to.
    pub fn ca_digest(&self) -> CaDigest {
        self.current().ca
    }

    /// Our parts as text, the private key among them.
    pub fn pem(&self) -> IdentityPem {
        self.current().pem.clone()
    }

    /// When our certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.current().facts.not_after
    }

    /// When to renew: after half of the certificate's life for `jitter` 0, after four fifths for
    /// `jitter` 1. A random jitter keeps a thousand agents from renewing at once.
    pub fn renew_after(&self, jitter: f64) -> SystemTime {
        let facts = &self.current().facts;
        renewal(facts.not_before, facts.not_after, jitter)
    }

    pub(crate) fn current(&self) -> Arc<Material> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("Identity")
            .field("principal", &current.facts.principal)
            .field("serial", &current.facts.serial)
            .field("ca", &current.ca.short())
            .finish_non_exhaustive()
    }
}

impl Material {
    fn new(pem: IdentityPem) -> Result<Self, Error> {
        let authorities = pem::certificates("ca.pem", &pem.ca)?;
        if authorities.len() > BUNDLE_MAX {
            let problem = format!("{} certificates, at most {BUNDLE_MAX}", authorities.len());
            return Err(Error::invalid("ca.pem", problem));
        }
        let certificates = pem::certificates("cert.pem", &pem.cert)?;
        let [leaf] = &certificates[..] else {
            let problem = format!("{} certificates, expected one", certificates.len());
            return Err(Error::invalid("cert.pem", problem));
        };
        let facts = read(leaf)?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|error| Error::invalid("ca.pem", error.to_string()))?;
        }
        let roots = Arc::new(roots);
        believed(leaf, &roots, facts.not_before)?;
        // The authorities travel with the leaf, so that a joining machine, which knows only a
        // digest, finds the one it was told of.
        let chain = certificates.iter().chain(&authorities).cloned().collect();
        let private = pem::private_key("key.pem", &pem.key)?;
        let key = CertifiedKey::from_der(chain, private, &tls::provider())
            .map_err(|_| Error::invalid("key.pem", "it is not the key of cert.pem"))?;
        let key = Arc::new(key);
        Ok(Self {
            ca: authorities
                .first()
                .map_or_else(|| CaDigest::of_der(&[]), |der| CaDigest::of_der(der)),
            server: Arc::new(tls::server(Arc::clone(&key), Arc::clone(&roots))?),
            client: Arc::new(tls::client(key, roots)?),
            pem,
            facts,
        })
    }
}

/// Whether one of `roots` signed `leaf`, as of `when`: expiry is not the question here.
fn believed(
    leaf: &CertificateDer<'static>,
    roots: &Arc<RootCertStore>,
    when: SystemTime,
) -> Result<(), Error> {
    let since = when.duration_since(UNIX_EPOCH).unwrap_or_default();
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), tls::provider())
        .build()
        .map_err(|error| Error::invalid("ca.pem", error.to_string()))?
        .verify_client_cert(leaf, &[], UnixTime::since_unix_epoch(since))
        .map_err(|error| {
            Error::invalid("cert.pem", format!("not by an authority in ca.pem: {error}"))
        })?;
    Ok(())
}

/// A point between `RENEW_FROM` and `RENEW_UNTIL` of a certificate's life.
///
/// Life counts from the issue, not from the backdated start: a certificate of a minute would
/// otherwise be due before it was made, and be renewed without end.
fn renewal(not_before: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let issued = match not_before.checked_add(BACKDATE) {
        Some(issued) if issued < not_after => issued,
        _ => not_before,
    };
    let life = not_after.duration_since(issued).unwrap_or(Duration::ZERO);
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
    issued + life.mul_f64(RENEW_FROM + (RENEW_UNTIL - RENEW_FROM) * jitter)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::authority::{Authority, new_key_and_csr};
    use muster_model::RaftId;
    use std::os::unix::fs::PermissionsExt;

    const HOUR: Duration = Duration::from_secs(3600);

    fn parts(authority: &Authority, id: u64) -> IdentityPem {
        let (key, csr) = new_key_and_csr().unwrap();
        let principal = Principal::Manager(RaftId(id));
        let issued = authority.issue(&csr, &principal, HOUR, SystemTime::now()).unwrap();
        IdentityPem { ca: authority.cert_pem().to_owned(), cert: issued.cert_pem, key }
    }

    fn authority() -> Authority {
        Authority::create("test", SystemTime::now()).unwrap()
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (ours, theirs) = (authority(), authority());
        let (one, two) = (parts(&ours, 1), parts(&ours, 2));
        let told = |pem: IdentityPem| Identity::from_pem(pem).unwrap_err().to_string();
        let key = IdentityPem { key: two.key, ..one.clone() };
        assert!(told(key).contains("not the key of cert.pem"));
        let ca = IdentityPem { ca: theirs.cert_pem().to_owned(), ..one.clone() };
        assert!(told(ca).contains("not by an authority in ca.pem"));
        let cert = IdentityPem { cert: one.ca.clone(), ..one.clone() };
        assert!(told(cert).starts_with("certificate"));
        let many = IdentityPem { ca: one.ca.repeat(BUNDLE_MAX + 1), ..one.clone() };
        assert!(told(many).contains("at most 8"));
        Identity::from_pem(one).unwrap();
    }

    #[test]
    fn a_bundle_may_hold_the_authority_being_rotated_out() {
        let (old, new) = (authority(), authority());
        let mut pem = parts(&old, 1);
        pem.ca = format!("{}{}", new.cert_pem(), pem.ca);
        assert_eq!(Identity::from_pem(pem).unwrap().ca_digest(), new.digest());
    }

    #[test]
    fn all_handles_see_a_replacement_and_another_principal_is_refused() {
        let authority = authority();
        let identity = Identity::from_pem(parts(&authority, 1)).unwrap();
        let other = identity.clone();
        let renewed = parts(&authority, 1);
        identity.replace(renewed.clone()).unwrap();
        assert_eq!(other.pem(), renewed);
        let told = identity.replace(parts(&authority, 2)).unwrap_err().to_string();
        assert!(told.contains("of manager/2, but this process is manager/1"), "{told}");
        assert_eq!(other.pem(), renewed);
    }

    #[test]
    fn renewal_falls_between_half_and_four_fifths_of_the_life() {
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let due = |life: u64, jitter: f64| {
            let from_issue = renewal(start - BACKDATE, start + Duration::from_secs(life), jitter);
            from_issue.duration_since(start).unwrap().as_millis()
        };
        assert_eq!(due(1000, 0.0), 500_000);
        assert_eq!(due(1000, 1.0), 800_000);
        assert_eq!(due(1000, -3.0), 500_000);
        assert_eq!(due(1000, 9.0), 800_000);
        assert_eq!(due(60, 0.0), 30_000);
        assert!((500_000..=800_000).contains(&due(1000, f64::NAN)));
    }

    #[test]
    fn an_identity_survives_being_saved_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("identity");
        let authority = authority();
        for id in [1, 1] {
            let pem = parts(&authority, id);
            Identity::from_pem(pem.clone()).unwrap().save(&dir).unwrap();
            assert_eq!(Identity::load(&dir).unwrap().pem(), pem);
        }
        let mode = |name| std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("key.pem"), 0o600);
        assert_eq!(mode(""), 0o700);
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn a_missing_identity_says_what_to_run() {
        let told = Identity::load(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(told.contains("/nonexistent/ca.pem") && told.contains("muster join"), "{told}");
    }

    #[test]
    fn debug_shows_no_key() {
        let pem = parts(&authority(), 1);
        let shown = format!("{pem:?} {:?}", Identity::from_pem(pem.clone()).unwrap());
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
