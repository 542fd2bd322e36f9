//! ARNs, ids and tokens: written and found again, in every form that clients send.

use crate::world::World;
use muster_model::{Error, Kind};
use muster_proto::arn::{self, Arns, fnv128};
use muster_proto::convert::{self, request_id};
use proptest::prelude::*;

#[test]
fn every_form_of_a_name_finds_the_same_row() {
    let world = World::new();
    let state = &world.state;
    let arns = Arns::of(state);
    let cluster = arn::cluster(state, "").unwrap();
    for text in ["default", "cluster/default", &arns.cluster("default")] {
        assert_eq!(arn::cluster(state, text).unwrap().id, cluster.id, "{text}");
    }
    let service = state.services().next().unwrap();
    for text in ["web", "service/web", "service/default/web", &arns.service("default", "web")] {
        assert_eq!(arn::service(state, cluster, text).unwrap().id, service.id, "{text}");
    }
    for task in state.tasks() {
        let (short, id) = (format!("task/{}", task.id), task.id.to_string());
        for text in [&id, &short, &format!("task/default/{id}"), &arns.task("default", task.id)] {
            assert_eq!(arn::task(state, cluster, text).unwrap().id, task.id, "{text}");
        }
    }
    let instance = state.instances().next().unwrap();
    let full = arns.instance("default", instance.id);
    for text in ["worker-1", &instance.id.to_string(), &full] {
        assert_eq!(arn::instance(state, cluster, text).unwrap().id, instance.id, "{text}");
    }
    let full = arns.definition("web", muster_model::Revision(1));
    for text in ["web", "web:1", "task-definition/web:1", &full, full.trim_end_matches(":1")] {
        assert_eq!(&*arn::definition(state, text).unwrap().family, "web", "{text}");
    }
}

#[test]
fn a_name_of_another_kind_or_cluster_finds_nothing() {
    let world = World::new();
    let state = &world.state;
    let cluster = arn::cluster(state, "").unwrap();
    let task = state.tasks().next().unwrap().id;
    for text in [format!("service/{task}"), format!("task/other/{task}"), "task/1".into()] {
        let error = arn::task(state, cluster, &text).unwrap_err();
        assert!(matches!(error, Error::NotFound { kind: Kind::Task, .. }), "{error:?}");
    }
    for text in ["task/web", "service/other/web", "", "service/"] {
        let error = arn::service(state, cluster, text).unwrap_err();
        assert!(matches!(error, Error::NotFound { kind: Kind::Service, .. }), "{error:?}");
    }
    let foreign = "arn:aws:ecs:eu-west-1:123456789012:service/default/web";
    assert!(matches!(arn::service(state, cluster, foreign), Err(Error::Invalid { .. })));
}

#[test]
fn an_id_is_looked_for_in_the_named_cluster_only() {
    let mut world = World::new();
    let request = muster_proto::pb::CreateClusterRequest {
        cluster_name: "other".into(),
        ..Default::default()
    };
    let command = convert::cluster::create(&world.state, &mut world.ids, &request).unwrap();
    world.apply(command).unwrap();
    let state = &world.state;
    let other = arn::cluster(state, "other").unwrap();
    let task = state.tasks().next().unwrap().id.to_string();
    assert!(matches!(arn::task(state, other, &task), Err(Error::NotFound { .. })));
    let instance = state.instances().next().unwrap().id.to_string();
    assert!(matches!(arn::instance(state, other, &instance), Err(Error::NotFound { .. })));
}

#[test]
fn a_host_name_of_two_machines_names_neither() {
    let mut world = World::new();
    let cluster = arn::cluster(&world.state, "").unwrap().clone();
    let first = arn::instance(&world.state, &cluster, "worker-1").unwrap().clone();
    let command = muster_model::command::RegisterInstance {
        id: world.ids.instance(),
        cluster: cluster.id,
        spec: first.spec.clone(),
    };
    world.apply(muster_model::Command::RegisterInstance(command)).unwrap();
    let error = arn::instance(&world.state, &cluster, "worker-1").unwrap_err();
    assert!(error.to_string().contains("several have this host name"), "{error}");
}

/// Tokens are remembered for a day, also across an upgrade: their hash may never change.
#[test]
fn a_token_becomes_the_same_id_for_ever() {
    assert_eq!(fnv128(&[]), 0x6c62272e07bb014262b821756295c58d);
    assert_eq!(fnv128(&[b"a"]), 0xd228cb696f1a8caf78912b704e4a8964);
    assert_eq!(fnv128(&[b"foo", b"bar"]), 0x343e1662793c64bf6f0d3597ba446f18);
    let id = |token| request_id(token).unwrap().unwrap().to_string();
    assert_eq!(id("0123456789abcdef0123456789ABCDEF"), "0123456789abcdef0123456789abcdef");
    assert_eq!(id("deploy-42").len(), 32);
    assert_ne!(id("deploy-42"), id("deploy-43"));
    assert_eq!(request_id("").unwrap(), None);
    assert!(request_id(&"x".repeat(64)).is_ok());
    assert!(request_id(&"x".repeat(65)).is_err());
    assert!(request_id("a b").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reference_makes_it_panic(
        arn in "(arn:aws:ecs:local:000000000000:)?",
        rest in "(cluster|service|task|task-definition)?[/:]?[a-z0-9/:é-]{0,40}",
    ) {
        let text = arn + &rest;
        let world = World::empty();
        let state = &world.state;
        let cluster = arn::cluster(state, "").unwrap();
        let _ = arn::cluster(state, &text);
        let _ = arn::service_or_deleted(state, cluster, &text);
        let _ = arn::task(state, cluster, &text);
        let _ = arn::instance(state, cluster, &text);
        let _ = arn::definition(state, &text);
        let _ = arn::resource(state, &text);
        let _ = request_id(&text);
    }
}
