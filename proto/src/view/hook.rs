//! What the endpoint of a lifecycle hook is told: what ECS hands a Lambda function.
//!
//! It does not know how it is sent. Invariant: for one hook of one deployment `executionId` is
//! always the same, whoever leads, so that an endpoint knows a repeated call.

use super::deployment::Names;
use muster_model::{DeploymentId, Shift, State, Weight};
use serde_json::{Value, json};

/// The body of a call for the hook that the shift waits for; `None` if it waits for no endpoint.
pub fn hook_call(state: &State, shift: &Shift) -> Option<Value> {
    let endpoint = shift.endpoint()?;
    let row = state.service(shift.service)?;
    let names = Names::of(state, row);
    let weights = |green: Weight| {
        let revision = |id: DeploymentId| names.revision(id);
        let (blue, rest) = (revision(shift.blue), green.rest());
        json!({ revision(shift.green): green.percent(), blue: rest.percent() })
    };
    Some(json!({
        "executionId": format!("{}/{}", shift.green.shown(), shift.hook_id()?),
        "lifecycleStage": shift.stage.shown(),
        "resourceArn": names.deployment(shift.green),
        "executionDetails": {
            "serviceArn": names.service(),
            "targetServiceRevisionArn": names.revision(shift.green),
            "testTrafficWeights": weights(shift.test),
            "productionTrafficWeights": weights(shift.production),
        },
        "hookDetails": endpoint.details,
    }))
}
