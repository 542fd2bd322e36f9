//! Requests that say they are signed, and the one form that STS reads.
//!
//! None passes: nobody here has the secret. What is told back is bounded.

use super::{text, texts};
use http::HeaderValue;
use muster_api::sigv4::Signature;
use muster_api::{Caller, sts};
use muster_model::{AccessKeyId, Time, UserRole};

/// 2015-08-30 12:36:00 UTC, the date of the seeds.
const THEN: Time = Time(1_440_938_160_000);

/// Request line, headers, an empty line, body.
fn request(input: &[u8]) -> Option<(http::request::Parts, Vec<u8>)> {
    let end = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let (head, body) = input.split_at(end);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request =
        http::Request::builder().method(words.next()?).uri(words.next().unwrap_or(b"/"));
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        request = request.header(name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?);
    }
    Some((request.body(()).ok()?.into_parts().0, body.to_vec()))
}

#[test]
fn signed_request() {
    let seeds = || {
        let all = include_str!("../../../../node/api/tests/vectors/sigv4.txt");
        let named = all.split("\n### ").skip(1).filter(|one| one.starts_with("botocore"));
        named.filter_map(|one| Some(one.split_once('\n')?.1.as_bytes().to_vec())).collect()
    };
    muster_fuzz::target("signed_request", seeds, |input| {
        let Some((head, body)) = request(input) else { return };
        let refused = match Signature::of(&head) {
            Ok(signature) => signature.verify(&head, &body, "another secret", THEN),
            Err(refused) => Err(refused),
        };
        let refused = refused.expect_err("nobody here has the secret");
        assert!(refused.to_string().len() < 2048, "{refused}");
    });
}

#[test]
fn sts_form() {
    let seeds = || {
        texts(&[
            "Action=GetCallerIdentity&Version=2011-06-15",
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa+b",
            "AKIAAERUKZ4JVPG66AJD",
        ])
    };
    muster_fuzz::target("sts_form", seeds, |input| {
        let ann = Caller::User { name: "ann".into(), role: UserRole::ReadOnly };
        let told = sts::answer(input, &ann, "123456789012", "r").body;
        assert!(told.len() < 4096, "{told}");
        if let Some(Ok(id)) = text(input).map(str::parse::<AccessKeyId>) {
            assert_eq!(Some(id.to_string().as_str()), text(input));
        }
    });
}
