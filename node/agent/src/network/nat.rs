//! Host ports and the way out, as one nftables table that is always written as a whole.
//!
//! The table is made from the list of bindings, so a repeat changes nothing and a crash leaves
//! nothing half done. Many changes at once become one call of `nft`: who waits for the lock finds
//! that somebody else has already written a newer list.

use super::{Attachment, BridgeConfig, Subnet};
use crate::error::{Error, Name, Result};
use crate::metadata::{ADDRESS, INSTANCE_ADDRESS};
use muster_model::spec::Protocol;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const NFT: &str = "nft";
/// 5000 ports take about a second on a small machine.
const NFT_TIMEOUT: Duration = Duration::from_secs(30);

/// What stays the same in the table.
struct Ground {
    table: String,
    bridge: String,
    subnet: Subnet,
    /// Of loopback, where the metadata endpoint listens.
    metadata_port: u16,
}

/// A host port that leads to a port of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub container_port: u16,
    pub host_port: u16,
    pub protocol: Protocol,
}

type Ports = BTreeMap<(u8, u16), (Ipv4Addr, u16)>;

#[derive(Default)]
struct Wanted {
    ports: Ports,
    /// Whoever reaches the machine's own metadata address.
    instance_metadata: BTreeSet<Ipv4Addr>,
    /// Grows with every change.
    version: u64,
}

pub struct Nat {
    ground: Ground,
    wanted: Mutex<Wanted>,
    /// The version that is in the kernel; held while `nft` runs.
    applied: tokio::sync::Mutex<u64>,
}

fn key(protocol: Protocol, port: u16) -> (u8, u16) {
    (
        match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        },
        port,
    )
}

