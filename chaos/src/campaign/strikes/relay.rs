//! A bad line: everything that a manager sends and is sent comes late, out of order, or twice.
//!
//! The kernels under test have no netem, so the line is a program: the host's cable is taken out of
//! the hub's bridge, and two threads carry its frames to a cable that is plugged in instead. What
//! was drawn by lot for a frame decides when it goes on; frames with shorter waits overtake.

use super::{Span, Struck};
use crate::campaign::field::Field;
use muster_model::IdSource;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{bind, recv, send, socket};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The end of the new cable that is read and written here; the other, `line-b`, is in the bridge.
const OURS: &str = "line-a";
/// Longest wait for a frame: so soon is the end noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Frames on their way in one direction; more are lost, as on any line.
const FRAMES_MAX: usize = 20_000;
const FRAME_BYTES_MAX: usize = 65_536;

/// How bad the line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    least: Duration,
    most: Duration,
    /// Of 100 frames, so many come twice.
    twice: u64,
}

/// What was carried.
#[derive(Default)]
struct Carried {
    frames: AtomicU64,
    overtaken: AtomicU64,
    twice: AtomicU64,
}

/// Late, out of order, twice, or so late that the leader seems gone; in turn.
///
/// # Errors
/// Nobody leads, or the machine refuses.
pub fn delay(field: &mut Field, span: Span) -> Result<Struck, String> {
    let leader = format!("m{}", field.wait_leader()?);
    let line = |least, most, twice| Line {
        least: Duration::from_millis(least),
        most: Duration::from_millis(most),
        twice,
    };
    let line = match field.turn() % 5 {
        0 => line(1, 50, 0),
        1 => line(1, 5, 20),
        2 => line(50, 100, 0),
        3 => line(1, 150, 10),
        _ => line(300, 500, 5),
    };
    plug(field, &leader, true);
    let (carried, stop) = (Arc::new(Carried::default()), Arc::new(AtomicBool::new(false)));
    let struck = field.record.now();
    let seed = u128::from(field.below(u64::MAX));
    let ports = [format!("v-{leader}"), OURS.to_owned()];
    let (counts, ends) = (carried.clone(), stop.clone());
    let relay = field.spawn(async move { carry(&ports, line, seed, &counts, &ends).await });
    let waited = field.last(span.longest.min(Duration::from_secs(8)));
    stop.store(true, Ordering::Relaxed);
    let carrying = relay
        .map(|relay| field.ask(async move { relay.await.map_err(|error| error.to_string())? }));
    plug(field, &leader, false);
    carrying.unwrap_or(Ok(()))?;
    waited?;
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let what = format!(
        "line of the leader {leader}: {} to {} ms late each way; {} frames, {} overtaken, {} twice",
        line.least.as_millis(),
        line.most.as_millis(),
        count(&carried.frames),
        count(&carried.overtaken),
        count(&carried.twice),
    );
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Takes a host's cable out of the bridge and puts the line there, or undoes it.
fn plug(field: &Field, host: &str, line: bool) {
    // Frames must be whole and sealed: a card that would do that later is not there. And the hub
    // must not answer on a cable that it has no address on.
    let on = "host=$1 port=v-$1; \
              echo 8 >/proc/sys/net/ipv4/conf/$port/arp_ignore; \
              ip link add line-a type veth peer name line-b; \
              echo 8 >/proc/sys/net/ipv4/conf/line-a/arp_ignore; \
              ethtool -K line-b tx off tso off gso off >/dev/null; \
              ip link set line-a up promisc on; \
              ip link set $port nomaster; ip link set $port promisc on; \
              ip link set line-b master br0 up";
    let off = "port=v-$1; ip link del line-a; ip link set $port promisc off; \
               ip link set $port master br0";
    let (script, offload) = if line { (on, "off") } else { (off, "on") };
    let lab = &field.cluster.lab;
    lab.done(&["in", host, "ethtool", "-K", "eth0", "tx", offload, "tso", offload, "gso", offload]);
    lab.done(&["in", "hub", "sh", "-c", script, "sh", host]);
}

/// Carries both ways until told to stop; what is under way then is lost.
async fn carry(
    ports: &[String; 2],
    line: Line,
    seed: u128,
    carried: &Arc<Carried>,
    stop: &Arc<AtomicBool>,
) -> Result<(), String> {
    // One socket per end: a socket does not hear what it says itself.
    let [one, other] = [open(&ports[0])?, open(&ports[1])?].map(Arc::new);
    let ways = [(one.clone(), other.clone(), seed), (other, one, seed ^ 1)];
    let ways: Vec<_> = ways
        .into_iter()
        .map(|(from, to, seed)| {
            let (carried, stop) = (carried.clone(), stop.clone());
            tokio::task::spawn_blocking(move || {
                one_way(&from, &to, line, &mut IdSource::new(seed), &carried, &stop)
            })
        })
        .collect();
    for way in ways {
        way.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// A socket that hears and says whole frames on one interface of this thread's network.
fn open(interface: &str) -> Result<OwnedFd, String> {
    let failed = |what: &str, errno: Errno| format!("{what} on {interface}: {errno}");
    let mut all = getifaddrs().map_err(|errno| failed("addresses", errno))?;
    let address = all.find_map(|entry| match entry.interface_name == interface {
        true => entry.address?.as_link_addr().copied(),
        false => None,
    });
    let address = address.ok_or_else(|| format!("there is no interface {interface}"))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        .map_err(|errno| failed("socket", errno))?;
    bind(socket.as_raw_fd(), &address).map_err(|errno| failed("bind", errno))?;
    Ok(socket)
}

fn one_way(
    from: &OwnedFd,
    to: &OwnedFd,
    line: Line,
    dice: &mut IdSource,
    carried: &Carried,
    stop: &AtomicBool,
) -> Result<(), String> {
    let mut waiting: BTreeMap<(Instant, u64), Vec<u8>> = BTreeMap::new();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let next = waiting.first_key_value().map(|((due, _), _)| *due);
        let wait = next.map_or(LOOK_EVERY, |due| due.saturating_duration_since(Instant::now()));
        let wait = PollTimeout::try_from(wait.min(LOOK_EVERY)).unwrap_or(PollTimeout::ZERO);
        poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], wait).ok();
        while let Ok(bytes) = recv(from.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let copies = if dice.next_u64() % 100 < line.twice { 2 } else { 1 };
            carried.frames.fetch_add(1, Ordering::Relaxed);
            carried.twice.fetch_add(copies - 1, Ordering::Relaxed);
            for _ in 0..copies {
                let due = Instant::now() + late(line, dice);
                if waiting.keys().next_back().is_some_and(|(last, _)| *last > due) {
                    carried.overtaken.fetch_add(1, Ordering::Relaxed);
                }
                if waiting.len() < FRAMES_MAX {
                    number += 1;
                    waiting.insert((due, number), buffer[..bytes].to_vec());
                }
            }
        }
        while let Some(entry) = waiting.first_entry()
            && entry.key().0 <= Instant::now()
        {
            match send(to.as_raw_fd(), &entry.remove(), MsgFlags::empty()) {
                // A frame too many, or an interface that is down, is a frame lost.
                Ok(_) | Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ENETDOWN) => {}
                Err(errno) => return Err(format!("a frame cannot be sent: {errno}")),
            }
        }
    }
    Ok(())
}

fn late(line: Line, dice: &mut IdSource) -> Duration {
    let range = u64::try_from((line.most - line.least).as_micros()).unwrap_or(0);
    line.least + Duration::from_micros(dice.next_u64() % range.max(1))
}
