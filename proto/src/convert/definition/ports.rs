//! Ports of all containers of a task together: what may be published, and nothing twice.

use crate::convert::At;
use muster_model::Error;
use muster_model::spec::{ContainerDefinition, NetworkMode, Protocol};
use std::collections::BTreeSet;

pub fn check(
    list: &At<'_>,
    containers: &[ContainerDefinition],
    network: NetworkMode,
) -> Result<(), Error> {
    let mut host_ports: BTreeSet<(u16, Protocol)> = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = list.index(index);
        let mappings = at.field("portMappings");
        if network == NetworkMode::None && !container.port_mappings.is_empty() {
            return Err(mappings.invalid("given", "none with networkMode none"));
        }
        let mut container_ports = BTreeSet::new();
        for (index, mapping) in container.port_mappings.iter().enumerate() {
            let at = mappings.index(index);
            let (port, host_port) = (mapping.container_port, mapping.host_port);
            if !container_ports.insert((port, mapping.protocol)) {
                let why = format!(
                    "Container port {port} is used in more than one port mapping for container {}.",
                    container.name
                );
                return Err(at.field("containerPort").invalid(port, why));
            }
            if network == NetworkMode::Host && host_port != 0 && host_port != port {
                let why = format!(
                    "When networkMode=host, the host ports and container ports in port mappings \
                     must match. (Write {port}, or leave hostPort out.)"
                );
                return Err(at.field("hostPort").invalid(host_port, why));
            }
            let taken = if network == NetworkMode::Host { port } else { host_port };
            if taken != 0 && !host_ports.insert((taken, mapping.protocol)) {
                return Err(at.field("hostPort").invalid(taken, "each host port once per task"));
            }
            if mapping.name.as_ref().is_some_and(|name| !names.insert(name.as_str())) {
                let name = mapping.name.as_deref().unwrap_or_default();
                return Err(at.field("name").invalid(name, "each name once per task"));
            }
        }
    }
    Ok(())
}
