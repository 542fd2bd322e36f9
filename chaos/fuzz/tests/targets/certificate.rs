//! Certificates and requests for them, in DER and in PEM.
//!
//! A principal that was read is written as the same subject again; nothing of a request but its key
//! enters a certificate.

use super::{text, texts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_identity::{Authority, CaDigest, Identity, IdentityPem, new_key_and_csr, principal_of};
use muster_model::{InstanceId, Principal, RaftId};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

/// Before the authority of the target ends.
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::create("fuzz", UNIX_EPOCH + NOW).expect("an authority"))
}

fn issued(principal: &Principal) -> String {
    let (_, request) = new_key_and_csr().expect("a request");
    let hour = Duration::from_secs(3600);
    authority().issue(&request, principal, hour, UNIX_EPOCH + NOW).expect("a certificate").cert_pem
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("PEM holds base64")
}

#[test]
fn certificate() {
    let seeds = || {
        let instance = InstanceId::from_bits(0x0123_4567_89ab_cdef);
        vec![
            der(&issued(&Principal::Manager(RaftId(7)))),
            der(&issued(&Principal::Instance(instance))),
            der(&issued(&Principal::User("ann".into()))),
            der(authority().cert_pem()),
        ]
    };
    muster_fuzz::target("certificate", seeds, |input| {
        if let Ok(Principal::User(name)) = principal_of(input) {
            assert!(muster_identity::user_name_allowed(&name).is_ok(), "{name:?}");
        }
    });
}

#[test]
fn pem() {
    let seeds = || {
        let (key, request) = new_key_and_csr().expect("a request");
        let certificate = issued(&Principal::Manager(RaftId(1)));
        texts(&[&request, &certificate, &format!("{certificate}{key}"), authority().cert_pem()])
    };
    muster_fuzz::target("pem", seeds, |input| {
        let Some(text) = text(input) else { return };
        let _ = CaDigest::of_pem(text);
        let _ = Authority::from_pem(text, text);
        let pem = IdentityPem { cert: text.into(), key: text.into(), ca: text.into() };
        let _ = Identity::from_pem(pem);
        signed(text);
    });
}

#[test]
fn certificate_request() {
    let seeds = || {
        let (_, request) = new_key_and_csr().expect("a request");
        vec![der(&request)]
    };
    muster_fuzz::target("certificate_request", seeds, |input| {
        let body = STANDARD.encode(input);
        let (begin, end) =
            ("-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----");
        signed(&format!("{begin}\n{body}\n{end}\n"));
    });
}

/// Whatever a request asks for, its certificate speaks for who was checked.
fn signed(request: &str) {
    let (hour, now) = (Duration::from_secs(3600), UNIX_EPOCH + NOW);
    let who = Principal::Instance(InstanceId::from_bits(5));
    if let Ok(issued) = authority().issue(request, &who, hour, now) {
        assert_eq!(principal_of(&der(&issued.cert_pem)).ok(), Some(who));
    }
}