impl Nat {
    pub fn new(config: &BridgeConfig, metadata_port: u16) -> Self {
        Self {
            ground: Ground {
                table: format!("muster-{}", config.name),
                bridge: config.name.clone(),
                subnet: config.subnet,
                metadata_port,
            },
            wanted: Mutex::new(Wanted::default()),
            applied: tokio::sync::Mutex::new(0),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a container has as taken without writing the table yet.
    pub fn adopt(&self, plan: &Attachment) {
        let mut wanted = self.lock();
        wanted.version += 1;
        for b in &plan.bindings {
            wanted.ports.insert(key(b.protocol, b.host_port), (plan.address, b.container_port));
        }
        if plan.instance_metadata {
            wanted.instance_metadata.insert(plan.address);
        }
    }

    pub fn check_unused(&self, port: u16, protocol: Protocol) -> Result<()> {
        match self.lock().ports.get(&key(protocol, port)) {
            None => Ok(()),
            Some((address, _)) => Err(Error::new(
                Name::CannotStartContainer,
                format!("host port {port} already leads to the container at {address}"),
            )),
        }
    }

    pub async fn add(&self, plan: &Attachment) -> Result<()> {
        self.adopt(plan);
        self.apply().await
    }

    /// Counts ports as free again; the kernel learns of it with the next [`Nat::apply`]. Takes out
    /// only what still leads to the container: the port may have a new owner.
    pub fn withdraw(&self, plan: &Attachment) {
        let mut wanted = self.lock();
        wanted.version += 1;
        for b in &plan.bindings {
            let key = key(b.protocol, b.host_port);
            if wanted.ports.get(&key).is_some_and(|(a, _)| *a == plan.address) {
                wanted.ports.remove(&key);
            }
        }
        wanted.instance_metadata.remove(&plan.address);
    }

    /// Makes the kernel's table what it should be.
    pub async fn apply(&self) -> Result<()> {
        let mine = self.lock().version;
        let mut applied = self.applied.lock().await;
        if *applied >= mine && mine > 0 {
            return Ok(());
        }
        let (rules, version) = {
            let wanted = self.lock();
            (render(&self.ground, &wanted), wanted.version)
        };
        nft(&rules).await?;
        *applied = version;
        Ok(())
    }

    pub async fn drop_table(&self) -> Result<()> {
        let mut applied = self.applied.lock().await;
        *applied = 0;
        nft(&format!("table ip {0}\ndelete table ip {0}\n", self.ground.table)).await
    }
}

/// The whole table. Declaring it first makes the deletion valid when there is none yet.
fn render(ground: &Ground, wanted: &Wanted) -> String {
    let Ground { table, bridge, subnet, metadata_port } = ground;
    let mut text = format!("table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
    for (name, protocol) in [("tcp", 6), ("udp", 17)] {
        let _ = write!(
            text,
            "  map {name}_ports {{\n    type inet_service : ipv4_addr . inet_service\n"
        );
        let of_protocol = wanted.ports.iter().filter(|((p, _), _)| *p == protocol);
        let elements: Vec<String> = of_protocol
            .map(|((_, host), (address, port))| format!("{host} : {address} . {port}"))
            .collect();
        if !elements.is_empty() {
            let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
        }
        text.push_str("  }\n");
    }
    text.push_str(&guard(ground, &wanted.instance_metadata));
    // From outside, and from this host itself (which never passes prerouting).
    for (hook, from) in
        [("prerouting", format!("iifname \"{bridge}\" ")), ("output", String::new())]
    {
        let _ = write!(
            text,
            "  chain {hook} {{\n    type nat hook {hook} priority -100\n\
             \x20   {from}ip daddr {ADDRESS} tcp dport 80 dnat to 127.0.0.1:{metadata_port}\n\
             \x20   fib daddr type local dnat ip to tcp dport map @tcp_ports\n\
             \x20   fib daddr type local dnat ip to udp dport map @udp_ports\n  }}\n"
        );
    }
    // Out of the subnet; from a container to itself or a neighbour through a host port; and from
    // the host's loopback address, which no container could answer to.
    let _ = write!(
        text,
        "  chain postrouting {{\n    type nat hook postrouting priority 100\n\
         \x20   ip saddr {subnet} oifname != \"{bridge}\" masquerade\n\
         \x20   ip saddr {subnet} oifname \"{bridge}\" ct status dnat masquerade\n\
         \x20   ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade\n  }}\n}}\n"
    );
    text
}

/// Before any address is translated. The bridge takes packets for the host's loopback, because the
/// metadata endpoint and replies need it; what a container itself addresses there is not for it.
fn guard(ground: &Ground, open_to: &BTreeSet<Ipv4Addr>) -> String {
    let from = format!("iifname \"{}\"", ground.bridge);
    let mut text = String::from("  set instance_metadata {\n    type ipv4_addr\n");
    if !open_to.is_empty() {
        let elements: Vec<String> = open_to.iter().map(Ipv4Addr::to_string).collect();
        let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
    }
    let _ = write!(
        text,
        "  }}\n  chain guard {{\n    type filter hook prerouting priority -150\n\
         \x20   {from} ip daddr 127.0.0.0/8 drop\n  }}\n"
    );
    // Refused at once, so that clients do not wait for it.
    let refused =
        format!("{from} ip daddr {INSTANCE_ADDRESS} ip saddr != @instance_metadata reject");
    for hook in ["input", "forward"] {
        let _ = write!(
            text,
            "  chain instance_{hook} {{\n    type filter hook {hook} priority 0\n\
             \x20   {refused}\n  }}\n"
        );
    }
    text
}

async fn nft(rules: &str) -> Result<()> {
    let failed = |why: String| Error::new(Name::ContainerNetworking, format!("nft: {why}"));
    let mut child = Command::new(NFT)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("cannot run it: {e}; install the package nftables")))?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A refusal shows in the exit status; a broken pipe here says nothing more.
            let _ = stdin.write_all(rules.as_bytes()).await;
        }
        drop(stdin.take());
    };
    let run = async { tokio::join!(feed, child.wait_with_output()).1 };
    match tokio::time::timeout(NFT_TIMEOUT, run).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(failed(text.chars().take(400).collect()))
        }
        Ok(Err(e)) => Err(failed(e.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", NFT_TIMEOUT.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS_OF_ONE: Ipv4Addr = Ipv4Addr::new(10, 88, 1, 2);

    fn nat() -> Nat {
        let subnet = "10.88.1.0/24".parse().unwrap();
        Nat::new(&BridgeConfig { name: "muster0".into(), subnet }, 4000)
    }

    fn plan(bindings: &[Binding]) -> Attachment {
        Attachment {
            netns: "/n".into(),
            veth: "v".into(),
            address: ADDRESS_OF_ONE,
            bindings: bindings.to_vec(),
            instance_metadata: false,
        }
    }

    fn table(nat: &Nat) -> String {
        render(&nat.ground, &nat.lock())
    }

    #[test]
    fn the_machine_s_own_metadata_is_open_to_those_alone_that_may_have_it() {
        let nat = nat();
        let metadata = "iifname \"muster0\" ip daddr 169.254.170.2 tcp dport 80 dnat to \
                        127.0.0.1:4000";
        let refused = "ip daddr 169.254.169.254 ip saddr != @instance_metadata reject";
        let nobody = table(&nat);
        assert!(nobody.contains(metadata) && !nobody.contains("10.88.1.2"), "{nobody}");
        assert_eq!(nobody.matches(refused).count(), 2);
        let open = Attachment { instance_metadata: true, ..plan(&[]) };
        nat.adopt(&open);
        let one = table(&nat);
        assert!(one.contains("elements = { 10.88.1.2 }"), "{one}");
        assert_eq!(one.matches(refused).count(), 2);
        nat.withdraw(&open);
        assert_eq!(table(&nat), nobody);
    }

    #[test]
    fn the_table_lists_each_binding_under_its_protocol() {
        let nat = nat();
        let binding = |protocol| Binding { container_port: 80, host_port: 32768, protocol };
        nat.adopt(&plan(&[binding(Protocol::Tcp)]));
        let text = table(&nat);
        let (tcp, udp) = text.split_once("map udp_ports").unwrap();
        assert!(tcp.contains("elements = { 32768 : 10.88.1.2 . 80 }"), "{text}");
        assert!(!udp.contains("elements"), "{text}");
        assert!(udp.contains("ip saddr 10.88.1.0/24 oifname != \"muster0\" masquerade"), "{text}");
    }

    #[test]
    fn a_taken_port_is_refused_for_the_same_protocol_only() {
        let nat = nat();
        let b = Binding { container_port: 80, host_port: 8080, protocol: Protocol::Tcp };
        nat.adopt(&plan(&[b]));
        let error = nat.check_unused(8080, Protocol::Tcp).unwrap_err().to_string();
        assert!(error.contains("8080") && error.contains("10.88.1.2"), "{error}");
        nat.check_unused(8080, Protocol::Udp).unwrap();
    }
}
