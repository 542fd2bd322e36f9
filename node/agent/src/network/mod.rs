//! Networks of containers: `bridge` with an address and host ports each; `host` and `none` need
//! nothing from here.
//!
//! Everything happens in the network namespace this agent runs in, whatever that is. A container's
//! namespace is a file of its own, made before the runtime starts and removed after it is gone.
//! Invariant: an address or a host port belongs to at most one container of this agent.

pub mod addresses;
mod links;
mod nat;
mod netns;

pub use addresses::Subnet;
pub use nat::Binding;
pub use netns::{names as namespace_names, remove as remove_namespace};

use crate::error::{Context, Error, Name, Result};
use addresses::Addresses;
use links::Links;
use muster_model::spec::Protocol;
use nat::Nat;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Linux refuses more ports on one bridge.
pub const BRIDGE_PORTS_MAX: usize = 1023;

/// The agent's own bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// At most 15 characters, as for every network interface.
    pub name: String,
    pub subnet: Subnet,
}

/// What a container in `bridge` mode has; kept in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The file that stands for the namespace.
    pub netns: PathBuf,
    /// Host side of the cable.
    pub veth: String,
    pub address: Ipv4Addr,
    pub bindings: Vec<Binding>,
    /// Whether it reaches the machine's own metadata address.
    #[serde(default)]
    pub instance_metadata: bool,
}

impl Attachment {
    /// Whether the table has anything of it.
    fn is_in_table(&self) -> bool {
        self.instance_metadata || !self.bindings.is_empty()
    }
}

/// The bridge, its addresses and its ports.
pub struct Network {
    config: BridgeConfig,
    netns_dir: PathBuf,
    links: Links,
    addresses: Mutex<Addresses>,
    nat: Nat,
    bridge_index: tokio::sync::OnceCell<u32>,
}

impl Network {
    /// Must be called inside a tokio runtime. Touches nothing yet: the bridge is made with the
    /// first container, so an agent without `bridge` tasks needs no rights here.
    ///
    /// `metadata_port` of loopback is where containers find their metadata.
    pub fn new(config: BridgeConfig, netns_dir: &Path, metadata_port: u16) -> Result<Self> {
        let name = &config.name;
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 15 || !name.bytes().all(good) {
            return Err(Error::new(
                Name::ResourceInitialization,
                format!("bridge name {name:?}: allowed are 1 to 15 letters, digits, - and _"),
            ));
        }
        let links = Links::open().context(Name::ContainerNetworking, "cannot open netlink")?;
        fs::create_dir_all(netns_dir)
            .context(Name::ContainerNetworking, format!("cannot make {}", netns_dir.display()))?;
        Ok(Self {
            addresses: Mutex::new(Addresses::new(config.subnet)),
            nat: Nat::new(&config, metadata_port),
            netns_dir: netns_dir.to_owned(),
            bridge_index: tokio::sync::OnceCell::new(),
            links,
            config,
        })
    }

    pub fn gateway(&self) -> Ipv4Addr {
        self.config.subnet.gateway()
    }

