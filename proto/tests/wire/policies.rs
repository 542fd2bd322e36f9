//! Policy documents: what is read, what is refused with which path, and wildcards.

use muster_model::limits::POLICY_CHARS_MAX;
use muster_model::{Command, Holder, UserRole};
use muster_proto::convert::policy::{ArnPattern, Effect, Key, Pattern, Resource};
use muster_proto::convert::policy::{delete, document, put};
use muster_proto::{error, pb};
use proptest::prelude::*;
use std::path::Path;

const WHOLE: &str = r#"{
    "Version": "2012-10-17", "Id": "blue",
    "Statement": [
        {"Sid": "Run", "Effect": "Allow", "Action": ["ecs:RunTask", "ecs:describe*"],
         "Resource": "*",
         "Condition": {"ArnEquals": {"ecs:cluster": "arn:aws:ecs:*:*:cluster/blue"},
                       "StringLikeIfExists": {"aws:RequestTag/team": ["web", "ap?"]},
                       "Null": {"ecs:ResourceTag/frozen": "true", "aws:UserName": false}}},
        {"Effect": "Deny", "NotAction": "*", "NotResource": ["arn:aws:ecs:*:*:task/blue/*"]}
    ]}"#;

#[test]
fn a_document_with_all_its_parts_is_read() {
    let read = document(WHOLE).unwrap();
    let [run, deny] = &read.statements[..] else { panic!("{read:?}") };
    assert_eq!((run.effect, deny.effect), (Effect::Allow, Effect::Deny));
    assert!(run.actions.has(|action| action.matches_in_any_case("ecs:DescribeTasks")));
    assert!(!run.actions.has(|action| action.matches_in_any_case("ecs:StopTask")));
    assert_eq!(run.resources.items, [Resource::Every]);
    let keys: Vec<_> = run.conditions.iter().map(|condition| condition.key.clone()).collect();
    let tags = [Key::ResourceTag("frozen".into()), Key::RequestTag("team".into())];
    assert_eq!(keys.len(), 4);
    assert!(tags.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert!(!deny.actions.has(|action| action.matches_in_any_case("ecs:StopTask")));
    assert!(deny.resources.has(|r| r.matches("arn:aws:ecs:local:0:task/red/1")));
    assert!(!deny.resources.has(|r| r.matches("arn:aws:ecs:local:0:task/blue/1")));
}

/// `tests/data/policies/refused.txt`: a change of a document that is fine, `----`, the refusal.
#[test]
fn what_has_no_meaning_is_refused_with_its_path() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policies/refused.txt");
    let recorded = std::fs::read_to_string(&path).unwrap();
    let mut now = String::new();
    for case in recorded.trim_end().split("\n\n") {
        let text = case.split("\n----").next().unwrap();
        let told = match document(text) {
            Ok(read) => format!("ok, {} statements", read.statements.len()),
            Err(refused) => error::message(&refused),
        };
        now.push_str(&format!("{text}\n----\n{told}\n\n"));
    }
    now.truncate(now.trim_end().len() + 1);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    assert_eq!(now, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn lists_and_lengths_are_bounded() {
    let told = |text: &str| error::message(&document(text).unwrap_err());
    let statement = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let many = |n: usize| format!(r#"{{"Statement":[{}]}}"#, vec![statement; n].join(","));
    assert_eq!(document(&many(50)).unwrap().statements.len(), 50);
    assert!(told(&many(51)).contains("1 to 50 statements"), "{}", told(&many(51)));
    let actions = |n: usize| {
        let list = vec![r#""*""#; n].join(",");
        format!(r#"{{"Statement":{{"Effect":"Allow","Action":[{list}],"Resource":"*"}}}}"#)
    };
    assert!(document(&actions(100)).is_ok());
    assert!(told(&actions(101)).contains("Statement.Action"), "{}", told(&actions(101)));
    let spaces = |n: usize| many(1) + &" ".repeat(n - many(1).len());
    assert!(document(&spaces(POLICY_CHARS_MAX)).is_ok());
    let long = told(&spaces(POLICY_CHARS_MAX + 1));
    assert!(long.contains("at most 6144 characters"), "{long}");
    let resource = |n: usize| {
        let rest = "a".repeat(n - "arn:aws:ecs:*:*:".len());
        format!(
            r#"{{"Statement":{{"Effect":"Deny","Action":"*","Resource":"arn:aws:ecs:*:*:{rest}"}}}}"#
        )
    };
    assert!(document(&resource(1024)).is_ok());
    assert!(told(&resource(1025)).contains("at most 1024 characters"));
}

#[test]
fn a_policy_is_of_one_user_or_one_role_and_has_a_name() {
    let request = |name: &str, user: &str, role: &str| pb::PutPolicyRequest {
        name: name.into(),
        user: user.into(),
        role: role.into(),
        document: WHOLE.into(),
        ..Default::default()
    };
    let Command::PutPolicy { holder, document, .. } = put(&request("p", "ann", "")).unwrap() else {
        panic!("another command")
    };
    assert_eq!((holder, &*document), (Holder::User("ann".into()), WHOLE));
    let gone = pb::DeletePolicyRequest {
        name: "p".into(),
        role: "restricted".into(),
        ..Default::default()
    };
    let role = Holder::Role(UserRole::Restricted);
    assert_eq!(delete(&gone).unwrap(), Command::DeletePolicy { holder: role, name: "p".into() });
    let long = "a".repeat(129);
    for (name, user, role, field) in [
        ("", "ann", "", "name"),
        ("a b", "ann", "", "name"),
        (long.as_str(), "ann", "", "name"),
        ("p", "", "", "user"),
        ("p", "a/b", "", "user"),
        ("p", "ann", "admin", "role"),
        ("p", "", "root", "role"),
    ] {
        let told = error::message(&put(&request(name, user, role)).unwrap_err());
        assert!(told.starts_with(field), "{name:?} {user:?} {role:?}: {told}");
    }
}

#[test]
fn parts_of_an_arn_are_matched_one_by_one() {
    let fits = |pattern: &str, arn: &str| ArnPattern::new(pattern).unwrap().matches(arn);
    let arn = "arn:aws:ecs:local:000000000000:task-definition/web:7";
    assert!(fits("arn:aws:ecs:*:*:*", arn));
    assert!(fits("arn:*:ecs:loc?l:*:task-definition/web:*", arn));
    assert!(!fits("arn:aws:ecs:*:*:task-definition/web", arn));
    // A wildcard does not reach over a colon into the account.
    assert!(!fits("arn:aws:ecs:*:7:*", arn));
    assert!(!fits("arn:aws:ecs:*:*:*", "*"));
    for none in
        ["", "*", "arn:aws:ecs", "arn:aws:s3:::x", "arn:aws:*:*:*:*", "arn:aws-cn:ecs:a:b:c"]
    {
        assert!(ArnPattern::new(none).is_none(), "{none}");
    }
}

/// The plain definition, exponential in the number of stars.
fn by_definition(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => by_definition(rest, text),
        (Some(('*', rest)), Some((_, left))) => {
            by_definition(rest, text) || by_definition(pattern, left)
        }
        (Some((wanted, rest)), Some((found, left))) => {
            (*wanted == '?' || wanted == found) && by_definition(rest, left)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn wildcards_match_as_defined(pattern in "[abé*?]{0,8}", text in "[abé]{0,10}") {
        let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        prop_assert_eq!(Pattern::new(&*pattern).matches(&text), by_definition(&p, &t));
    }

    #[test]
    fn no_text_is_too_strange(text in any::<String>()) {
        let _ = document(&text);
        let _ = ArnPattern::new(&text);
        let _ = Pattern::new(&*text).matches(&text);
    }

    /// Pieces of real policies in any order: what is read is read again to the same.
    #[test]
    fn no_pieces_of_policies_panic(pieces in prop::collection::vec(0usize..PIECES.len(), 0..40)) {
        let text: String = pieces.iter().map(|at| PIECES[*at]).collect();
        if let Ok(read) = document(&text) {
            prop_assert_eq!(document(&text), Ok(read));
        }
    }
}

const PIECES: [&str; 20] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"Statement\"",
    "\"Effect\"",
    "\"Allow\"",
    "\"Action\"",
    "\"*\"",
    "\"Resource\"",
    "\"Condition\"",
    "\"Null\"",
    "\"ecs:cluster\"",
    "true",
    "7",
    "{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\",",
    "\"Condition\":{",
    "\"StringLike\":{\"aws:username\":",
];

/// A pattern of stars against a long text that it nearly fits: steps are counted by the clock only
/// so far that an exponential matcher would never come back.
#[test]
fn many_stars_come_to_an_end() {
    let pattern = Pattern::new("*a".repeat(500) + "b");
    assert!(!pattern.matches(&"a".repeat(1024)));
    assert!(pattern.matches(&("a".repeat(1023) + "b")));
}
