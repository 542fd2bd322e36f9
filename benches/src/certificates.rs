//! Certificates for the peer under test: etcd gets TLS from an authority of our own kind.

use crate::Outcome;
use muster_identity::{Authority, new_key_and_csr};
use muster_model::{Principal, RaftId};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// PEM files of one server that is its own client.
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    fn below(dir: &Path, name: &str) -> Self {
        let file = |what: &str| dir.join(format!("{name}-{what}.pem"));
        Self { ca: file("ca"), cert: file("cert"), key: file("key") }
    }
}

/// For clients: from an authority of our own kind, so that one client speaks to both systems.
///
/// # Errors
/// The files cannot be written.
pub fn for_clients(dir: &Path) -> Outcome<Files> {
    let now = SystemTime::now();
    let authority = Authority::create("bench", now)?;
    let (key, csr) = new_key_and_csr()?;
    let day = Duration::from_secs(24 * 3600);
    let issued = authority.issue(&csr, &Principal::Manager(RaftId(1)), day, now)?;
    let files = Files::below(dir, "client");
    std::fs::write(&files.ca, authority.cert_pem())?;
    std::fs::write(&files.cert, issued.cert_pem)?;
    std::fs::write(&files.key, key)?;
    Ok(files)
}

/// For etcd's members among themselves: they insist on the address in the certificate.
///
/// # Errors
/// The files cannot be written.
pub fn for_peers(dir: &Path) -> Outcome<Files> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(vec!["bench peers".to_owned()])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_cert = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let mut member = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    member.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let cert = member.signed_by(&key, &issuer)?;
    let files = Files::below(dir, "peer");
    std::fs::write(&files.ca, authority_cert.pem())?;
    std::fs::write(&files.cert, cert.pem())?;
    std::fs::write(&files.key, key.serialize_pem())?;
    Ok(files)
}
