//! The cluster's certificate authority: one self-signed certificate and its key.
//!
//! It decides what stands in a certificate; a request contributes its public key and nothing
//! else, so nobody can ask for a name. It does not know who may have which certificate, nor where
//! its own key is kept. It has no clock: callers pass the time.

use crate::digest::{CaDigest, hex};
use crate::error::Error;
use crate::limits::{AUTHORITY_VALIDITY, BACKDATE, NAME_BYTES_MAX};
use crate::pem;
use crate::subject::{Subject, from_unix, to_unix};
use muster_model::Principal;
use rand::TryRngCore;
use rand::rngs::OsRng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use std::fmt;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// Random bytes in a serial number; RFC 5280 allows 20, and 16 never meet by chance.
const SERIAL_BYTES: usize = 16;

/// Organization in the certificates of listeners: no principal's, so none is ever read from them.
const WEB_ORGANIZATION: &str = "muster web";

/// A certificate as given to its owner.
#[derive(Clone, Debug)]
pub struct IssuedCert {
    pub cert_pem: String,
    /// Lower-case hex; what [`Peer::serial`](crate::Peer) says of its bearer.
    pub serial_hex: String,
    pub not_after: SystemTime,
}

/// A certificate and its key for a listener without client certificates.
pub struct IssuedWeb {
    pub cert_pem: String,
    pub key_pem: String,
}

/// The cluster's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    digest: CaDigest,
    /// Seconds since 1970.
    not_after: i64,
}

impl Authority {
    /// A new authority, valid for ten years from `now` and, for skewed clocks, five minutes back.
    ///
    /// # Errors
    /// When `cluster_name` is empty, over 64 bytes or has control characters, or when `now` is
    /// not in the calendar.
    pub fn create(cluster_name: &str, now: SystemTime) -> Result<Self, Error> {
        let bad = cluster_name.is_empty() || cluster_name.len() > NAME_BYTES_MAX;
        if bad || cluster_name.chars().any(char::is_control) {
            let problem = format!(
                "{} bytes; 1 to {NAME_BYTES_MAX} printable ones allowed",
                cluster_name.len()
            );
            return Err(Error::invalid("cluster name", problem));
        }
        let not_after = plus(to_unix(now)?, AUTHORITY_VALIDITY);
        let serial = random_serial()?;
        let mut params = validity(now, not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "muster-authority");
        // Two clusters of one name must not have one issuer name: a certificate of the other
        // would be reported as forged instead of foreign.
        name.push(DnType::OrganizationalUnitName, hex(&serial));
        name.push(DnType::CommonName, cluster_name);
        params.distinguished_name = name;
        let key = new_key()?;
        let certificate = params
            .self_signed(&key)
            .map_err(|error| Error::crypto("sign the authority's certificate", error))?;
        Ok(Self {
            cert_pem: pem::write_certificate(certificate.der()),
            digest: CaDigest::of_der(certificate.der()),
            issuer: Issuer::new(params, key),
            not_after,
        })
    }

