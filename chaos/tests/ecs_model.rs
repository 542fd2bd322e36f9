//! What this API has of Amazon ECS's, compared with the model of it that AWS publishes in botocore.
//!
//! Each operation is an rpc, and each member of what those take and answer a field, or it stands in
//! `proto/api/absent.txt` with the reason; nothing else stands there, so the list can only shrink.
//! `UPDATE=1` takes out what is no longer absent and puts in what is, with `?` for the reason.
//! It compares names and kinds of values; what a value means, other tests tell.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::lab::root;
use muster_chaos::python::{Environment, done};
use muster_proto::json::{Described, Field, Message, Shape};
use muster_proto::pb;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Another version may have more operations: then the list grows once, with this line.
const BOTOCORE: &str = "botocore==1.44.5";
const PRINT_THE_MODEL: &str = "
import gzip, importlib.util, pathlib, sys
package = pathlib.Path(importlib.util.find_spec('botocore').origin).parent
model = package / 'data/ecs/2014-11-13/service-2.json.gz'
sys.stdout.buffer.write(gzip.decompress(model.read_bytes()))
";

/// Lines of `absent.txt`. It only ever falls: what was built once is not given up unseen.
const ABSENT_MAX: usize = 165;

/// Messages that are not called what ECS calls them, and why.
const RENAMED: &[(&str, &str, &str)] = &[
    ("ClusterSetting", "Setting", "there was no other setting when it was named"),
    ("EFSAuthorizationConfig", "EfsAuthorizationConfig", "prost writes names like that"),
    ("EFSVolumeConfiguration", "EfsVolumeConfiguration", "prost writes names like that"),
    ("Resource", "InstanceResource", "a resource of what, a message by itself has to say"),
    ("ServiceCurrentRevisionSummary", "ServiceRevisionSummary", "the same members"),
    ("Setting", "AccountSetting", "a setting of what, a message by itself has to say"),
    ("TaskDefinitionPlacementConstraint", "PlacementConstraint", "the same members"),
];

/// Fields that ECS does not have, and why there are some. ECS's clients ignore them in answers.
const OURS: &[(&str, &str)] = &[
    ("Container.address", "where it is reached on its instance: there are no attachments"),
    ("Container.pid", "for whoever looks at it on its instance"),
    ("Container.restartCount", "ECS tells it in the container's metadata only"),
    ("ContainerDefinition.files", "secrets and configs as files"),
    ("ContainerInstance.address", "of the machine: there is no EC2 to ask"),
    ("ContainerInstance.availabilityZone", "of the machine: there is no EC2 to ask"),
    ("ContainerInstance.clusterArn", "a watch answers instances of all clusters"),
    ("PlacementStrategy.expression", "what prefer asks for"),
    ("PlacementStrategy.maxSkew", "the hard limit of a spread"),
    ("PlacementStrategy.weight", "what prefer weighs"),
    ("CreateServiceRequest.strict", "a strict singleton"),
    ("Service.strict", "a strict singleton"),
    ("Service.throttledUntil", "when the back-off ends: services that wait say until when"),
    ("Service.version", "for expectedVersion"),
    (
        "ServiceRevisionSummary.requestedProductionTrafficWeight",
        "a service's current revisions have theirs as well, as those of a deployment do with ECS",
    ),
    (
        "ServiceRevisionSummary.requestedTestTrafficWeight",
        "a service's current revisions have theirs as well, as those of a deployment do with ECS",
    ),
    ("Task.instanceName", "the machine's name, as people know it"),
    ("Task.waitingReason", "a task that is not placed says why"),
    ("UpdateServiceRequest.expectedVersion", "compare-and-set"),
    ("UpdateServiceRequest.setPlacement", "gRPC does not tell an empty list from none"),
    ("UpdateServiceRequest.setPlacementConstraints", "gRPC does not tell an empty list from none"),
    ("UpdateServiceRequest.setPlacementStrategy", "gRPC does not tell an empty list from none"),
    ("VersionInfo.versions", "of the kernel and of runc: there is no Docker"),
];

/// What strings may say that are enums with ECS, and why it is more or anything.
const OURS_SPELLED: &[(&str, &str, &str)] = &[
    ("DeploymentLifecycleHook.targetType", "HTTP", "ECS calls functions of AWS"),
    ("DeploymentLifecycleHookDetail.targetType", "HTTP", "ECS calls functions of AWS"),
    (
        "PlacementConstraint.type",
        "distinctInstance",
        "a definition's, the same message, has it not",
    ),
    ("PlacementStrategy.type", "prefer", "weighted affinity"),
];

/// Fields that every request may have beside ECS's: tokens on writes that ECS leaves without, and
/// reads that need not be the newest state.
const OURS_IN_REQUESTS: [&str; 2] = ["clientToken", "stale"];

