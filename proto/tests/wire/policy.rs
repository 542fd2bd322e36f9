//! Every rpc has a policy, and reflection tells every file.

#[path = "../../build/policy.rs"]
pub mod build;

use muster_proto::pb::{Auth, Kind};
use muster_proto::policy::{POLICIES, of};
use std::collections::BTreeSet;

#[test]
fn every_rpc_says_who_may_call_it_and_what_it_is() {
    assert!(POLICIES.len() >= 40, "{}", POLICIES.len());
    let paths: BTreeSet<_> = POLICIES.iter().map(|policy| policy.path).collect();
    assert_eq!(paths.len(), POLICIES.len());
    for policy in POLICIES {
        assert_ne!(policy.auth, Auth::Unspecified, "{}", policy.path);
        assert_ne!(policy.kind, Kind::Unspecified, "{}", policy.path);
        assert_eq!(policy.path, format!("/{}/{}", policy.service, policy.method));
        let reads = ["Describe", "Discover", "Get", "List", "Plan"];
        let reads = reads.iter().any(|verb| policy.method.starts_with(verb));
        assert_eq!(reads, policy.kind == Kind::Read, "{}", policy.path);
    }
    let create = of("/muster.v1.Ecs/CreateCluster").unwrap();
    assert_eq!((create.auth, create.kind), (Auth::UserWrite, Kind::Write));
    assert!(
        POLICIES
            .iter()
            .filter(|p| p.service == "muster.raft.v1.Raft")
            .all(|p| p.auth == Auth::Manager)
    );
    assert!(of("/muster.v1.Ecs/createCluster").is_none());
}

/// What `grpcurl` sees without files; also the proof that our own options are still in it.
#[test]
fn the_descriptors_carry_every_service_and_our_options() {
    let pool = prost_reflect::DescriptorPool::decode(muster_proto::FILE_DESCRIPTOR_SET).unwrap();
    for policy in POLICIES {
        let service = pool.get_service_by_name(policy.service).unwrap();
        let method = service.methods().find(|m| m.name() == policy.method).unwrap();
        let auth = pool.get_extension_by_name("muster.v1.auth").unwrap();
        assert!(method.options().has_extension(&auth), "{}", policy.path);
    }
}

#[test]
fn an_rpc_without_a_policy_fails_the_build() {
    let compile = |options: &str| {
        let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rpc-without-a-policy");
        std::fs::create_dir_all(&dir).unwrap();
        let source = format!(
            "syntax = \"proto3\"; package a; import \"options.proto\"; message M {{}}
            service S {{ rpc Call(M) returns (M) {{ {options} }} }}"
        );
        std::fs::write(dir.join("a.proto"), source).unwrap();
        let api = concat!(env!("CARGO_MANIFEST_DIR"), "/api");
        let mut compiler = protox::Compiler::new([dir.to_str().unwrap(), api]).unwrap();
        compiler.open_file("a.proto").unwrap();
        build::policies(&compiler.descriptor_pool()).map_err(|error| error.to_string())
    };
    let auth = "option (muster.v1.auth) = AUTH_ADMIN;";
    let kind = "option (muster.v1.kind) = KIND_READ;";
    assert!(compile(&format!("{auth} {kind}")).unwrap().contains("crate::pb::Auth::Admin"));
    for missing in [auth, kind, "", "option (muster.v1.auth) = AUTH_UNSPECIFIED;"] {
        let error = compile(missing).unwrap_err();
        assert!(error.contains("rpc a.S.Call does not set (muster.v1."), "{error}");
    }
}
