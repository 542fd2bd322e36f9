//! A deployment that shifts traffic, as far as it has come: one row per service that has one
//! running; and the row of a deployment that somebody paused.
//!
//! The revision that is to take over is *green*, the one that serves until then *blue*. The traffic
//! side is one weight per revision, production and test; what serves by them is not known here.
//! Nothing is decided here: `turn.rs` says what comes next, `apply/shift.rs` writes it.
//! Invariants: green's weight and blue's are all of the traffic; no other revision has any; a row
//! goes when its deployment completes, fails, is stopped or is replaced.

use crate::ids::{DeploymentId, ServiceId};
use crate::service::Service;
use crate::state::State;
use crate::strategy::{DeploymentStrategy, Endpoint, HookAction, HookTarget, Weight};
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// ECS's lifecycle stages, in their order. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Only if more than one revision had tasks: blue alone stays.
    ReconcileService,
    PreScaleUp,
    ScaleUp,
    PostScaleUp,
    TestTrafficShift,
    PostTestTrafficShift,
    /// Before each step of production traffic.
    PreProductionTrafficShift,
    ProductionTrafficShift,
    PostProductionTrafficShift,
    BakeTime,
    /// Blue's tasks go.
    CleanUp,
}

impl Stage {
    pub const ALL: [Self; 11] = [
        Self::ReconcileService,
        Self::PreScaleUp,
        Self::ScaleUp,
        Self::PostScaleUp,
        Self::TestTrafficShift,
        Self::PostTestTrafficShift,
        Self::PreProductionTrafficShift,
        Self::ProductionTrafficShift,
        Self::PostProductionTrafficShift,
        Self::BakeTime,
        Self::CleanUp,
    ];

    /// Where a PAUSE hook may stand: as in ECS not where tasks or traffic move.
    pub const PAUSABLE: [Self; 6] = [
        Self::ReconcileService,
        Self::PreScaleUp,
        Self::PostScaleUp,
        Self::PostTestTrafficShift,
        Self::PreProductionTrafficShift,
        Self::PostProductionTrafficShift,
    ];

    /// Where an HTTP hook may stand: where ECS runs a Lambda function.
    pub const CALLABLE: [Self; 8] = [
        Self::ReconcileService,
        Self::PreScaleUp,
        Self::PostScaleUp,
        Self::TestTrafficShift,
        Self::PostTestTrafficShift,
        Self::PreProductionTrafficShift,
        Self::ProductionTrafficShift,
        Self::PostProductionTrafficShift,
    ];

    pub const fn shown(self) -> &'static str {
        match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::ScaleUp => "SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::PreProductionTrafficShift => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
            Self::BakeTime => "BAKE_TIME",
            Self::CleanUp => "CLEAN_UP",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.shown() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    pub service: ServiceId,
    /// The newest deployment.
    pub green: DeploymentId,
    /// The last one that completed.
    pub blue: DeploymentId,
    /// As it was when the deployment began.
    #[serde(with = "crate::stored::named")]
    pub strategy: Arc<DeploymentStrategy>,
    pub stage: Stage,
    /// Spans in which the deployment was paused are added: they are not waited for.
    pub entered_at: Time,
    /// How many stages were entered.
    pub turns: u32,
    /// Green's shares; blue has the rest.
    pub production: Weight,
    pub test: Weight,
    /// The hook of this stage, until it is released.
    pub hook: Option<Hook>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub expires_at: Time,
    pub on_timeout: HookAction,
}

impl Shift {
    /// ECS `hookId` of the hook that it waits for.
    pub fn hook_id(&self) -> Option<String> {
        let id = || format!("{}-{}", self.stage.shown().to_lowercase(), self.turns);
        self.hook.map(|_| id())
    }

    /// Whom the leader calls for the hook that it waits for, unless that is a PAUSE.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.hook?;
        match &self.strategy.hook_at(self.stage)?.target {
            HookTarget::Http(endpoint) => Some(endpoint),
            HookTarget::Pause => None,
        }
    }

    /// Green's tasks may start, and blue's must stay.
    pub fn is_scaled_up(&self) -> bool {
        self.stage >= Stage::ScaleUp
    }

    /// The same, had it begun so much later.
    pub(crate) fn delayed(&self, span: Millis) -> Self {
        let later = |hook: Hook| Hook { expires_at: hook.expires_at + span, ..hook };
        Self { entered_at: self.entered_at + span, hook: self.hook.map(later), ..self.clone() }
    }
}

/// Somebody said PauseServiceDeployment: nothing takes another's place, and no time runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub service: ServiceId,
    pub deployment: DeploymentId,
    pub since: Time,
}

impl Pause {
    /// ECS `hookId` that continues it.
    pub const HOOK_ID: &'static str = "pause";
}

/// The shares of one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub production: Weight,
    pub test: Weight,
}

impl State {
    pub fn shift(&self, service: ServiceId) -> Option<&Arc<Shift>> {
        self.shifts.get(&service)
    }

    pub fn shifts(&self) -> impl Iterator<Item = &Arc<Shift>> {
        self.shifts.values()
    }

    /// Those that wait for an endpoint's word. While one is paused nobody is asked.
    pub fn awaiting_endpoints(&self) -> impl Iterator<Item = &Arc<Shift>> {
        let paused = |shift: &Shift| self.pause(shift.service).is_some();
        self.shifts().filter(move |shift| shift.endpoint().is_some() && !paused(shift))
    }

    pub fn pause(&self, service: ServiceId) -> Option<&Arc<Pause>> {
        self.pauses.get(&service)
    }

    /// What a revision of the service gets of its traffic. While nothing shifts the tasks of all
    /// revisions serve alike: the newest stands for them, and has it all.
    pub fn traffic(&self, service: &Service, deployment: DeploymentId) -> Traffic {
        let all = Traffic { production: Weight::ALL, test: Weight::ALL };
        match self.shift(service.id) {
            Some(shift) if shift.green == deployment => {
                Traffic { production: shift.production, test: shift.test }
            }
            Some(shift) if shift.blue == deployment => {
                Traffic { production: shift.production.rest(), test: shift.test.rest() }
            }
            Some(_) => Traffic::default(),
            None if self.newest(service).is_some_and(|newest| newest.id == deployment) => all,
            None => Traffic::default(),
        }
    }

    pub(crate) fn put_shift(&mut self, row: Arc<Shift>) {
        self.shifts.insert(row.service, row);
    }

    pub(crate) fn remove_shift(&mut self, service: ServiceId) {
        self.shifts.remove(&service);
    }

    pub(crate) fn put_pause(&mut self, row: Arc<Pause>) {
        self.pauses.insert(row.service, row);
    }

    pub(crate) fn remove_pause(&mut self, service: ServiceId) {
        self.pauses.remove(&service);
    }
}