    /// The authority that `cert_pem` and `key_pem` (PKCS #8) are.
    ///
    /// # Errors
    /// When either is not what it should be, or they do not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, Error> {
        const CERT: &str = "authority certificate";
        const KEY: &str = "authority key";
        let certificates = pem::certificates(CERT, cert_pem)?;
        let [der] = &certificates[..] else {
            let problem = format!("{} certificates, expected one", certificates.len());
            return Err(Error::invalid(CERT, problem));
        };
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|_| Error::invalid(CERT, "not an X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(Error::invalid(CERT, "it may not sign others"));
        }
        // The library's message could quote the text: only ours may reach a log.
        let key = KeyPair::try_from(&pem::private_key(KEY, key_pem)?).map_err(|_| {
            Error::invalid(KEY, "not a key we can sign with (PKCS #8, ECDSA P-256)")
        })?;
        if key.public_key_raw() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err(Error::invalid(KEY, "it is not the key of the certificate"));
        }
        let not_after = parsed.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(|error| Error::invalid(CERT, error.to_string()))?;
        Ok(Self {
            issuer,
            cert_pem: pem::write_certificate(der),
            digest: CaDigest::of_der(der),
            not_after,
        })
    }

    /// The public certificate, for every machine of the cluster.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key: who has it is the cluster.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub fn digest(&self) -> CaDigest {
        self.digest
    }

    /// A certificate for `principal` with the key of `csr_pem`, valid from five minutes before
    /// `now` until `now + validity`, or until the authority's own end if that is sooner.
    ///
    /// # Errors
    /// When the request is not a signed P-256 request, the user's name is not allowed, `validity`
    /// is under a second, or the authority itself has expired.
    pub fn issue(
        &self,
        csr_pem: &str,
        principal: &Principal,
        validity: Duration,
        now: SystemTime,
    ) -> Result<IssuedCert, Error> {
        let key = requested_key(csr_pem)?;
        let subject = Subject::of(principal)?;
        let not_after = self.end(validity, now)?;
        let serial = random_serial()?;
        let params = leaf(&subject, principal, &serial, self::validity(now, not_after)?)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| Error::crypto("sign a certificate", error))?;
        Ok(IssuedCert {
            cert_pem: pem::write_certificate(certificate.der()),
            serial_hex: hex(&serial),
            not_after: from_unix(not_after)?,
        })
    }

    /// A certificate with a key of its own for a listener that SDKs reach under `names` (host names
    /// and IP addresses). It speaks for no principal: no handshake lets it in.
    ///
    /// # Errors
    /// When a name is neither, and as `issue`.
    pub fn issue_web(
        &self,
        names: &[String],
        validity: Duration,
        now: SystemTime,
    ) -> Result<IssuedWeb, Error> {
        let key = new_key()?;
        let not_after = self.end(validity, now)?;
        let mut params = self::validity(now, not_after)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, WEB_ORGANIZATION);
        params.distinguished_name = name;
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => name.as_str().try_into().map(SanType::DnsName),
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Error::crypto("name a certificate", error))?;
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| Error::crypto("sign a certificate", error))?;
        let cert_pem = pem::write_certificate(certificate.der());
        Ok(IssuedWeb { cert_pem, key_pem: key.serialize_pem() })
    }

    /// Until when a certificate issued `now` is valid, in seconds since 1970.
    fn end(&self, validity: Duration, now: SystemTime) -> Result<i64, Error> {
        let now = to_unix(now)?;
        if validity.as_secs() == 0 {
            let problem = format!("{validity:?}, at least 1 s allowed");
            return Err(Error::invalid("certificate validity", problem));
        }
        if now >= self.not_after {
            let problem = "the cluster's certificate authority has expired, or this clock is wrong \
                           (`date -u`)";
            return Err(Error::certificate(problem));
        }
        Ok(plus(now, validity).min(self.not_after))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// A fresh private key (PKCS #8 in PEM) and a request for a certificate of it.
///
/// ECDSA P-256, because the TLS of grpcio and Go verify it by default and not all do Ed25519.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn new_key_and_csr() -> Result<(String, String), Error> {
    const ACTION: &str = "make a key and a certificate request";
    let key = new_key()?;
    let mut params = CertificateParams::default();
    // Left empty: the authority writes the name.
    params.distinguished_name = DistinguishedName::new();
    let request = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(|error| Error::crypto(ACTION, error))?;
    Ok((key.serialize_pem(), request))
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Error::crypto("make a key", error))
}

/// The public key of a request whose sender proved to hold the private one.
fn requested_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, Error> {
    let bad = |problem: &str| Error::Request { problem: problem.to_owned() };
    let der = pem::request(csr_pem)?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| bad("not a PKCS #10 request"))?;
    if !rest.is_empty() {
        return Err(bad("bytes after its end"));
    }
    let wrong_kind = || bad("its key must be ECDSA P-256");
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| wrong_kind())?;
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(wrong_kind());
    }
    request.verify_signature().map_err(|_| bad("its signature is not by its own key"))?;
    Ok(key)
}

