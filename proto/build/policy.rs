//! The policy of each rpc, read from the options in `api/*.proto`, as Rust source.
//!
//! Invariant: an rpc that does not say who may call it and what it is fails the build.

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};
use std::error::Error;
use std::fmt::Write as _;

/// The policy table; an rpc that does not say who may call it fails the build.
pub fn policies(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
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
pub fn option(
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
