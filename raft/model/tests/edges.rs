//! Rules that a script cannot say: ids that come twice, texts that are too long, values that a
//! script does not show.

// What these tests rest on may fail loudly; clippy knows tests only inside `#[test]`.
#![allow(clippy::unwrap_used)]

use muster_model::command::{
    Bootstrap, CreateCluster, CreateService, RegisterInstance, RunTask, TokenRole,
};
use muster_model::fixture::World;
use muster_model::spec::{Overrides, Tags};
use muster_model::*;
use std::sync::Arc;

fn exists(answer: Result<Response, Error>) -> bool {
    matches!(answer, Err(Error::Exists { .. }))
}

fn invalid(answer: &Result<Response, Error>, of: &str) -> bool {
    matches!(answer, Err(Error::Invalid { field, .. }) if field == of)
}

#[test]
fn the_id_of_a_cluster_is_not_given_twice() {
    let mut world = World::new();
    let id = world.cluster("default");
    let command = CreateCluster {
        id,
        name: Arc::from("other"),
        settings: Default::default(),
        tags: Tags::new(),
    };
    assert!(exists(world.apply(Command::CreateCluster(command))));
}

#[test]
fn the_id_of_a_service_is_not_given_twice() {
    let mut world = World::from_text("definition web\nservice web");
    let row = world.state.service(world.service("web")).unwrap().clone();
    let command = CreateService {
        id: row.id,
        deployment: world.ids.deployment(),
        cluster: row.cluster,
        definition: DefinitionId(1),
        spec: Arc::new(ServiceSpec { name: "other".into(), ..ServiceSpec::default() }),
        tags: Tags::new(),
    };
    assert!(exists(world.apply(Command::CreateService(command))));
}

#[test]
fn a_definition_has_a_container() {
    let mut world = World::new();
    let empty = TaskDefinition { family: "web".into(), ..TaskDefinition::default() };
    let answer = world.apply(Command::RegisterTaskDefinition(Arc::new(empty)));
    assert!(invalid(&answer, "containerDefinitions"), "{answer:?}");
}

#[test]
fn the_cluster_of_managers_has_a_name() {
    let mut world = World::empty();
    let first = Bootstrap {
        name: Arc::from(""),
        account: Arc::from("0"),
        region: Arc::from("local"),
        default_cluster: world.ids.cluster(),
        authority: Authority::default(),
        manager: World::new().state.managers().next().unwrap().as_ref().clone(),
        admin: Arc::from("admin"),
        admin_serial: Arc::from("1"),
    };
    let answer = world.apply(Command::Bootstrap(Box::new(first)));
    assert!(invalid(&answer, "name"), "{answer:?}");
}

#[test]
fn a_definition_was_deregistered_when_it_first_was() {
    let mut world = World::from_text("definition web\nderegister-definition web:1");
    let first = world.state.definition(DefinitionId(1)).unwrap().deregistered_at;
    world.extend("time +1h\nderegister-definition web:1");
    assert_eq!(world.state.definition(DefinitionId(1)).unwrap().deregistered_at, first);
}

#[test]
fn overrides_of_a_run_count_in_its_size() {
    let mut world = World::from_text("definition web cpu=256 mem=128");
    let id = world.ids.task(Time(0));
    let command = RunTask {
        cluster: world.cluster("default"),
        definition: DefinitionId(1),
        tasks: vec![id],
        group: Arc::from(""),
        started_by: None,
        overrides: Arc::new(Overrides { cpu: Some(512), ..Overrides::default() }),
        tags: Tags::new(),
    };
    world.apply(Command::RunTask(command)).unwrap();
    let task = world.state.task(id).unwrap();
    assert_eq!(world.state.reservation(task), Resources { cpu: 512, memory_mib: 128 });
}

#[test]
fn an_update_changes_the_placement_of_a_service() {
    let mut world = World::from_text("definition web\nservice web\nupdate-service web distinct");
    let row = world.state.service(world.service("web")).unwrap();
    assert_eq!(row.spec.placement.constraints, [PlacementConstraint::DistinctInstance]);
    world.extend("update-service web desired=2");
    let row = world.state.service(world.service("web")).unwrap();
    assert_eq!(row.spec.placement.constraints.len(), 1, "what is not named stays");
}

#[test]
fn only_tasks_of_one_service_keep_apart() {
    let mut world = World::from_text(
        "
        definition web distinct
        instance i1 ready
        service a definition=web
        service b definition=web
        create-tasks a 0=a0 1=a1
        create-tasks b 0=b0
        place a0 i1
        place b0 i1
        ",
    );
    assert!(world.run("place a1 i1").contains("distinctInstance"));
}

#[test]
fn a_machine_that_registers_again_through_another_manager_keeps_its_id() {
    let mut world = World::new();
    let cluster = world.cluster("default");
    let (request, by) = (world.ids.request(), Principal::Manager(RaftId(1)));
    let mut register = || {
        let id = world.ids.instance();
        let spec = Arc::new(InstanceSpec::default());
        let command = Command::RegisterInstance(RegisterInstance { id, cluster, spec });
        world.apply_as(by.clone(), request, command)
    };
    let first = register();
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(register(), first);
}

/// More are too old than one entry forgets, so the row is still there and must not count.
#[test]
fn a_request_of_the_day_before_is_a_new_one() {
    let mut world = World::new();
    let by = Principal::User("admin".into());
    let rotate = |hash: &str| {
        let hash = Arc::from(hash);
        Command::RotateToken { role: TokenRole::Worker, hash }
    };
    let ids: Vec<_> =
        (0..2 * limits::REQUESTS_FORGOTTEN_PER_ENTRY).map(|_| world.ids.request()).collect();
    for id in &ids {
        world.apply_as(by.clone(), *id, rotate("old")).unwrap();
    }
    let last = ids[ids.len() - 1];
    let early = world.apply_as(by.clone(), last, rotate("new"));
    assert!(matches!(early, Err(Error::TokenReused { .. })), "{early:?}");
    world.wait(limits::REQUEST_KEPT);
    world.wait(Millis(1));
    assert_eq!(world.apply_as(by, last, rotate("new")), Ok(Response::Done));
    assert_eq!(&*world.state.meta().authority.worker_token_hash, "new");
}

#[test]
fn reasons_and_errors_are_cut_between_characters() {
    let long = "é".repeat(limits::REASON_CHARS_MAX + 1);
    assert_eq!(task::reason(&long).chars().count(), limits::REASON_CHARS_MAX);
    let Error::Invalid { value, .. } = Error::invalid("name", long, "less") else { return };
    assert_eq!(value.chars().count(), 81, "80 and an ellipsis");
}

#[test]
fn an_id_is_32_hexadecimal_digits() {
    let digits = "0123456789abcdef0123456789abcdef";
    assert_eq!(digits.parse::<TaskId>().unwrap().to_string(), digits);
    for bad in ["", "7", &digits[1..], &format!("{digits}0"), &digits.replace("01", "+1")] {
        assert!(bad.parse::<TaskId>().is_err(), "{bad}");
    }
}

#[test]
fn minted_request_ids_are_in_order_of_time() {
    let mut ids = IdSource::new(1);
    let at = |second: u64| Time((1 << 40) + second * 1000);
    let minted: Vec<_> = (0..50).map(|second| ids.request_at(at(second))).collect();
    assert!(minted.is_sorted(), "{minted:?}");
    assert_ne!(ids.request_at(at(0)), ids.request_at(at(0)));
}
