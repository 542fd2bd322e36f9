//! Signatures of AWS's own clients pass; whatever was changed, left out or made up is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use muster_api::sigv4::{Refusal, Signature};
use muster_model::Time;
use proptest::prelude::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30 12:36:00 UTC, when the vectors were signed.
const THEN: Time = Time(1_440_938_160_000);
const ECS: &str = "botocore-ecs-list-clusters";

/// Name, head and body of each request in the file.
fn vectors() -> Vec<(String, Parts, Vec<u8>)> {
    let all = include_str!("vectors/sigv4.txt");
    all.split("\n### ").skip(1).map(vector).collect()
}

fn vector(text: &str) -> (String, Parts, Vec<u8>) {
    let (name, text) = text.split_once('\n').unwrap();
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let uri = http::Uri::try_from(words[1].as_bytes()).unwrap();
    let mut request = http::Request::builder().method(words[0]).uri(uri);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        request = request.header(name, HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
    }
    let body = body.strip_suffix('\n').unwrap_or(body).as_bytes().to_vec();
    (name.to_owned(), request.body(()).unwrap().into_parts().0, body)
}

fn ecs() -> (Parts, Vec<u8>) {
    let (_, head, body) = vectors().into_iter().find(|(name, ..)| name == ECS).unwrap();
    (head, body)
}

fn check(head: &Parts, body: &[u8]) -> Result<(), Refusal> {
    Signature::of(head)?.verify(head, body, SECRET, THEN)
}

fn set(head: &mut Parts, name: &'static str, value: &str) {
    head.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
}

fn add(head: &mut Parts, name: &'static str, value: &str) {
    head.headers.append(HeaderName::from_static(name), value.parse().unwrap());
}

/// Replaces in the Authorization header.
fn reword(head: &mut Parts, from: &str, to: &str) {
    let text = head.headers["authorization"].to_str().unwrap().to_owned();
    assert!(text.contains(from), "{text}");
    set(head, "authorization", &text.replace(from, to));
}

#[test]
fn what_aws_clients_sign_passes() {
    let all = vectors();
    assert_eq!(all.len(), 33);
    for (name, head, body) in all {
        assert_eq!(check(&head, &body), Ok(()), "{name}");
    }
}

#[test]
fn a_signature_says_whose_it_is_and_for_what() {
    let (head, _) = ecs();
    let signature = Signature::of(&head).unwrap();
    assert_eq!(signature.access_key(), "AKIDEXAMPLE");
    assert_eq!((signature.region(), signature.service()), ("eu-central-1", "ecs"));
    assert_eq!(signature.signed_at(), THEN);
}

#[test]
fn http2_names_the_host_in_the_authority() {
    let (mut head, body) = ecs();
    head.headers.remove("host");
    let refused = check(&head, &body).unwrap_err().to_string();
    assert!(refused.contains("'host' is listed"), "{refused}");
    head.uri = "http://127.0.0.1:8400/".parse().unwrap();
    assert_eq!(check(&head, &body), Ok(()));
}

type Change = fn(&mut Parts, &mut Vec<u8>);

#[test]
fn whatever_is_changed_on_the_way_is_noticed() {
    let changes: [(&str, Change); 8] = [
        ("method", |head, _| head.method = Method::PUT),
        ("path", |head, _| head.uri = "/x".parse().unwrap()),
        ("query", |head, _| head.uri = "/?a=1".parse().unwrap()),
        ("host", |head, _| set(head, "host", "elsewhere")),
        ("target", |head, _| set(head, "x-amz-target", "AmazonEC2.DeleteCluster")),
        ("a second value", |head, _| add(head, "x-amz-target", "again")),
        ("body", |_, body| body.push(b' ')),
        ("date", |head, _| set(head, "x-amz-date", "20150830T123601Z")),
    ];
    for (what, change) in changes {
        let (mut head, mut body) = ecs();
        change(&mut head, &mut body);
        let refused = check(&head, &body).unwrap_err();
        assert!(refused.to_string().contains("we calculated does not match"), "{what}: {refused}");
        assert_eq!(refused.json().name, "InvalidSignatureException", "{what}");
    }
}

#[test]
fn another_key_region_or_service_does_not_fit() {
    let (head, body) = ecs();
    let wrong = Signature::of(&head).unwrap().verify(&head, &body, "wrong", THEN).unwrap_err();
    assert!(wrong.to_string().contains("Check your AWS Secret Access Key"), "{wrong}");
    for (from, to) in [("eu-central-1", "us-east-1"), ("/ecs/", "/sts/")] {
        let (mut head, body) = ecs();
        reword(&mut head, from, to);
        assert_eq!(check(&head, &body), Err(wrong.clone()));
    }
}

#[test]
fn five_minutes_of_skew_are_forgiven_and_no_more() {
    let (head, body) = ecs();
    let at = |now: u64| Signature::of(&head).unwrap().verify(&head, &body, SECRET, Time(now));
    assert_eq!(at(THEN.0 + 300_000), Ok(()));
    assert_eq!(at(THEN.0 - 300_000), Ok(()));
    assert_eq!(
        at(THEN.0 + 301_000).unwrap_err().to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
         (20150830T124101Z - 5 min.)"
    );
    assert_eq!(
        at(THEN.0 - 301_000).unwrap_err().to_string(),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
         (20150830T123059Z + 5 min.)"
    );
}

