//! Names that a message does not have: what ECS has and Muster does not yet, what only answers
//! carry, and, for the rest, the nearest name there is.

use super::Message;
use super::check::Path;
use muster_model::Error;
use serde_json::Value;

include!(concat!(env!("OUT_DIR"), "/absent.rs"));

/// What `describe` answers and a registration does not take, unless it says nothing: the file was
/// an answer once.
const ANSWERED: [(&str, &[&str]); 1] = [(
    "RegisterTaskDefinitionRequest",
    &[
        "compatibilities",
        "deleteRequestedAt",
        "deregisteredAt",
        "registeredAt",
        "registeredBy",
        "requiresAttributes",
        "revision",
        "status",
        "taskDefinitionArn",
    ],
)];

/// Values of members that are not built which ask for what is done anyhow.
const WITHOUT_SAYING: [(&str, &str); 6] = [
    ("availabilityZoneRebalancing", "DISABLED"),
    ("healthCheckGracePeriodSeconds", "0"),
    ("launchType", "EC2"),
    ("resourceManagementType", "CUSTOMER"),
    ("schedulingStrategy", "REPLICA"),
    // The type of a deployment controller.
    ("type", "ECS"),
];

/// Lists that ECS replaces if a request names them, empty or not, and by which member a message
/// says so: in gRPC an empty list is none.
const NAMED_LISTS: [(&str, &str, &str); 2] = [
    ("UpdateServiceRequest", "placementConstraints", "setPlacementConstraints"),
    ("UpdateServiceRequest", "placementStrategy", "setPlacementStrategy"),
];

/// Says of each such list that it was named.
pub fn flag_named_lists(message: &Message, checked: &mut Value) {
    let Value::Object(members) = checked else { return };
    for (of, list, flag) in NAMED_LISTS {
        if of == message.name && members.contains_key(list) {
            members.insert(flag.to_owned(), Value::Bool(true));
        }
    }
}

/// Farther than this is no likely slip of the hand.
const DISTANCE_MAX: usize = 3;

/// An error for a name that `message` does not have, unless it asks for nothing.
pub fn refuse(path: &Path<'_>, name: &str, value: &Value, message: &Message) -> Result<(), Error> {
    if let Some(why) = not_built(name, message) {
        let instead = "leave it out, or pass --lenient to have it ignored";
        return nothing_asked(path, name, value, why, instead);
    }
    if ANSWERED.iter().any(|(of, names)| *of == message.name && names.contains(&name)) {
        if asks_nothing(name, value) {
            return Ok(());
        }
        let allowed = format!("{name} is set by the cluster: leave it out, or pass --lenient.");
        return Err(Error::invalid(path.to_string(), name, allowed));
    }
    let nearest = match nearest(name, message) {
        Some(nearest) => format!("the nearest is {nearest:?}"),
        None => format!("they are {}", names(message)),
    };
    let allowed = format!("the fields of {}, {nearest} (--lenient ignores others)", message.name);
    Err(Error::invalid(path.to_string(), name, allowed))
}

/// An error for a name that ECS has and `message` has not, unless it asks for nothing.
pub fn refuse_not_built(
    path: &Path<'_>,
    name: &str,
    value: &Value,
    message: &Message,
) -> Result<(), Error> {
    match not_built(name, message) {
        Some(why) => nothing_asked(path, name, value, why, "leave it out"),
        None => Ok(()),
    }
}

fn nothing_asked(
    path: &Path<'_>,
    name: &str,
    value: &Value,
    why: &str,
    instead: &str,
) -> Result<(), Error> {
    if asks_nothing(name, value) {
        return Ok(());
    }
    Err(Error::Unsupported { feature: path.to_string(), instead: format!("{why}; {instead}") })
}

/// Why ECS's `message` has the member `name` and ours has not; `None` if ECS has it neither.
fn not_built(name: &str, message: &Message) -> Option<&'static str> {
    let mut table = NOT_BUILT_MEMBERS.iter();
    table.find(|(of, member, _)| *of == message.name && *member == name).map(|(_, _, why)| *why)
}

/// Tools write out what they do not use: `"links": []`, `"alarms": {"enable": false}`, or what goes
/// without saying.
fn asks_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.iter().all(|(name, value)| asks_nothing(name, value)),
        Value::String(text) => text.is_empty() || WITHOUT_SAYING.contains(&(name, text)),
        Value::Number(number) => WITHOUT_SAYING.contains(&(name, &number.to_string())),
    }
}

fn names(message: &Message) -> String {
    message.fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

fn nearest(name: &str, message: &Message) -> Option<&'static str> {
    // Names are short; a hostile one is not worth the time.
    let shown: Vec<char> = name.chars().flat_map(char::to_lowercase).take(64).collect();
    let of = |field: &'static str| {
        let known: Vec<char> = field.chars().flat_map(char::to_lowercase).collect();
        (distance(&shown, &known), field)
    };
    let (distance, field) = message.fields.iter().map(|field| of(field.name)).min()?;
    // Half of a short name being wrong is another name.
    (distance <= DISTANCE_MAX.min(field.len().div_ceil(2))).then_some(field)
}

/// Levenshtein's distance.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
