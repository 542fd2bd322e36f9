//! What holds whatever is proposed: arbitrary commands in arbitrary order, checked at every index.

// What a law rests on may fail loudly; clippy knows tests only inside `#[test]`.
#![allow(clippy::expect_used)]

#[path = "laws/generate.rs"]
mod generate;

use generate::{aimed, asked, instance_spec, task_definition};
use muster_model::command::{Bootstrap, CreateCluster, CreateService, RegisterInstance};
use muster_model::service::DeploymentConfiguration;
use muster_model::spec::{Named, Protocol};
use muster_model::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Asked = (Command, Principal, RequestId, u64);
type Rows = BTreeMap<(Table, Vec<u8>), Row>;

/// A state and its log; every step is checked.
#[derive(Default)]
struct Run {
    state: State,
    log: Vec<Entry>,
}

impl Run {
    /// Two clusters, a service in each, three ready instances, some definitions: what follows hits.
    fn started(definitions: Vec<Arc<muster_model::TaskDefinition>>) -> Self {
        let mut run = Self::default();
        run.ask(Command::Bootstrap(Box::new(bootstrap())));
        run.ask(Command::Takeover { manager: RaftId(1) });
        for definition in definitions {
            run.ask(Command::RegisterTaskDefinition(definition));
        }
        let (first, second) = (ClusterId::from_bits(0), ClusterId::from_bits(1));
        run.ask(Command::CreateCluster(CreateCluster {
            id: second,
            name: Arc::from("second"),
            settings: BTreeMap::new(),
            tags: BTreeMap::new(),
        }));
        for (bits, cluster) in [(0, first), (1, first), (2, second)] {
            run.ask(Command::CreateService(CreateService {
                id: ServiceId::from_bits(bits),
                deployment: DeploymentId::from_bits(0),
                cluster,
                definition: DefinitionId(1 + bits as u64),
                spec: Arc::new(spec(bits)),
                tags: BTreeMap::new(),
            }));
            let id = InstanceId::from_bits(bits);
            let spec = instance_spec(id, 0);
            run.ask(Command::RegisterInstance(RegisterInstance { id, cluster, spec }));
            let (epoch, health) = (run.state.meta().epoch, Health::Ready);
            let steps = vec![Step::SetHealth { instance: id, health }];
            run.ask(Command::Plan { epoch, steps });
        }
        // Two tasks of the DAEMON service wait, as its two instances could have them.
        let (service, deployment) = (ServiceId::from_bits(1), DeploymentId::from_bits(0));
        let tasks = [0, 1].map(|n| (Slot(n), TaskId::from_bits(n.into()))).to_vec();
        let steps = vec![Step::CreateTasks { service, deployment, tasks }];
        run.ask(Command::Plan { epoch: run.state.meta().epoch, steps });
        run
    }

    fn ask(&mut self, command: Command) {
        let request = RequestId::from_bits(1_000_000 + self.log.len() as u128);
        let by = Principal::Manager(RaftId(1));
        self.apply(Entry { request, at: Time(0), by, trace: None, command }).expect("a fair start");
    }

    fn apply(&mut self, entry: Entry) -> Result<Response, Error> {
        let before = self.state.clone();
        let index = Index(before.applied().0 + 1);
        let answer = apply(&mut self.state, index, &entry);
        assert_eq!(self.state.applied(), index);
        assert_eq!(self.state.now(), before.now().max(entry.at));
        match &answer {
            Err(_) => unchanged(&before, &self.state),
            Ok(response) => {
                refused_parts_leave_no_trace(before.clone(), &self.state, &entry, response)
            }
        }
        moves_forward(&before, &self.state, &entry);
        self.log.push(entry);
        answer
    }

    fn run(&mut self, (command, by, request, wait): Asked) -> Result<Response, Error> {
        let command = aimed(&self.state, command);
        // Now and then the proposer's clock stands behind.
        let at = Time(self.state.now().0.saturating_add(wait).saturating_sub(1000));
        self.apply(Entry { request, at, by, trace: None, command })
    }
}

/// The second is a DAEMON service.
fn spec(bits: u128) -> ServiceSpec {
    let name = bits.to_string();
    match bits {
        1 => ServiceSpec {
            name,
            scheduling: SchedulingStrategy::Daemon,
            deployment: DeploymentConfiguration::DAEMON,
            ..ServiceSpec::default()
        },
        _ => ServiceSpec { name, ..ServiceSpec::default() },
    }
}

