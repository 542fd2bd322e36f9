//! What may happen to a world: users, agents, machines and leaders, in any order.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Op {
    Instance { zone: u8, cpu: u8, other: bool },
    Drain(u8),
    Activate(u8),
    Deregister(u8),
    Reregister { which: u8, cpu: u8 },
    Service { definition: u8, desired: u8, min: u8, max: u8, distinct: bool, even: bool },
    Daemon { definition: u8, min: u8 },
    Desired { service: u8, desired: u8 },
    Roll { service: u8, definition: u8 },
    Delete(u8),
    Run { definition: u8, count: u8 },
    Stop(u8),
    Up,
    Down,
    Crash(u8),
    Silence(u8),
    Return(u8),
    Wait(u8),
    Fail(u8),
    Failover,
    Settle,
}

pub fn op() -> impl Strategy<Value = Op> {
    let small = 0u8..6;
    prop_oneof![
        3 => (0u8..3, 1u8..5, any::<bool>())
            .prop_map(|(zone, cpu, other)| Op::Instance { zone, cpu, other }),
        1 => small.clone().prop_map(Op::Drain),
        1 => small.clone().prop_map(Op::Activate),
        1 => small.clone().prop_map(Op::Deregister),
        1 => (small.clone(), 1u8..5).prop_map(|(which, cpu)| Op::Reregister { which, cpu }),
        3 => (0u8..4, 0u8..5, 0u8..3, 0u8..3, any::<(bool, bool)>()).prop_map(
            |(definition, desired, min, max, (distinct, even))| Op::Service {
                definition, desired, min, max, distinct, even
            }
        ),
        1 => (0u8..4, 0u8..2).prop_map(|(definition, min)| Op::Daemon { definition, min }),
        2 => (small.clone(), 0u8..6)
            .prop_map(|(service, desired)| Op::Desired { service, desired }),
        2 => (small.clone(), 0u8..4)
            .prop_map(|(service, definition)| Op::Roll { service, definition }),
        1 => small.clone().prop_map(Op::Delete),
        2 => (0u8..4, 1u8..4).prop_map(|(definition, count)| Op::Run { definition, count }),
        2 => small.clone().prop_map(Op::Stop),
        6 => Just(Op::Up),
        5 => Just(Op::Down),
        2 => small.clone().prop_map(Op::Crash),
        1 => small.clone().prop_map(Op::Silence),
        1 => small.prop_map(Op::Return),
        6 => (0u8..30).prop_map(Op::Wait),
        1 => (0u8..2).prop_map(Op::Fail),
        1 => Just(Op::Failover),
        4 => Just(Op::Settle),
    ]
}
