//! Text to tree, left to right, looking one word ahead. What is wrong is said where it stands.
//!
//! Invariant: it goes no deeper than `limits::QUERY_DEPTH_MAX`, so neither reading, judging nor
//! dropping a tree can exhaust a stack.

use super::error::QueryError;
use super::expr::{Bound, Comparison, Expr, Order, TextSubject, TextTest};
use super::value::{Date, Pattern, Version, digits};
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    In,
    NotIn,
    Matches,
    NotMatches,
    Exists,
    NotExists,
}

use Operator::*;

/// Each in both spellings.
const SPELLINGS: [(Operator, &str, &str); 12] = [
    (Equal, "==", "equals"),
    (NotEqual, "!=", "not_equals"),
    (Greater, ">", "greater_than"),
    (GreaterEqual, ">=", "greater_than_equal"),
    (Less, "<", "less_than"),
    (LessEqual, "<=", "less_than_equal"),
    (In, "in", "in"),
    (NotIn, "!in", "not_in"),
    (Matches, "=~", "matches"),
    (NotMatches, "!~", "not_matches"),
    (Exists, "exists", "exists"),
    (NotExists, "!exists", "not_exists"),
];

const ANY: [Operator; 12] = [
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    In,
    NotIn,
    Matches,
    NotMatches,
    Exists,
    NotExists,
];
const OF_TEXT: [Operator; 6] = [Equal, NotEqual, In, NotIn, Matches, NotMatches];
const OF_ORDER: [Operator; 6] = [Equal, NotEqual, Greater, GreaterEqual, Less, LessEqual];
const OF_SET: [Operator; 4] = [Equal, NotEqual, In, NotIn];

impl Operator {
    /// For what has a size; `None` is (in)equality.
    fn bound(self) -> Option<Bound> {
        match self {
            Less => Some(Bound::Less),
            LessEqual => Some(Bound::LessEqual),
            Greater => Some(Bound::Greater),
            GreaterEqual => Some(Bound::GreaterEqual),
            _ => None,
        }
    }

    fn order(self) -> Order {
        self.bound().map_or(Order::Equal, Order::Bound)
    }
}

const SUBJECTS: &str = "attribute:NAME, agentConnected, agentVersion, ec2InstanceId, \
    registeredAt, runningTasksCount, task:group, not or (";
const ATTRIBUTE_NAME: &str = "the attribute's name: up to 128 of letters, digits, - _ . / \\";

