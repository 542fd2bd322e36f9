//! Every identifier, each its own type, and `IdSource`, which mints them from a seed.
//!
//! Ids are minted by whoever proposes an entry and ride in it, so `apply` needs no randomness.
//! There is no `From<u128>`: bits become an id only where the edge parsed or minted them.

use crate::error::Error;
use crate::time::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// 128 bits, the high ones first. As a `u128` they would align whatever holds an id to 16 bytes: an
/// entry of a table of tasks would take 32 bytes in place of 24, and allocators are slower there.
type Words = [u64; 2];

/// 32 lower-case hex digits: several times as fast as the formatter, for lists of thousands of ids.
fn hex(bits: u128) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(bits >> (4 * place)) as usize & 15];
    }
    digits
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $field:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(Words);

        impl $name {
            /// An id from bits that were parsed or minted at the edge.
            pub const fn from_bits(bits: u128) -> Self {
                Self([(bits >> 64) as u64, bits as u64])
            }
            pub const fn bits(self) -> u128 {
                let [high, low] = self.0;
                (high as u128) << 64 | low as u128
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.bits().cmp(&other.bits())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.bits().serialize(to)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                u128::deserialize(from).map(Self::from_bits)
            }
        }

        impl fmt::Display for $name {
            /// 32 lower-case hex digits, as in an ECS task id.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&hex(self.bits())).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.bits())
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                match u128::from_str_radix(text, 16) {
                    Ok(bits) if hex => Ok(Self::from_bits(bits)),
                    _ => Err(Error::invalid($field, text, "32 hexadecimal digits")),
                }
            }
        }
    )*};
}

ids! {
    /// One run of a task definition; never reused, never moved to another instance.
    TaskId, "task";
    ServiceId, "service";
    /// A container instance: a worker machine.
    InstanceId, "containerInstance";
    DeploymentId, "deployment";
    ClusterId, "cluster";
    ScheduleId, "schedule";
    JobId, "job";
    /// Names a request, so that a repeat of it has no second effect (ECS: `clientToken`).
    RequestId, "clientToken";
    /// One connection of an agent to a manager; fences what an older connection still says.
    SessionId, "session";
    /// Links the spans of one journey (the W3C trace id).
    TraceId, "traceId";
}

impl DeploymentId {
    /// Its number: 19 decimal digits, as many as ECS's have, and as many as fit into 64 bits. Two
    /// deployments of one service have the same one once in 10^19 times.
    pub fn number(self) -> String {
        format!("{:019}", self.bits() % 10_u128.pow(19))
    }

    /// What users know it by, as in ECS: its id in a service, `startedBy` of its tasks, in reasons
    /// and events.
    pub fn shown(self) -> String {
        format!("ecs-svc/{}", self.number())
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// A Raft member. Given out by the log, never reused, never kept by a wiped disk.
    RaftId(u64);
    /// A position in the Raft log; also the version of the state after that entry.
    Index(u64);
    /// The log index of a `Takeover`: who may act. A higher epoch silences a lower one for good.
    Epoch(u64);
    /// The n-th task definition of a family, counted from 1.
    Revision(u32);
    /// A place in a service that at most one task should fill.
    Slot(u32);
    /// Position of a task definition in the order of registration; stands for family and revision.
    DefinitionId(u64);
}

/// A seeded source of ids: the same seed gives the same ids, so a simulation replays.
///
/// xoshiro256++ (Blackman and Vigna, 2018) seeded through SplitMix64, the authors' advice.
#[derive(Clone, Debug)]
pub struct IdSource {
    state: [u64; 4],
}

impl IdSource {
    /// `seed` comes from the machine's entropy in a shell and from the test's seed in a test.
    pub fn new(seed: u128) -> Self {
        let mut mix = seed as u64;
        let high = (seed >> 64) as u64;
        let mut state = [0; 4];
        for word in &mut state {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mix ^ high;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word = z ^ (z >> 31);
        }
        Self { state }
    }

    /// The next 64 bits; also the source of jitter for shells and simulations.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    fn next_u128(&mut self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }

    /// The time in milliseconds before 80 random bits (as in RFC 9562, version 7): what is made in
    /// one moment stands together in every table, which shares its pages between versions.
    fn ordered(&mut self, now: Time) -> u128 {
        u128::from(now.0) << 80 | self.next_u128() & (u128::MAX >> 48)
    }

    /// Ordered by time, so that the tasks of one plan are neighbours in every table.
    pub fn task(&mut self, now: Time) -> TaskId {
        TaskId::from_bits(self.ordered(now))
    }
    pub fn service(&mut self) -> ServiceId {
        ServiceId::from_bits(self.next_u128())
    }
    pub fn instance(&mut self) -> InstanceId {
        InstanceId::from_bits(self.next_u128())
    }
    pub fn deployment(&mut self) -> DeploymentId {
        DeploymentId::from_bits(self.next_u128())
    }
    pub fn cluster(&mut self) -> ClusterId {
        ClusterId::from_bits(self.next_u128())
    }
    pub fn schedule(&mut self) -> ScheduleId {
        ScheduleId::from_bits(self.next_u128())
    }
    /// Ordered by time: of two jobs of one name the newer one stands later.
    pub fn job(&mut self, now: Time) -> JobId {
        JobId::from_bits(self.ordered(now))
    }
    pub fn request(&mut self) -> RequestId {
        RequestId::from_bits(self.next_u128())
    }
    /// For a request whose caller gave no client token; ordered by time.
    pub fn request_at(&mut self, now: Time) -> RequestId {
        RequestId::from_bits(self.ordered(now))
    }
    pub fn session(&mut self) -> SessionId {
        SessionId::from_bits(self.next_u128())
    }
    pub fn trace(&mut self) -> TraceId {
        TraceId::from_bits(self.next_u128())
    }
}

/// Who asks: what a verified certificate or a signed request says. Append only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Principal {
    /// A Raft member.
    Manager(RaftId),
    /// The agent of a container instance.
    Instance(InstanceId),
    /// A person or a program, by the name in its certificate.
    User(String),
    /// A task, with the credentials of its task role.
    AssumedRole { role: String, task: TaskId },
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(id) => write!(f, "manager/{id}"),
            Self::Instance(id) => write!(f, "instance/{id}"),
            Self::User(name) => write!(f, "user/{name}"),
            Self::AssumedRole { role, task } => write!(f, "assumed-role/{role}/{task}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_shown_by_nineteen_digits() {
        let shown = |bits| DeploymentId::from_bits(bits).shown();
        assert_eq!(shown(7), "ecs-svc/0000000000000000007");
        assert_eq!(shown(10_u128.pow(19) + 7), "ecs-svc/0000000000000000007");
        // Also as large as ids get: 2^128 - 1 is 340282366920938463463374607431768211455.
        assert_eq!(shown(u128::MAX), "ecs-svc/3374607431768211455");
    }
}
