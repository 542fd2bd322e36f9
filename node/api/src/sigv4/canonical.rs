//! The one text that a request stands for, however it was written down: what is hashed and signed.
//!
//! AWS: "Create a canonical request". The rules are those of all services but S3: the path is
//! normalised, and encoded once more although it came encoded.

use super::refusal::{Refusal, echo};
use http::HeaderMap;
use http::header::{HOST, HeaderName};
use http::request::Parts;
use ring::digest;
use std::fmt::Write;

/// The canonical request: bytes, since a header's value may be any.
pub fn request(head: &Parts, signed: &[HeaderName], body_hash: &str) -> Result<Vec<u8>, Refusal> {
    let (path, query) = (path(head.uri.path()), query(head.uri.query().unwrap_or_default()));
    let mut text = format!("{}\n{path}\n{query}\n", head.method).into_bytes();
    for name in signed {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(&value(head, name)?);
        text.push(b'\n');
    }
    text.push(b'\n');
    let names: Vec<&str> = signed.iter().map(HeaderName::as_str).collect();
    text.extend_from_slice(names.join(";").as_bytes());
    text.push(b'\n');
    text.extend_from_slice(body_hash.as_bytes());
    Ok(text)
}

/// SHA-256, in lower-case hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Without dot segments and repeated slashes.
fn path(raw: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut path = String::new();
    for segment in &kept {
        path.push('/');
        encode(segment.as_bytes(), &mut path);
    }
    if kept.is_empty() || raw.ends_with('/') {
        path.push('/');
    }
    path
}

/// Names and values, each encoded in the one right way, in order.
fn query(raw: &str) -> String {
    let encoded = |text: &str| {
        let mut out = String::new();
        encode(&decode(text), &mut out);
        out
    };
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// RFC 3986: everything but the unreserved characters.
fn encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

/// A `%` that is not followed by two hexadecimal digits stands for itself.
pub fn decode(text: &str) -> Vec<u8> {
    let digit = |b: Option<&u8>| char::from(*b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (other, ..) => {
                out.push(*other);
                at += 1;
            }
        }
    }
    out
}

/// All values of a header, in the order they came, with blanks folded.
fn value(head: &Parts, name: &HeaderName) -> Result<Vec<u8>, Refusal> {
    let values = folded(&head.headers, name);
    match (values, head.uri.authority()) {
        (Some(values), _) => Ok(values),
        // HTTP/2 says `:authority` instead.
        (None, Some(authority)) if name == HOST => Ok(authority.as_str().as_bytes().to_vec()),
        (None, _) => Err(Refusal::Invalid(format!(
            "header '{}' is listed in SignedHeaders and is not in the request",
            echo(name.as_str())
        ))),
    }
}

fn folded(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).iter().map(|value| fold(value.as_bytes()));
    let mut all = values.next()?;
    for value in values {
        all.push(b',');
        all.extend(value);
    }
    Some(all)
}

/// Without blanks around it, and with one for each run of them within.
fn fold(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value.trim_ascii() {
        if *byte != b' ' || out.last() != Some(&b' ') {
            out.push(*byte);
        }
    }
    out
}
