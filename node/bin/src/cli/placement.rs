//! Placement in the words of the command line: `kind` or `kind:what`, as they are repeated.

use super::error::CliError;
use clap::Args;
use muster_proto::pb;

/// Where tasks may and should run.
#[derive(Debug, Args)]
pub struct Placement {
    /// distinctInstance, or memberOf:QUERY, for example 'memberOf:attribute:disk == ssd'; may be
    /// repeated.
    #[arg(long = "constraint")]
    constraints: Vec<String>,
    /// spread:instanceId, spread:attribute:NAME, spread:attribute:NAME<=SKEW, binpack:cpu,
    /// binpack:memory, random, or prefer:WEIGHT:QUERY; left to right.
    #[arg(long = "strategy")]
    strategies: Vec<String>,
}

impl Placement {
    pub fn is_empty(&self) -> bool {
        self.constraints.is_empty() && self.strategies.is_empty()
    }

    pub fn constraints(&self) -> Vec<pb::PlacementConstraint> {
        let split = self.constraints.iter().map(|word| word.split_once(':').unwrap_or((word, "")));
        split
            .map(|(kind, expression)| pb::PlacementConstraint {
                r#type: kind.into(),
                expression: expression.into(),
            })
            .collect()
    }

    /// # Errors
    /// A skew or a weight that is no number.
    pub fn strategies(&self) -> Result<Vec<pb::PlacementStrategy>, CliError> {
        self.strategies.iter().map(|word| strategy(word)).collect()
    }
}

fn strategy(word: &str) -> Result<pb::PlacementStrategy, CliError> {
    let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
    let mut strategy = pb::PlacementStrategy { r#type: kind.into(), ..Default::default() };
    match kind {
        "prefer" => {
            let (weight, query) = rest.split_once(':').unwrap_or(("", rest));
            strategy.weight = Some(number(word, weight, "prefer:WEIGHT:QUERY")?);
            strategy.expression = query.into();
        }
        _ => match rest.split_once("<=") {
            Some((field, skew)) => {
                strategy.field = field.into();
                strategy.max_skew = Some(number(word, skew, "spread:attribute:NAME<=SKEW")?);
            }
            None => strategy.field = rest.into(),
        },
    }
    Ok(strategy)
}

fn number(word: &str, text: &str, allowed: &str) -> Result<i32, CliError> {
    let wrong =
        || CliError::Usage(format!("--strategy {word:?} is not allowed; allowed: {allowed}"));
    text.parse().map_err(|_| wrong())
}
