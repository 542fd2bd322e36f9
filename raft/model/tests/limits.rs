//! Each bound at its edge: the last one that is allowed, and the first that is not.

// What a test rests on may fail loudly; clippy knows tests only inside `#[test]`.
#![allow(clippy::expect_used)]

use muster_model::command::{CreateCluster, RegisterInstance};
use muster_model::fixture::World;
use muster_model::service::Backoff;
use muster_model::spec::Tags;
use muster_model::*;
use std::sync::Arc;

fn refused_by(limit: usize, answer: Result<Response, Error>) -> bool {
    matches!(answer, Err(Error::LimitExceeded { limit: l, .. }) if l == limit as u64)
}

#[test]
fn tags_of_a_resource() {
    let mut world = World::new();
    let cluster = world.cluster("default");
    let tag = |count: usize| -> Command {
        let set: Tags = (0..count).map(|n| (n.to_string(), String::new())).collect();
        let resource = command::Resource::Cluster(cluster);
        Command::TagResource { resource, set, remove: Vec::new() }
    };
    assert_eq!(world.apply(tag(limits::TAGS_MAX)), Ok(Response::Done));
    assert!(refused_by(limits::TAGS_MAX, world.apply(tag(limits::TAGS_MAX + 1))));
}

/// ECS's managed tags count for nothing, those of the definition as the run's own.
#[test]
fn tags_of_a_run() {
    let mut world = World::new();
    world.extend("definition web");
    let tagged: String = (1..limits::TAGS_MAX).map(|n| format!(" t{n}=x")).collect();
    world.extend(&format!("tag definition web{tagged}"));
    let run = "definition=web propagate=definition managed-tags tag.t1=y tag.own=x";
    world.extend(&format!("run a {run}"));
    let refused = world.run(&format!("run b {run} tag.more=x"));
    assert!(refused.contains(&format!("tags: {}", limits::TAGS_MAX + 1)), "{refused}");
}

#[test]
fn clusters() {
    let mut world = World::new();
    let mut create = |n: usize| {
        let command = CreateCluster {
            id: world.ids.cluster(),
            name: Arc::from(format!("c{n}")),
            settings: Default::default(),
            tags: Tags::new(),
        };
        world.apply(Command::CreateCluster(command))
    };
    for n in 1..limits::CLUSTERS_MAX {
        assert!(create(n).is_ok());
    }
    assert!(refused_by(limits::CLUSTERS_MAX, create(0)));
    assert!(create(1).is_ok(), "an existing name is no new cluster");
}

#[test]
fn deleted_clusters_are_forgotten_beyond_a_hundred() {
    let mut world = World::new();
    for n in 0..limits::INACTIVE_CLUSTERS_MAX + 5 {
        world.extend(&format!("time +1s\ncluster c{n}\ndelete-cluster c{n}"));
    }
    let names: Vec<_> = world
        .state
        .clusters()
        .filter(|row| row.status == ClusterStatus::Inactive)
        .map(|row| row.name.clone())
        .collect();
    assert_eq!(names.len(), limits::INACTIVE_CLUSTERS_MAX);
    assert!(!names.contains(&Arc::from("c4")) && names.contains(&Arc::from("c5")));
}

#[test]
fn container_instances() {
    let mut world = World::new();
    let cluster = world.cluster("default");
    let mut register = || {
        let id = world.ids.instance();
        let spec = Arc::new(InstanceSpec::default());
        world.apply(Command::RegisterInstance(RegisterInstance { id, cluster, spec }))
    };
    for _ in 0..limits::INSTANCES_MAX {
        assert!(register().is_ok());
    }
    assert!(refused_by(limits::INSTANCES_MAX, register()));
}

#[test]
fn the_newest_events_of_a_service_are_kept() {
    let mut world = World::from_text("definition web\nservice web");
    let service = world.service("web");
    for n in 0..limits::EVENTS_PER_SERVICE_MAX + 3 {
        world.plan(vec![Step::Event { service, text: Arc::from(n.to_string()) }]);
    }
    let numbers: Vec<u64> = world.state.events(service).map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), limits::EVENTS_PER_SERVICE_MAX);
    assert_eq!((numbers[0], numbers[numbers.len() - 1]), (3, 102));
}

#[test]
fn deployments_of_a_service() {
    let mut world = World::from_text("definition web\nservice web");
    for _ in 0..limits::DEPLOYMENTS_PER_SERVICE_MAX + 3 {
        world.extend("update-service web force");
    }
    let service = world.state.service(world.service("web")).expect("just created");
    assert_eq!(service.deployments.len(), limits::DEPLOYMENTS_PER_SERVICE_MAX);
    assert_eq!(service.primary().map(|d| d.id), Some(world.deployment("d14")));
}

