//! Access keys, secrets and the signing key: whatever the state keeps sealed.

use super::name;
use muster_model::{AccessKeyId, AccessKeyStatus, Command, SealedSecret, SecretCommand};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

pub fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        access_keys(),
        secrets().prop_map(Command::Secret),
        sealed().prop_map(|key| Command::CreateSigningKey { public: key.0.clone(), private: key }),
    ]
}

fn sealed() -> impl Strategy<Value = SealedSecret> {
    vec(any::<u8>(), 0..4).prop_map(|bytes| SealedSecret(bytes.into()))
}

fn access_keys() -> impl Strategy<Value = Command> {
    let id = || (0u128..4).prop_map(AccessKeyId::from_bits);
    let status = prop_oneof![Just(AccessKeyStatus::Active), Just(AccessKeyStatus::Inactive)];
    let user = prop_oneof![3 => Just(Arc::from("admin")), 1 => name()];
    prop_oneof![
        2 => (id(), user, sealed())
            .prop_map(|(id, user, secret)| Command::CreateAccessKey { id, user, secret }),
        1 => (id(), status).prop_map(|(id, status)| Command::SetAccessKeyStatus { id, status }),
        1 => id().prop_map(|id| Command::DeleteAccessKey { id }),
    ]
}

fn secrets() -> impl Strategy<Value = SecretCommand> {
    prop_oneof![
        2 => (name(), sealed()).prop_map(|(name, value)| SecretCommand::Create { name, value }),
        4 => (name(), sealed()).prop_map(|(name, value)| SecretCommand::PutValue { name, value }),
        1 => name().prop_map(|name| SecretCommand::Delete { name }),
    ]
}