fn bootstrap() -> Bootstrap {
    Bootstrap {
        name: Arc::from("test"),
        account: Arc::from("0"),
        region: Arc::from("local"),
        default_cluster: ClusterId::from_bits(0),
        authority: Authority::default(),
        manager: Manager {
            id: RaftId(1),
            name: Arc::from("m1"),
            zone: Arc::from("az-a"),
            address: Arc::from("m1:1"),
            level: 1,
            joined_at: Time(0),
            removed_at: None,
        },
        admin: Arc::from("admin"),
        admin_serial: Arc::from("1"),
    }
}

/// A refused entry leaves no trace but the index and the time (old requests may be forgotten).
fn unchanged(before: &State, after: &State) {
    let mut changes = State::diff(before, after);
    assert!(changes.requests.iter().all(|change| change.after.is_none()));
    changes.requests.clear();
    if let Some(meta) = changes.meta.take() {
        assert_eq!(*meta, muster_model::state::Meta { now: after.now(), ..before.meta().clone() });
    }
    assert!(changes.is_empty(), "a refused entry changed {changes:?}");
}

/// A plan or a batch of reports comes to the same without what was refused in it.
fn refused_parts_leave_no_trace(
    mut before: State,
    after: &State,
    entry: &Entry,
    response: &Response,
) {
    fn kept<T: Clone>(all: &[T], refused: &[(u32, Error)]) -> Vec<T> {
        let refused = |at: u32| refused.iter().any(|(position, _)| *position == at);
        (0..).zip(all).filter(|(at, _)| !refused(*at)).map(|(_, part)| part.clone()).collect()
    }
    let (command, clean) = match (&entry.command, response) {
        (Command::Plan { epoch, steps }, Response::Plan { refused }) if !refused.is_empty() => {
            let steps = kept(steps, refused);
            (Command::Plan { epoch: *epoch, steps }, Response::Plan { refused: Vec::new() })
        }
        (Command::Report { reports }, Response::Reports { refused }) if !refused.is_empty() => {
            let reports = kept(reports, refused);
            (Command::Report { reports }, Response::Reports { refused: Vec::new() })
        }
        _ => return,
    };
    let answer = apply(&mut before, after.applied(), &Entry { command, ..entry.clone() });
    assert_eq!(answer, Ok(clean));
    assert!(before == *after, "a refused step left a trace: {entry:?}");
}

/// States move one way, versions grow, a task stays where it was placed.
fn moves_forward(before: &State, after: &State, entry: &Entry) {
    // The pool of ids is small, so a forgotten one may come again, which no minter would do.
    let forgotten = |id: TaskId| match &entry.command {
        Command::Plan { steps, .. } => {
            steps.iter().any(|s| matches!(s, Step::Forget { tasks } if tasks.contains(&id)))
        }
        _ => false,
    };
    for change in State::diff(before, after).tasks {
        let (Some(old), Some(new)) = (&change.before, &change.after) else { continue };
        if forgotten(new.id) {
            continue;
        }
        assert!(new.version > old.version, "{old:?} became {new:?}");
        assert!(new.observed.phase >= old.observed.phase, "{old:?} became {new:?}");
        assert!(new.desired.rank() >= old.desired.rank(), "{old:?} became {new:?}");
        assert!(old.instance.is_none() || new.instance == old.instance);
        assert_eq!((new.cluster, &new.owner), (old.cluster, &old.owner));
        if old.observed.phase == Phase::Stopped {
            assert_eq!(old.observed, new.observed);
        }
    }
}

