//! Schedules: the rpcs of EventBridge Scheduler's kind. When one is due is asked of the calendar
//! here once; from then on the leader does.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh, Written, unexpected};
use muster_calendar::Calendar;
use muster_model::schedule::ScheduleCommand;
use muster_model::{Command, Error, Kind, Response, ScheduleSpec, ScheduleState, Time};
use muster_proto::convert::{expected_version, schedule as convert};
use muster_proto::{arn, pb, view};
use std::sync::Arc;

impl Dispatcher {
    pub async fn create_schedule(
        &self,
        call: &Call,
        request: pb::CreateScheduleRequest,
    ) -> Result<pb::CreateScheduleResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let cluster = arn::cluster(draft.state, &request.cluster)?.id;
            let spec = convert::spec(draft.state, &request.cluster, request.spec.as_ref())?;
            // A repeat is answered as it was, though its time may have passed.
            let next_due = match draft.earlier {
                Some(_) => None,
                None => first_due(&spec, self.time())?,
            };
            let (id, spec) = (draft.ids.schedule(), Arc::new(spec));
            Ok(Command::Schedule(ScheduleCommand::Create { id, cluster, spec, next_due }))
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::CreateScheduleResponse { schedule: Some(shown(&written)?) })
    }

    /// One whose times stay keeps what it waits for; it may even be over.
    pub async fn update_schedule(
        &self,
        call: &Call,
        request: pb::UpdateScheduleRequest,
    ) -> Result<pb::UpdateScheduleResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let cluster = arn::cluster(draft.state, &request.cluster)?;
            let spec = convert::spec(draft.state, &request.cluster, request.spec.as_ref())?;
            let old = convert::named(draft.state, cluster, &spec.name)?;
            let next_due = match spec.same_times(&old.spec) {
                true => old.next_due,
                false => first_due(&spec, self.time())?,
            };
            let expected_version = expected_version(request.expected_version)?;
            let (id, spec) = (old.id, Arc::new(spec));
            Ok(Command::Schedule(ScheduleCommand::Update { id, expected_version, spec, next_due }))
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::UpdateScheduleResponse { schedule: Some(shown(&written)?) })
    }

    pub async fn delete_schedule(
        &self,
        call: &Call,
        request: pb::DeleteScheduleRequest,
    ) -> Result<pb::DeleteScheduleResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            // A repeat deletes the schedule it deleted, not a new one of the same name.
            let id = match draft.earlier {
                Some(Response::Schedule(id)) => *id,
                _ => {
                    let cluster = arn::cluster(draft.state, &request.cluster)?;
                    convert::named(draft.state, cluster, &request.name)?.id
                }
            };
            Ok(Command::Schedule(ScheduleCommand::Delete { id }))
        };
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::DeleteScheduleResponse {})
    }

    pub async fn describe_schedules(
        &self,
        call: &Call,
        request: pb::DescribeSchedulesRequest,
    ) -> Result<pb::DescribeSchedulesResponse, Error> {
        read::schedule::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_schedules(
        &self,
        call: &Call,
        request: pb::ListSchedulesRequest,
    ) -> Result<pb::ListSchedulesResponse, Error> {
        read::schedule::list(&*self.view(call, request.stale).await?, &request)
    }
}

/// The first time that is due. A schedule that never will be is a mistake, unless it is DISABLED.
fn first_due(spec: &ScheduleSpec, now: Time) -> Result<Option<Time>, Error> {
    let calendar = Calendar::parse(&spec.expression, &spec.timezone)?;
    let from = spec.start.map_or(now, |start| start.max(now));
    let first = calendar.first(from).filter(|first| spec.end.is_none_or(|end| *first <= end));
    match (spec.state, first) {
        (ScheduleState::Disabled, _) => Ok(None),
        (ScheduleState::Enabled, Some(first)) => Ok(Some(first)),
        (ScheduleState::Enabled, None) => {
            let allowed = "one that names a time from now or startDate on, until endDate";
            Err(Error::invalid("scheduleExpression", &*spec.expression, allowed))
        }
    }
}

fn shown(written: &Written) -> Result<pb::Schedule, Error> {
    let Response::Schedule(id) = &written.response else {
        return Err(unexpected(&written.response));
    };
    let row = written.state.schedule(*id);
    let row = row.ok_or_else(|| Error::not_found(Kind::Schedule, id))?;
    Ok(view::schedule(&written.state, row))
}
