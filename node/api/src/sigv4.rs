//! Is this request signed with the secret of the access key that it names? AWS Signature Version 4.
//!
//! Pure: [`Signature::of`] reads what a request claims, [`Signature::verify`] computes the
//! signature anew from the request and the key's secret. It does not know whose key that is
//! (`authn`), nor for which service and region requests may be signed here: the front end compares
//! those.
//! Invariant: nothing that `verify` lets pass can be changed on the way without the secret: method,
//! path, query, host, every `x-amz-*` header and the body are covered.

use http::request::Parts;
use muster_model::Time;
use ring::hmac;

mod authorization;
mod canonical;
mod date;
mod refusal;

pub(crate) use canonical::decode as percent_decode;
pub(crate) use refusal::echo;
pub use refusal::{Fault, Refusal};

use crate::limits::{SIGNED_URI_BYTES_MAX, SIGNING_SKEW_MAX};
use authorization::{Authorization, header};
use date::{Date, Stamp};

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const SECURITY_TOKEN: &str = "x-amz-security-token";

/// What a request says of its signature; nothing in it is believed before `verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    authorization: Authorization,
    stamp: Stamp,
    token: Option<String>,
}

impl Signature {
    /// Reads the signature in the headers of a request.
    ///
    /// # Errors
    /// When there is none, when it is of a kind that we do not take (presigned, SigV4A, a body that
    /// it does not cover), or when it leaves out what it must cover.
    pub fn of(head: &Parts) -> Result<Self, Refusal> {
        let Some(text) = header(head, http::header::AUTHORIZATION.as_str())? else {
            return Err(match presigned(head) {
                true => Refusal::incomplete(
                    "presigned requests (a signature in the query) are not supported: sign the \
                     Authorization header",
                ),
                false => Refusal::Missing,
            });
        };
        let authorization = Authorization::parse(text)?;
        if presigned(head) {
            let why = "a signature stands in the query and in the Authorization header: send one";
            return Err(Refusal::incomplete(why));
        }
        let Some(date) = header(head, date::HEADER)? else {
            return Err(Refusal::incomplete(
                "Authorization header requires existence of a 'X-Amz-Date' header.",
            ));
        };
        let stamp = Stamp::parse(date)?;
        body_is_covered(head)?;
        if head.uri.path_and_query().is_some_and(|uri| uri.as_str().len() > SIGNED_URI_BYTES_MAX) {
            let why = format!("path and query take at most {SIGNED_URI_BYTES_MAX} bytes");
            return Err(Refusal::Incomplete(why));
        }
        authorization.covers(head)?;
        let token = header(head, SECURITY_TOKEN)?.map(str::to_owned);
        Ok(Self { authorization, stamp, token })
    }

    pub fn access_key(&self) -> &str {
        &self.authorization.access_key
    }

    /// The session token that came with it; whether the key has one is not known here.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Lower-case letters, digits and hyphens, at most 64: fit for an ARN.
    pub fn region(&self) -> &str {
        &self.authorization.region
    }

    /// The service's signing name: `ecs`, `sts`.
    pub fn service(&self) -> &str {
        &self.authorization.service
    }

    /// When the request was signed, by its sender's clock.
    pub fn signed_at(&self) -> Time {
        self.stamp.at
    }

    /// Whether `secret` made this signature, over this very request, within five minutes of `now`.
    ///
    /// # Errors
    /// Says what differs, as far as that tells nobody a secret.
    pub fn verify(
        &self,
        head: &Parts,
        body: &[u8],
        secret: &str,
        now: Time,
    ) -> Result<(), Refusal> {
        self.is_current(now)?;
        let body_hash = canonical::hash(body);
        if let Some(told) = header(head, CONTENT_SHA256)?
            && told != body_hash
        {
            let why =
                "The provided 'x-amz-content-sha256' header does not match what was computed.";
            return Err(Refusal::invalid(why));
        }
        let request = canonical::request(head, &self.authorization.signed, &body_hash)?;
        let text = self.string_to_sign(&canonical::hash(&request));
        // The comparison takes as long wherever the first difference is.
        hmac::verify(&self.signing_key(secret), text.as_bytes(), &self.authorization.signature)
            .map_err(|_| Refusal::mismatch())
    }

    fn is_current(&self, now: Time) -> Result<(), Refusal> {
        let (Stamp { text, at, day }, minutes) = (&self.stamp, SIGNING_SKEW_MAX.0 / 60_000);
        if self.authorization.day != *day {
            return Err(Refusal::Invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP: '{}' != '{day}', from '{text}'.",
                self.authorization.day
            )));
        }
        let (oldest, newest) = (now - SIGNING_SKEW_MAX, now + SIGNING_SKEW_MAX);
        if *at < oldest {
            return Err(Refusal::Invalid(format!(
                "Signature expired: {text} is now earlier than {} ({} - {minutes} min.)",
                Date(oldest),
                Date(now)
            )));
        }
        if *at > newest {
            return Err(Refusal::Invalid(format!(
                "Signature not yet current: {text} is still later than {} ({} + {minutes} min.)",
                Date(newest),
                Date(now)
            )));
        }
        Ok(())
    }

    fn string_to_sign(&self, request_hash: &str) -> String {
        let Authorization { day, region, service, .. } = &self.authorization;
        format!(
            "{}\n{}\n{day}/{region}/{service}/{}\n{request_hash}",
            authorization::ALGORITHM,
            self.stamp.text,
            authorization::TERMINATOR
        )
    }

    fn signing_key(&self, secret: &str) -> hmac::Key {
        let Authorization { day, region, service, .. } = &self.authorization;
        let first = [b"AWS4", secret.as_bytes()].concat();
        let first = hmac::Key::new(hmac::HMAC_SHA256, &first);
        [&**day, &**region, &**service, authorization::TERMINATOR].iter().fold(
            first,
            |key, part| {
                hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
            },
        )
    }
}

/// Signatures in the query live for up to a week and end up in logs.
fn presigned(head: &Parts) -> bool {
    let names = ["x-amz-signature", "x-amz-algorithm", "x-amz-credential"];
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        names.iter().any(|ours| name.eq_ignore_ascii_case(ours))
    })
}

/// A body that is signed piece by piece, or not at all, is not covered by the one signature that
/// we check.
fn body_is_covered(head: &Parts) -> Result<(), Refusal> {
    let told = header(head, CONTENT_SHA256)?.unwrap_or_default();
    let encoding = header(head, http::header::CONTENT_ENCODING.as_str())?.unwrap_or_default();
    if told.starts_with("STREAMING-") || encoding.contains("aws-chunked") {
        return Err(Refusal::invalid(
            "chunked signing (STREAMING-..., aws-chunked) is not supported: sign the whole body",
        ));
    }
    if told == "UNSIGNED-PAYLOAD" {
        return Err(Refusal::invalid(
            "UNSIGNED-PAYLOAD is not supported: the signature must cover the body",
        ));
    }
    Ok(())
}
