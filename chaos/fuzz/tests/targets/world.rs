//! The state that names in requests are resolved in: a clone costs a few pointers.

use muster_model::fixture::World;
use std::sync::OnceLock;

static WORLD: OnceLock<World> = OnceLock::new();

/// A service of three tasks, one of them running, on two instances.
pub fn world() -> World {
    let made = || {
        World::from_text(
            "
            instance i1 az=az-a cpu=4096 mem=8192 ready
            instance i2 az=az-b cpu=2048 mem=4096 ready
            definition web cpu=256 mem=128 port=80
            service web definition=web:1 desired=3
            task t1 service=web on=i1 running
            ",
        )
    };
    WORLD.get_or_init(made).clone()
}