#[test]
fn the_newest_certificates_of_a_user_are_accepted() {
    let mut world = World::new();
    for n in 0..limits::USER_CERTIFICATES_MAX + 2 {
        world.extend(&format!("user ann operator serial=s{n}"));
    }
    let user = world.state.user("ann").expect("just created");
    assert_eq!(user.serials.len(), limits::USER_CERTIFICATES_MAX);
    assert_eq!(&*user.serials[0], "s2");
}

#[test]
fn requests_are_remembered_up_to_a_bound() {
    let world = World::new();
    let first = world.state.applied().0 + 1;
    let (max, at) = (limits::REQUESTS_MAX as u64, world.state.now());
    let row = |n: u64| {
        let (id, index) = (RequestId::from_bits(n.into()), Index(n));
        let answer = Ok(Response::Done);
        Row::Request(Arc::new(state::RequestRow { id, hash: 0, index, at, answer }))
    };
    let known = |state: &State, n: u64| state.request(RequestId::from_bits(n.into())).is_some();
    let rows = world.state.rows().filter(|row| row.table() != Table::Requests);
    let full = rows.chain((first..first + max).map(row));
    let mut state = State::restore(full, Index(first + max)).expect("fair rows");
    let command = Command::RotateToken { role: command::TokenRole::Worker, hash: Arc::from("h") };
    let (request, by) = (RequestId::from_bits(0), Principal::User("admin".into()));
    let entry = Entry { request, at, by, trace: None, command };
    // One comes, the oldest goes, even if all have one time.
    assert_eq!(apply(&mut state, Index(first + max + 1), &entry), Ok(Response::Done));
    assert!(state.request(request).is_some());
    assert!(!known(&state, first) && known(&state, first + 1));
    // A day later all of them are old: a few go with each entry.
    let later = Entry { at: at + limits::REQUEST_KEPT + Millis(1), ..entry };
    assert_eq!(apply(&mut state, Index(first + max + 2), &later), Ok(Response::Done));
    let gone = limits::REQUESTS_FORGOTTEN_PER_ENTRY as u64;
    assert!(!known(&state, first + gone) && known(&state, first + gone + 1));
}

#[test]
fn back_off_grows_to_its_bound_and_is_forgotten() {
    let mut backoff = Backoff::default();
    let mut delays = Vec::new();
    let mut now = Time(1 << 40);
    for _ in 0..12 {
        now = backoff.until.max(now);
        backoff = backoff.failed(now, now);
        delays.push(backoff.until.since(now).0 / 1000);
    }
    assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let late = backoff.until + limits::BACKOFF_FORGET;
    assert_eq!(backoff.failed(late, late).failures, 13);
    let later = late + Millis(1);
    assert_eq!(backoff.failed(later, later), Backoff { failures: 1, until: later });
    let worn = Backoff { failures: u32::MAX, until: now }.failed(now, now);
    assert_eq!(worn, Backoff { failures: u32::MAX, until: now + limits::BACKOFF_MAX });
}

#[test]
fn tasks_created_together_and_failing_together_are_one_failure() {
    let at = |second: u64| Time((1 << 40) + second * 1000);
    let mut backoff = Backoff::default();
    for _ in 0..5 {
        backoff = backoff.failed(at(0), at(3));
    }
    assert_eq!(backoff, Backoff { failures: 1, until: at(3) });
    // Their replacements fail one after the other; the next ones begin when the delay is over.
    for second in [4, 5, 6] {
        backoff = backoff.failed(at(3), at(second));
    }
    assert_eq!(backoff, Backoff { failures: 2, until: at(5) });
    assert_eq!(backoff.failed(at(5), at(6)), Backoff { failures: 3, until: at(8) });
}

#[test]
fn an_unknown_definition_makes_a_task_row_unreadable() {
    let world = World::from_text("definition web\nrun t1 definition=web");
    let rows = world.state.rows().filter(|row| row.table() != Table::Definitions);
    let answer = State::restore(rows, Index(1));
    assert!(matches!(answer, Err(Error::UpgradeRequired { .. })), "{answer:?}");
}

/// The world's state with more rows in it.
fn with(world: &World, more: impl Iterator<Item = Row>) -> State {
    State::restore(world.state.rows().chain(more), world.state.applied()).expect("fair rows")
}

#[test]
fn task_definitions() {
    let mut world = World::from_text("definition web");
    let first = world.state.definition(DefinitionId(1)).expect("just registered").clone();
    let register = Command::RegisterTaskDefinition(first.spec.clone());
    let row = |n: usize| {
        let (id, family) = (DefinitionId(1_000_000 + n as u64), Arc::from(format!("f{n}")));
        Row::Definition(Arc::new(DefinitionRow { id, family, ..DefinitionRow::clone(&first) }))
    };
    world.state = with(&world, (2..limits::DEFINITIONS_MAX).map(row));
    assert!(world.apply(register.clone()).is_ok());
    assert!(refused_by(limits::DEFINITIONS_MAX, world.apply(register)));
}

