//! What is said of rows beside them, at random.

use super::{cluster, definition, instance, name, task, text};
use muster_model::command::InstanceAttribute;
use muster_model::{AlarmCommand, AlarmState, Command, Millis, mark};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// An instance has 1024 of each; most of them leave a little, some all of it.
fn reserve() -> impl Strategy<Value = String> {
    let amount = || prop_oneof![3 => 0u32..1200, 1 => any::<u32>()];
    prop_oneof![
        1 => Just(String::new()),
        3 => (amount(), amount()).prop_map(|(cpu, mem)| format!("cpu:{cpu},memory:{mem}")),
    ]
}

/// What is said of rows beside them.
pub fn marks() -> impl Strategy<Value = Command> {
    let attribute = (instance(), "[ab]", option::of("[xy]".prop_map(String::from)))
        .prop_map(|(instance, name, value)| InstanceAttribute { instance, name, value });
    let key = (option::of(name()), name())
        .prop_map(|(principal, name)| mark::SettingKey { principal, name });
    prop_oneof![
        (vec(attribute, 0..3), vec((instance(), "[ab]".prop_map(String::from)), 0..2))
            .prop_map(|(set, remove)| Command::ChangeAttributes { set, remove }),
        (cluster(), btree_map("[ab]", "[xy]", 0..2))
            .prop_map(|(cluster, settings)| Command::UpdateCluster { cluster, settings }),
        (cluster(), btree_map("zoneReserve:az-[012]", reserve(), 1..3))
            .prop_map(|(cluster, settings)| Command::UpdateCluster { cluster, settings }),
        definition().prop_map(|definition| Command::DeleteTaskDefinition { definition }),
        (task(), option::of((0u64..1000).prop_map(Millis)))
            .prop_map(|(task, span)| Command::ProtectTask { task, span }),
        (key, option::of(text()))
            .prop_map(|(key, value)| Command::SetAccountSetting { key, value }),
        alarms().prop_map(Command::Alarm),
    ]
}

fn alarms() -> impl Strategy<Value = AlarmCommand> {
    use AlarmState::{Alarm, InsufficientData, Ok};
    let state = prop_oneof![Just(Ok), Just(Alarm), Just(InsufficientData)];
    let set = |(name, state)| AlarmCommand::Set { name, state, reason: "x".into() };
    prop_oneof![
        4 => (name(), state).prop_map(set),
        1 => name().prop_map(|name| AlarmCommand::Delete { name }),
    ]
}
