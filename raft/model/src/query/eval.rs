//! Whether an instance is what a query means. Total: every expression has an answer for every
//! instance, and a test of what is missing fails.

use super::expr::{Bound, Comparison, Expr, Order, TextSubject, TextTest};
use super::value::{Decimal, Version};
use crate::time::Time;
use std::cmp::Ordering;

/// An instance, as far as a query can ask.
pub trait Subject {
    /// `None`: it has no such attribute. `Some(None)`: it has, without a value.
    fn attribute(&self, name: &str) -> Option<Option<&str>>;
    fn agent_connected(&self) -> bool;
    /// Empty if it never said.
    fn agent_version(&self) -> &str;
    fn ec2_instance_id(&self) -> &str;
    fn registered_at(&self) -> Time;
    /// ECS `runningTasksCount`: tasks RUNNING there.
    fn running_tasks(&self) -> u32;
    /// Whether a task of this group that should run is placed there.
    fn has_group(&self, group: &str) -> bool;
}

pub(super) fn matches(expr: &Expr, subject: &impl Subject) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| matches(part, subject)),
        Expr::Any(parts) => parts.iter().any(|part| matches(part, subject)),
        Expr::Not(inner) => !matches(inner, subject),
        Expr::Is(comparison) => holds(comparison, subject),
    }
}

fn holds(comparison: &Comparison, subject: &impl Subject) -> bool {
    match comparison {
        Comparison::Exists(name) => subject.attribute(name).is_some(),
        Comparison::Text(of, test) => {
            let text = match of {
                TextSubject::Attribute(name) => {
                    subject.attribute(name).map(Option::unwrap_or_default)
                }
                TextSubject::AgentConnected if subject.agent_connected() => Some("true"),
                TextSubject::AgentConnected => Some("false"),
                TextSubject::Ec2InstanceId => Some(subject.ec2_instance_id()),
            };
            text.is_some_and(|text| match test {
                TextTest::OneOf(values) => values.iter().any(|value| **value == *text),
                TextTest::Matches(pattern) => pattern.takes(text),
            })
        }
        Comparison::Attribute(name, bound, value) => {
            let text = subject.attribute(name).map(Option::unwrap_or_default);
            text.is_some_and(|text| bound.holds(by_value(text, value)))
        }
        Comparison::AgentVersion(order, version) => {
            let own = Version::of_agent(subject.agent_version());
            own.is_some_and(|own| order.holds(own.cmp(version)))
        }
        Comparison::RegisteredAt(order, date) => {
            order.holds(date.order_of(subject.registered_at()))
        }
        Comparison::RunningTasks(order, count) => {
            order.holds(u64::from(subject.running_tasks()).cmp(count))
        }
        Comparison::Group(groups) => groups.iter().any(|group| subject.has_group(group)),
    }
}

/// Two numbers by size, else two texts by code points.
fn by_value(a: &str, b: &str) -> Ordering {
    match (Decimal::of(a), Decimal::of(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}

impl Bound {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterEqual => order.is_ge(),
        }
    }
}

impl Order {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Bound(bound) => bound.holds(order),
        }
    }
}