pub(super) fn parse(text: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser { text, at: 0, depth: 0, spent: 0 };
    let expr = parser.any()?;
    parser.space();
    match parser.rest() {
        "" => Ok(expr),
        _ => Err(parser.expected("and, or or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Always where a character begins.
    at: usize,
    depth: usize,
    /// Bytes that the patterns so far take.
    spent: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.all()?];
        while self.takes("or") || self.takes("||") {
            parts.push(self.all()?);
        }
        Ok(several(parts, Expr::Any))
    }

    fn all(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.unary()?];
        while self.takes("and") || self.takes("&&") {
            parts.push(self.unary()?);
        }
        Ok(several(parts, Expr::All))
    }

    fn unary(&mut self) -> Result<Expr, QueryError> {
        self.space();
        let start = self.at;
        if self.takes("not") || self.takes("!") {
            self.deeper(start)?;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.takes("(") {
            self.deeper(start)?;
            let inner = self.any()?;
            if !self.takes(")") {
                return Err(self.expected("and, or or )"));
            }
            self.depth -= 1;
            return Ok(inner);
        }
        self.comparison()
    }

    fn deeper(&mut self, start: usize) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth <= limits::QUERY_DEPTH_MAX {
            return Ok(());
        }
        self.at = start;
        Err(self.expected(format!("at most {} levels of not and (", limits::QUERY_DEPTH_MAX)))
    }

    fn comparison(&mut self) -> Result<Expr, QueryError> {
        if self.takes("attribute:") {
            return self.of_attribute();
        }
        let start = self.at;
        self.at += until(self.rest(), |c| !c.is_ascii_alphanumeric() && c != ':').len();
        let (operator, comparison) = match &self.text[start..self.at] {
            "agentConnected" => return self.of_text(TextSubject::AgentConnected, &OF_TEXT, FLAG),
            "ec2InstanceId" => return self.of_text(TextSubject::Ec2InstanceId, &OF_TEXT, TEXT),
            "agentVersion" => {
                let operator = self.operator(&OF_ORDER)?;
                let version = self.value(VERSION)?;
                (operator, Comparison::AgentVersion(operator.order(), version))
            }
            "registeredAt" => {
                let operator = self.operator(&OF_ORDER)?;
                let date = self.value(DATE)?;
                (operator, Comparison::RegisteredAt(operator.order(), date))
            }
            "runningTasksCount" => {
                let operator = self.operator(&OF_ORDER)?;
                let count = self.value(COUNT)?;
                (operator, Comparison::RunningTasks(operator.order(), count))
            }
            "task:group" => {
                let operator = self.operator(&OF_SET)?;
                (operator, Comparison::Group(self.one_or_list(operator, TEXT)?))
            }
            _ => {
                self.at = start;
                return Err(self.expected(SUBJECTS));
            }
        };
        Ok(signed(operator, comparison))
    }

    fn of_attribute(&mut self) -> Result<Expr, QueryError> {
        let name = until(self.rest(), |c| !c.is_ascii_alphanumeric() && !"-_./\\".contains(c));
        if !(1..=limits::ATTRIBUTE_NAME_CHARS_MAX).contains(&name.len()) {
            return Err(self.expected(ATTRIBUTE_NAME));
        }
        self.at += name.len();
        self.of_text(TextSubject::Attribute(name.into()), &ANY, TEXT)
    }

    fn of_text(
        &mut self,
        subject: TextSubject,
        allowed: &[Operator],
        kind: Kind<Box<str>>,
    ) -> Result<Expr, QueryError> {
        let operator = self.operator(allowed)?;
        let comparison = match (operator, operator.bound(), subject) {
            (Exists | NotExists, _, TextSubject::Attribute(name)) => Comparison::Exists(name),
            (Matches | NotMatches, _, subject) => {
                Comparison::Text(subject, TextTest::Matches(self.pattern()?))
            }
            (_, Some(bound), TextSubject::Attribute(name)) => {
                Comparison::Attribute(name, bound, self.value(kind)?)
            }
            (_, _, subject) => {
                let values = self.one_or_list(operator, kind)?;
                Comparison::Text(subject, TextTest::OneOf(values))
            }
        };
        Ok(signed(operator, comparison))
    }

    /// The longest spelling that stands here, if the subject takes that operator.
    fn operator(&mut self, allowed: &[Operator]) -> Result<Operator, QueryError> {
        self.space();
        let here = SPELLINGS.iter().flat_map(|(of, sign, word)| [(*of, *sign), (*of, *word)]);
        let here = here.filter(|(_, spelling)| self.stands(spelling));
        match here.max_by_key(|(_, spelling)| spelling.len()) {
            Some((operator, spelling)) if allowed.contains(&operator) => {
                self.at += spelling.len();
                Ok(operator)
            }
            _ => {
                let allowed = SPELLINGS.iter().filter(|(of, ..)| allowed.contains(of));
                let signs: Vec<&str> = allowed.map(|(_, sign, _)| *sign).collect();
                Err(self.expected(format!("one of {}", signs.join(", "))))
            }
        }
    }

    fn one_or_list<T>(&mut self, operator: Operator, kind: Kind<T>) -> Result<Vec<T>, QueryError> {
        if !matches!(operator, In | NotIn) {
            return Ok(vec![self.value(kind)?]);
        }
        if !self.takes("[") {
            return Err(self.expected("[ and a list of values"));
        }
        let mut values = vec![self.value(kind)?];
        while self.takes(",") {
            values.push(self.value(kind)?);
        }
        match self.takes("]") {
            true => Ok(values),
            false => Err(self.expected(", or ]")),
        }
    }

    fn value<T>(&mut self, kind: Kind<T>) -> Result<T, QueryError> {
        self.space();
        let start = self.at;
        let text = match self.quoted()? {
            Some(text) => text,
            None => {
                let stop = |c: char| c.is_whitespace() || "()[],'\"=<>!&|".contains(c);
                let word = until(self.rest(), stop);
                if matches!(word, "" | "and" | "or") {
                    return Err(self.expected(kind.what));
                }
                self.at += word.len();
                word
            }
        };
        (kind.read)(text).ok_or_else(|| self.wrong(start, kind.what))
    }

    fn pattern(&mut self) -> Result<Pattern, QueryError> {
        self.space();
        let start = self.at;
        let text = match self.quoted()? {
            Some(text) => text,
            None => {
                let word = pattern_word(self.rest());
                if matches!(word, "" | "and" | "or") {
                    return Err(self.expected("a regular expression"));
                }
                self.at += word.len();
                word
            }
        };
        let room = limits::QUERY_PATTERN_BYTES_MAX.saturating_sub(self.spent);
        match Pattern::compile(text, room) {
            Ok((pattern, cost)) => {
                self.spent += cost;
                Ok(pattern)
            }
            Err(error) => Err(self.wrong(start, format!("a regular expression ({error})"))),
        }
    }

    /// What stands between quotes, if one stands here.
    fn quoted(&mut self) -> Result<Option<&'a str>, QueryError> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let inner = &self.rest()[1..];
        let Some(end) = inner.find(quote) else {
            self.at = self.text.len();
            return Err(self.expected(format!("the closing {quote}")));
        };
        self.at += end + 2;
        Ok(Some(&inner[..end]))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Whether this word or sign is next; a word ends where no letter follows.
    fn stands(&self, spelling: &str) -> bool {
        let word = spelling.ends_with(|c: char| c.is_ascii_alphabetic());
        let more = |c: char| c.is_alphanumeric() || c == '_';
        let behind = self.rest().strip_prefix(spelling);
        behind.is_some_and(|behind| !(word && behind.starts_with(more)))
    }

    fn takes(&mut self, spelling: &str) -> bool {
        self.space();
        let here = self.stands(spelling);
        self.at += if here { spelling.len() } else { 0 };
        here
    }

    /// What was read from `start` on is not what it should be.
    fn wrong(&self, start: usize, what: impl Into<String>) -> QueryError {
        QueryError::of(self.text, start..self.at, what)
    }

    fn expected(&mut self, what: impl Into<String>) -> QueryError {
        self.space();
        QueryError::at(self.text, self.at, what)
    }
}

