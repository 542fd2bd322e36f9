//! ECS's cluster query language: which container instances a `memberOf` or a `filter` means.
//!
//! ```text
//! expr       = all { ("or" | "||") all }
//! all        = unary { ("and" | "&&") unary }
//! unary      = ("not" | "!") unary | "(" expr ")" | comparison
//! comparison = subject ("exists" | "!exists" | "not_exists")
//!            | subject ("in" | "!in" | "not_in") "[" value { "," value } "]"
//!            | subject operator value
//! operator   = "==" "equals"    ">"  "greater_than"        "=~" "matches"
//!              "!=" "not_equals" ">=" "greater_than_equal" "!~" "not_matches"
//!                                "<"  "less_than"          "<=" "less_than_equal"
//! subject    = "attribute:" name | "agentConnected" | "agentVersion" | "ec2InstanceId"
//!            | "registeredAt" | "runningTasksCount" | "task:group"
//! value      = word | 'single quoted' | "double quoted"
//! ```
//!
//! Which operators and which values a subject takes is checked when the text is read. Where ECS
//! does not say, this is what is meant:
//! - A negated operator is true where its plain one is false, so an attribute that is missing is
//!   `!=`, `!in`, `!~` and `!exists`, and nothing else.
//! - `==` and `in` compare text. `<`, `<=`, `>`, `>=` on an attribute compare decimal numbers if
//!   both sides are such, else text by code points. An attribute without a value is empty text.
//! - `=~` holds if the pattern takes the whole value (docs/decisions/0011). A pattern that is not
//!   quoted ends at white space, at `&&`, at `||`, or at a bracket it did not open.
//! - Quotes have no escapes: what holds one kind is put in the other. A word `and`, `or` is quoted.
//! - A version is compared part by part, `1.5` as `1.5.0`; what an agent adds behind `-` or `+` is
//!   left out. A time without a zone is UTC; one without a fraction is compared in whole seconds.
//! - `task:group == g`: a task of this group that should run is placed there.
//!
//! It does not know who asks, nor where an instance's facts come from (`Subject`).
//! Invariant: a row holds the text of a query, so the language only ever grows.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

mod error;
mod eval;
mod expr;
mod parse;
mod value;

pub use error::QueryError;
pub use eval::Subject;
pub use expr::{Bound, Comparison, Expr, Order, TextSubject, TextTest};
pub use value::{Date, Pattern, Version};

/// A query, read once. A clone costs two reference counts; its text is its identity.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Query {
    text: Arc<str>,
    expr: Arc<Expr>,
}

/// What a query asks of an instance beside its attributes: when its answer may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depends {
    /// Equal attributes, zone included, give equal answers.
    pub attributes_only: bool,
    /// `runningTasksCount`, `task:group`: changes with what runs there.
    pub tasks: bool,
    /// `agentConnected`, `agentVersion`.
    pub agent: bool,
}

impl Query {
    /// # Errors
    /// The first place that is no query, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if let Some((end, _)) = text.char_indices().nth(limits::QUERY_CHARS_MAX) {
            let most = format!("at most {} characters", limits::QUERY_CHARS_MAX);
            return Err(QueryError::at(text, end, most));
        }
        let expr = parse::parse(text)?;
        Ok(Self { text: Arc::from(text), expr: Arc::new(expr) })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    pub fn matches(&self, subject: &impl Subject) -> bool {
        eval::matches(&self.expr, subject)
    }

    pub fn depends(&self) -> Depends {
        let mut asked = Asked::default();
        asked.expr(&self.expr);
        let Asked { agent, tasks, identity } = asked;
        Depends { attributes_only: !(agent || tasks || identity), tasks, agent }
    }

    /// Whether instances with equal attributes, zone included, get the same answer.
    pub fn is_attribute_only(&self) -> bool {
        self.depends().attributes_only
    }
}

/// What an expression asks about, attributes left out.
#[derive(Default)]
struct Asked {
    agent: bool,
    tasks: bool,
    identity: bool,
}

impl Asked {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| self.expr(part)),
            Expr::Not(inner) => self.expr(inner),
            Expr::Is(comparison) => self.comparison(comparison),
        }
    }

    fn comparison(&mut self, comparison: &Comparison) {
        match comparison {
            Comparison::Exists(_) | Comparison::Attribute(..) => {}
            Comparison::Text(TextSubject::Attribute(_), _) => {}
            Comparison::Text(TextSubject::AgentConnected, _) | Comparison::AgentVersion(..) => {
                self.agent = true;
            }
            Comparison::Text(TextSubject::Ec2InstanceId, _) | Comparison::RegisteredAt(..) => {
                self.identity = true;
            }
            Comparison::RunningTasks(..) | Comparison::Group(_) => self.tasks = true,
        }
    }
}

impl TryFrom<String> for Query {
    type Error = QueryError;
    fn try_from(text: String) -> Result<Self, QueryError> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for Query {
    type Err = QueryError;
    fn from_str(text: &str) -> Result<Self, QueryError> {
        Self::parse(text)
    }
}

impl From<Query> for String {
    fn from(query: Query) -> String {
        query.text.as_ref().to_owned()
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({:?})", self.text)
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Query {}

impl PartialOrd for Query {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Query {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Query {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
