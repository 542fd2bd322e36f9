//! A query as a tree, and how it is written: what is written is read as the same tree.
//!
//! A negated operator is `Not` around its plain one, so that each test has one meaning and its
//! negation is its complement by construction.

use super::value::{Date, Pattern, Version};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `and`: two or more.
    All(Vec<Expr>),
    /// `or`: two or more.
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Is(Comparison),
}

/// One subject and one test that it can pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The instance has an attribute of this name.
    Exists(Box<str>),
    Text(TextSubject, TextTest),
    /// An attribute, as number or as text.
    Attribute(Box<str>, Bound, Box<str>),
    AgentVersion(Order, Version),
    RegisteredAt(Order, Date),
    RunningTasks(Order, u64),
    /// A task of one of these groups should run there.
    Group(Vec<Box<str>>),
}

/// What is compared as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSubject {
    Attribute(Box<str>),
    AgentConnected,
    Ec2InstanceId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextTest {
    /// `==` is one of one.
    OneOf(Vec<Box<str>>),
    Matches(Pattern),
}

/// On which side of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Equal,
    Bound(Bound),
}

impl Expr {
    /// Holds others, side by side.
    fn compound(&self) -> bool {
        matches!(self, Self::All(_) | Self::Any(_))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str| {
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    f.write_str(between)?;
                }
                match part.compound() {
                    true => write!(f, "({part})")?,
                    false => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => join(f, parts, " and "),
            Self::Any(parts) => join(f, parts, " or "),
            Self::Not(inner) if inner.compound() => write!(f, "not({inner})"),
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::Is(comparison) => write!(f, "{comparison}"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(name) => write!(f, "attribute:{name} exists"),
            Self::Text(subject, TextTest::OneOf(values)) => write_one_of(f, subject, values),
            Self::Text(subject, TextTest::Matches(pattern)) => {
                write!(f, "{subject} =~ {}", Quoted(pattern.text()))
            }
            Self::Attribute(name, bound, value) => {
                write!(f, "attribute:{name} {bound} {}", Quoted(value))
            }
            Self::AgentVersion(order, version) => write!(f, "agentVersion {order} {version}"),
            Self::RegisteredAt(order, date) => write!(f, "registeredAt {order} {date}"),
            Self::RunningTasks(order, count) => write!(f, "runningTasksCount {order} {count}"),
            Self::Group(groups) => write_one_of(f, &"task:group", groups),
        }
    }
}

fn write_one_of(
    f: &mut fmt::Formatter<'_>,
    subject: &dyn fmt::Display,
    values: &[Box<str>],
) -> fmt::Result {
    if let [value] = values {
        return write!(f, "{subject} == {}", Quoted(value));
    }
    let values: Vec<String> = values.iter().map(|value| Quoted(value).to_string()).collect();
    write!(f, "{subject} in [{}]", values.join(", "))
}

/// In the quotes it does not hold; no text that was read holds both.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
        let word = !self.0.is_empty() && self.0.chars().all(plain);
        match self.0 {
            text if word && !matches!(text, "and" | "or") => f.write_str(text),
            text if text.contains('\'') => write!(f, "\"{text}\""),
            text => write!(f, "'{text}'"),
        }
    }
}

impl fmt::Display for TextSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(name) => write!(f, "attribute:{name}"),
            Self::AgentConnected => f.write_str("agentConnected"),
            Self::Ec2InstanceId => f.write_str("ec2InstanceId"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => f.write_str("=="),
            Self::Bound(bound) => write!(f, "{bound}"),
        }
    }
}