type Operation = (&'static str, &'static Message, &'static Message);

macro_rules! table {
    ($($name:ident $method:ident $request:ident $response:ident;)*) => {
        /// Every rpc that is an operation of ECS, with what it takes and what it answers.
        const OPERATIONS: &[Operation] = &[$((
            stringify!($name),
            <pb::$request as Described>::MESSAGE,
            <pb::$response as Described>::MESSAGE,
        )),*];
    };
}
muster_proto::ecs_operations!(table);

/// botocore's `service-2.json` of ECS.
struct Model {
    json: Value,
}

impl Model {
    /// Installed once for all tests.
    fn get() -> &'static Self {
        static MODEL: OnceLock<Model> = OnceLock::new();
        MODEL.get_or_init(|| {
            let environment = Environment::with(&["--no-deps", BOTOCORE]);
            let mut python = Command::new(environment.program("python"));
            let text = done(python.args(["-c", PRINT_THE_MODEL]));
            Self { json: serde_json::from_str(&text).unwrap() }
        })
    }

    fn operations(&self) -> impl Iterator<Item = &str> {
        self.json["operations"].as_object().unwrap().keys().map(String::as_str)
    }

    /// The shape of what an operation takes (`input`) or answers (`output`).
    fn side(&self, operation: &str, side: &str) -> &str {
        self.json["operations"][operation][side]["shape"].as_str().unwrap()
    }

    /// The members of a structure: name and shape.
    fn members(&self, shape: &str) -> impl Iterator<Item = (&str, &str)> {
        let members = self.json["shapes"][shape]["members"].as_object().unwrap();
        members.iter().map(|(name, of)| (name.as_str(), of["shape"].as_str().unwrap()))
    }

    fn kind(&self, shape: &str) -> &str {
        self.json["shapes"][shape]["type"].as_str().unwrap()
    }

    /// The shape of a list's elements or of a map's values.
    fn inner(&self, shape: &str, what: &str) -> &str {
        self.json["shapes"][shape][what]["shape"].as_str().unwrap()
    }

    /// What a string, or each of a list of them, may say; nothing if that is not told.
    fn spellings(&self, shape: &str) -> BTreeSet<String> {
        let list = self.kind(shape) == "list";
        let one = if list { self.inner(shape, "member") } else { shape };
        let values = self.json["shapes"][one]["enum"].as_array();
        values.into_iter().flatten().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// The structure and the message to compare next, if it is one; else what is wrong.
    fn fit<'m>(
        &'m self,
        shape: &'m str,
        field: &Field,
    ) -> Result<Option<(&'m str, &'static Message)>, String> {
        let list = self.kind(shape) == "list";
        let one = if list { self.inner(shape, "member") } else { shape };
        let fits = match (self.kind(one), &field.shape) {
            ("structure", Shape::Message(message)) if list == field.repeated => {
                return Ok(Some((one, *message)));
            }
            ("string", Shape::Text | Shape::OneOf(_)) | ("boolean", Shape::Bool) => true,
            ("timestamp", Shape::Seconds) | ("double", Shape::Real) => true,
            ("integer", Shape::Int { high, .. }) => *high >= i128::from(i32::MAX),
            ("long", Shape::Int { high, .. }) => *high >= i128::from(i64::MAX),
            // Any JSON: ours takes an object whose values are strings.
            ("structure", Shape::TextMap) => self.json["shapes"][one]["document"] == true,
            ("map", Shape::TextMap) => self.kind(self.inner(one, "value")) == "string",
            _ => false,
        };
        if fits && list == field.repeated {
            return Ok(None);
        }
        let list = if list { "list of " } else { "" };
        Err(format!("ECS's is a {list}{}, ours is {field:?}", self.kind(one)))
    }
}

/// How this API differs from ECS's.
#[derive(Default)]
struct Difference {
    /// Operations, and members as `Message.member`, that ECS has and this API has not.
    absent: BTreeSet<String>,
    /// Fields that ECS has not.
    ours: BTreeSet<String>,
    /// Fields of another kind than ECS's.
    unfit: Vec<String>,
    /// Members and what they may say, with ECS and here, where that differs.
    spelled: BTreeSet<(String, String)>,
    /// ECS's names of shapes and the names of their messages.
    renamed: BTreeSet<(String, &'static str)>,
}

impl Difference {
    fn of(model: &Model) -> Self {
        let mut difference = Self::default();
        let built: BTreeSet<&str> = OPERATIONS.iter().map(|(name, ..)| *name).collect();
        let absent = model.operations().filter(|name| !built.contains(name));
        difference.absent.extend(absent.map(str::to_owned));
        let mut seen = BTreeSet::new();
        let mut next: Vec<(&str, &'static Message)> = Vec::new();
        for (name, request, response) in OPERATIONS {
            next.push((model.side(name, "input"), request));
            next.push((model.side(name, "output"), response));
        }
        while let Some((shape, message)) = next.pop() {
            if seen.insert((shape, message.name)) {
                difference.message(model, shape, message, &mut next);
            }
        }
        difference
    }

    /// One of ECS's structures and one message.
    fn message<'m>(
        &mut self,
        model: &'m Model,
        shape: &str,
        message: &'static Message,
        next: &mut Vec<(&'m str, &'static Message)>,
    ) {
        if shape != message.name {
            self.renamed.insert((shape.to_owned(), message.name));
        }
        let members: BTreeMap<&str, &str> = model.members(shape).collect();
        for (member, shape) in &members {
            let at = format!("{}.{member}", message.name);
            let Some(field) = message.fields.iter().find(|field| field.name == *member) else {
                self.absent.insert(at);
                continue;
            };
            let ours = match &field.shape {
                Shape::OneOf(values) => values.iter().map(|value| (*value).to_owned()).collect(),
                _ => BTreeSet::new(),
            };
            for value in model.spellings(shape).symmetric_difference(&ours) {
                self.spelled.insert((at.clone(), value.clone()));
            }
            match model.fit(shape, field) {
                Ok(inner) => next.extend(inner),
                Err(why) => self.unfit.push(format!("{at}: {why}")),
            }
        }
        let ours = message.fields.iter().filter(|field| !members.contains_key(field.name));
        self.ours.extend(ours.map(|field| format!("{}.{}", message.name, field.name)));
    }
}

fn file() -> PathBuf {
    root().join("proto/api/absent.txt")
}

/// The lines of `absent.txt`: what is absent and why.
fn lines(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("the build has read it")).collect()
}

