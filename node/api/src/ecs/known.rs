//! What other systems read before they believe a task's identity: who issues it, and with which key
//! it is signed (OpenID Connect Discovery, RFC 8414). Anybody may read it, nobody is asked who.
//!
//! Pure. It does not know what a token says (`muster-manager`). Invariant: nothing here is secret.

use muster_identity::{SIGNING_ALGORITHM, json_web_key};
use muster_model::State;
use serde_json::{Value, json};

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/.well-known/jwks.json";

/// What is at `path`; `issuer` is the URL in front of these paths. There is no key until the first
/// identity was asked for.
pub fn document(path: &str, issuer: &str, state: &State) -> Option<Value> {
    match path {
        CONFIGURATION => Some(json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}{KEYS}"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [SIGNING_ALGORITHM],
        })),
        KEYS => {
            let keys = state.signing_key().and_then(|key| json_web_key(&key.public));
            Some(json!({ "keys": keys.into_iter().collect::<Vec<_>>() }))
        }
        _ => None,
    }
}
