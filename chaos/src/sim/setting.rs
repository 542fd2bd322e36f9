//! Where a run begins: managers, machines, definitions and how their containers behave.
//!
//! Sizes are small on purpose: a machine holds a handful of tasks, so that room is scarce.

use super::agent::Agent;
use super::faults;
use super::manager::Manager;
use super::world::{Event, World};
use muster_model::command::{Bootstrap, CreateCluster, CreateService, RegisterInstance};
use muster_model::life::HealthCheck;
use muster_model::spec::{ContainerDefinition, PortMapping, Protocol};
use muster_model::{
    Authority, ClusterId, Command, DefinitionId, Error, InstanceSpec, Manager as ManagerRow,
    Principal, RaftId, Resources, Response, ServiceSpec, TaskDefinition, Time,
};
use std::sync::Arc;

pub(super) const BEGIN: Time = Time(1_700_000_000_000);
const MANAGERS: u64 = 3;
pub(super) const ZONES: [&str; 3] = ["az-a", "az-b", "az-c"];
/// Definitions by name; the number in the list plus one is the definition's id.
pub(super) const FAMILIES: [&str; 10] =
    ["web", "api", "slow", "crash", "flaky", "stubborn", "pair", "tiny", "sick", "batch"];

/// How containers of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behaviour {
    /// Percent.
    pub pull_fails: u64,
    pub start_fails: u64,
    pub start_ms: u64,
    /// Ends by itself within this many milliseconds, with this code.
    pub ends: Option<(u64, i32)>,
    pub ignores_stop: bool,
    /// Of its health checks, percent.
    pub checks_fail: u64,
}

/// Once the faults are over, what failed works; a batch still ends.
pub(super) fn behaviour(family: &str, container: &str, calm: bool) -> Behaviour {
    let well = Behaviour {
        pull_fails: 0,
        start_fails: 0,
        start_ms: 300,
        ends: None,
        ignores_stop: false,
        checks_fail: 0,
    };
    let sick = match family {
        "slow" => Behaviour { start_ms: 8000, ..well },
        "crash" => Behaviour { ends: Some((4000, 1)), ..well },
        "flaky" => Behaviour { pull_fails: 40, start_fails: 15, ends: Some((60_000, 2)), ..well },
        "stubborn" => Behaviour { ignores_stop: true, ..well },
        "pair" if container == "init" => Behaviour { ends: Some((2000, 0)), ..well },
        "batch" => Behaviour { ends: Some((25_000, 0)), ..well },
        "sick" => Behaviour { checks_fail: 40, ..well },
        _ => well,
    };
    match family {
        "crash" | "flaky" | "sick" if calm => well,
        _ => sick,
    }
}

fn container(name: &str, essential: bool) -> ContainerDefinition {
    ContainerDefinition {
        name: name.into(),
        image: format!("registry.test/{name}:1"),
        essential,
        stop_timeout_secs: Some(3),
        ..ContainerDefinition::default()
    }
}

fn definition(family: &str) -> TaskDefinition {
    let port = |host_port| PortMapping {
        name: None,
        container_port: 80,
        host_port,
        protocol: Protocol::Tcp,
        app_protocol: None,
    };
    let mut main = container("main", true);
    let mut containers = Vec::new();
    let (cpu, memory) = match family {
        "web" => {
            main.port_mappings = vec![port(0)];
            (256, 128)
        }
        "api" => {
            main.port_mappings = vec![port(8080)];
            (512, 256)
        }
        "pair" => {
            containers.push(container("init", false));
            (256, 256)
        }
        "tiny" => (4, 8),
        "sick" => {
            let (interval_secs, timeout_secs, retries) = (5, 2, 2);
            let check = HealthCheck { interval_secs, timeout_secs, retries, ..Default::default() };
            main.health_check = Some(check);
            (128, 64)
        }
        "batch" => (384, 64),
        _ => (128, 64),
    };
    containers.push(main);
    TaskDefinition {
        family: family.into(),
        containers,
        cpu: Some(cpu),
        memory_mib: Some(memory),
        ..TaskDefinition::default()
    }
}