/// Never more than there is, no port twice, nothing across clusters: counted from the tasks.
fn capacity_holds(state: &State) {
    let mut held = BTreeMap::<InstanceId, Resources>::new();
    let mut named = BTreeMap::<InstanceId, Named>::new();
    let mut ports = BTreeSet::<(InstanceId, u16, Protocol)>::new();
    for task in state.tasks().filter(|task| task.reserves()) {
        let on = task.instance.expect("what reserves is placed");
        let sum = held.entry(on).or_default();
        *sum = sum.plus(state.reservation(task));
        for (name, amount) in state.spec_of(task).expect("a definition").named_reservation() {
            *named.entry(on).or_default().entry(name).or_default() += amount;
        }
        for (port, protocol) in state.host_ports(task) {
            assert!(ports.insert((on, port, protocol)), "port {port} is held twice on {on}");
            let system = state.instance(on).map(|row| row.spec.reserved_ports.clone());
            let system = system.unwrap_or_default();
            assert!(protocol == Protocol::Udp || !system.contains(&port));
        }
        if let Some(row) = state.instance(on) {
            assert_eq!(row.cluster, task.cluster);
        }
    }
    for row in state.instances() {
        let sum = held.remove(&row.id).unwrap_or_default();
        assert!(sum.fits_in(row.spec.total), "{sum:?} on {:?}", row.spec.total);
        assert_eq!(state.reserved(row.id).resources, sum);
        let sums = named.remove(&row.id).unwrap_or_default();
        for (name, sum) in &sums {
            let total = row.spec.resources.get(name).copied().unwrap_or(0);
            assert!(*sum <= total, "{sum} of {total} {name} on {}", row.id);
        }
        assert_eq!(state.reserved(row.id).named, sums);
    }
    // Instances are purged only after their tasks were abandoned.
    assert!(held.is_empty(), "room is held on unknown instances: {held:?}");
}

/// A DAEMON service has one task on an instance, and no more than instances that should have one.
fn daemons_are_alone(before: &State, state: &State) {
    let all = |state: &State, row: &Service| {
        let tasks = state.tasks_of(row.id).filter(|task| state.in_place(row, task));
        tasks.filter(|task| task.ended_at().is_none()).count()
    };
    for row in state.services().filter(|row| row.spec.is_daemon()) {
        let mut on = BTreeSet::new();
        for task in state.tasks_of(row.id).filter(|task| task.reserves()) {
            assert!(on.insert(task.instance), "two tasks of daemon {} on one instance", row.id);
        }
        let instances = state
            .instances()
            .filter(|instance| instance.cluster == row.cluster && instance.accepts_tasks());
        let active = row.status == ServiceStatus::Active;
        let wanted = if active { instances.count() } else { 0 };
        assert_eq!(state.desired_count(row) as usize, wanted);
        let grew = before.service(row.id).is_some_and(|old| {
            all(before, old) < all(state, row) && before.instances().eq(state.instances())
        });
        assert!(!grew || all(state, row) <= wanted, "too many tasks of daemon {}", row.id);
    }
}

/// What of a reserve is a service's own: at most the places it should have, and where one is kept.
fn places_are_few(state: &State) {
    let marks = State::diff(&State::default(), state).established;
    for row in marks.iter().filter_map(|change| change.latest()) {
        let service = state.service(row.service).expect("a mark of no service");
        assert!((1..=service.spec.desired_count).contains(&row.places), "{row:?} of {service:?}");
        let cluster = state.cluster(service.cluster).expect("a service of no cluster");
        assert!(cluster.keeps_reserves(), "{row:?} in {cluster:?}");
    }
}

/// What a deployment's images came to stays as it is for as long as the deployment is remembered.
fn pins_stay(before: &State, state: &State) {
    for change in State::diff(before, state).pins {
        let remembered = state.service(change.latest().expect("a change").service);
        let knows = |id| remembered.is_some_and(|row| row.all_deployments().any(|d| d.id == id));
        for (id, pins) in change.before.iter().flat_map(|row| &row.deployments) {
            let now = change.after.as_ref().and_then(|row| row.deployments.get(id));
            let stay = now.is_some_and(|now| pins.iter().all(|(of, pin)| now.get(of) == Some(pin)));
            assert!(stay || !knows(*id), "{pins:?} became {now:?}");
        }
        for id in change.after.iter().flat_map(|row| row.deployments.keys()) {
            assert!(knows(*id), "pins of a deployment that nobody remembers: {id}");
        }
    }
}

fn slots_are_unique(state: &State) {
    let mut slots = BTreeSet::new();
    for task in state.tasks().filter(|task| task.wanted()) {
        if let (Some(service), Some(slot)) = (task.service(), task.slot()) {
            assert!(slots.insert((service, slot)), "slot {slot} of {service} is held twice");
            assert_eq!(state.in_slot(service, slot).map(|task| task.id), Some(task.id));
        }
    }
}