/// The list as it has to be: its head, then operations, then members by their message.
fn list(text: &str, absent: &BTreeSet<String>) -> String {
    let known = lines(text);
    let head = text.lines().take_while(|line| line.starts_with('#'));
    let mut list: String = head.flat_map(|line| [line, "\n"]).collect();
    let mut group = None;
    let (members, operations): (Vec<_>, Vec<_>) = absent.iter().partition(|at| at.contains('.'));
    for at in operations.into_iter().chain(members) {
        let of = at.split_once('.').map(|(message, _)| message);
        if group != of {
            list.push('\n');
            group = of;
        }
        let why = known.get(at.as_str()).unwrap_or(&"?");
        list.push_str(&format!("{at}: {why}\n"));
    }
    list
}

#[test]
fn what_ecs_has_and_this_api_has_not_is_listed_with_the_reason() {
    let absent = Difference::of(Model::get()).absent;
    let text = std::fs::read_to_string(file()).unwrap();
    let mut list = list(&text, &absent);
    let mut wrong = String::new();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file(), &list).unwrap();
    } else {
        let listed = lines(&text);
        for at in absent.iter().filter(|at| !listed.contains_key(at.as_str())) {
            wrong.push_str(&format!("missing:     {at}\n"));
        }
        for at in listed.keys().filter(|at| !absent.contains(**at)) {
            wrong.push_str(&format!("superfluous: {at}: ECS has it not, or this API has it\n"));
        }
        if wrong.is_empty() && list != text {
            wrong.push_str("the lines are not in order, or some stand twice\n");
        }
        list = text;
    }
    let absent = lines(&list).len();
    if absent > ABSENT_MAX {
        wrong.push_str(&format!("more:        {absent} lines, where there were {ABSENT_MAX}\n"));
    }
    // "Not built" is no reason: it says nothing about what would have to be.
    let told = |why: &str| why.split_whitespace().count() > 2 && !why.ends_with('.');
    for (at, why) in lines(&list).iter().filter(|(_, why)| !told(why)) {
        wrong.push_str(&format!("no reason:   {at}: {why}\n"));
    }
    assert!(wrong.is_empty(), "proto/api/absent.txt (UPDATE=1 puts it in order):\n{wrong}");
}

#[test]
fn every_rpc_is_an_operation_of_ecs() {
    let theirs: BTreeSet<&str> = Model::get().operations().collect();
    let ours = OPERATIONS.iter().map(|(name, ..)| *name).filter(|name| !theirs.contains(name));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn every_field_has_the_type_of_ecs_member_and_every_message_its_name() {
    let difference = Difference::of(Model::get());
    assert!(difference.unfit.is_empty(), "{:#?}", difference.unfit);
    let renamed: BTreeSet<_> =
        RENAMED.iter().map(|(theirs, ours, _)| ((*theirs).to_owned(), *ours)).collect();
    assert_eq!(difference.renamed, renamed, "found, and RENAMED");
}

#[test]
fn enums_are_spelled_as_ecs_spells_them() {
    let found = Difference::of(Model::get()).spelled;
    let ours = OURS_SPELLED.iter().map(|(at, value, _)| ((*at).to_owned(), (*value).to_owned()));
    assert_eq!(found, ours.collect(), "found, and OURS_SPELLED");
}

#[test]
fn fields_that_ecs_has_not_are_there_on_purpose() {
    let everywhere = |at: &str| {
        at.split_once("Request.").is_some_and(|(_, field)| OURS_IN_REQUESTS.contains(&field))
    };
    let found = Difference::of(Model::get()).ours;
    let found: BTreeSet<&str> =
        found.iter().map(String::as_str).filter(|at| !everywhere(at)).collect();
    let ours: BTreeSet<&str> = OURS.iter().map(|(at, _)| *at).collect();
    assert_eq!(found, ours, "found, and OURS");
}
