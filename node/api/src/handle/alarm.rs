//! Alarms: set by monitoring, described, deleted.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh};
use muster_model::Error;
use muster_proto::convert::alarm as convert;
use muster_proto::{pb, view};

impl Dispatcher {
    pub async fn set_alarm_state(
        &self,
        call: &Call,
        request: pb::SetAlarmStateRequest,
    ) -> Result<pb::SetAlarmStateResponse, Error> {
        let make = |_: &mut Draft<'_>| convert::set(&request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let (name, state) = (&request.alarm_name, &request.state_value);
        tracing::info!(alarm = %name, %state, by = %call.principal, "alarm set");
        Ok(pb::SetAlarmStateResponse {})
    }

    pub async fn describe_alarms(
        &self,
        call: &Call,
        request: pb::DescribeAlarmsRequest,
    ) -> Result<pb::DescribeAlarmsResponse, Error> {
        let wanted = match request.state_value.as_str() {
            "" => None,
            text => Some(convert::state(text)?),
        };
        let state = self.view(call, request.stale).await?;
        let rows: Vec<_> = match request.alarm_names.as_slice() {
            [] => state.alarms().collect(),
            names => names.iter().filter_map(|name| state.alarm(name)).collect(),
        };
        let rows = rows.into_iter().filter(|row| wanted.is_none_or(|wanted| row.state == wanted));
        Ok(pb::DescribeAlarmsResponse { metric_alarms: rows.map(|row| view::alarm(row)).collect() })
    }

    pub async fn delete_alarm(
        &self,
        call: &Call,
        request: pb::DeleteAlarmRequest,
    ) -> Result<pb::DeleteAlarmResponse, Error> {
        let make = |_: &mut Draft<'_>| convert::delete(&request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(alarm = %request.alarm_name, by = %call.principal, "alarm deleted");
        Ok(pb::DeleteAlarmResponse {})
    }
}