#[test]
fn services_of_a_cluster() {
    let mut world = World::from_text("definition web\nservice web\ncluster other");
    let first = world.state.service(world.service("web")).expect("just created").clone();
    let row = |n: usize| {
        let spec = Arc::new(ServiceSpec { name: format!("s{n}"), ..ServiceSpec::default() });
        let id = ServiceId::from_bits(1_000_000 + n as u128);
        Row::Service(Arc::new(Service { id, spec, ..Service::clone(&first) }))
    };
    world.state = with(&world, (2..limits::SERVICES_PER_CLUSTER_MAX).map(row));
    assert_eq!(world.run("service last definition=web"), "ok service last");
    let refused = world.run("service more definition=web");
    assert!(refused.contains("limit exceeded: services in the cluster"), "{refused}");
    assert_eq!(world.run("service more definition=web cluster=other"), "ok service other/more");
}

#[test]
fn users() {
    let mut world = World::new();
    let admin = world.state.user("admin").expect("bootstrapped").clone();
    let row = |n: usize| {
        Row::User(Arc::new(User { name: Arc::from(format!("u{n}")), ..User::clone(&admin) }))
    };
    world.state = with(&world, (2..limits::USERS_MAX).map(row));
    assert_eq!(world.run("user last operator serial=a"), "ok");
    assert!(world.run("user more operator serial=a").contains("limit exceeded: users"));
    assert_eq!(world.run("user last operator serial=b"), "ok", "a user that is known is no more");
}

#[test]
fn policies() {
    let mut world = World::from_text("user ann restricted serial=a");
    for n in 0..limits::POLICIES_PER_HOLDER_MAX {
        assert_eq!(world.run(&format!("put-policy user:ann p{n} text")), "ok");
    }
    let refused = world.run("put-policy user:ann more text");
    assert!(refused.contains("limit exceeded: policies of one holder: 11"), "{refused}");
    assert_eq!(world.run("put-policy user:ann p0 other"), "ok", "a known one is no more");
    assert_eq!(world.run("put-policy role:restricted more text"), "ok");

    let row = |n: usize| {
        let (holder, name) = (Holder::User(format!("u{n}").into()), "p".into());
        let (document, at) = ("text".into(), world.state.now());
        Row::Policy(Arc::new(Policy { holder, name, document, created_at: at, updated_at: at }))
    };
    let there = world.state.policies().count();
    world.state = with(&world, (there + 1..limits::POLICIES_MAX).map(row));
    assert_eq!(world.run("put-policy role:admin last text"), "ok");
    let refused = world.run("put-policy role:operator more text");
    assert!(refused.contains("limit exceeded: policies: 10001"), "{refused}");
}

#[test]
fn schedules() {
    let mut world = World::from_text("definition job\nschedule s definition=job next=60s");
    let (_, first) = world.state.due_schedules().next().unwrap();
    let first = Schedule::clone(first);
    let row = |n: usize| {
        let mut spec = ScheduleSpec::clone(&first.spec);
        spec.name = format!("s{n}");
        let id = ScheduleId::from_bits(1000 + n as u128);
        Row::Schedule(Arc::new(Schedule { id, spec: Arc::new(spec), ..first.clone() }))
    };
    world.state = with(&world, (2..limits::SCHEDULES_MAX).map(row));
    assert_eq!(world.run("schedule last definition=job"), "ok schedule last");
    let refused = world.run("schedule more definition=job");
    assert!(refused.contains("limit exceeded: schedules: 10001"), "{refused}");
}

fn job_rows(world: &World, number: usize) -> State {
    let first = Job::clone(world.state.jobs().next().expect("no job"));
    let row = |n: usize| {
        let mut spec = JobSpec::clone(&first.spec);
        spec.name = format!("j{n}");
        let id = JobId::from_bits(1000 + n as u128);
        Row::Job(Arc::new(Job { id, spec: Arc::new(spec), ..first.clone() }))
    };
    with(world, (0..number).map(row))
}

#[test]
fn jobs() {
    let mut world = World::from_text("definition batch\njob j definition=batch");
    world.state = job_rows(&world, limits::JOBS_MAX - 2);
    assert_eq!(world.run("job last definition=batch"), "ok job last");
    let refused = world.run("job more definition=batch");
    assert!(refused.contains("limit exceeded: jobs: 10001"), "{refused}");
    // One that has ended leaves its place.
    world.extend("stop-job last");
    assert_eq!(world.run("job more definition=batch"), "ok job more");
}

