//! Documents against one request on one resource: pure.
//!
//! It does not know where the facts come from. Invariant (IAM's): one deny that fits forbids,
//! else one allow that fits allows, else nothing was said.

use super::resolve::Acted;
use muster_proto::convert::policy::{Condition, Document, Effect, Key, Statement};
use muster_proto::pb;
use std::cell::Cell;

/// What a statement can ask about.
pub struct Facts<'a> {
    pub action: &'a str,
    /// As in IAM, there is no `aws:username` for an assumed role.
    pub user: Option<&'a str>,
    pub resource: &'a Acted,
    /// The tags that the request gives.
    pub request: &'a [pb::Tag],
}

/// What all documents together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// By an explicit deny.
    Forbidden,
    Silent,
}

/// The verdict, and whether it hung on tags of what is there.
pub fn judge<'d>(
    documents: impl Iterator<Item = &'d Document>,
    facts: &Facts<'_>,
) -> (Verdict, bool) {
    let asked = Cell::new(false);
    let mut verdict = Verdict::Silent;
    for statement in documents.flat_map(|document| &document.statements) {
        if !fits(statement, facts, &asked) {
            continue;
        }
        match statement.effect {
            Effect::Deny => return (Verdict::Forbidden, asked.get()),
            Effect::Allow => verdict = Verdict::Allowed,
        }
    }
    (verdict, asked.get())
}

fn fits(statement: &Statement, facts: &Facts<'_>, asked: &Cell<bool>) -> bool {
    statement.actions.has(|pattern| pattern.matches_in_any_case(facts.action))
        && statement.resources.has(|pattern| pattern.matches(&facts.resource.arn))
        && statement.conditions.iter().all(|condition| holds(condition, facts, asked))
}

fn holds(condition: &Condition, facts: &Facts<'_>, asked: &Cell<bool>) -> bool {
    let found = match &condition.key {
        Key::Cluster => facts.resource.cluster.as_deref(),
        Key::Username => facts.user,
        Key::ResourceTag(key) => {
            asked.set(true);
            let tags = facts.resource.tags.iter().flat_map(|tags| tags.iter());
            tag(tags.map(|(key, value)| (key.as_str(), value.as_str())), key)
        }
        Key::RequestTag(key) => {
            tag(facts.request.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())), key)
        }
    };
    condition.holds(found)
}

/// The tag of this key; if there is none, one that differs only in case, as in IAM.
fn tag<'t>(
    tags: impl Iterator<Item = (&'t str, &'t str)> + Clone,
    wanted: &str,
) -> Option<&'t str> {
    let exactly = tags.clone().find(|(key, _)| *key == wanted);
    let found = exactly.or_else(|| tags.clone().find(|(key, _)| key.eq_ignore_ascii_case(wanted)));
    found.map(|(_, value)| value)
}
