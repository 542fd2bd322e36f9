//! GetCallerIdentity as AWS's SDKs read it, and what else a form can ask.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use muster_api::Caller;
use muster_api::sigv4::Refusal;
use muster_api::sts::{Answer, answer, fault, is_form, refused};
use muster_model::{TaskId, UserRole};
use proptest::prelude::*;

fn user(name: &str) -> Caller {
    Caller::User { name: name.into(), role: UserRole::ReadOnly }
}

fn ask(body: &str) -> Answer {
    answer(body.as_bytes(), &user("ann"), "123456789012", "r-1")
}

#[test]
fn a_user_hears_who_they_are() {
    let told = ask("Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!(told.http_status, 200);
    assert_eq!(
        told.body,
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <GetCallerIdentityResult>\n    <Arn>arn:aws:iam::123456789012:user/ann</Arn>\n    \
         <UserId>AIDA7EFJIC5MW2CQ6EY6X</UserId>\n    <Account>123456789012</Account>\n  \
         </GetCallerIdentityResult>\n  <ResponseMetadata>\n    <RequestId>r-1</RequestId>\n  \
         </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
    );
    // However the form is written down.
    assert_eq!(ask("Version=2011%2D06-15&Action=GetCallerIdentit%79&"), told);
    let other = answer(b"Action=GetCallerIdentity&Version=2011-06-15", &user("bob"), "1", "r-1");
    assert!(!other.body.contains("AIDA7EFJIC5MW2CQ6EY6X"), "{}", other.body);
}

#[test]
fn a_task_hears_which_role_it_assumed() {
    let asked = b"Action=GetCallerIdentity&Version=2011-06-15";
    let of = |task, role: &str| {
        let caller = Caller::AssumedRole { role: role.into(), task: TaskId::from_bits(task) };
        answer(asked, &caller, "123456789012", "r-1").body
    };
    let (told, id) = (of(7, "web"), TaskId::from_bits(7));
    let arn = format!("<Arn>arn:aws:sts::123456789012:assumed-role/web/{id}</Arn>");
    assert!(told.contains(&arn), "{told}");
    let role = |told: &str| {
        let (_, rest) = told.split_once("<UserId>AROA").unwrap();
        rest.split_once(':').map(|(role, _)| role.to_owned())
    };
    assert!(told.contains(&format!(":{id}</UserId>")), "{told}");
    assert_eq!(role(&told), role(&of(8, "web")), "one role, two tasks");
    assert_ne!(role(&told), role(&of(7, "db")));
}

#[test]
fn another_action_is_refused_by_name() {
    for (body, code, told) in [
        ("", "MissingAction", "no parameter Action"),
        ("Action=", "MissingAction", "no parameter Action"),
        ("Version=2011-06-15", "MissingAction", "no parameter Action"),
        ("Action=AssumeRole&Version=2011-06-15", "InvalidAction", "operation AssumeRole for"),
        ("Action=GetCallerIdentity", "InvalidAction", "for version NO_VERSION_SPECIFIED"),
        ("Action=GetCallerIdentity&Version=2012", "InvalidAction", "for version 2012"),
        ("Action=a&Action=b", "MalformedQueryString", "Action came more than once"),
        ("Action=%3Cb%3E%26%00", "InvalidAction", "operation &lt;b&gt;&amp;\u{fffd} for"),
    ] {
        let answer = ask(body);
        assert_eq!(answer.http_status, 400, "{body}");
        assert!(answer.body.contains(&format!("<Code>{code}</Code>")), "{}", answer.body);
        assert!(answer.body.contains(told), "{}", answer.body);
        assert!(answer.body.contains("<Type>Sender</Type>"), "{}", answer.body);
        assert!(answer.body.contains("<RequestId>r-1</RequestId>"), "{}", answer.body);
    }
    let long = ask(&"x".repeat(20_000));
    assert!(long.body.contains("at most 16384"), "{}", long.body);
    let binary = answer(b"Action=\xff", &user("ann"), "1", "r-1");
    assert!(binary.body.contains("not UTF-8"), "{}", binary.body);
}

#[test]
fn a_refused_signature_has_the_form_of_a_query_service() {
    let told = refused(&Refusal::service("sts"), "r-1");
    assert_eq!(told.http_status, 403);
    assert!(told.body.contains("<Code>SignatureDoesNotMatch</Code>"), "{}", told.body);
    assert!(told.body.contains("scoped to correct service: 'sts'."), "{}", told.body);
    let ours = fault(503, "ServiceUnavailable", "no leader", "r-1");
    assert!(ours.body.contains("<Type>Receiver</Type>"), "{}", ours.body);
}

#[test]
fn a_form_is_known_by_its_content_type() {
    for form in ["application/x-www-form-urlencoded", "Application/X-WWW-form-urlencoded; a=b"] {
        assert!(is_form(form), "{form}");
    }
    for other in ["", "application/x-amz-json-1.1", "text/plain; application/x-www-form-urlencoded"]
    {
        assert!(!is_form(other), "{other}");
    }
}

proptest! {
    #[test]
    fn no_form_makes_it_panic_and_every_answer_is_bounded_xml(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "(Action|Version|=|&|%|[0-9a-f<>&\"\u{0}]|ä){0,40}".prop_map(String::into_bytes),
        ],
        user in "\\PC{0,20}",
    ) {
        let told = answer(&body, &self::user(&user), "123456789012", "r-1").body;
        prop_assert!(told.len() < 4096);
        let bare: Vec<&str> = told.split('&').skip(1).collect();
        prop_assert!(bare.iter().all(|rest| {
            ["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| rest.starts_with(entity))
        }), "{}", told);
        prop_assert_eq!(told.matches('<').count(), told.matches('>').count());
    }
}
