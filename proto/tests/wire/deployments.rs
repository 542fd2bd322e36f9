//! Deployments as callers see them while one fails and is rolled back: the texts that ECS's clients
//! and people look for, and what remains to be read afterwards.

use crate::world::{DIGEST, World};
use muster_model::command::RegisterInstance;
use muster_model::{
    ClusterId, Command, DeploymentId, Health, IdSource, InstanceId, InstanceSpec, Observed, Phase,
    Resources, RolloutState, Service, Slot, Step, TaskReport,
};
use muster_proto::arn::{self, Arns};
use muster_proto::{convert, pb, view};

fn web(world: &World) -> Service {
    Service::clone(world.state.services().next().unwrap())
}

fn newest(world: &World) -> DeploymentId {
    web(world).primary().unwrap().id
}

fn update(world: &mut World, json: &str) {
    let request = muster_proto::json::from_str_strict(json).unwrap();
    let command = convert::service::update(&world.state, &mut world.ids, &request).unwrap();
    world.apply(command).unwrap();
}

fn advance(world: &mut World) {
    let (service, deployment) = (web(world).id, newest(world));
    let rollout = RolloutState::Completed;
    world.plan(vec![Step::Advance { service, deployment, rollout }]);
}

/// A task of the newest deployment starts on a machine of its own, and fails.
fn crash(world: &mut World) {
    let (service, deployment) = (web(world).id, newest(world));
    let (id, cluster) = (InstanceId::from_bits(0x12), ClusterId::from_bits(0xc1));
    let total = Resources { cpu: 2048, memory_mib: 4096 };
    let resources = [("GPU".into(), 4), ("dongle".into(), 1)].into();
    let spec = InstanceSpec { total, resources, ..InstanceSpec::default() };
    let machine = RegisterInstance { id, cluster, spec: spec.into() };
    world.apply(Command::RegisterInstance(machine)).unwrap();
    let task = world.ids.task(crate::world::START);
    let tasks = vec![(Slot(7), task)];
    world.plan(vec![
        Step::SetHealth { instance: id, health: Health::Ready },
        Step::CreateTasks { service, deployment, tasks },
        Step::Place { task, instance: id, ports: vec![8080, 40000] },
    ]);
    let observed = Observed { phase: Phase::Stopped, ..Observed::default() };
    let reports = vec![TaskReport { task, instance: id, observed }];
    world.apply(Command::Report { reports }).unwrap();
}

/// Status, its reason, and the rollback's reason, of one deployment.
fn described(world: &World, id: DeploymentId) -> (String, String, String) {
    let row = web(world);
    let one = row.all_deployments().find(|one| one.id == id).unwrap();
    let shown = view::service_deployment(&world.state, &row, one);
    let rollback = shown.rollback.map(|rollback| rollback.reason).unwrap_or_default();
    (shown.status, shown.status_reason, rollback)
}

fn arn_of(world: &World, id: DeploymentId) -> String {
    Arns::of(&world.state).service_deployment("default", "web", id)
}

const BREAKER: &str = r#"{"service": "web", "forceNewDeployment": true,
    "deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": true, "rollback": true,
        "thresholdConfiguration": {"type": "COUNT", "value": 1}}}}"#;
const FAILED: &str = "ECS deployment circuit breaker: tasks failed to start.";