impl World {
    pub fn set_up(&mut self) {
        let default = self.dice.ids.cluster();
        self.found(default);
        let mut clusters = vec![default];
        if self.dice.percent(40) {
            clusters.push(self.second_cluster());
        }
        for family in FAMILIES {
            let spec = Arc::new(definition(family));
            self.write_first(Command::RegisterTaskDefinition(spec));
        }
        let number = match self.dice.below(100) {
            0..70 => self.dice.between(3, 8),
            70..92 => self.dice.between(9, 14),
            _ => self.dice.between(15, 50),
        };
        let number = number.min(self.part.agents_max.unwrap_or(number));
        for position in 0..number {
            // The second cluster gets every third machine.
            let other = clusters.len() > 1 && position % 3 == 2;
            self.add_machine(clusters[usize::from(other)], position as usize % ZONES.len());
        }
        if self.dice.percent(8) {
            self.crowd(default);
        }
        self.clients.clusters = clusters;
        let clients = self.dice.between(2, 4) as usize;
        for client in 0..clients {
            self.add_client();
            self.after(500, 3000, Event::Think { client });
        }
        self.at(self.now, Event::LookAtLeader);
        self.after(2000, 8000, Event::Strike);
        let safety = self.dice.span(faults::SAFETY_MIN.0, faults::SAFETY_MAX.0);
        let safety = self.part.calm_at.map_or(safety, |at| at.min(safety));
        self.at(self.now + safety, Event::Calm);
    }

    fn found(&mut self, default: ClusterId) {
        for number in 1..=MANAGERS {
            // Clocks of well-kept machines differ a little.
            let skew = self.dice.span(0, 200);
            self.managers.push(Manager::new(RaftId(number), skew));
        }
        let manager = ManagerRow {
            id: RaftId(1),
            name: "m1".into(),
            zone: ZONES[0].into(),
            address: "m1:1".into(),
            level: 1,
            joined_at: self.now,
            removed_at: None,
        };
        self.write_first(Command::Bootstrap(Box::new(Bootstrap {
            name: "sim".into(),
            account: "000000000000".into(),
            region: "sim".into(),
            default_cluster: default,
            authority: Authority::default(),
            manager,
            admin: "admin".into(),
            admin_serial: "1".into(),
        })));
        for number in 2..=MANAGERS {
            self.write_first(Command::AddManager {
                name: format!("m{number}").into(),
                zone: ZONES[number as usize - 1].into(),
                address: format!("m{number}:1").into(),
                level: 1,
            });
        }
    }

    fn second_cluster(&mut self) -> ClusterId {
        let id = self.dice.ids.cluster();
        self.write_first(Command::CreateCluster(CreateCluster {
            id,
            name: "other".into(),
            settings: Default::default(),
            tags: Default::default(),
        }));
        id
    }

    /// Straight into the log: what it answered.
    pub fn write_first(&mut self, command: Command) -> Option<Result<Response, Error>> {
        let request = self.dice.ids.request();
        let by = Principal::Manager(RaftId(1));
        let entry = muster_model::Entry { request, at: self.now, by, trace: None, command };
        self.append_first(entry)
    }

    /// A service of more tasks than fit one message of orders to their machines.
    fn crowd(&mut self, cluster: ClusterId) {
        let tiny = FAMILIES.iter().position(|family| *family == "tiny").unwrap_or_default();
        let desired_count = self.dice.between(150, 250) as u32;
        let spec = ServiceSpec { name: "crowd".into(), desired_count, ..ServiceSpec::default() };
        let command = CreateService {
            id: self.dice.ids.service(),
            deployment: self.dice.ids.deployment(),
            cluster,
            definition: DefinitionId(tiny as u64 + 1),
            spec: Arc::new(spec),
            tags: Default::default(),
        };
        self.write_first(Command::CreateService(command));
    }

    /// Clocks of agents are not trusted: a few are hours off.
    fn agent_skew(&mut self) -> i64 {
        match self.dice.below(100) {
            0..6 => self.dice.between(60_000, 7_200_000) as i64,
            6..12 => -(self.dice.between(60_000, 7_200_000) as i64),
            _ => self.dice.between(0, 200) as i64,
        }
    }

    /// A machine joins: a new id, at the start of a run straight into the log.
    pub fn add_machine(&mut self, cluster: ClusterId, zone: usize) {
        let id = self.dice.ids.instance();
        let size = self.dice.between(2, 6) as u32;
        let total = Resources { cpu: size * 256, memory_mib: size * 192 };
        let spec = InstanceSpec {
            hostname: format!("a{}", self.agents.len()),
            zone: ZONES[zone].into(),
            total,
            reserved_ports: [22].into(),
            ..InstanceSpec::default()
        };
        let spec = Arc::new(spec);
        self.write_first(Command::RegisterInstance(RegisterInstance { id, cluster, spec }));
        let skew = self.agent_skew();
        let agent = self.agents.len();
        self.agents.push(Agent::new(id, cluster, zone, total, skew));
        self.counts.agents += 1;
        self.start_agent(agent);
    }
}
