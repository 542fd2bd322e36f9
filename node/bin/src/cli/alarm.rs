//! `muster alarm`: what monitoring says, for deployments to fail by.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_proto::{json, pb};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say that an alarm is OK, in ALARM, or has INSUFFICIENT_DATA; it is made if there is none.
    #[command(after_help = "Example:\n  muster alarm set shop-5xx ALARM \
        --reason \"5 % of answers are errors\"\n  \
        muster service update shop --alarm shop-5xx --alarm-rollback")]
    Set {
        name: String,
        /// OK, ALARM or INSUFFICIENT_DATA.
        state: String,
        /// Why, for people.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Alarms, their states, and since when.
    #[command(after_help = "Example:\n  muster alarm list")]
    List,
    /// Forget an alarm; services that name it go on without it.
    #[command(after_help = "Example:\n  muster alarm delete shop-5xx")]
    Delete { name: String },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Set { name, state, reason } => {
                let request = pb::SetAlarmStateRequest {
                    alarm_name: name.clone(),
                    state_value: state.clone(),
                    state_reason: reason,
                    client_token: context.token(),
                };
                context.operator(request, async |mut o, r| o.set_alarm_state(r).await).await?;
                match context.output {
                    Format::Json => {
                        output::json(&serde_json::json!({ "alarmName": name, "stateValue": state }))
                    }
                    Format::Table => output::print(&format!("{name} is {state}\n")),
                }
            }
            Self::List => list(context).await,
            Self::Delete { name } => {
                let request = pb::DeleteAlarmRequest {
                    alarm_name: name.clone(),
                    client_token: context.token(),
                };
                context.operator(request, async |mut o, r| o.delete_alarm(r).await).await?;
                match context.output {
                    Format::Json => output::json(&serde_json::json!({ "deleted": name })),
                    Format::Table => output::print(&format!("{name} is deleted\n")),
                }
            }
        }
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let request = pb::DescribeAlarmsRequest { stale: context.stale, ..Default::default() };
    let answer =
        context.operator_read(request, async |mut o, r| o.describe_alarms(r).await).await?;
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        Format::Table => output::print(&output::table(
            &["ALARM", "STATE", "SINCE", "REASON"],
            answer.metric_alarms.iter().map(|row| {
                vec![
                    row.alarm_name.clone(),
                    row.state_value.clone(),
                    output::time(row.state_transitioned_timestamp.as_ref()),
                    row.state_reason.clone(),
                ]
            }),
        )),
    }
}