#[test]
fn a_failed_deployment_is_told_as_it_is_rolled_back_and_remembered() {
    let mut world = World::new();
    advance(&mut world);
    let good = newest(&world);
    update(&mut world, BREAKER);
    let bad = newest(&world);
    let guarded = |world: &World| {
        let row = web(world);
        let one = row.all_deployments().find(|one| one.id == bad).unwrap();
        view::service_deployment(&world.state, &row, one).deployment_circuit_breaker.unwrap()
    };
    assert_eq!((guarded(&world).status.as_str(), guarded(&world).threshold), ("MONITORING", 1));
    crash(&mut world);
    assert_eq!(guarded(&world).failure_count, 1);
    let (service, back_to) = (web(&world).id, Some(good));
    world.plan(vec![Step::FailDeployment { service, deployment: bad, back_to }]);

    let text = |text: &str| text.to_owned();
    let told = (text("ROLLBACK_IN_PROGRESS"), text(FAILED), text(FAILED));
    assert_eq!(described(&world, bad), told);
    assert_eq!(described(&world, good), (text("SUCCESSFUL"), text(""), text("")));
    assert_eq!(guarded(&world).status, "TRIGGERED");
    let shown = view::service(&world.state, &web(&world));
    let rows: Vec<_> = shown.deployments.iter().map(|d| d.rollout_state.as_str()).collect();
    assert_eq!(rows, ["IN_PROGRESS", "FAILED"]);
    let good_id = good.shown();
    assert_eq!(
        shown.deployments[0].rollout_state_reason,
        format!("ECS deployment circuit breaker: rolling back to deploymentId {good_id}.")
    );
    assert_eq!(shown.deployments[1].rollout_state_reason, FAILED);
    assert_eq!(shown.current_service_deployment, arn_of(&world, bad));

    advance(&mut world);
    let told = (text("ROLLBACK_SUCCESSFUL"), text(FAILED), text(FAILED));
    assert_eq!(described(&world, bad), told);
    let shown = view::service(&world.state, &web(&world));
    assert_eq!(shown.deployments.len(), 1, "what has no tasks is not listed any more");
    assert_eq!(shown.current_service_deployment, arn_of(&world, good));
    let arns = Arns::of(&world.state);
    let written = |cluster: &str, name: &str, id| arns.service_deployment(cluster, name, id);
    let bad_arn = arn_of(&world, bad);
    let found = arn::part_of_service(&world.state, "service-deployment", &bad_arn, written);
    assert_eq!(found.unwrap().1.id, bad);
}

#[test]
fn a_deployment_that_an_alarm_ends_says_so() {
    let mut world = World::new();
    advance(&mut world);
    let good = newest(&world);
    update(
        &mut world,
        r#"{"service": "web", "forceNewDeployment": true, "deploymentConfiguration": {
            "alarms": {"alarmNames": ["errors", "latency"], "enable": true, "rollback": true}}}"#,
    );
    let bad = newest(&world);
    let watched = |world: &World| {
        let row = web(world);
        let one = row.all_deployments().find(|one| one.id == bad).unwrap();
        let shown = view::service_deployment(&world.state, &row, one).alarms.unwrap();
        assert_eq!(shown.alarm_names, ["errors", "latency"]);
        (shown.status, shown.triggered_alarm_names)
    };
    assert_eq!(watched(&world), ("MONITORING".into(), vec![]));
    let wire = pb::SetAlarmStateRequest {
        alarm_name: "latency".into(),
        state_value: "ALARM".into(),
        ..Default::default()
    };
    world.apply(convert::alarm::set(&wire).unwrap()).unwrap();
    let (service, back_to) = (web(&world).id, Some(good));
    world.plan(vec![Step::FailDeployment { service, deployment: bad, back_to }]);

    assert_eq!(watched(&world), ("TRIGGERED".into(), vec!["latency".into()]));
    let failed = format!("ECS deployment {} failed: alarm detected.", bad.shown());
    assert_eq!(described(&world, bad), ("ROLLBACK_IN_PROGRESS".into(), failed.clone(), failed));
    let shown = view::service(&world.state, &web(&world));
    let id = good.shown();
    assert_eq!(
        shown.deployments[0].rollout_state_reason,
        format!("ECS deployment: alarm detected: rolling back to deploymentId {id}.")
    );
    let alarms = shown.deployment_configuration.unwrap().alarms.unwrap();
    assert!(alarms.enable && alarms.rollback);
}

