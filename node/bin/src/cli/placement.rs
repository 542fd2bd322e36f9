//! Placement in the words of the command line: `type` or `type:field`.

use muster_proto::pb;

/// `distinctInstance`, or `memberOf:EXPRESSION`.
pub fn constraints(words: &[String]) -> Vec<pb::PlacementConstraint> {
    let split = words.iter().map(|word| word.split_once(':').unwrap_or((word, "")));
    split
        .map(|(kind, expression)| pb::PlacementConstraint {
            r#type: kind.into(),
            expression: expression.into(),
        })
        .collect()
}

/// `spread:FIELD`.
pub fn strategies(words: &[String]) -> Vec<pb::PlacementStrategy> {
    let split = words.iter().map(|word| word.split_once(':').unwrap_or((word, "")));
    split
        .map(|(kind, field)| pb::PlacementStrategy { r#type: kind.into(), field: field.into() })
        .collect()
}
