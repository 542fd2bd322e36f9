//! The evaluator, row by row: statements, a request, and what is said of it.

use super::evaluate::{Facts, Verdict, judge};
use super::resolve::Acted;
use Verdict::{Allowed, Forbidden, Silent};
use muster_model::spec::Tags;
use muster_proto::convert::policy::{Document, document};
use muster_proto::pb;
use std::sync::Arc;

/// What a line such as `ecs:RunTask task-definition/web:1 in=blue tag.team=web request.a=b by=ann`
/// says; without `in`, nothing says which cluster.
struct Asked {
    action: String,
    user: Option<String>,
    acted: Acted,
    request: Vec<pb::Tag>,
}

fn asked(line: &str) -> Asked {
    let mut words = line.split(' ');
    let action = words.next().unwrap().to_owned();
    let arn = match words.next().unwrap() {
        "*" => "*".to_owned(),
        rest => format!("arn:aws:ecs:local:000000000000:{rest}"),
    };
    let mut asked = Asked {
        action,
        user: Some("ann".into()),
        acted: Acted { arn, cluster: None, tags: None },
        request: Vec::new(),
    };
    let mut tags = Tags::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        match key.split_once('.') {
            Some(("tag", key)) => drop(tags.insert(key.into(), value.into())),
            Some((_, key)) => asked.request.push(pb::Tag { key: key.into(), value: value.into() }),
            None if key == "by" => asked.user = (!value.is_empty()).then(|| value.into()),
            None => {
                asked.acted.cluster =
                    Some(format!("arn:aws:ecs:local:000000000000:cluster/{value}"));
            }
        }
    }
    asked.acted.tags = (!tags.is_empty()).then(|| Arc::new(tags));
    asked
}