#[test]
fn alarms_of_deployments_are_named_once_and_not_without_end() {
    let alarms = |names: &[&str], enable| {
        let alarm_names = names.iter().map(|name| (*name).to_owned()).collect();
        let alarms = Some(pb::DeploymentAlarms { alarm_names, enable, rollback: false });
        let configuration = pb::DeploymentConfiguration { alarms, ..Default::default() };
        let request = pb::UpdateServiceRequest {
            service: "web".into(),
            deployment_configuration: Some(configuration),
            ..Default::default()
        };
        let world = World::new();
        convert::service::update(&world.state, &mut IdSource::new(1), &request)
    };
    let many: Vec<String> = (0..21).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(alarms(&many[..20], true).is_ok() && alarms(&[], false).is_ok());
    for (names, field) in [
        (&many[..], "deploymentConfiguration.alarms.alarmNames"),
        (&[], "deploymentConfiguration.alarms.alarmNames"),
        (&["a", "a"], "deploymentConfiguration.alarms.alarmNames[1]"),
        (&["a", ""], "deploymentConfiguration.alarms.alarmNames[1]"),
    ] {
        let why = alarms(names, true).unwrap_err().to_string();
        assert!(why.contains(field), "{why}");
    }
}

#[test]
fn what_a_user_stops_says_so_and_only_what_is_in_progress_can_be_stopped() {
    let mut world = World::new();
    let stop = |world: &World, id, stop_type: &str| {
        let request = pb::StopServiceDeploymentRequest {
            service_deployment_arn: arn_of(world, id),
            stop_type: stop_type.into(),
            ..Default::default()
        };
        convert::deployment::stop(&world.state, &request)
    };
    let first = newest(&world);
    let refused = stop(&world, first, "PAUSE").unwrap_err().to_string();
    assert_eq!(refused, "stopType: \"PAUSE\" is not allowed; allowed: ABORT or ROLLBACK");
    let command: Command = stop(&world, first, "").unwrap();
    let refused = world.apply(command).unwrap_err().to_string();
    assert!(refused.starts_with("stopType: \"ROLLBACK\" is not allowed"), "{refused}");
    let command = stop(&world, first, "ABORT").unwrap();
    world.apply(command).unwrap();
    let id = first.shown();
    let told = format!("ECS deployment {id} stopped by user.");
    assert_eq!(described(&world, first), ("STOPPED".into(), told.clone(), String::new()));
    let shown = view::service(&world.state, &web(&world));
    assert_eq!(shown.deployments[0].rollout_state_reason, told);
    let command = stop(&world, first, "ABORT").unwrap();
    let refused = world.apply(command).unwrap_err().to_string();
    assert!(refused.contains("of web, which is STOPPED"), "{refused}");
    let gone = stop(&world, DeploymentId::from_bits(1), "ABORT");
    assert!(matches!(gone, Err(muster_model::Error::NotFound { .. })), "{gone:?}");
}

/// Stage, the ids of what it waits for, and the percents of production traffic of it and of what it
/// takes over from.
fn standing(world: &World, id: DeploymentId) -> (String, Vec<String>, Vec<f64>) {
    let row = web(world);
    let one = row.all_deployments().find(|one| one.id == id).unwrap();
    let shown = view::service_deployment(&world.state, &row, one);
    let hooks = shown.lifecycle_hook_details.iter().map(|hook| hook.hook_id.clone()).collect();
    let all = shown.target_service_revision.iter().chain(&shown.source_service_revisions);
    let weights = all.filter_map(|revision| revision.requested_production_traffic_weight);
    (shown.lifecycle_stage.clone(), hooks, weights.collect())
}

