//! Alarms: who sets them, what is shown of them, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::UserRole;
use muster_proto::pb;
use muster_proto::pb::operator_client::OperatorClient;
use support::{Bench, user};
use tonic::transport::Channel;
use tonic::{Code, Status};

type Operator = OperatorClient<Channel>;

async fn set(operator: &mut Operator, name: &str, state: &str) -> Result<(), Status> {
    let request = pb::SetAlarmStateRequest {
        alarm_name: name.into(),
        state_value: state.into(),
        state_reason: "5 % of answers are errors".into(),
        ..Default::default()
    };
    operator.set_alarm_state(request).await.map(drop)
}

async fn describe(operator: &mut Operator, request: pb::DescribeAlarmsRequest) -> Vec<String> {
    let answer = operator.describe_alarms(request).await.unwrap().into_inner();
    let shown = |row: &pb::MetricAlarm| {
        assert!(row.state_transitioned_timestamp.is_some());
        format!("{} {} {}", row.alarm_name, row.state_value, row.state_reason)
    };
    answer.metric_alarms.iter().map(shown).collect()
}

#[tokio::test]
async fn an_alarm_is_set_shown_and_deleted() {
    let bench = Bench::start().await;
    let mut operator = bench.operator(user("admin")).await;
    set(&mut operator, "latency", "OK").await.unwrap();
    set(&mut operator, "errors", "INSUFFICIENT_DATA").await.unwrap();
    set(&mut operator, "errors", "ALARM").await.unwrap();
    let all = describe(&mut operator, pb::DescribeAlarmsRequest::default()).await;
    let why = "5 % of answers are errors";
    assert_eq!(all, [format!("errors ALARM {why}"), format!("latency OK {why}")]);
    let ringing = pb::DescribeAlarmsRequest { state_value: "ALARM".into(), ..Default::default() };
    assert_eq!(describe(&mut operator, ringing).await, all[..1]);
    let alarm_names = vec!["latency".into(), "unknown".into()];
    let named = pb::DescribeAlarmsRequest { alarm_names, ..Default::default() };
    assert_eq!(describe(&mut operator, named).await, all[1..]);

    let delete = pb::DeleteAlarmRequest { alarm_name: "errors".into(), ..Default::default() };
    operator.delete_alarm(delete.clone()).await.unwrap();
    let gone = operator.delete_alarm(delete).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains("muster alarm list"), "{}", gone.message());
}

#[tokio::test]
async fn what_is_no_alarm_is_refused_by_name() {
    let bench = Bench::start().await;
    let mut operator = bench.operator(user("admin")).await;
    for (name, state, field) in
        [("", "OK", "alarmName"), ("a\nb", "OK", "alarmName"), ("errors", "ok", "stateValue")]
    {
        let refused = set(&mut operator, name, state).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{}", refused.message());
    }
}

#[tokio::test]
async fn who_may_only_read_sets_none() {
    let mut bench = Bench::start().await;
    bench.user("eve", UserRole::ReadOnly).await;
    let mut operator = bench.operator(user("eve")).await;
    let refused = set(&mut operator, "errors", "ALARM").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(describe(&mut operator, pb::DescribeAlarmsRequest::default()).await.is_empty());
}
