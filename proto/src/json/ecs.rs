//! Names that a message does not have: what ECS has and Muster does not yet, what only answers
//! carry, and, for the rest, the nearest name there is.

use super::Message;
use super::check::Path;
use muster_model::Error;
use serde_json::Value;

include!(concat!(env!("OUT_DIR"), "/absent.rs"));

/// Fields of ECS's API that are not built. They are accepted if they ask for nothing.
const NOT_BUILT: [(&str, &[&str]); 12] = [
    (
        "ContainerDefinition",
        &[
            "credentialSpecs",
            "dependsOn",
            "disableNetworking",
            "dnsSearchDomains",
            "dockerSecurityOptions",
            "environmentFiles",
            "firelensConfiguration",
            "healthCheck",
            "interactive",
            "links",
            "privileged",
            "repositoryCredentials",
            "resourceRequirements",
            "restartPolicy",
            "secrets",
            "sharingStrategy",
            "startTimeout",
            "versionConsistency",
        ],
    ),
    ("PortMapping", &["appProtocol", "containerPortRange"]),
    ("LogConfiguration", &["secretOptions"]),
    (
        "LinuxParameters",
        &["devices", "initProcessEnabled", "maxSwap", "sharedMemorySize", "swappiness"],
    ),
    (
        "Volume",
        &[
            "configuredAtLaunch",
            "dockerVolumeConfiguration",
            "efsVolumeConfiguration",
            "fsxWindowsFileServerVolumeConfiguration",
            "s3filesVolumeConfiguration",
        ],
    ),
    (
        "RegisterTaskDefinitionRequest",
        &[
            "enableFaultInjection",
            "ephemeralStorage",
            "inferenceAccelerators",
            "ipcMode",
            "pidMode",
            "proxyConfiguration",
            "runtimePlatform",
            "trustedExecutionConfiguration",
        ],
    ),
    ("CreateServiceRequest", SERVICE),
    ("UpdateServiceRequest", SERVICE),
    (
        "DeploymentConfiguration",
        &[
            "alarms",
            "bakeTimeInMinutes",
            "canaryConfiguration",
            "deploymentCircuitBreaker",
            "earlySuccessCriteria",
            "lifecycleHooks",
            "linearConfiguration",
            "strategy",
        ],
    ),
    (
        "RunTaskRequest",
        &[
            "capacityProviderStrategy",
            "enableECSManagedTags",
            "networkConfiguration",
            "platformVersion",
            "propagateTags",
            "referenceId",
            "volumeConfigurations",
        ],
    ),
    ("TaskOverride", &["ephemeralStorage", "executionRoleArn", "taskRoleArn"]),
    (
        "StartTaskRequest",
        &[
            "enableECSManagedTags",
            "networkConfiguration",
            "propagateTags",
            "referenceId",
            "volumeConfigurations",
        ],
    ),
];

const SERVICE: &[&str] = &[
    "capacityProviderStrategy",
    "loadBalancers",
    "monitoring",
    "networkConfiguration",
    "platformVersion",
    "role",
    "serviceConnectConfiguration",
    "serviceRegistries",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
];

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

/// Farther than this is no likely slip of the hand.
const DISTANCE_MAX: usize = 3;

/// An error for a name that `message` does not have, unless it asks for nothing.
pub fn refuse(path: &Path<'_>, name: &str, value: &Value, message: &Message) -> Result<(), Error> {
    if listed(&NOT_BUILT, name, message) {
        return nothing_asked(path, value, "leave it out, or pass --lenient to have it ignored");
    }
    if listed(&ANSWERED, name, message) {
        if asks_nothing(value) {
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
    match listed(&NOT_BUILT, name, message) {
        true => nothing_asked(path, value, "leave it out"),
        false => Ok(()),
    }
}

fn nothing_asked(path: &Path<'_>, value: &Value, instead: &str) -> Result<(), Error> {
    match asks_nothing(value) {
        true => Ok(()),
        false => Err(Error::Unsupported { feature: path.to_string(), instead: instead.into() }),
    }
}

fn listed(table: &[(&str, &[&str])], name: &str, message: &Message) -> bool {
    table.iter().any(|(of, names)| *of == message.name && names.contains(&name))
}

/// Tools write out what they do not use: `"links": []`, `"interactive": false`.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
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
