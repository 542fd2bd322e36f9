//! The Authorization header: what it must say, and what its signature must cover.

use super::refusal::{Refusal, echo};
use crate::limits::{ACCESS_KEY_CHARS_MAX, AUTHORIZATION_BYTES_MAX, SIGNED_HEADERS_MAX};
use http::header::{HOST, HeaderName};
use http::request::Parts;

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub const TERMINATOR: &str = "aws4_request";

/// Longest region or service in a scope; AWS's own stay below 32.
const SCOPE_CHARS_MAX: usize = 64;

/// The parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    pub access_key: String,
    /// `YYYYMMDD` of the scope.
    pub day: String,
    pub region: String,
    pub service: String,
    /// Ascending, each once.
    pub signed: Vec<HeaderName>,
    pub signature: [u8; 32],
}

/// A header's one value, trimmed.
pub fn header<'a>(head: &'a Parts, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = head.headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::Incomplete(format!("header '{name}' came more than once")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim())),
        Err(_) => Err(Refusal::Incomplete(format!("header '{name}' is not ASCII text"))),
    }
}

impl Authorization {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > AUTHORIZATION_BYTES_MAX {
            let why = format!("Authorization header: at most {AUTHORIZATION_BYTES_MAX} bytes");
            return Err(Refusal::Incomplete(why));
        }
        let (algorithm, rest) = text.split_once(' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            // The rest may be a password or a token of something else: it is not told back.
            let what = match algorithm.starts_with("AWS4-ECDSA") {
                true => "SigV4A is not supported. ",
                false => "",
            };
            return Err(Refusal::Incomplete(format!(
                "{what}Unsupported AWS 'algorithm': '{}'; sign with {ALGORITHM}",
                echo(algorithm)
            )));
        }
        let [mut credential, mut signed, mut signature] = [None; 3];
        for pair in rest.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Refusal::Incomplete(format!(
                    "'{}' not a valid key=value pair (missing equal-sign) in Authorization header",
                    echo(pair)
                )));
            };
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                other => {
                    let why = format!("Authorization header: unknown parameter '{}'", echo(other));
                    return Err(Refusal::Incomplete(why));
                }
            };
            if place.replace(value).is_some() {
                let why = format!("Authorization header: parameter '{name}' came more than once");
                return Err(Refusal::Incomplete(why));
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature)
        else {
            return Err(lacking(&[
                ("Credential", credential),
                ("Signature", signature),
                ("SignedHeaders", signed),
            ]));
        };
        let signature = unhex(signature).ok_or_else(Refusal::mismatch)?;
        Self::scoped(credential, header_names(signed)?, signature)
    }

    /// With the parts of `Credential=<key>/<day>/<region>/<service>/aws4_request`.
    fn scoped(
        credential: &str,
        signed: Vec<HeaderName>,
        signature: [u8; 32],
    ) -> Result<Self, Refusal> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, service, terminator] = parts[..] else {
            return Err(Refusal::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{}'",
                echo(credential)
            )));
        };
        let key_char = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let key_fits = (1..=ACCESS_KEY_CHARS_MAX).contains(&access_key.len());
        if !key_fits || !access_key.bytes().all(key_char) {
            return Err(Refusal::UnknownKey("an access key id is 20 letters and digits".into()));
        }
        if day.len() != 8 || !day.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::Incomplete(format!(
                "Credential should be scoped with a date as YYYYMMDD, not '{}'",
                echo(day)
            )));
        }
        let word = |text: &str| {
            let part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=SCOPE_CHARS_MAX).contains(&text.len()) && text.bytes().all(part)
        };
        for (what, text) in [("region", region), ("service", service)] {
            if !word(text) {
                return Err(Refusal::Invalid(format!(
                    "Credential should be scoped to a valid {what}, not '{}'.",
                    echo(text)
                )));
            }
        }
        if terminator != TERMINATOR {
            return Err(Refusal::Invalid(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
                echo(terminator)
            )));
        }
        let [access_key, day, region, service] =
            [access_key, day, region, service].map(str::to_owned);
        Ok(Self { access_key, day, region, service, signed, signature })
    }

    /// Host, date and every `x-amz-*` header must be signed, or whoever stands between could change
    /// what is asked of whom.
    pub fn covers(&self, head: &Parts) -> Result<(), Refusal> {
        if !self.signed.contains(&HOST) {
            return Err(Refusal::invalid(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        let unsigned = head
            .headers
            .keys()
            .find(|name| name.as_str().starts_with("x-amz-") && !self.signed.contains(name));
        match unsigned {
            None => Ok(()),
            Some(name) => Err(Refusal::Invalid(format!(
                "'{}' must be a 'SignedHeader' in the AWS Authorization.",
                echo(name.as_str())
            ))),
        }
    }
}

fn lacking(parameters: &[(&str, Option<&str>)]) -> Refusal {
    let lacking = parameters.iter().filter(|(_, value)| value.is_none());
    let told: Vec<_> = lacking
        .map(|(name, _)| format!("Authorization header requires '{name}' parameter."))
        .collect();
    Refusal::Incomplete(told.join(" "))
}

/// The names as they are signed: lower-case, ascending, each once. Any other form could be signed
/// by no client that follows the rules.
fn header_names(text: &str) -> Result<Vec<HeaderName>, Refusal> {
    let malformed = || {
        Refusal::Incomplete(format!(
            "SignedHeaders must be lower-case header names, sorted, each once, separated by ';', \
             got '{}'",
            echo(text)
        ))
    };
    if text.bytes().filter(|b| *b == b';').count() >= SIGNED_HEADERS_MAX {
        let why = format!("SignedHeaders: at most {SIGNED_HEADERS_MAX} headers");
        return Err(Refusal::Incomplete(why));
    }
    let mut names: Vec<HeaderName> = Vec::new();
    for part in text.split(';') {
        let name = HeaderName::from_bytes(part.as_bytes()).map_err(|_| malformed())?;
        if name.as_str() != part || names.last().is_some_and(|last| last.as_str() >= part) {
            return Err(malformed());
        }
        names.push(name);
    }
    Ok(names)
}

/// 64 lower-case hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