/// The longest ended are forgotten, those of this cluster alone; who has not ended stays.
#[test]
fn ended_jobs() {
    let text =
        "cluster west\ndefinition batch\njob far cluster=west definition=batch\nstop-job far";
    let mut world = World::from_text(text);
    world.extend("time +1s\njob first definition=batch\nstop-job first\ntime +1s");
    world.extend("job second definition=batch\nstop-job second\ntime +1s");
    world.extend("job open definition=batch");
    for _ in 0..limits::ENDED_JOBS_PER_CLUSTER_MAX - 1 {
        world.extend("job again definition=batch\nstop-job again");
    }
    let names = |world: &World| {
        let few = world.state.jobs().filter(|row| row.spec.name != "again");
        few.map(|row| row.spec.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&world), ["far", "second", "open"]);
    world.extend("stop-job open");
    assert_eq!(names(&world), ["far", "open"]);
}

/// Tasks that go on for ever neither fill the history nor are forgotten by it.
#[test]
fn runs_of_a_schedule() {
    let mut world = World::from_text("definition job\nschedule s definition=job next=60s");
    let outcomes = |world: &World| {
        let row = world.state.schedules().next().unwrap();
        row.runs.iter().map(|run| run.outcome.name()).collect::<Vec<_>>()
    };
    for minute in 1..=25 {
        world.extend(&format!("time +60s\nfire s next={}s", (minute + 1) * 60));
    }
    let mut expected = vec!["STARTED"; limits::SCHEDULE_OPEN_RUNS_MAX];
    expected.resize(limits::SCHEDULE_RUNS_KEPT, "SKIPPED");
    assert_eq!(outcomes(&world), expected);
    // One ends: the next starts, and that one is the oldest that can be forgotten.
    world.extend("stop s@60s/1\ntime +60s\nfire s next=1620s");
    expected.rotate_left(1);
    assert_eq!(outcomes(&world), expected);
}

#[test]
fn tasks() {
    let world = World::from_text("definition web\nservice web");
    let (service, deployment) = (world.service("web"), world.deployment("d1"));
    let answer = |count: usize| {
        // One id for all: what the bound lets through is refused at the second task.
        let tasks = vec![(Slot(0), TaskId::from_bits(1)); count];
        world.clone().plan(vec![Step::CreateTasks { service, deployment, tasks }])
    };
    let why = |count| format!("{:?}", answer(count));
    assert!(why(limits::TASKS_MAX).contains("Exists"), "{}", why(limits::TASKS_MAX));
    assert!(why(limits::TASKS_MAX + 1).contains("LimitExceeded"));
}

#[test]
fn alarms() {
    let mut world = World::new();
    let mut set = |n: usize| {
        let (name, state) = (Arc::from(format!("a{n}")), AlarmState::Ok);
        world.apply(Command::Alarm(AlarmCommand::Set { name, state, reason: "".into() }))
    };
    for n in 0..limits::ALARMS_MAX {
        assert!(set(n).is_ok());
    }
    assert!(refused_by(limits::ALARMS_MAX, set(limits::ALARMS_MAX)));
    assert!(set(0).is_ok());
}

#[test]
fn task_sets() {
    let mut world = World::from_text("definition web\nexternal shop");
    let mut create =
        |n: usize| world.run(&format!("task-set shop definition=web:1 deployment=s{n}"));
    for n in 0..limits::TASK_SETS_MAX {
        assert!(create(n).starts_with("ok"));
    }
    let told = create(limits::TASK_SETS_MAX);
    assert!(told.contains(&format!("at most {}", limits::TASK_SETS_MAX)), "{told}");
}

#[test]
fn secrets_and_what_they_take_together() {
    let mut world = World::new();
    let mut create = |n: usize, bytes: usize| {
        let (name, value) = (Arc::from(format!("s{n}")), SealedSecret(vec![7; bytes].into()));
        world.apply(Command::Secret(SecretCommand::Create { name, value }))
    };
    let whole = limits::SEALED_VALUES_BYTES_MAX / limits::SEALED_VALUE_BYTES_MAX;
    for n in 0..whole {
        assert!(create(n, limits::SEALED_VALUE_BYTES_MAX).is_ok());
    }
    let left = limits::SEALED_VALUES_BYTES_MAX - whole * limits::SEALED_VALUE_BYTES_MAX;
    assert!(refused_by(limits::SEALED_VALUES_BYTES_MAX, create(whole, left + 1)));
    assert!(create(whole, left).is_ok());
    for n in whole + 1..limits::SECRETS_MAX {
        assert!(create(n, 0).is_ok());
    }
    assert!(refused_by(limits::SECRETS_MAX, create(limits::SECRETS_MAX, 0)));
}
