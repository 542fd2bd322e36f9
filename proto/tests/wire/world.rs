//! A small state to resolve names in, made by the same `apply` as a real one.

use muster_model::cluster::{Authority, Manager};
use muster_model::command::{Bootstrap, RegisterInstance};
use muster_model::task::{ContainerStatus, NetworkBinding, Observed, Phase};
use muster_model::{
    ClusterId, Command, Entry, Error, Health, IdSource, Index, InstanceId, InstanceSpec, Principal,
    RaftId, Resources, Response, State, Step, TaskReport, Time, apply,
};
use muster_proto::convert;
use std::sync::Arc;

/// 2024-01-01T00:00:00Z.
pub const START: Time = Time(1_704_067_200_000);

/// What the image of container `app` came to.
pub const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

pub struct World {
    pub state: State,
    pub ids: IdSource,
    epoch: muster_model::Epoch,
}

impl World {
    /// A state in which nothing has happened but `init`.
    pub fn empty() -> Self {
        let mut world =
            Self { state: State::default(), ids: IdSource::new(1), epoch: muster_model::Epoch(2) };
        let manager = Manager {
            id: RaftId(1),
            name: "m1".into(),
            zone: "az-a".into(),
            address: "10.0.0.1:7400".into(),
            level: 1,
            joined_at: START,
            removed_at: None,
        };
        let first = Bootstrap {
            name: "test".into(),
            account: "000000000000".into(),
            region: "local".into(),
            default_cluster: ClusterId::from_bits(0xc1),
            authority: Authority::default(),
            manager,
            admin: "admin".into(),
            admin_serial: "01".into(),
        };
        world.apply(Command::Bootstrap(Box::new(first))).unwrap();
        world.apply(Command::Takeover { manager: RaftId(1) }).unwrap();
        world
    }

    /// With definition `web:1`, service `web` of two tasks, one running and one waiting, and one
    /// instance.
    pub fn new() -> Self {
        let mut world = Self::empty();
        let web = include_str!("../data/definitions/web.json");
        let request = muster_proto::json::from_str_strict(web).unwrap();
        world.apply(convert::definition::register(&request).unwrap()).unwrap();
        let service = r#"{"serviceName": "web", "taskDefinition": "web", "desiredCount": 2,
            "tags": [{"key": "team", "value": "blue"}], "propagateTags": "SERVICE"}"#;
        let request = muster_proto::json::from_str_strict(service).unwrap();
        let command = convert::service::create(&world.state, &mut world.ids, &request).unwrap();
        world.apply(command).unwrap();
        world.instance();
        world.tasks();
        world
    }

    fn instance(&mut self) {
        let id = InstanceId::from_bits(0x11);
        let spec = InstanceSpec {
            hostname: "worker-1".into(),
            zone: "az-a".into(),
            address: "10.0.0.11".into(),
            total: Resources { cpu: 2048, memory_mib: 4096 },
            resources: [("GPU".into(), 4), ("dongle".into(), 1)].into(),
            reserved_ports: [22].into(),
            attributes: [("disk".into(), Some("ssd".into())), ("gpu".into(), None)].into(),
            agent_version: "0.1.0".into(),
            versions: [("runc".into(), "1.1.5".into())].into(),
            ..InstanceSpec::default()
        };
        let cluster = ClusterId::from_bits(0xc1);
        self.apply(Command::RegisterInstance(RegisterInstance { id, cluster, spec: spec.into() }))
            .unwrap();
        self.plan(vec![Step::SetHealth { instance: id, health: Health::Ready }]);
    }

    fn tasks(&mut self) {
        let service = self.state.services().next().unwrap().clone();
        let deployment = service.primary().unwrap().id;
        let (one, two) = (self.ids.task(Time(0)), self.ids.task(Time(0)));
        let instance = InstanceId::from_bits(0x11);
        let tasks = vec![(muster_model::Slot(0), one), (muster_model::Slot(1), two)];
        self.plan(vec![
            Step::CreateTasks { service: service.id, deployment, tasks },
            Step::Place { task: one, instance, ports: vec![8080, 40000] },
            Step::Event {
                service: service.id,
                text: Arc::from("(service web) has started 1 tasks."),
            },
            Step::Explain {
                task: two,
                waiting: muster_model::task::Waiting {
                    instances: 1,
                    removed: vec![(muster_model::task::Blocker::Ports, 1)],
                    nearest: Some((instance, muster_model::task::Shortfall::Port { port: 8080 })),
                },
            },
        ]);
        let container = ContainerStatus {
            name: "app".into(),
            phase: Phase::Running,
            runtime_id: Some("muster-app".into()),
            image_digest: Some(DIGEST.into()),
            bindings: vec![NetworkBinding {
                container_port: 80,
                host_port: 8080,
                protocol: muster_model::spec::Protocol::Tcp,
            }],
            address: Some("10.200.0.2".into()),
            pid: Some(4711),
            ..ContainerStatus::default()
        };
        let observed = Observed {
            phase: Phase::Running,
            containers: vec![container],
            started_at: Some(Time(START.0 + 1500)),
            ..Observed::default()
        };
        let report = TaskReport { task: one, instance, observed };
        self.apply(Command::Report { reports: vec![report] }).unwrap();
    }

    pub fn plan(&mut self, steps: Vec<Step>) {
        match self.apply(Command::Plan { epoch: self.epoch, steps }).unwrap() {
            Response::Plan { refused } => assert!(refused.is_empty(), "{refused:?}"),
            other => panic!("{other:?}"),
        }
    }

    pub fn apply(&mut self, command: Command) -> Result<Response, Error> {
        let entry = Entry {
            request: self.ids.request(),
            at: START,
            by: Principal::User("admin".into()),
            trace: None,
            command,
        };
        let index = Index(self.state.applied().0 + 1);
        apply(&mut self.state, index, &entry)
    }
}