    /// Takes back what containers that are still there already have.
    pub fn adopt(&self, attachment: &Attachment) {
        self.lock().reserve(attachment.address);
        self.nat.adopt(attachment);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses an address and checks the ports; nothing is made yet, so that the plan can be
    /// journalled first. `ports` are (container, host, protocol).
    pub fn plan(&self, id: &str, ports: &[(u16, u16, Protocol)]) -> Result<Attachment> {
        for (_, host, protocol) in ports {
            self.nat.check_unused(*host, *protocol)?;
            check_port_free(*host, *protocol)?;
        }
        let address = self.lock().take().ok_or_else(|| {
            let subnet = self.config.subnet;
            Error::new(
                Name::ContainerNetworking,
                format!("no address left in {subnet}; give this agent a larger bridge subnet"),
            )
        })?;
        let bind = |(container, host, protocol): &(u16, u16, Protocol)| Binding {
            container_port: *container,
            host_port: *host,
            protocol: *protocol,
        };
        Ok(Attachment {
            netns: self.netns_dir.join(id),
            veth: veth_name(id),
            address,
            bindings: ports.iter().map(bind).collect(),
            instance_metadata: false,
        })
    }

    /// Makes the namespace, the cable and the address.
    pub async fn attach(&self, plan: &Attachment) -> Result<()> {
        let what = || format!("cannot attach {} to {}", plan.address, self.config.name);
        let inside = netns::create(&plan.netns).await.context(Name::ContainerNetworking, what())?;
        let bridge = *self.bridge_index.get_or_try_init(|| self.ensure_bridge()).await?;
        let prefix = self.config.subnet.prefix();
        self.links
            .connect(&inside, &plan.veth, bridge, (plan.address, prefix), self.gateway())
            .await
            .context(Name::ContainerNetworking, what())
    }

    /// Opens the host ports, and the machine's metadata address if it may have that. Apart from
    /// `attach`, because it may run while the container is made.
    pub async fn publish(&self, plan: &Attachment) -> Result<()> {
        match plan.is_in_table() {
            true => self.nat.add(plan).await,
            false => Ok(()),
        }
    }

    /// Frees the host ports of a container that has ended, so that its successor may have them.
    pub fn withdraw(&self, plan: &Attachment) {
        self.nat.withdraw(plan);
    }

    /// Takes everything back. Whatever is gone already is fine.
    pub async fn detach(&self, plan: &Attachment) -> Result<()> {
        // Before its address may be another's.
        let unpublished = match plan.is_in_table() {
            true => {
                self.nat.withdraw(plan);
                self.nat.apply().await
            }
            false => Ok(()),
        };
        let result = self.links.delete(&plan.veth).await;
        let removed = netns::remove(&plan.netns);
        self.lock().give_back(plan.address);
        let what = || format!("cannot detach {}", plan.address);
        result.context(Name::ContainerNetworking, what())?;
        removed.context(Name::ContainerNetworking, what())?;
        unpublished
    }

    /// Makes the metadata endpoint reachable from the instance's own network. Containers run
    /// without it as well.
    pub async fn lead_to_metadata(&self) {
        if let Err(error) = self.nat.apply().await {
            tracing::warn!(%error, "containers on this network do not reach their metadata");
        }
    }

    async fn ensure_bridge(&self) -> Result<u32> {
        let subnet = self.config.subnet;
        let index = self
            .links
            .ensure_bridge(&self.config.name, subnet.gateway(), subnet.prefix())
            .await
            .context(
                Name::ContainerNetworking,
                format!("cannot make bridge {} with {subnet}", self.config.name),
            )?;
        let own = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", self.config.name);
        // Forwarding lets containers out; the other lets 127.0.0.1:hostPort reach them.
        for file in ["/proc/sys/net/ipv4/ip_forward", &own] {
            enable(file)?;
        }
        self.nat.apply().await?;
        Ok(index)
    }

    /// Removes cables of our bridge that belong to no container, and makes the port table anew
    /// from what was adopted.
    pub async fn sweep(&self, known: &[Attachment]) -> Result<Vec<String>> {
        let sweep = |e: &dyn std::fmt::Display| {
            Error::new(Name::ContainerNetworking, format!("cannot clean up cables: {e}"))
        };
        let cables = self.links.cables_of(&self.config.name).await.map_err(|e| sweep(&e))?;
        let mut removed = Vec::new();
        for cable in cables {
            if !known.iter().any(|a| a.veth == cable) {
                self.links.delete(&cable).await.map_err(|e| sweep(&e))?;
                removed.push(cable);
            }
        }
        if !known.is_empty() {
            self.bridge_index.get_or_try_init(|| self.ensure_bridge()).await?;
        } else if self.links.index_of(&self.config.name).await.is_some() {
            self.nat.apply().await?;
        }
        Ok(removed)
    }

    /// Removes bridge and port table: for the end of an agent that will not come back.
    pub async fn remove(&self) -> Result<()> {
        self.nat.drop_table().await?;
        self.links
            .delete(&self.config.name)
            .await
            .context(Name::ContainerNetworking, format!("cannot remove {}", self.config.name))
    }
}

/// Interface names hold 15 characters; 48 bits of the id's hash do not meet on one machine.
fn veth_name(id: &str) -> String {
    let hash = Sha256::digest(id.as_bytes());
    let mut name = String::from("mu");
    for byte in &hash[..6] {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

fn enable(file: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|text| text.trim() == "1") {
        return Ok(());
    }
    fs::write(file, "1").context(
        Name::ContainerNetworking,
        format!("cannot set {file} to 1 (is /proc/sys read-only here?)"),
    )
}

/// A port on which a program of the host listens must not be taken away from it.
pub fn check_port_free(port: u16, protocol: Protocol) -> Result<()> {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let (tried, word) = match protocol {
        Protocol::Tcp => (TcpListener::bind(any).map(drop), "tcp"),
        Protocol::Udp => (UdpSocket::bind(any).map(drop), "udp"),
    };
    tried.map_err(|e| {
        Error::new(
            Name::CannotStartContainer,
            format!(
                "host port {port}/{word} cannot be bound: {e}; another program of this instance \
                 uses it (ss -lnp shows which)"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        let (a, b) = (veth_name("task-a"), veth_name("task-b"));
        assert_eq!((a.len(), b.len()), (14, 14));
        assert_ne!(a, b);
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_port_free(port, Protocol::Tcp).unwrap_err().to_string();
        assert!(error.contains(&format!("host port {port}/tcp")), "{error}");
        drop(taken);
        check_port_free(port, Protocol::Tcp).unwrap();
    }
}
