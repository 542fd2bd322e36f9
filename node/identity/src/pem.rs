//! PEM texts: bounded parsing, and writing.
//!
//! Only the sections asked for are read; a private key in a certificate file is never passed on.

use crate::error::Error;
use crate::limits::PEM_BYTES_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

/// Characters in a line of base64 (RFC 7468).
const LINE: usize = 64;

/// All certificates in `text`, at least one. `what` names the text in errors.
pub fn certificates(what: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    bounded(what, text)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Error::invalid(what, "no certificate in PEM found")),
        Ok(found) => Ok(found),
        Err(_) => Err(Error::invalid(what, "not valid PEM")),
    }
}

/// The one private key in `text`.
pub fn private_key(what: &'static str, text: &str) -> Result<PrivateKeyDer<'static>, Error> {
    bounded(what, text)?;
    // The parser's own message may quote the text, which is a secret here.
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| Error::invalid(what, "no private key in PEM found"))
}

/// The certificate request in `text`.
pub fn request(text: &str) -> Result<CertificateSigningRequestDer<'static>, Error> {
    bounded("certificate request", text)?;
    CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
        .map_err(|_| Error::invalid("certificate request", "not a request in PEM"))
}

/// `certificate` as a PEM section with a final newline.
pub fn write_certificate(certificate: &[u8]) -> String {
    let body = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a character boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn bounded(what: &'static str, text: &str) -> Result<(), Error> {
    if text.len() > PEM_BYTES_MAX {
        let problem = format!("{} bytes, at most {PEM_BYTES_MAX} allowed", text.len());
        return Err(Error::invalid(what, problem));
    }
    Ok(())
}