fn leaf(
    subject: &Subject,
    principal: &Principal,
    serial: &[u8],
    mut params: CertificateParams,
) -> Result<CertificateParams, Error> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, subject.organization);
    name.push(DnType::CommonName, subject.common_name.as_str());
    params.distinguished_name = name;
    let dns_name =
        subject.dns_name.try_into().map_err(|error| Error::crypto("name a certificate", error))?;
    params.subject_alt_names = vec![SanType::DnsName(dns_name)];
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match principal {
        Principal::Manager(_) => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Principal::Instance(_) | Principal::User(_) | Principal::AssumedRole { .. } => {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        }
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Parameters valid from `now`, backdated, until `not_after` (seconds since 1970).
fn validity(now: SystemTime, not_after: i64) -> Result<CertificateParams, Error> {
    let date = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| Error::invalid("certificate validity", "it ends after the year 9999"))
    };
    let start = to_unix(now)?.saturating_sub(seconds(BACKDATE)).max(0);
    let mut params = CertificateParams::default();
    params.not_before = date(start)?;
    params.not_after = date(not_after)?;
    Ok(params)
}

fn plus(start: i64, duration: Duration) -> i64 {
    start.saturating_add(seconds(duration))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Random, positive, and without a leading zero byte, so that it has one spelling in hex.
fn random_serial() -> Result<[u8; SERIAL_BYTES], Error> {
    let mut serial = [0; SERIAL_BYTES];
    OsRng
        .try_fill_bytes(&mut serial)
        .map_err(|error| Error::crypto("make a serial number", error))?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::principal_of;
    use muster_model::{InstanceId, RaftId};
    use std::time::UNIX_EPOCH;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn authority() -> Authority {
        Authority::create("test", now()).unwrap()
    }

    fn issue(principal: &Principal) -> IssuedCert {
        let (_, csr) = new_key_and_csr().unwrap();
        authority().issue(&csr, principal, HOUR, now()).unwrap()
    }

    fn der(text: &str) -> Vec<u8> {
        pem::certificates("test", text).unwrap()[0].to_vec()
    }

    #[test]
    fn every_principal_is_read_back_from_its_certificate() {
        for principal in [
            Principal::Manager(RaftId(0)),
            Principal::Manager(RaftId(u64::MAX)),
            Principal::Instance(InstanceId::from_bits(1)),
            Principal::Instance(InstanceId::from_bits(u128::MAX)),
            Principal::User("ann@example.org".to_owned()),
        ] {
            let issued = issue(&principal);
            assert_eq!(principal_of(&der(&issued.cert_pem)).unwrap(), principal);
        }
    }

    #[test]
    fn a_certificate_is_backdated_five_minutes_and_ends_when_it_says() {
        let issued = issue(&Principal::Manager(RaftId(1)));
        let facts = crate::subject::read(&der(&issued.cert_pem)).unwrap();
        assert_eq!(facts.not_before, now() - BACKDATE);
        assert_eq!(facts.not_after, now() + HOUR);
        assert_eq!(facts.not_after, issued.not_after);
        assert_eq!(facts.serial, issued.serial_hex);
    }

    #[test]
    fn only_a_manager_may_serve() {
        for (principal, name, server) in [
            (Principal::Manager(RaftId(1)), "manager.muster", true),
            (Principal::Instance(InstanceId::from_bits(1)), "instance.muster", false),
            (Principal::User("ann".to_owned()), "user.muster", false),
        ] {
            let bytes = der(&issue(&principal).cert_pem);
            let (_, certificate) = X509Certificate::from_der(&bytes).unwrap();
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.client_auth && usage.server_auth == server, "{principal}");
            let names = certificate.subject_alternative_name().unwrap().unwrap();
            assert_eq!(format!("{:?}", names.value.general_names), format!("[DNSName({name:?})]"));
            assert!(!certificate.is_ca());
        }
    }

    #[test]
    fn an_authority_survives_being_written_and_read() {
        let first = authority();
        let second = Authority::from_pem(first.cert_pem(), &first.key_pem()).unwrap();
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.cert_pem(), second.cert_pem());
        let (_, csr) = new_key_and_csr().unwrap();
        let principal = Principal::Manager(RaftId(1));
        let issued = second.issue(&csr, &principal, HOUR, now()).unwrap();
        let (leaf, root) = (der(&issued.cert_pem), der(first.cert_pem()));
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        let (_, root) = X509Certificate::from_der(&root).unwrap();
        leaf.verify_signature(Some(root.public_key())).unwrap();
    }

    #[test]
    fn an_authority_is_not_made_of_parts_that_do_not_belong_together() {
        let (one, two) = (authority(), authority());
        let told = |cert: &str, key: &str| Authority::from_pem(cert, key).unwrap_err().to_string();
        assert!(told(one.cert_pem(), &two.key_pem()).contains("not the key of the certificate"));
        assert!(told("", &one.key_pem()).contains("no certificate"));
        assert!(told(one.cert_pem(), "x").contains("no private key"));
        let leaf = issue(&Principal::Manager(RaftId(1))).cert_pem;
        assert!(told(&leaf, &one.key_pem()).contains("may not sign others"));
        let both = format!("{}{}", one.cert_pem(), two.cert_pem());
        assert!(told(&both, &one.key_pem()).contains("2 certificates"));
    }

    #[test]
    fn a_certificate_never_outlives_its_authority() {
        let authority = authority();
        let end = now() + AUTHORITY_VALIDITY;
        let principal = Principal::Manager(RaftId(1));
        let (_, csr) = new_key_and_csr().unwrap();
        let late = authority.issue(&csr, &principal, HOUR, end - Duration::from_secs(60));
        assert_eq!(late.unwrap().not_after, end);
        let forever = authority.issue(&csr, &principal, Duration::MAX, now()).unwrap();
        assert_eq!(forever.not_after, end);
        let told = authority.issue(&csr, &principal, HOUR, end).unwrap_err().to_string();
        assert!(told.contains("expired"), "{told}");
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        let authority = authority();
        let (_, csr) = new_key_and_csr().unwrap();
        let told = |csr: &str, principal: Principal, validity| {
            let refused = authority.issue(csr, &principal, validity, now());
            refused.unwrap_err().to_string()
        };
        let ann = || Principal::User("ann".to_owned());
        assert!(told("", ann(), HOUR).contains("not a request in PEM"));
        assert!(told(authority.cert_pem(), ann(), HOUR).contains("not a request in PEM"));
        assert!(told(&csr, ann(), Duration::from_millis(999)).contains("at least 1 s"));
        assert!(told(&csr, Principal::User("a/b".to_owned()), HOUR).contains("\"a/b\""));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other = CertificateParams::default().serialize_request(&other).unwrap();
        assert!(told(&other.pem().unwrap(), ann(), HOUR).contains("P-256"));
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (_, csr) = new_key_and_csr().unwrap();
        let mut bytes = pem::request(&csr).unwrap().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let body = pem::write_certificate(&bytes).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        let refused = authority().issue(&body, &Principal::Manager(RaftId(1)), HOUR, now());
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("not by its own key"), "{told}");
    }

    #[test]
    fn a_cluster_name_has_1_to_64_bytes() {
        assert!(Authority::create(&"n".repeat(64), now()).is_ok());
        for bad in [String::new(), "n".repeat(65), "a\nb".to_owned()] {
            assert!(Authority::create(&bad, now()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let authority = authority();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }
}
