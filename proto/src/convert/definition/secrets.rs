//! What a container is given of secrets: variables of its environment, credentials of its image's
//! registry.
//!
//! Whether a secret is there is found out when a task starts, as in ECS.

use super::container::variable;
use crate::convert::{At, at_most};
use crate::pb;
use muster_model::limits::CONTAINER_SECRETS_MAX;
use muster_model::{Error, SecretReference};
use std::collections::BTreeMap;

/// An ARN of Secrets Manager with the longest name, key and version.
const VALUE_FROM_CHARS_MAX: usize = 1024;

/// By name of the variable; `plain` is the environment, which must not name them too.
pub fn variables(
    at: &At<'_>,
    wire: &[pb::Secret],
    plain: &[pb::KeyValuePair],
) -> Result<BTreeMap<String, String>, Error> {
    at_most(at, wire.len(), CONTAINER_SECRETS_MAX, "secrets")?;
    let mut variables = BTreeMap::new();
    for (index, secret) in wire.iter().enumerate() {
        let at = at.index(index);
        variable(&at.field("name"), &secret.name)?;
        value_from(&at.field("valueFrom"), &secret.value_from)?;
        let twice = plain.iter().any(|pair| pair.name == secret.name)
            || variables.insert(secret.name.clone(), secret.value_from.clone()).is_some();
        if twice {
            let allowed = "each name once, in environment and secrets together";
            return Err(at.field("name").invalid(&secret.name, allowed));
        }
    }
    Ok(variables)
}

pub fn credentials(
    at: &At<'_>,
    wire: Option<&pb::RepositoryCredentials>,
) -> Result<Option<String>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    value_from(&at.field("credentialsParameter"), &wire.credentials_parameter)?;
    Ok(Some(wire.credentials_parameter.clone()))
}

fn value_from(at: &At<'_>, text: &str) -> Result<(), Error> {
    if text.len() > VALUE_FROM_CHARS_MAX {
        return Err(at.invalid(text, format!("at most {VALUE_FROM_CHARS_MAX} characters")));
    }
    match text.parse::<SecretReference>() {
        Err(Error::Invalid { value, allowed, .. }) => Err(at.invalid(value, allowed)),
        other => other.map(drop),
    }
}
