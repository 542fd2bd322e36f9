//! docs/ECS.md says how every operation of ECS is answered, and is compared with what answers.
#![allow(clippy::unwrap_used)]

mod support;

use muster_proto::json::NOT_BUILT_OPERATIONS;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use support::door::{open, send};

/// Reasons in absent.txt that say so are of operations that belong to AWS alone.
const AWS_ONLY: &str = "AWS only";
/// Members that tell something and ask for nothing are not refused.
const IGNORED: &str = "ignored";

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The rows: an operation, whether it is served, and which members are refused.
fn rows(text: &str) -> BTreeMap<&str, (bool, BTreeSet<&str>)> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (served, members) = match cells[..] {
            [_, _, "yes", members, ..] => (true, members),
            [_, _, "no", members, ..] => (false, members),
            _ => continue,
        };
        let members = members.split(", ").map(|name| name.trim_matches('`'));
        let members = members.filter(|name| !name.is_empty()).collect();
        assert!(rows.insert(cells[1], (served, members)).is_none(), "{line}: twice");
    }
    rows
}

macro_rules! names {
    ($($name:ident $method:ident $request:ident $response:ident;)*) => {
        [$(stringify!($name)),*]
    };
}

fn absent_members<'t>(absent: &'t str, operation: &str) -> BTreeSet<&'t str> {
    let of_it = |line: &'t str| {
        let (name, why) = line.split_once(": ").filter(|(_, why)| !why.starts_with(IGNORED))?;
        let (message, member) = name.split_once('.')?;
        (message.strip_suffix("Request") == Some(operation) && !why.is_empty()).then_some(member)
    };
    absent.lines().filter_map(of_it).collect()
}

#[test]
fn every_operation_has_its_row_with_the_members_that_are_refused() {
    let (table, absent) = (text("docs/ECS.md"), text("proto/api/absent.txt"));
    let rows = rows(&table);
    let (aws, ours): (Vec<_>, Vec<_>) =
        NOT_BUILT_OPERATIONS.iter().partition(|(_, why)| why.starts_with(AWS_ONLY));
    let built = muster_proto::ecs_operations!(names);
    let expected: BTreeSet<&str> = built.into_iter().chain(ours.iter().map(|(n, _)| *n)).collect();
    assert_eq!(rows.keys().copied().collect::<BTreeSet<_>>(), expected);
    for (name, (served, members)) in &rows {
        assert_eq!(*members, absent_members(&absent, name), "{name}");
        assert!(!*served || built.contains(name), "{name} is not built");
    }
    let rest = table.rsplit("(class c").next().unwrap();
    let named = rest.split(|c: char| !c.is_ascii_alphabetic()).collect::<BTreeSet<_>>();
    for (name, _) in aws {
        assert!(named.contains(name), "{name} is not named");
    }
}

/// Whoever is not served is told so by name, and whoever is served is not.
#[tokio::test]
async fn what_the_table_calls_unserved_is_refused_as_unsupported() {
    let table = text("docs/ECS.md");
    let (_bench, door) = open().await;
    for (name, (served, _)) in rows(&table) {
        let (_, answer) = send(&door, name, &json!({})).await;
        // Machines join: only a local ECS registers what pretends.
        let unserved = !served || name == "RegisterContainerInstance";
        let refused = answer["__type"] == "UnsupportedFeatureException";
        assert_eq!(refused, unserved, "{name}: {answer}");
    }
}