/// One change to a good request, the exception it leads to, and a part of its message.
type Case = (fn(&mut Parts), &'static str, &'static str);

const MISSING: &str = "MissingAuthenticationTokenException";
const INCOMPLETE: &str = "IncompleteSignatureException";
const INVALID: &str = "InvalidSignatureException";
const UNKNOWN: &str = "UnrecognizedClientException";

const HEADER_CASES: &[Case] = &[
    (|h| drop(h.headers.remove("authorization")), MISSING, "Missing Authentication Token"),
    (|h| drop(h.headers.remove("x-amz-date")), INCOMPLETE, "existence of a 'X-Amz-Date' header"),
    (|h| set(h, "x-amz-date", "yesterday"), INCOMPLETE, "Got 'yesterday'"),
    (|h| set(h, "x-amz-date", "20150230T123600Z"), INCOMPLETE, "ISO-8601"),
    (|h| set(h, "x-amz-date", "19690830T123600Z"), INCOMPLETE, "ISO-8601"),
    (|h| set(h, "x-amz-date", "20150831T123600Z"), INVALID, "'20150830' != '20150831'"),
    (|h| add(h, "x-amz-date", "20150830T123600Z"), INCOMPLETE, "'x-amz-date' came more than once"),
    (|h| add(h, "authorization", "Basic YTpi"), INCOMPLETE, "'authorization' came more than once"),
    (|h| set(h, "x-amz-security-token", "t"), INVALID, "'x-amz-security-token' must be a 'Signed"),
    (|h| set(h, "x-amz-new", "1"), INVALID, "'x-amz-new' must be a 'SignedHeader'"),
    (|h| reword(h, "host;", ""), INVALID, "'Host' or ':authority' must be a 'SignedHeader'"),
    (|h| reword(h, ";x-amz-date", ""), INVALID, "'x-amz-date' must be a 'SignedHeader'"),
    (|h| reword(h, ";x-amz-target", ""), INVALID, "'x-amz-target' must be a 'SignedHeader'"),
    (|h| reword(h, ";host", ";host;user-agent"), INVALID, "'user-agent' is listed"),
    (
        |h| drop(h.headers.insert("x-amz-date", HeaderValue::from_bytes(b"\xff").unwrap())),
        INCOMPLETE,
        "not ASCII text",
    ),
];