fn indexes_are_a_rebuild(state: &State) {
    let rebuilt = State::restore(state.rows(), state.applied()).expect("its own rows");
    assert!(rebuilt == *state, "the indexes differ from a rebuild");
    assert_eq!(rebuilt.hash(), state.hash());
}

fn rows(state: &State) -> Rows {
    state.rows().map(|row| ((row.table(), row.key()), row)).collect()
}

/// What the store does with a diff: the tables on disk come to the same.
fn diff_is_all(before: &State, after: &State) {
    let mut disk = rows(before);
    let changes = State::diff(before, after);
    for (table, key, row) in changes.rows() {
        match row {
            Some(row) => {
                assert_eq!((row.table(), row.key()), (table, key.clone()));
                disk.insert((table, key), row);
            }
            None => assert!(disk.remove(&(table, key)).is_some(), "what is not there was removed"),
        }
    }
    assert!(disk == rows(after), "the diff is not all that changed");
    assert_eq!(changes.is_empty(), rows(before) == rows(after));
    assert!(State::diff(after, after).is_empty());
}

/// Positional encoding, as the store does it.
fn survives_the_store(state: &State) {
    let config = bincode::config::standard();
    let stored = state.rows().map(|row| {
        let bytes = bincode::serde::encode_to_vec(&row, config).expect("every row encodes");
        let (row, length): (Row, usize) =
            bincode::serde::decode_from_slice(&bytes, config).expect("and decodes");
        assert_eq!(length, bytes.len());
        row
    });
    let restored = State::restore(stored, state.applied()).expect("its own rows");
    assert!(restored == *state, "a row changed on its way to the disk and back");
    // The other way round: tasks before their definitions.
    let backwards: Vec<Row> = state.rows().collect::<Vec<_>>().into_iter().rev().collect();
    let restored = State::restore(backwards.into_iter(), state.applied()).expect("any order");
    assert!(restored == *state);
}

fn definitions() -> impl Strategy<Value = Vec<Arc<muster_model::TaskDefinition>>> {
    vec(task_definition(), 3..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_index_is_sound(start in definitions(), asked in vec(asked(), 1..120)) {
        let mut run = Run::started(start);
        let mut last = run.state.clone();
        for (number, ask) in asked.into_iter().enumerate() {
            let before = run.state.clone();
            let _ = run.run(ask);
            capacity_holds(&run.state);
            slots_are_unique(&run.state);
            daemons_are_alone(&before, &run.state);
            places_are_few(&run.state);
            pins_stay(&before, &run.state);
            generate::schedules::fire_once(&before, &run.state);
            generate::jobs::add_up(&before, &run.state);
            generate::task_sets::add_up(&before, &run.state);
            // Over several entries at once, as the store does it in a batch.
            if number % 3 == 0 {
                indexes_are_a_rebuild(&run.state);
                diff_is_all(&last, &run.state);
                last = run.state.clone();
            }
        }
        survives_the_store(&run.state);
    }

    #[test]
    fn the_same_log_gives_the_same_state(start in definitions(), asked in vec(asked(), 1..60)) {
        let mut run = Run::started(start);
        for ask in asked {
            let _ = run.run(ask);
        }
        let mut again = State::default();
        for (index, entry) in (1..).zip(&run.log) {
            // As it comes from the log of another manager.
            let config = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(entry, config).expect("every entry encodes");
            let (entry, _): (Entry, _) =
                bincode::serde::decode_from_slice(&bytes, config).expect("and decodes");
            let _ = apply(&mut again, Index(index), &entry);
        }
        prop_assert!(again == run.state);
        prop_assert_eq!(again.hash(), run.state.hash());
    }

    #[test]
    fn a_repeat_is_answered_alike_and_changes_nothing(
        start in definitions(),
        asked in vec(asked(), 1..40),
    ) {
        let mut run = Run::started(start);
        for ask in asked {
            let first = run.run(ask.clone());
            let fenced = matches!(ask.0, Command::Plan { .. } | Command::Takeover { .. });
            if first.is_err() || fenced {
                continue;
            }
            let before = run.state.clone();
            let entry = run.log.last().expect("just applied").clone();
            let second = run.apply(entry);
            prop_assert_eq!(first, second);
            unchanged(&before, &run.state);
        }
    }
}
