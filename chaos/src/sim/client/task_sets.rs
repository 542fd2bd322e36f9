//! Owners of services that somebody else deploys: task sets made, scaled, made primary and deleted.

use crate::sim::world::World;
use muster_model::service::DeploymentConfiguration;
use muster_model::{
    ClusterId, Command, DeploymentController, DeploymentId, NewTaskSet, Scale, Service, ServiceId,
    ServiceSpec, TaskSetCommand,
};
use std::sync::Arc;

/// Hundredths of a percent.
const SCALES: [u32; 5] = [0, 1, 3_300, 5_000, 10_000];

impl World {
    pub(super) fn create_external(&mut self, cluster: ClusterId, name: String) -> Option<Command> {
        let percents = [(100, 200), (50, 100), (50, 150), (0, 100)];
        let (minimum_healthy_percent, maximum_percent) = self.dice.pick(&percents)?;
        let spec = ServiceSpec {
            name,
            desired_count: self.dice.between(0, 5) as u32,
            controller: DeploymentController::External,
            deployment: DeploymentConfiguration { minimum_healthy_percent, maximum_percent },
            placement: self.placement(),
            ..ServiceSpec::default()
        };
        Some(Command::TaskSet(TaskSetCommand::CreateService {
            id: ServiceId::from_bits(0),
            cluster,
            spec: Arc::new(spec),
            tags: Default::default(),
        }))
    }

    /// Sets that drain are asked for as well: that is refused.
    pub(super) fn change_sets(&mut self, service: &Service) -> Option<Command> {
        let sets: Vec<DeploymentId> = service.deployments.iter().map(|row| row.id).collect();
        let scale = Scale::hundredths(self.dice.pick(&SCALES)?)?;
        let set = self.dice.pick(&sets);
        let (service, chance) = (service.id, self.dice.below(100));
        Some(Command::TaskSet(match (set, chance) {
            (Some(set), 30..60) => TaskSetCommand::Scale { service, set, scale },
            (Some(set), 60..80) => TaskSetCommand::SetPrimary { service, set },
            (Some(set), 80..) => {
                let force = self.dice.percent(70);
                TaskSetCommand::Delete { service, set, force }
            }
            _ => TaskSetCommand::Create(NewTaskSet {
                service,
                id: DeploymentId::from_bits(0),
                definition: self.any_definition(),
                external_id: None,
                scale,
                tags: Default::default(),
            }),
        }))
    }
}
