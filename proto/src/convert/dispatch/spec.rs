//! What a machine says of itself when it joins and whenever its agent connects.

use crate::convert::{At, amount, at_most, text};
use crate::dispatch as wire;
use muster_model::instance::{GPU_RESOURCE, ZONE_ATTRIBUTE};
use muster_model::limits::{
    ATTRIBUTES_MAX, CPU_UNITS_MAX, GPUS_MAX, MEMORY_MIB_MAX, NAMED_AMOUNT_MAX, NAMED_RESOURCES_MAX,
};
use muster_model::spec::Named;
use muster_model::{Error, InstanceSpec, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// ECS: characters of an attribute's name and value.
const ATTRIBUTE_CHARS_MAX: usize = 128;
const HOSTNAME_CHARS_MAX: usize = 253;
/// host:port or an address.
const ADDRESS_CHARS_MAX: usize = 300;
/// ECS: reserved ports of an instance.
const RESERVED_PORTS_MAX: usize = 100;
const VERSIONS_MAX: usize = 20;
const VERSION_CHARS_MAX: usize = 128;
/// A machine may be some times as large as the largest task.
const CPU_TOTAL_MAX: u32 = 8 * CPU_UNITS_MAX;
const MEMORY_TOTAL_MIB_MAX: u32 = 8 * MEMORY_MIB_MAX;

pub fn instance_spec_to_wire(spec: &InstanceSpec) -> wire::InstanceSpec {
    let valued = |(name, value): (&String, &Option<String>)| Some((name.clone(), value.clone()?));
    let flags = spec.attributes.iter().filter(|(_, value)| value.is_none());
    wire::InstanceSpec {
        hostname: spec.hostname.clone(),
        zone: spec.zone.clone(),
        address: spec.address.clone(),
        cpu: spec.total.cpu,
        memory_mib: spec.total.memory_mib,
        reserved_ports: spec.reserved_ports.iter().map(|port| u32::from(*port)).collect(),
        attributes: spec.attributes.iter().filter_map(valued).collect(),
        flags: flags.map(|(name, _)| name.clone()).collect(),
        agent_version: spec.agent_version.clone(),
        versions: spec.versions.clone(),
        resources: spec.resources.clone(),
    }
}

/// Checked: this becomes a row that every scheduler decision reads.
pub fn instance_spec_from_wire(spec: &wire::InstanceSpec) -> Result<InstanceSpec, Error> {
    text(&At::Field("hostname"), &spec.hostname, 1..=HOSTNAME_CHARS_MAX)?;
    attribute_name(&At::Field("zone"), &spec.zone)?;
    text(&At::Field("address"), &spec.address, 0..=ADDRESS_CHARS_MAX)?;
    text(&At::Field("agentVersion"), &spec.agent_version, 0..=VERSION_CHARS_MAX)?;
    Ok(InstanceSpec {
        hostname: spec.hostname.clone(),
        zone: spec.zone.clone(),
        address: spec.address.clone(),
        total: Resources {
            cpu: amount(&At::Field("cpu"), spec.cpu, 1..=CPU_TOTAL_MAX, "units")?,
            memory_mib: amount(
                &At::Field("memory"),
                spec.memory_mib,
                1..=MEMORY_TOTAL_MIB_MAX,
                "MiB",
            )?,
        },
        resources: resources(&spec.resources)?,
        reserved_ports: reserved_ports(&spec.reserved_ports)?,
        attributes: attributes(spec)?,
        agent_version: spec.agent_version.clone(),
        versions: versions(&spec.versions)?,
        ..InstanceSpec::default()
    })
}

fn reserved_ports(wire: &[u32]) -> Result<BTreeSet<u16>, Error> {
    let at = At::Field("reservedPorts");
    at_most(&at, wire.len(), RESERVED_PORTS_MAX, "ports")?;
    let port = |wire: &u32| {
        let port = u16::try_from(*wire).ok().filter(|port| *port > 0);
        port.ok_or_else(|| at.invalid(wire, "1 to 65535"))
    };
    wire.iter().map(port).collect()
}

fn attributes(spec: &wire::InstanceSpec) -> Result<BTreeMap<String, Option<String>>, Error> {
    let at = At::Field("attributes");
    at_most(&at, spec.attributes.len() + spec.flags.len(), ATTRIBUTES_MAX, "attributes")?;
    let valued = spec.attributes.iter().map(|(name, value)| (name, Some(value)));
    let flags = spec.flags.iter().map(|name| (name, None));
    let mut attributes = BTreeMap::new();
    for (name, value) in valued.chain(flags) {
        attribute_name(&at, name)?;
        if name == ZONE_ATTRIBUTE {
            return Err(at.invalid(name, "other names; the zone is given by --zone"));
        }
        if let Some(value) = value {
            attribute_value(&at.field(name), value)?;
        }
        if attributes.insert(name.clone(), value.cloned()).is_some() {
            return Err(at.invalid(name, "each name once"));
        }
    }
    Ok(attributes)
}

fn resources(wire: &Named) -> Result<Named, Error> {
    let at = At::Field("resources");
    at_most(&at, wire.len(), NAMED_RESOURCES_MAX, "resources")?;
    for (name, units) in wire {
        resource_name(&at, name)?;
        let most = if name == GPU_RESOURCE { GPUS_MAX } else { NAMED_AMOUNT_MAX };
        amount(&at.field(name), *units, 1..=most, "units")?;
    }
    Ok(wire.clone())
}

/// Resources that every instance has, under the names ECS shows them by.
const BUILT_IN: [&str; 4] = ["CPU", "MEMORY", "PORTS", "PORTS_UDP"];

/// As an attribute's, but none that ECS has for other things.
pub(crate) fn resource_name(at: &At<'_>, name: &str) -> Result<(), Error> {
    if BUILT_IN.contains(&name) {
        return Err(at.invalid(name, "GPU or the name of another resource"));
    }
    attribute_name(at, name)
}

/// As ECS: letters, digits and `-_./\`.
pub(crate) fn attribute_name(at: &At<'_>, name: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_./\\".contains(&b);
    if !name.is_empty() && name.len() <= ATTRIBUTE_CHARS_MAX && name.bytes().all(charset) {
        return Ok(());
    }
    Err(at.invalid(name, format!("1 to {ATTRIBUTE_CHARS_MAX} letters, digits and -_./\\")))
}

/// As ECS: letters, digits, `-_.@/\:` and spaces, but not at either end.
fn attribute_value(at: &At<'_>, value: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_.@/\\: ".contains(&b);
    let fits = value.len() <= ATTRIBUTE_CHARS_MAX && value.bytes().all(charset);
    if !value.is_empty() && fits && value.trim() == value {
        return Ok(());
    }
    let allowed = format!("1 to {ATTRIBUTE_CHARS_MAX} letters, digits, -_.@/\\: and inner spaces");
    Err(at.invalid(value, allowed))
}

fn versions(wire: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let at = At::Field("versions");
    at_most(&at, wire.len(), VERSIONS_MAX, "versions")?;
    for (name, version) in wire {
        text(&at, name, 1..=VERSION_CHARS_MAX)?;
        text(&at, version, 0..=VERSION_CHARS_MAX)?;
    }
    Ok(wire.clone())
}
