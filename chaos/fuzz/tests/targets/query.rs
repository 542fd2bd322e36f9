//! Queries of the cluster query language, from requests and from rows.
//!
//! What is read has an answer for every instance and is read the same when it is written out;
//! what is refused is refused at a column the text has.

use super::world::world;
use super::{text, texts};
use muster_model::Query;
use muster_model::state::Facing;

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "attribute:ecs.instance-type =~ t[23]\\.(small|large).* and not attribute:gpu exists",
        "attribute:ecs.availability-zone in [az-a, 'az b', \"az-c\"] || attribute:stack !in [test]",
        "(runningTasksCount >= 1 && agentVersion < 1.53.0) or agentConnected != true",
        "registeredAt > 2018-06-18T22:28:28.5+02:00 and registeredAt less_than_equal 2018-06-18",
        "not(task:group == service:web) and ec2InstanceId !~ 'i[0-9]{2,3}'",
        "attribute:cores > -08.50 and attribute:a not_equals it's",
    ])
}

#[test]
fn query() {
    muster_fuzz::target("query", seeds, |input| {
        let Some(text) = text(input) else { return };
        let query = match Query::parse(text) {
            Ok(query) => query,
            Err(error) => {
                assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
                error.caret(text);
                error.in_field("filter");
                return;
            }
        };
        assert_eq!(query.text(), text);
        let written = query.expr().to_string();
        let again = match Query::parse(&written) {
            Ok(again) => again,
            // Written out it may be longer, and have parentheses that it needs not.
            Err(error) => return assert!(error.expected.starts_with("at most"), "{error}"),
        };
        assert_eq!(again.expr(), query.expr(), "{written}");
        assert_eq!(again.depends(), query.depends());
        let state = world().state;
        for instance in state.instances() {
            let facing = Facing { state: &state, instance };
            assert_eq!(again.matches(&facing), query.matches(&facing));
        }
    });
}
