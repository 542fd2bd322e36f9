//! How `muster service create` and `update` say in what way a deployment takes the place of the one
//! before it: all at once, step by step, and where it waits for somebody.

use super::CliError;
use clap::Args;
use muster_proto::pb;

#[derive(Debug, Args)]
pub struct Strategy {
    /// ROLLING; or BLUE_GREEN, LINEAR, CANARY: the new revision comes up beside the old one, and
    /// traffic shifts all at once, in equal steps, or in a small step and the rest.
    #[arg(long)]
    deployment_strategy: Option<String>,
    /// Minutes that both revisions run once all traffic has shifted: 0 to 1440.
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true)]
    bake_time: Option<i32>,
    /// Percent of the traffic that one step shifts: of LINEAR 3 to 100, of CANARY 0.1 to 100.
    #[arg(long, value_name = "PERCENT", requires = "deployment_strategy")]
    step_percent: Option<f64>,
    /// Minutes between two steps of LINEAR or CANARY: 0 to 1440.
    #[arg(
        long,
        value_name = "MINUTES",
        requires = "deployment_strategy",
        allow_negative_numbers = true
    )]
    step_bake_time: Option<i32>,
    /// A stage at which each deployment waits for `muster service continue`: `PRE_SCALE_UP`,
    /// `POST_SCALE_UP`, `POST_TEST_TRAFFIC_SHIFT`, `PRE_PRODUCTION_TRAFFIC_SHIFT` ...
    #[arg(long, value_name = "STAGE")]
    pause_at: Vec<String>,
    /// A stage at which the leader calls an endpoint until that answers SUCCEEDED or FAILED, as ECS
    /// does a Lambda function: `POST_TEST_TRAFFIC_SHIFT=https://ci.example.org/smoke`.
    #[arg(long, value_name = "STAGE=URL")]
    call_at: Vec<String>,
}

impl Strategy {
    /// The part of a deployment configuration that is about it; the rest is left out.
    pub fn wire(&self) -> Result<pb::DeploymentConfiguration, CliError> {
        let strategy = self.deployment_strategy.clone().unwrap_or_default();
        let (percent, minutes) = (self.step_percent, self.step_bake_time);
        let steps = percent.is_some() || minutes.is_some();
        let (linear, canary) = (strategy == "LINEAR", strategy == "CANARY");
        if steps && !linear && !canary {
            return Err(CliError::Usage(format!(
                "--step-percent and --step-bake-time go with --deployment-strategy LINEAR or \
                 CANARY, not {strategy}"
            )));
        }
        Ok(pb::DeploymentConfiguration {
            strategy,
            bake_time_in_minutes: self.bake_time,
            lifecycle_hooks: self.hooks()?,
            linear_configuration: (steps && linear).then_some(pb::LinearConfiguration {
                step_percent: percent,
                step_bake_time_in_minutes: minutes,
            }),
            canary_configuration: (steps && canary).then_some(pb::CanaryConfiguration {
                canary_percent: percent,
                canary_bake_time_in_minutes: minutes,
            }),
            ..Default::default()
        })
    }

    fn hooks(&self) -> Result<Vec<pb::DeploymentLifecycleHook>, CliError> {
        let mut hooks = Vec::new();
        if !self.pause_at.is_empty() {
            hooks.push(pb::DeploymentLifecycleHook {
                target_type: "PAUSE".into(),
                lifecycle_stages: self.pause_at.clone(),
                ..Default::default()
            });
        }
        for text in &self.call_at {
            let said = text.split_once('=').filter(|(_, url)| !url.is_empty());
            let Some((stage, url)) = said else {
                let allowed = "STAGE=URL, as in POST_SCALE_UP=https://ci.example.org/smoke";
                return Err(CliError::Usage(format!("--call-at {text} is not {allowed}")));
            };
            let known = hooks.iter_mut().find(|hook| hook.hook_target_arn == url);
            if let Some(hook) = known {
                hook.lifecycle_stages.push(stage.into());
                continue;
            }
            hooks.push(pb::DeploymentLifecycleHook {
                target_type: "HTTP".into(),
                hook_target_arn: url.into(),
                lifecycle_stages: vec![stage.into()],
                ..Default::default()
            });
        }
        Ok(hooks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        strategy: Strategy,
    }

    fn wire(words: &str) -> Result<pb::DeploymentConfiguration, CliError> {
        let words = std::iter::once("test").chain(words.split_whitespace());
        Line::try_parse_from(words).expect("arguments").strategy.wire()
    }

    #[test]
    fn nothing_said_is_nothing_sent() {
        assert!(wire("").is_ok_and(|wire| wire == pb::DeploymentConfiguration::default()));
    }

    #[test]
    fn steps_belong_to_their_strategy() {
        let canary = wire("--deployment-strategy CANARY --step-percent 2.5 --step-bake-time 3");
        let canary = canary.ok().and_then(|wire| wire.canary_configuration);
        let wanted = pb::CanaryConfiguration {
            canary_percent: Some(2.5),
            canary_bake_time_in_minutes: Some(3),
        };
        assert_eq!(canary, Some(wanted));
        let linear = wire("--deployment-strategy LINEAR --step-percent 20");
        assert!(linear.is_ok_and(|wire| wire.linear_configuration.is_some()));
        assert!(wire("--deployment-strategy BLUE_GREEN --step-percent 20").is_err());
    }

    #[test]
    fn every_stage_named_is_one_of_one_hook() {
        let wire = wire("--pause-at PRE_SCALE_UP --pause-at POST_SCALE_UP");
        let hooks = wire.map(|wire| wire.lifecycle_hooks).unwrap_or_default();
        assert_eq!(hooks.len(), 1);
        assert_eq!(hooks[0].lifecycle_stages, ["PRE_SCALE_UP", "POST_SCALE_UP"]);
    }

    #[test]
    fn every_endpoint_named_is_one_hook() {
        let wire = wire(
            "--pause-at PRE_SCALE_UP --call-at POST_SCALE_UP=http://a/?k=v \
             --call-at POST_TEST_TRAFFIC_SHIFT=http://b --call-at TEST_TRAFFIC_SHIFT=http://a/?k=v",
        );
        let hooks = wire.map(|wire| wire.lifecycle_hooks).unwrap_or_default();
        let shown: Vec<_> = hooks
            .iter()
            .map(|hook| (&*hook.target_type, &*hook.hook_target_arn, hook.lifecycle_stages.len()))
            .collect();
        assert_eq!(
            shown,
            [("PAUSE", "", 1), ("HTTP", "http://a/?k=v", 2), ("HTTP", "http://b", 1)]
        );
    }
}
