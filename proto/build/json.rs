//! The JSON form of each public message: serde attributes on the generated types, and a schema to
//! check input against. Both from the same descriptors, so that they cannot differ.

use crate::spelling;
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use std::error::Error;
use std::fmt::Write as _;
use tonic_prost_build::Builder;

/// Only this package has a JSON form.
pub const PUBLIC: &str = "muster.v1";

/// Lists that real ECS clients index without asking, and values that mean something when empty;
/// they are written even then, as are all lists of responses.
const ALWAYS: [(&str, &[&str]); 13] = [
    ("KeyValuePair", &["name", "value"]),
    ("Tag", &["key", "value"]),
    (
        "Cluster",
        &["tags", "settings", "statistics", "capacityProviders", "defaultCapacityProviderStrategy"],
    ),
    (
        "Service",
        &[
            "loadBalancers",
            "serviceRegistries",
            "events",
            "deployments",
            "placementConstraints",
            "placementStrategy",
        ],
    ),
    (
        "TaskDefinition",
        &[
            "containerDefinitions",
            "volumes",
            "placementConstraints",
            "compatibilities",
            "requiresAttributes",
        ],
    ),
    (
        "ContainerDefinition",
        &["portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"],
    ),
    ("Task", &["containers", "tags", "attachments", "attributes"]),
    ("TaskOverride", &["containerOverrides", "inferenceAcceleratorOverrides"]),
    ("Container", &["networkBindings", "networkInterfaces"]),
    ("CapacityProvider", &["tags"]),
    ("ServiceDeployment", &["sourceServiceRevisions"]),
    ("ServiceRevision", &["containerImages", "loadBalancers", "serviceRegistries"]),
    ("ContainerInstance", &["registeredResources", "remainingResources", "attributes", "tags"]),
];

/// Messages that `src/json` writes by hand: what is left out depends on more than one field.
const BY_HAND: [&str; 1] = ["InstanceResource"];

/// Gives each field its JSON name, leaves out what is absent, and writes times as epoch seconds.
pub fn names(
    mut builder: Builder,
    messages: &[MessageDescriptor],
) -> Result<Builder, Box<dyn Error>> {
    for message in messages {
        let path = format!(".{}", message.full_name());
        // Attributes of a message reach the messages nested in it.
        if message.parent_message().is_none() {
            let derived = match BY_HAND.contains(&message.name()) {
                true => "#[derive(serde::Deserialize)] #[serde(default)]",
                false => "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
            };
            builder = builder.message_attribute(&path, derived);
        }
        for oneof in message.oneofs().filter(|o| !o.is_synthetic()) {
            let path = format!("{path}.{}", oneof.name());
            builder = builder
                .enum_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)]")
                // A message that is one choice looks like the choice itself.
                .message_attribute(format!(".{}", message.full_name()), "#[serde(transparent)]");
            for field in oneof.fields() {
                let name = format!("#[serde(rename = {:?})]", field.json_name());
                builder = builder.field_attribute(format!("{path}.{}", field.name()), name);
            }
        }
        for field in message.fields() {
            if field.containing_oneof().is_some_and(|o| !o.is_synthetic()) {
                continue;
            }
            let attribute = serde_attribute(message, &field);
            builder = builder.field_attribute(format!("{path}.{}", field.name()), attribute);
        }
    }
    Ok(builder)
}

fn serde_attribute(message: &MessageDescriptor, field: &FieldDescriptor) -> String {
    let mut attribute = format!("#[serde(rename = {:?}", field.json_name());
    let skip = if field.is_map() {
        "std::collections::BTreeMap::is_empty"
    } else if always(message, field) {
        ""
    } else if field.is_list() {
        "Vec::is_empty"
    } else if is_timestamp(&field.kind()) {
        attribute.push_str(", with = \"crate::json::timestamp\"");
        "Option::is_none"
    } else if field.kind() == Kind::Bytes {
        attribute.push_str(", with = \"crate::json::text_bytes\"");
        ""
    } else if field.supports_presence() {
        "Option::is_none"
    } else if field.kind() == Kind::String {
        "String::is_empty"
    } else {
        ""
    };
    if !skip.is_empty() {
        attribute.push_str(&format!(", skip_serializing_if = {skip:?}"));
    }
    attribute.push_str(")]");
    attribute
}

fn always(message: &MessageDescriptor, field: &FieldDescriptor) -> bool {
    (field.is_list() && message.name().ends_with("Response"))
        || ALWAYS
            .iter()
            .any(|(name, fields)| *name == message.name() && fields.contains(&field.json_name()))
}

fn is_timestamp(kind: &Kind) -> bool {
    kind.as_message().is_some_and(|m| m.full_name() == "google.protobuf.Timestamp")
}

/// Which requests carry a client token.
pub fn tokened(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages.iter().filter(|m| m.get_field_by_name("client_token").is_some()) {
        writeln!(
            code,
            "impl Tokened for crate::pb::{} {{ \
             fn client_token(&mut self) -> &mut String {{ &mut self.client_token }} }}",
            message.name()
        )?;
    }
    Ok(code)
}

/// The shape of each public message, for checking JSON before it is decoded.
pub fn schema(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages {
        let ident = ident(message);
        writeln!(
            code,
            "static {ident}: Message = Message {{ name: {:?}, fields: &[",
            message.name()
        )?;
        for field in message.fields() {
            let shape = if field.is_map() { "TextMap".to_owned() } else { shape(&field)? };
            let repeated = field.cardinality() == Cardinality::Repeated && !field.is_map();
            writeln!(
                code,
                "Field {{ name: {:?}, shape: Shape::{shape}, repeated: {repeated} }},",
                field.json_name()
            )?;
        }
        code.push_str("] };\n");
        if message.parent_message().is_none() {
            writeln!(
                code,
                "impl Described for crate::pb::{} {{ \
                 const MESSAGE: &'static Message = &{ident}; }}",
                message.name()
            )?;
        }
    }
    Ok(code)
}

fn shape(field: &FieldDescriptor) -> Result<String, Box<dyn Error>> {
    Ok(match field.kind() {
        Kind::String => match spelling::of(field)? {
            Some(constant) => format!("OneOf({constant})"),
            None => "Text".into(),
        },
        Kind::Bytes => "Text".into(),
        Kind::Bool => "Bool".into(),
        Kind::Int32 => "Int { low: i32::MIN as i128, high: i32::MAX as i128 }".into(),
        Kind::Int64 => "Int { low: i64::MIN as i128, high: i64::MAX as i128 }".into(),
        Kind::Uint32 => "Int { low: 0, high: u32::MAX as i128 }".into(),
        Kind::Double => "Real".into(),
        Kind::Uint64 => "Int { low: 0, high: u64::MAX as i128 }".into(),
        kind if is_timestamp(&kind) => "Seconds".into(),
        Kind::Message(message) => format!("Message(&{})", ident(&message)),
        other => return Err(format!("{}: no JSON form for {other:?}", field.full_name()).into()),
    })
}

fn ident(message: &MessageDescriptor) -> String {
    message.full_name().trim_start_matches(PUBLIC).replace('.', "_").to_uppercase()
}
