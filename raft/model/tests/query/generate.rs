//! Arbitrary queries, as trees and as text that is nearly one.

use muster_model::query::{
    Bound, Comparison, Date, Expr, Order, Pattern, TextSubject, TextTest, Version,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn name() -> impl Strategy<Value = Box<str>> {
    "[a-zA-Z0-9._/-]{1,12}".prop_map(Into::into)
}

/// With no more than one kind of quote.
fn value() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        "[a-zA-Z0-9._/@:-]{1,12}",
        "[ -&(-~é]{0,8}",
        "[ !#-~\n]{0,8}",
        select(vec!["and".to_owned(), "or".into(), "not".into(), "in".into()]),
    ]
    .prop_map(Into::into)
}

fn bound() -> impl Strategy<Value = Bound> {
    select(vec![Bound::Less, Bound::LessEqual, Bound::Greater, Bound::GreaterEqual])
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Equal), bound().prop_map(Order::Bound)]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let texts = ["t2.*", "", "a|b", "(x y)+", "[ab]{2,3}", "it's", r"\d+\.\(", "and"];
    select(texts.to_vec()).prop_map(|text| Pattern::parse(text).expect("a pattern"))
}

fn date() -> impl Strategy<Value = Date> {
    let texts = [
        "2018-06-18",
        "2018-06-18T22:28:28",
        "2018-06-18T22:28:28.5Z",
        "0000-02-29T00:00:00+18:00",
    ];
    select(texts.to_vec()).prop_map(|text| Date::parse(text).expect("a time"))
}

fn version() -> impl Strategy<Value = Version> {
    vec(0u64..100, 1..4).prop_map(|parts| {
        let parts: Vec<String> = parts.iter().map(u64::to_string).collect();
        Version::parse(&parts.join(".")).expect("a version")
    })
}

fn comparison() -> impl Strategy<Value = Comparison> {
    let text = || {
        let of =
            prop_oneof![name().prop_map(TextSubject::Attribute), Just(TextSubject::Ec2InstanceId),];
        of.boxed()
    };
    let any_text = prop_oneof![text(), Just(TextSubject::AgentConnected)];
    let flag = select(vec!["true", "false"]).prop_map(Box::<str>::from);
    prop_oneof![
        name().prop_map(Comparison::Exists),
        (text(), vec(value(), 1..4))
            .prop_map(|(of, values)| Comparison::Text(of, TextTest::OneOf(values))),
        vec(flag, 1..3)
            .prop_map(|v| Comparison::Text(TextSubject::AgentConnected, TextTest::OneOf(v))),
        (any_text, pattern())
            .prop_map(|(of, pattern)| Comparison::Text(of, TextTest::Matches(pattern))),
        (name(), bound(), value()).prop_map(|(n, b, v)| Comparison::Attribute(n, b, v)),
        (order(), version()).prop_map(|(o, v)| Comparison::AgentVersion(o, v)),
        (order(), date()).prop_map(|(o, d)| Comparison::RegisteredAt(o, d)),
        (order(), any::<u64>()).prop_map(|(o, n)| Comparison::RunningTasks(o, n)),
        vec(value(), 1..4).prop_map(Comparison::Group),
    ]
}

pub fn expr() -> impl Strategy<Value = Expr> {
    comparison().prop_map(Expr::Is).prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(Expr::All),
            vec(inner.clone(), 2..4).prop_map(Expr::Any),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

/// Anything; and words of the language in any order, which gets further.
pub fn text() -> impl Strategy<Value = String> {
    let words = vec![
        "attribute:a",
        "attribute:",
        "agentConnected",
        "agentVersion",
        "ec2InstanceId",
        " in ",
        "registeredAt",
        "runningTasksCount",
        "task:group",
        "==",
        "!=",
        ">=",
        "<",
        "=~",
        "!~",
        " exists ",
        "!exists",
        "!in",
        " not_in ",
        "[",
        "]",
        "(",
        ")",
        ",",
        " and ",
        "&&",
        "||",
        " or ",
        " not ",
        "!",
        "'",
        "\"",
        "true",
        "1.5",
        "2018-06-18",
        "T22:28:28",
        "é",
        "\u{2028}",
        "t2.*",
        "a{9999}",
        "\\",
        "(?x)",
        "#",
        "-",
        "+",
        "Z",
        " ",
        "|",
        "&",
        "=",
        "18446744073709551616",
    ];
    prop_oneof!["\\PC{0,40}", vec(select(words), 0..20).prop_map(|words| words.concat())]
}
