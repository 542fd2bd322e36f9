//! Compiles `api/*.proto` with protox (no protoc on the machine) into prost and tonic code, and
//! derives from the same descriptors what must never drift from them: the policy of each rpc, and
//! the JSON form of each public message (serde attributes and a schema to check input against).

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use std::fmt::Write as _;
use std::{env, error::Error, fs, path::PathBuf};
use tonic_prost_build::Builder;

const FILES: [&str; 5] =
    ["options.proto", "ecs.proto", "error.proto", "dispatch.proto", "raft.proto"];

/// Only this package has a JSON form.
const PUBLIC: &str = "muster.v1";

/// Streams of raw bytes: they have no JSON form.
const NO_JSON: [&str; 2] = ["muster.v1.ExecRequest", "muster.v1.ExecResponse"];

/// Lists that real ECS clients index without asking, and values that mean something when empty;
/// they are written even then, as are all lists of responses.
const ALWAYS: [(&str, &[&str]); 10] = [
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
        &["containerDefinitions", "volumes", "placementConstraints", "compatibilities"],
    ),
    (
        "ContainerDefinition",
        &["portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"],
    ),
    ("Task", &["containers", "tags"]),
    ("TaskOverride", &["containerOverrides"]),
    ("Container", &["networkBindings"]),
    ("ContainerInstance", &["registeredResources", "remainingResources", "attributes", "tags"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=api");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["api"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // Encoded by the compiler itself: prost's own descriptor types would drop our options.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("policies.rs"), policies(&pool)?)?;
    let messages: Vec<MessageDescriptor> = pool
        .all_messages()
        .filter(|m| m.package_name() == PUBLIC && !m.is_map_entry())
        .filter(|m| !NO_JSON.iter().any(|name| m.full_name().starts_with(name)))
        .collect();
    fs::write(out.join("schema.rs"), schema(&messages)?)?;
    fs::write(out.join("tokened.rs"), tokened(&messages)?)?;
    let builder = tonic_prost_build::configure().bytes(".").btree_map(".");
    json_names(builder, &messages)?.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The policy table; an rpc that does not say who may call it fails the build.
fn policies(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut code = String::from("pub const POLICIES: &[Policy] = &[\n");
    for service in pool.services() {
        for method in service.methods() {
            let options = method.options();
            let auth = option(pool, &options, "muster.v1.auth", method.full_name())?;
            let kind = option(pool, &options, "muster.v1.kind", method.full_name())?;
            let (service, method) = (service.full_name(), method.name());
            writeln!(
                code,
                "Policy {{ service: {service:?}, method: {method:?}, \
                 path: \"/{service}/{method}\", auth: crate::pb::Auth::{auth}, \
                 kind: crate::pb::Kind::{kind} }},"
            )?;
        }
    }
    code.push_str("];\n");
    Ok(code)
}

/// The Rust name of the enum value that an option is set to.
fn option(
    pool: &DescriptorPool,
    options: &DynamicMessage,
    name: &str,
    rpc: &str,
) -> Result<String, Box<dyn Error>> {
    let extension = pool.get_extension_by_name(name).ok_or_else(|| format!("no option {name}"))?;
    let Kind::Enum(values) = extension.kind() else {
        return Err(format!("option {name} is not an enum").into());
    };
    let number = match options.get_extension(&extension).as_ref() {
        Value::EnumNumber(number) => *number,
        _ => 0,
    };
    let value = values.get_value(number).filter(|_| number != 0).ok_or_else(|| {
        format!("rpc {rpc} does not set ({name}): say who may call it and what it is")
    })?;
    let prefix = format!("{}_", values.name().to_uppercase());
    let short = value.name().strip_prefix(&prefix).unwrap_or(value.name());
    Ok(short.split('_').map(capitalised).collect())
}

fn capitalised(word: &str) -> String {
    let lower = word.to_lowercase();
    lower.chars().take(1).flat_map(char::to_uppercase).chain(lower.chars().skip(1)).collect()
}

/// Gives each field its JSON name, leaves out what is absent, and writes times as epoch seconds.
fn json_names(
    mut builder: Builder,
    messages: &[MessageDescriptor],
) -> Result<Builder, Box<dyn Error>> {
    for message in messages {
        let path = format!(".{}", message.full_name());
        // Attributes of a message reach the messages nested in it.
        if message.parent_message().is_none() {
            builder = builder.message_attribute(
                &path,
                "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
            );
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
fn tokened(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
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
fn schema(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
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
                "impl Described for crate::pb::{} {{ const MESSAGE: &'static Message = &{ident}; }}",
                message.name()
            )?;
        }
    }
    Ok(code)
}

fn shape(field: &FieldDescriptor) -> Result<String, Box<dyn Error>> {
    Ok(match field.kind() {
        Kind::String => "Text".into(),
        Kind::Bytes => "Text".into(),
        Kind::Bool => "Bool".into(),
        Kind::Int32 => "Int { low: i32::MIN as i128, high: i32::MAX as i128 }".into(),
        Kind::Int64 => "Int { low: i64::MIN as i128, high: i64::MAX as i128 }".into(),
        Kind::Uint32 => "Int { low: 0, high: u32::MAX as i128 }".into(),
        Kind::Uint64 => "Int { low: 0, high: u64::MAX as i128 }".into(),
        kind if is_timestamp(&kind) => "Seconds".into(),
        Kind::Message(message) => format!("Message(&{})", ident(&message)),
        other => return Err(format!("{}: no JSON form for {other:?}", field.full_name()).into()),
    })
}

fn ident(message: &MessageDescriptor) -> String {
    message.full_name().trim_start_matches(PUBLIC).replace('.', "_").to_uppercase()
}
