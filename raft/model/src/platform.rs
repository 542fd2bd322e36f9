//! What a definition's images were built for, and which instances that leaves.
//!
//! Instances run Linux, so only the architecture chooses. Invariant: an instance that says nothing
//! of its cpus (one that only pretends) takes everything.

use crate::placement::PlacementConstraint;
use crate::query::Query;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// ECS `runtimePlatform`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimePlatform {
    pub architecture: Option<CpuArchitecture>,
    /// Whether `operatingSystemFamily` was given; only LINUX is allowed.
    pub names_linux: bool,
}

/// In ECS's words X86_64 and ARM64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuArchitecture {
    X86,
    Arm,
}

static X86: LazyLock<Option<PlacementConstraint>> = LazyLock::new(|| runs("x86_64"));
static ARM: LazyLock<Option<PlacementConstraint>> = LazyLock::new(|| runs("arm64"));

fn runs(name: &str) -> Option<PlacementConstraint> {
    let attribute = "attribute:ecs.cpu-architecture";
    let text = format!("{attribute} == {name} or {attribute} !exists");
    Query::parse(&text).ok().map(PlacementConstraint::MemberOf)
}

impl RuntimePlatform {
    /// What every instance that runs one of its tasks fulfils.
    pub fn constraint(&self) -> Option<&'static PlacementConstraint> {
        match self.architecture? {
            CpuArchitecture::X86 => X86.as_ref(),
            CpuArchitecture::Arm => ARM.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_architecture_has_its_constraint_and_none_has_none() {
        let of = |architecture| RuntimePlatform { architecture, names_linux: true }.constraint();
        assert_eq!(of(None), None);
        let both = [CpuArchitecture::X86, CpuArchitecture::Arm].map(|one| of(Some(one)));
        assert!(both.iter().all(Option::is_some) && both[0] != both[1], "{both:?}");
    }
}
