//! Interfaces, addresses and routes through rtnetlink: the only user of that crate.

use super::netns::Inside;
use futures::TryStreamExt;
use nix::libc;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Netlink answers within microseconds; this is for a kernel in trouble.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Every container's interface, as Docker names it.
const INSIDE: &str = "eth0";

/// A netlink connection that stays in the namespace it was opened in.
pub struct Handle {
    rtnetlink: rtnetlink::Handle,
    connection: AbortHandle,
}

impl Handle {
    /// Must be called with a tokio runtime entered.
    pub fn open() -> io::Result<Self> {
        let (connection, rtnetlink, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Self { rtnetlink, connection })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The links of the agent's own namespace.
pub struct Links(Handle);

impl Links {
    pub fn open() -> io::Result<Self> {
        Handle::open().map(Self)
    }

    pub async fn index_of(&self, name: &str) -> Option<u32> {
        index_of(&self.0, name).await.ok().flatten()
    }

    /// Makes the bridge if it is not there and gives it its address. Returns its index.
    pub async fn ensure_bridge(
        &self,
        name: &str,
        address: Ipv4Addr,
        prefix: u8,
    ) -> io::Result<u32> {
        let link = self.0.rtnetlink.link();
        if index_of(&self.0, name).await?.is_none() {
            // A fixed address: otherwise it changes with every cable, and neighbours lose it.
            let message = LinkBridge::new(name).address(hardware_address(address)).up().build();
            allow(libc::EEXIST, within(link.add(message).execute()).await)?;
        }
        let index = index_of(&self.0, name).await?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("bridge {name} vanished"))
        })?;
        let add = self.0.rtnetlink.address().add(index, address.into(), prefix);
        allow(libc::EEXIST, within(add.execute()).await)?;
        within(link.set(LinkUnspec::new_with_index(index).up().build()).execute()).await?;
        Ok(index)
    }

    /// Lays a cable from the bridge into the namespace and sets up its inner end.
    pub async fn connect(
        &self,
        inside: &Inside,
        outer: &str,
        bridge: u32,
        (address, prefix): (Ipv4Addr, u8),
        gateway: Ipv4Addr,
    ) -> io::Result<()> {
        let peer = LinkUnspec::new_with_name(INSIDE)
            .address(hardware_address(address))
            .setns_by_fd(inside.file.as_raw_fd())
            .build();
        let cable = LinkVeth::new(outer, INSIDE)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(bridge)
            .up()
            .build();
        within(self.0.rtnetlink.link().add(cable).execute()).await?;
        let port = index_of(&self.0, outer).await?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the cable's outer end vanished")
        })?;
        // Where the kernel filters bridged packets, a container that asks its own host port is
        // answered through the port it came from.
        let hairpin = LinkBridgePort::new(port).hairpin(true).build();
        within(self.0.rtnetlink.link().set_port(hairpin).execute()).await?;
        let own = &inside.handle.rtnetlink;
        let eth = index_of(&inside.handle, INSIDE).await?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the cable's inner end vanished")
        })?;
        // The loopback interface is always the first of a namespace.
        within(own.link().set(LinkUnspec::new_with_index(1).up().build()).execute()).await?;
        within(own.address().add(eth, address.into(), prefix).execute()).await?;
        within(own.link().set(LinkUnspec::new_with_index(eth).up().build()).execute()).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        within(own.route().add(route).execute()).await
    }

    /// Deletes an interface; one that is not there is fine.
    pub async fn delete(&self, name: &str) -> io::Result<()> {
        let Some(index) = index_of(&self.0, name).await? else { return Ok(()) };
        let deleted = within(self.0.rtnetlink.link().del(index).execute()).await;
        allow(libc::ENODEV, deleted)
    }

    /// Names of the interfaces plugged into `bridge`.
    pub async fn cables_of(&self, bridge: &str) -> io::Result<Vec<String>> {
        let Some(index) = index_of(&self.0, bridge).await? else { return Ok(Vec::new()) };
        let all = self.0.rtnetlink.link().get().execute().try_collect::<Vec<LinkMessage>>();
        let ours = |link: &LinkMessage| {
            link.attributes.iter().any(|a| matches!(a, LinkAttribute::Controller(c) if *c == index))
        };
        Ok(within(all).await?.iter().filter(|l| ours(l)).filter_map(name_of).collect())
    }
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

async fn index_of(handle: &Handle, name: &str) -> io::Result<Option<u32>> {
    let mut found = handle.rtnetlink.link().get().match_name(name.to_owned()).execute();
    match within(found.try_next()).await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The usual locally administered address made from the IP: a reused IP keeps its hardware
/// address, so neighbours' tables stay right.
fn hardware_address(ip: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = ip.octets();
    vec![0x02, 0x42, a, b, c, d]
}

/// Waits for the kernel's answer and turns its errno into an ordinary error.
async fn within<T>(answer: impl Future<Output = Result<T, rtnetlink::Error>>) -> io::Result<T> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(rtnetlink::Error::NetlinkError(e))) => Err(e.to_io()),
        Ok(Err(e)) => Err(io::Error::other(e.to_string())),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "netlink did not answer")),
    }
}

fn allow(errno: i32, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(errno) => Ok(()),
        other => other,
    }
}