/// What a value may be, in words and as what it is read.
struct Kind<T> {
    what: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kind<T> {}

const TEXT: Kind<Box<str>> = Kind { what: "a value", read: |text| Some(text.into()) };
const FLAG: Kind<Box<str>> = Kind {
    what: "true or false",
    read: |text| matches!(text, "true" | "false").then(|| text.into()),
};
const VERSION: Kind<Version> = Kind { what: "a version as 1.53.0", read: Version::parse };
const COUNT: Kind<u64> = Kind { what: "a whole number", read: |text| digits(text, 0..text.len()) };
const DATE: Kind<Date> = Kind {
    what: "a time as 2018-06-18, 2018-06-18T22:28:28 or 2018-06-18T22:28:28+00:00",
    read: Date::parse,
};

/// One part is itself.
fn several(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

fn signed(operator: Operator, comparison: Comparison) -> Expr {
    match operator {
        NotEqual | NotIn | NotMatches | NotExists => Expr::Not(Box::new(Expr::Is(comparison))),
        _ => Expr::Is(comparison),
    }
}

fn until(text: &str, stop: impl Fn(char) -> bool) -> &str {
    &text[..text.find(stop).unwrap_or(text.len())]
}

/// A pattern without quotes: up to white space, a quote, `&&`, `||`, or a bracket it did not open.
fn pattern_word(text: &str) -> &str {
    let mut open = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => open += 1,
            ')' | ']' if open == 0 => return &text[..at],
            ')' | ']' => open -= 1,
            '\'' | '"' => return &text[..at],
            _ if c.is_whitespace() => return &text[..at],
            _ if text[at..].starts_with("&&") || text[at..].starts_with("||") => {
                return &text[..at];
            }
            _ => {}
        }
    }
    text
}