/// `Effect Action Resource [Condition]`, or a whole statement.
fn statement(text: &str) -> String {
    if text.starts_with('{') {
        return text.to_owned();
    }
    let mut words = text.splitn(4, ' ');
    let mut word = || words.next().map(str::to_owned);
    let (effect, action, resource) = (word().unwrap(), word().unwrap(), word().unwrap());
    let resource = match resource.as_str() {
        "*" => resource,
        rest => format!("arn:aws:ecs:*:*:{rest}"),
    };
    let condition = word().map(|text| format!(r#","Condition":{text}"#)).unwrap_or_default();
    format!(r#"{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}"{condition}}}"#)
}

fn said(statements: &[&str], line: &str) -> Verdict {
    let statements: Vec<String> = statements.iter().map(|text| statement(text)).collect();
    let text = format!(r#"{{"Statement":[{}]}}"#, statements.join(","));
    let read: Vec<Document> = vec![document(&text).unwrap_or_else(|e| panic!("{e} in {text}"))];
    let Asked { action, user, acted, request } = asked(line);
    let facts =
        Facts { action: &action, user: user.as_deref(), resource: &acted, request: &request };
    judge(read.iter(), &facts).0
}

const BLUE: &str = r#"Allow ecs:* * {"ArnLike":{"ecs:cluster":"arn:aws:ecs:*:*:cluster/bl*"}}"#;
const TEAM: &str = r#"Allow ecs:* * {"StringEquals":{"aws:ResourceTag/team":["web","app"]}}"#;
const NOT_TEAM: &str = r#"Allow ecs:* * {"StringNotEquals":{"aws:ResourceTag/team":"web"}}"#;
const MAYBE: &str = r#"Allow ecs:* * {"StringLikeIfExists":{"aws:ResourceTag/team":"w*"}}"#;
const MAYBE_NOT: &str = r#"Allow ecs:* * {"StringNotLikeIfExists":{"aws:ResourceTag/team":"w*"}}"#;
const TAGGED: &str = r#"Allow ecs:* * {"StringEquals":{"aws:RequestTag/team":"web"}}"#;
const BARE: &str = r#"Deny ecs:* * {"Null":{"aws:RequestTag/team":"true"}}"#;
const BOTH: &str = r#"Allow ecs:* * {"StringLike":{"ecs:cluster":"*/blue","aws:username":"a*"}}"#;
const FOLDED: &str = r#"Allow ecs:* * {"StringEqualsIgnoreCase":{"aws:userName":"ANN"}}"#;
const UNFOLDED: &str = r#"Allow ecs:* * {"StringNotEqualsIgnoreCase":{"aws:username":"ANN"}}"#;
const ELSEWHERE: &str =
    r#"Deny * * {"ArnNotEquals":{"ecs:cluster":"arn:aws:ecs:*:*:cluster/blue"}}"#;

#[test]
fn actions() {
    for (statement, line, verdict) in [
        ("Allow * *", "ecs:StopTask task/blue/1", Allowed),
        ("Allow * *", "muster:Logs task/blue/1", Allowed),
        ("Allow ecs:* *", "ecs:StopTask task/blue/1", Allowed),
        ("Allow ecs:* *", "muster:Logs task/blue/1", Silent),
        ("Allow ecs:StopTask *", "ecs:StopTask task/blue/1", Allowed),
        ("Allow ecs:StopTask *", "ecs:RunTask task-definition/web:1", Silent),
        ("Allow ECS:stoptask *", "ecs:StopTask task/blue/1", Allowed),
        ("Allow ecs:Describe* *", "ecs:DescribeTasks task/blue/1", Allowed),
        ("Allow ecs:Describe* *", "ecs:ListTasks cluster/blue", Silent),
        ("Allow ecs:??nTask *", "ecs:StopTask task/blue/1", Silent),
        ("Allow ecs:?topTask *", "ecs:StopTask task/blue/1", Allowed),
        (
            r#"{"Effect":"Allow","NotAction":["ecs:Delete*","ecs:Stop*"],"Resource":"*"}"#,
            "ecs:RunTask task-definition/web:1",
            Allowed,
        ),
        (
            r#"{"Effect":"Allow","NotAction":["ecs:Delete*","ecs:Stop*"],"Resource":"*"}"#,
            "ecs:StopTask task/blue/1",
            Silent,
        ),
        (r#"{"Effect":"Deny","NotAction":"*","Resource":"*"}"#, "ecs:RunTask *", Silent),
    ] {
        assert_eq!(said(&[statement], line), verdict, "{statement}: {line}");
    }
}

#[test]
fn resources() {
    for (statement, line, verdict) in [
        ("Allow * task/blue/*", "ecs:StopTask task/blue/1", Allowed),
        ("Allow * task/blue/*", "ecs:StopTask task/red/1", Silent),
        ("Allow * task/*/1", "ecs:StopTask task/red/1", Allowed),
        ("Allow * task-definition/web:*", "ecs:RunTask task-definition/web:7", Allowed),
        ("Allow * task-definition/web:*", "ecs:RunTask task-definition/webb:7", Silent),
        ("Allow * task/Blue/*", "ecs:StopTask task/blue/1", Silent),
        // Only `*` covers what acts on nothing that has an ARN.
        ("Allow * *", "ecs:CreateCluster *", Allowed),
        ("Allow ecs:* cluster/*", "ecs:CreateCluster *", Silent),
        (
            r#"{"Effect":"Deny","Action":"*","NotResource":"arn:aws:ecs:*:*:task/blue/*"}"#,
            "ecs:StopTask task/red/1",
            Forbidden,
        ),
        (
            r#"{"Effect":"Deny","Action":"*","NotResource":"arn:aws:ecs:*:*:task/blue/*"}"#,
            "ecs:StopTask task/blue/1",
            Silent,
        ),
    ] {
        assert_eq!(said(&[statement], line), verdict, "{statement}: {line}");
    }
}

#[test]
fn conditions() {
    for (statement, line, verdict) in [
        (BLUE, "ecs:RunTask task-definition/web:1 in=blue", Allowed),
        (BLUE, "ecs:RunTask task-definition/web:1 in=red", Silent),
        (BLUE, "ecs:ListClusters *", Silent),
        (TEAM, "ecs:StopTask task/blue/1 tag.team=app", Allowed),
        (TEAM, "ecs:StopTask task/blue/1 tag.team=db", Silent),
        (TEAM, "ecs:StopTask task/blue/1 tag.other=web", Silent),
        (TEAM, "ecs:StopTask task/blue/1 tag.Team=web", Allowed),
        (TEAM, "ecs:StopTask task/blue/1 tag.Team=web tag.team=db", Silent),
        (TEAM, "ecs:StopTask task/blue/1 request.team=web", Silent),
        (NOT_TEAM, "ecs:StopTask task/blue/1 tag.team=db", Allowed),
        (NOT_TEAM, "ecs:StopTask task/blue/1 tag.team=web", Silent),
        (NOT_TEAM, "ecs:StopTask task/blue/1", Allowed),
        (MAYBE, "ecs:StopTask task/blue/1 tag.team=web", Allowed),
        (MAYBE, "ecs:StopTask task/blue/1 tag.team=db", Silent),
        (MAYBE, "ecs:StopTask task/blue/1", Allowed),
        (MAYBE_NOT, "ecs:StopTask task/blue/1 tag.team=web", Silent),
        (MAYBE_NOT, "ecs:StopTask task/blue/1", Allowed),
        (TAGGED, "ecs:RunTask task-definition/web:1 request.team=web", Allowed),
        (TAGGED, "ecs:RunTask task-definition/web:1 tag.team=web", Silent),
        (BARE, "ecs:RunTask task-definition/web:1", Forbidden),
        (BARE, "ecs:RunTask task-definition/web:1 request.team=x", Silent),
        (BOTH, "ecs:RunTask task-definition/web:1 in=blue by=ann", Allowed),
        (BOTH, "ecs:RunTask task-definition/web:1 in=blue by=bob", Silent),
        (BOTH, "ecs:RunTask task-definition/web:1 in=red by=ann", Silent),
        (FOLDED, "ecs:RunTask * by=Ann", Allowed),
        (FOLDED, "ecs:RunTask * by=Anna", Silent),
        (UNFOLDED, "ecs:RunTask * by=Ann", Silent),
        (UNFOLDED, "ecs:RunTask * by=bob", Allowed),
        (ELSEWHERE, "ecs:RunTask task-definition/web:1 in=red", Forbidden),
        (ELSEWHERE, "ecs:RunTask task-definition/web:1 in=blue", Silent),
        (ELSEWHERE, "ecs:ListClusters *", Forbidden),
    ] {
        assert_eq!(said(&[statement], line), verdict, "{statement}: {line}");
    }
}

#[test]
fn a_deny_wins_wherever_it_stands() {
    let (allow, deny) = ("Allow * *", "Deny ecs:StopTask task/blue/*");
    for statements in [[allow, deny], [deny, allow]] {
        assert_eq!(said(&statements, "ecs:StopTask task/blue/1"), Forbidden);
        assert_eq!(said(&statements, "ecs:StopTask task/red/1"), Allowed);
    }
    assert_eq!(said(&[deny], "ecs:StopTask task/red/1"), Silent);
}

#[test]
fn it_is_told_whether_tags_of_rows_were_asked_for() {
    let read = |text: &str| document(&format!(r#"{{"Statement":{}}}"#, statement(text))).unwrap();
    let asks = |text: &str, line: &str| {
        let Asked { action, user, acted, request } = asked(line);
        let facts =
            Facts { action: &action, user: user.as_deref(), resource: &acted, request: &request };
        judge([read(text)].iter(), &facts).1
    };
    assert!(asks(TEAM, "ecs:StopTask task/blue/1"));
    assert!(!asks(TEAM, "muster:Logs task/blue/1"));
    assert!(!asks(TAGGED, "ecs:StopTask task/blue/1"));
}
