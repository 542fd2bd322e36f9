//! The cluster query language: what is read, what is refused and where, and which instances a query
//! means; `UPDATE=1 cargo test -p muster-model` records the answers anew.
//!
//! A script is lines; below each query, indented, stands its answer. Lines before `----` are a
//! fixture's, and make the state that is asked.

// What a test rests on may fail loudly; clippy knows tests only inside `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "query/generate.rs"]
mod generate;

use muster_model::fixture::{Noun, World};
use muster_model::limits;
use muster_model::query::{Bound, Comparison, Depends, Expr, Query, QueryError};
use muster_model::state::Facing;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::Path;

/// A script with the answers it has now.
fn answered(recorded: &str, answer: impl Fn(&str) -> String) -> String {
    let mut now = String::new();
    for line in recorded.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(now, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            answer(line).lines().for_each(|line| writeln!(now, "  {line}").unwrap());
        }
    }
    now
}

// A test may read its own switch and files; the crate may not.
#[allow(clippy::disallowed_methods)]
fn check(name: &str, run: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/query").join(name);
    let recorded = std::fs::read_to_string(&path).unwrap();
    let now = run(&recorded);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, now).unwrap();
    }
    let mut lines = recorded.lines().zip(now.lines()).enumerate();
    if let Some((at, (old, new))) = lines.find(|(_, (old, new))| old != new) {
        panic!("{name}, line {}:\n  recorded {old}\n  now      {new}", at + 1);
    }
    assert!(recorded == now, "{name}: one is longer than the other; UPDATE=1 records it anew");
}

#[test]
fn what_is_no_query_is_refused_where_it_is_wrong() {
    check("read.txt", |recorded| {
        answered(recorded, |line| match Query::parse(line) {
            Ok(query) => format!("ok: {}", query.expr()),
            Err(error) => format!("{}\n{error}", error.caret(line).lines().nth(1).unwrap()),
        })
    });
}

#[test]
fn a_query_means_the_instances_that_are_as_it_says() {
    check("match.txt", |recorded| {
        let (fixture, _) = recorded.split_once("----\n").unwrap();
        let world = World::from_text(fixture);
        let mut now = format!("{fixture}----\n");
        now += &answered(recorded.strip_prefix(&now).unwrap(), |line| answer(&world, line));
        now
    });
}

/// Each subject with a value that two of three instances can have.
const SUBJECTS: [(&str, &str); 7] = [
    ("attribute:stack", "prod"),
    ("agentConnected", "true"),
    ("agentVersion", "1.5.0"),
    ("ec2InstanceId", "i2"),
    ("registeredAt", "2023-11-14T22:13:21"),
    ("runningTasksCount", "1"),
    ("task:group", "service:web"),
];

/// Each operator by its sign and by its word.
const OPERATORS: [(&str, &str); 12] = [
    ("==", "equals"),
    ("!=", "not_equals"),
    (">", "greater_than"),
    (">=", "greater_than_equal"),
    ("<", "less_than"),
    ("<=", "less_than_equal"),
    ("in", "in"),
    ("!in", "not_in"),
    ("=~", "matches"),
    ("!~", "not_matches"),
    ("exists", "exists"),
    ("!exists", "not_exists"),
];

#[test]
fn every_subject_takes_its_operators_by_sign_and_by_word_and_no_others() {
    check("operators.txt", |recorded| {
        let (fixture, _) = recorded.split_once("----\n").unwrap();
        let world = World::from_text(fixture);
        let mut now = format!("{fixture}----\n");
        for (subject, value) in SUBJECTS {
            for (sign, word) in OPERATORS {
                let of = match sign {
                    "in" | "!in" => format!(" [{value}]"),
                    "exists" | "!exists" => String::new(),
                    _ => format!(" {value}"),
                };
                let answers = [sign, word]
                    .map(|operator| answer(&world, &format!("{subject} {operator}{of}")));
                assert_eq!(answers[0], answers[1], "{subject} {sign} and {word}");
                writeln!(now, "{subject} {sign}{of}: {}", answers[0]).unwrap();
            }
        }
        now
    });
}