const AUTHORIZATION_CASES: &[Case] = &[
    (|h| set(h, "authorization", "Basic YTpi"), INCOMPLETE, "'Basic'; sign with"),
    (
        |h| reword(h, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        INCOMPLETE,
        "SigV4A is not supported",
    ),
    (
        |h| set(h, "authorization", "AWS4-HMAC-SHA256"),
        INCOMPLETE,
        "requires 'Credential' parameter. Authorization header requires 'Signature' parameter. \
         Authorization header requires 'SignedHeaders' parameter.",
    ),
    (|h| reword(h, "Signature=", "Seal="), INCOMPLETE, "unknown parameter 'Seal'"),
    (|h| reword(h, "Signature=", ""), INCOMPLETE, "missing equal-sign"),
    (|h| reword(h, ", Sig", ", Signature=00, Sig"), INCOMPLETE, "'Signature' came more than once"),
    (|h| reword(h, "/ecs/", "/"), INCOMPLETE, "exactly 5 slash-delimited elements"),
    (|h| reword(h, "/20150830/", "/2015-8-30/"), INCOMPLETE, "YYYYMMDD, not '2015-8-30'"),
    (|h| reword(h, "eu-central-1", "EU_1"), INVALID, "valid region, not 'EU_1'"),
    (|h| reword(h, "/ecs/", "//"), INVALID, "valid service, not ''"),
    (|h| reword(h, "aws4_request", "aws5"), INVALID, "terminator: 'aws4_request', not 'aws5'"),
    (|h| reword(h, "AKIDEXAMPLE", "a b"), UNKNOWN, "security token included in the request is inv"),
    (|h| reword(h, "host;x-amz-date", "x-amz-date;host"), INCOMPLETE, "lower-case header names"),
    (|h| reword(h, "host;", "Host;"), INCOMPLETE, "lower-case header names"),
    (|h| reword(h, "host;", "host;host;"), INCOMPLETE, "lower-case header names"),
    (|h| reword(h, "host;", "host;;"), INCOMPLETE, "lower-case header names"),
    (|h| reword(h, "host;", &"host;".repeat(64)), INCOMPLETE, "at most 64 headers"),
    (|h| reword(h, "host;", &"h".repeat(5000)), INCOMPLETE, "at most 4096 bytes"),
    (|h| reword(h, "Signature=", "Signature=z"), INVALID, "does not match"),
];

const BODY_AND_QUERY_CASES: &[Case] = &[
    (
        |h| set(h, "x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        INVALID,
        "chunked signing",
    ),
    (|h| set(h, "content-encoding", "gzip, aws-chunked"), INVALID, "chunked signing"),
    (|h| set(h, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"), INVALID, "must cover the body"),
    (
        |h| {
            set(h, "x-amz-content-sha256", "00");
            reword(h, ";x-amz-date", ";x-amz-content-sha256;x-amz-date");
        },
        INVALID,
        "does not match what was computed",
    ),
    (
        |h| {
            h.headers.append("x-amz-security-token", "t".parse().unwrap());
            h.headers.append("x-amz-security-token", "u".parse().unwrap());
            reword(h, ";x-amz-date", ";x-amz-date;x-amz-security-token");
        },
        INCOMPLETE,
        "'x-amz-security-token' came more than once",
    ),
    (
        |h| {
            h.headers.remove("authorization");
            h.uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00".parse().unwrap();
        },
        INCOMPLETE,
        "presigned requests",
    ),
    (|h| h.uri = "/?x-amz-signature=00".parse().unwrap(), INCOMPLETE, "in the query and in the"),
    (
        |h| h.uri = format!("/{}", "x".repeat(9000)).parse().unwrap(),
        INCOMPLETE,
        "at most 8192 bytes",
    ),
];

#[test]
fn each_fault_is_named() {
    for cases in [HEADER_CASES, AUTHORIZATION_CASES, BODY_AND_QUERY_CASES] {
        for (change, name, message) in cases {
            let (mut head, body) = ecs();
            change(&mut head);
            let refused = check(&head, &body).unwrap_err();
            assert!(refused.to_string().contains(message), "{message}: {refused}");
            assert_eq!((refused.json().name, refused.json().http_status), (*name, 400));
        }
    }
}

#[test]
fn a_refusal_has_the_names_of_both_wires() {
    let all = [
        (Refusal::Missing, MISSING, "MissingAuthenticationToken", 403),
        (Refusal::Incomplete("x".into()), INCOMPLETE, "IncompleteSignature", 400),
        (Refusal::service("ecs"), INVALID, "SignatureDoesNotMatch", 403),
        (Refusal::UnknownKey(String::new()), UNKNOWN, "InvalidClientTokenId", 403),
    ];
    for (refusal, json, query, status) in all {
        assert_eq!((refusal.json().name, refusal.json().http_status), (json, 400));
        assert_eq!((refusal.query().name, refusal.query().http_status), (query, status));
    }
    let service = Refusal::service("ecs").to_string();
    assert_eq!(service, "Credential should be scoped to correct service: 'ecs'.");
    let region = Refusal::region("us-east-1", "local").to_string();
    assert!(region.starts_with("Credential should be scoped to a valid region, not"), "{region}");
    let unknown = Refusal::UnknownKey(String::new()).to_string();
    assert_eq!(unknown, "The security token included in the request is invalid.");
}

#[test]
fn a_refusal_carries_no_hostile_request_back() {
    let (mut head, _) = ecs();
    set(&mut head, "x-amz-date", &"9".repeat(100_000));
    let told = Signature::of(&head).unwrap_err().to_string();
    assert!(told.len() < 400 && told.contains('…'), "{}", told.len());
    // What is not for us may be a password.
    set(&mut head, "authorization", "Bearer hush");
    assert!(!Signature::of(&head).unwrap_err().to_string().contains("hush"));
}

fn a_head() -> impl Strategy<Value = Parts> {
    let names = prop::sample::select(vec![
        "authorization",
        "x-amz-date",
        "host",
        "x-amz-content-sha256",
        "content-encoding",
        "x-amz-target",
        "my-header",
    ]);
    let words = prop::sample::select(vec![
        "AWS4-HMAC-SHA256 ",
        "Credential=",
        "a/20150830/b/ecs/aws4_request",
        ", SignedHeaders=",
        "host;x-amz-date",
        ", Signature=",
        "20150830T123600Z",
        "/",
        "=",
        ";",
        "%",
        "ä",
    ]);
    let worded = prop::collection::vec(words, 0..12).prop_map(|words| words.concat().into_bytes());
    let signature = "[0-9a-f]{64}".prop_map(|hex| {
        format!(
            "AWS4-HMAC-SHA256 Credential=a/20150830/b/ecs/aws4_request, \
             SignedHeaders=host;my-header;x-amz-date, Signature={hex}"
        )
        .into_bytes()
    });
    let date = Just(b"20150830T123600Z".to_vec());
    let any = prop::collection::vec(any::<u8>(), 0..64);
    let value = prop_oneof![worded, signature, date, any];
    let headers = prop::collection::vec((names, value), 0..8);
    let uri = prop::collection::vec(prop::sample::select(b"/.%a2=&?+~\xc3".to_vec()), 0..40);
    (headers, uri).prop_map(|(headers, uri)| {
        let uri = http::Uri::from_maybe_shared([b"/".to_vec(), uri].concat()).unwrap_or_default();
        let (mut head, ()) = http::Request::builder().uri(uri).body(()).unwrap().into_parts();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                head.headers.append(name, value);
            }
        }
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_request_makes_it_panic_and_none_made_up_passes(
        head in a_head(),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assert!(check(&head, &body).is_err());
    }
}
