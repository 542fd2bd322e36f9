//! Certificates for the peer under test: etcd gets TLS from an authority of our own kind.

use crate::Outcome;
use muster_identity::{Authority, new_key_and_csr};
use muster_model::{Principal, RaftId};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// PEM files of one server that is its own client.
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// # Errors
/// The files cannot be written.
pub fn write(dir: &Path) -> Outcome<Files> {
    let now = SystemTime::now();
    let authority = Authority::create("bench", now)?;
    let (key, csr) = new_key_and_csr()?;
    let day = Duration::from_secs(24 * 3600);
    let issued = authority.issue(&csr, &Principal::Manager(RaftId(1)), day, now)?;
    let files =
        Files { ca: dir.join("ca.pem"), cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.ca, authority.cert_pem())?;
    std::fs::write(&files.cert, issued.cert_pem)?;
    std::fs::write(&files.key, key)?;
    Ok(files)
}