#[test]
fn a_deployment_that_shifts_traffic_tells_its_stage_its_share_and_what_it_waits_for() {
    let mut world = World::new();
    advance(&mut world);
    let good = newest(&world);
    let text = r#"{"service": "web", "forceNewDeployment": true, "desiredCount": 0,
        "deploymentConfiguration": {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5,
            "lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["PRE_SCALE_UP"]}]}}"#;
    update(&mut world, text);
    let new = newest(&world);
    let waits = vec!["pre_scale_up-1".to_owned()];
    assert_eq!(standing(&world, new), ("PRE_SCALE_UP".into(), waits, vec![0.0, 100.0]));
    assert_eq!(standing(&world, good).0, "", "only what is new has a stage");

    let service_deployment_arn = arn_of(&world, new);
    let pause = pb::PauseServiceDeploymentRequest {
        service_deployment_arn: service_deployment_arn.clone(),
        ..Default::default()
    };
    let command = convert::deployment::pause(&world.state, &pause).unwrap();
    world.apply(command).unwrap();
    assert_eq!(standing(&world, new).1, ["pause", "pre_scale_up-1"]);
    let resume = |world: &mut World, hook_id: &str| {
        let request = pb::ContinueServiceDeploymentRequest {
            service_deployment_arn: service_deployment_arn.clone(),
            hook_id: hook_id.into(),
            ..Default::default()
        };
        let command = convert::deployment::resume(&world.state, &request).unwrap();
        world.apply(command).map(drop)
    };
    let refused = resume(&mut world, "post_scale_up-1").unwrap_err().to_string();
    assert_eq!(
        refused,
        "hookId: \"post_scale_up-1\" is not allowed; allowed: pause, pre_scale_up-1"
    );
    resume(&mut world, "").unwrap();
    assert_eq!(standing(&world, new).1, Vec::<String>::new());

    // With no task wanted every turn is the next at once, up to the bake time.
    let service = web(&world).id;
    let mut stages = vec![standing(&world, new).0];
    while let Ok(turn) = world.state.next_turn(&web(&world)) {
        world.plan(vec![Step::Turn { service, deployment: new, turn }]);
        stages.push(standing(&world, new).0);
    }
    let told = [
        "PRE_SCALE_UP",
        "SCALE_UP",
        "POST_SCALE_UP",
        "TEST_TRAFFIC_SHIFT",
        "POST_TEST_TRAFFIC_SHIFT",
        // The stage before each step is ECS's hooks' own.
        "PRODUCTION_TRAFFIC_SHIFT",
        "PRODUCTION_TRAFFIC_SHIFT",
        "POST_PRODUCTION_TRAFFIC_SHIFT",
        "BAKE_TIME",
    ];
    assert_eq!(stages, told);
    assert_eq!(standing(&world, new).2, [100.0, 0.0]);
    assert_eq!(described(&world, new).0, "IN_PROGRESS");
}

/// The images of a deployment's revision, by container: what it names, and what it came to.
fn images(world: &World, id: DeploymentId) -> Vec<(String, String)> {
    let row = web(world);
    let one = row.all_deployments().find(|one| one.id == id).unwrap();
    let shown = view::service_revision(&world.state, &row, one);
    let image = |image: pb::ContainerImage| (image.container_name, image.image_digest);
    shown.container_images.into_iter().map(image).collect()
}

#[test]
fn a_revision_tells_the_digests_that_all_its_tasks_run() {
    let mut world = World::new();
    advance(&mut world);
    let named = web_image(&world, "sidecar");
    let (_, named) = named.split_once('@').unwrap();
    let text = |text: &str| text.to_owned();
    let settled = [(text("app"), text(DIGEST)), (text("sidecar"), named.to_owned())];
    let first = newest(&world);
    assert_eq!(images(&world, first), settled);
    update(&mut world, r#"{"service": "web", "forceNewDeployment": true}"#);
    let unknown = [(text("app"), text("")), (text("sidecar"), named.to_owned())];
    assert_eq!(images(&world, newest(&world)), unknown, "no task has said yet");
    assert_eq!(images(&world, first), settled);
}

fn web_image(world: &World, container: &str) -> String {
    let row = world.state.latest("web").unwrap();
    row.spec.containers.iter().find(|c| c.name == container).unwrap().image.clone()
}