fn answer(world: &World, text: &str) -> String {
    let Ok(query) = Query::parse(text) else { return "refused".into() };
    let all = world.state.instances();
    let meant = all.filter(|row| query.matches(&Facing { state: &world.state, instance: row }));
    let names: Vec<_> = meant.map(|row| world.name_of(Noun::Instance, row.id.bits())).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

#[test]
fn a_query_knows_what_its_answer_depends_on() {
    let depends = |text: &str| Query::parse(text).unwrap().depends();
    let none = Depends::default();
    let attributes = Depends { attributes_only: true, ..none };
    assert_eq!(depends("attribute:a exists"), attributes);
    assert_eq!(
        depends("not(attribute:a == b or attribute:a < 3 and attribute:a =~ c)"),
        attributes
    );
    assert_eq!(depends("ec2InstanceId == i1"), none);
    assert_eq!(depends("attribute:a == b and registeredAt > 2018-06-18"), none);
    assert_eq!(depends("agentConnected == true"), Depends { agent: true, ..none });
    assert_eq!(depends("agentVersion >= 1.0"), Depends { agent: true, ..none });
    assert_eq!(depends("!(runningTasksCount > 1)"), Depends { tasks: true, ..none });
    let both = depends("task:group == a or agentConnected == true");
    assert_eq!(both, Depends { tasks: true, agent: true, ..none });
    assert!(Query::parse("attribute:a exists").unwrap().is_attribute_only());
}

fn refused(text: &str) -> QueryError {
    Query::parse(text).expect_err("refused")
}

#[test]
fn a_query_has_two_thousand_characters_at_most() {
    let query = |chars: usize| format!("attribute:a == '{}'", "é".repeat(chars - 17));
    assert!(Query::parse(&query(limits::QUERY_CHARS_MAX)).is_ok());
    let error = refused(&query(limits::QUERY_CHARS_MAX + 1));
    assert_eq!(error.to_string(), "column 2001: expected at most 2000 characters; found \"'\"");
}

#[test]
fn a_query_goes_sixty_four_levels_deep_at_most() {
    let most = limits::QUERY_DEPTH_MAX;
    let open =
        |levels: usize| format!("{}attribute:a exists{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Query::parse(&open(most)).is_ok());
    let said = "column 65: expected at most 64 levels of not and (; found \"(\"";
    assert_eq!(refused(&open(most + 1)).to_string(), said);
    assert!(Query::parse(&format!("{} attribute:a exists", "!".repeat(most))).is_ok());
    assert_eq!(refused(&"!".repeat(most + 1)).column, most + 1);
    // What stands beside each other is no deeper.
    assert!(Query::parse(&vec!["(!attribute:a exists)"; 75].join(" or ")).is_ok());
}

#[test]
fn the_patterns_of_a_query_share_a_bounded_memory() {
    assert!(Query::parse(r"attribute:a =~ \w{0,255}").is_ok());
    let long = refused(r"attribute:a =~ ((\w{255}){255}){255}");
    let said = "a regular expression (compiled regex exceeded size limit)";
    assert_eq!((long.column, long.expected.as_str()), (16, said));
    let many = vec![r"attribute:a =~ \w{255}"; 60].join(" or ");
    assert_eq!(refused(&many).expected, said);
    let small = vec!["attribute:a =~ t2.*"; 80].join(" or ");
    assert!(Query::parse(&small).is_ok());
}

#[test]
fn a_query_is_its_text() {
    let text = "  attribute:a   ==  'b'";
    let query = Query::parse(text).unwrap();
    assert_eq!((query.to_string().as_str(), query.text()), (text, text));
    assert_ne!(query, Query::parse("attribute:a == b").unwrap());
    let mut bytes = Vec::new();
    let config = bincode::config::standard();
    bincode::serde::encode_into_std_write(&query, &mut bytes, config).unwrap();
    let (back, _): (Query, usize) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
    assert_eq!(back, query);
    let wrong = bincode::serde::encode_to_vec("attribute:a", config).unwrap();
    let told = bincode::serde::decode_from_slice::<Query, _>(&wrong, config).unwrap_err();
    assert!(told.to_string().contains("column 12"), "{told}");
}

#[test]
fn an_error_names_field_and_column_of_a_request() {
    let error = refused("attribute:a = b").in_field("filter");
    let said = "filter, column 13: \"=\" is not allowed; allowed: one of ==, !=, >, >=, <, <=, \
        in, !in, =~, !~, exists, !exists";
    assert_eq!(error.to_string(), said);
    let error = refused("not").in_field("placementConstraints[0].expression");
    let said =
        "placementConstraints[0].expression, column 4: \"the end\" is not allowed; allowed: ";
    assert!(error.to_string().starts_with(said), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(expr in generate::expr()) {
        let text = expr.to_string();
        let query = Query::parse(&text).unwrap();
        prop_assert_eq!(query.expr(), &expr, "{}", text);
    }

    #[test]
    fn any_text_has_an_answer(text in generate::text()) {
        if let Err(error) = Query::parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1);
            let caret = error.caret(&text);
            let (line, mark) = caret.split_once('\n').unwrap();
            prop_assert!(mark.chars().count() <= line.chars().count() + 1);
        }
    }

    #[test]
    fn numbers_compare_as_numbers(a in -2000i32..2000, b in -2000i32..2000) {
        let text = |n: i32| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100);
        let mut world = World::from_text("instance i1");
        world.extend(&format!("attribute i1 a={}", text(a)));
        let instance = world.state.instance(world.instance("i1")).unwrap();
        let less = Expr::Is(Comparison::Attribute("a".into(), Bound::Less, text(b).into()));
        let query = Query::parse(&less.to_string()).unwrap();
        prop_assert_eq!(query.matches(&Facing { state: &world.state, instance }), a < b);
    }
}
