//! Configs: values that tasks are given as they are given secrets, and that users may read again.
//!
//! A config is kept as the secret `config:NAME`, which no secret can be called: sealed, by
//! versions, and within the same limits. That is also what a `valueFrom` calls it. Who may read
//! which of the two, the API decides. Invariant: `config:` and digits alone is a version of a
//! secret that is called config, and no config.

use crate::error::Error;
use crate::limits::NAME_CHARS_MAX;
use crate::secret;

const PREFIX: &str = "config:";

/// The name that a config has among the secrets.
pub fn secret_name(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The name of the config that is kept as this secret; none if it is a secret indeed.
pub fn name_of(secret: &str) -> Option<&str> {
    secret.strip_prefix(PREFIX)
}

/// As a secret's, and not of digits alone.
///
/// # Errors
/// Says what is allowed.
pub fn check_name(field: &str, name: &str) -> Result<(), Error> {
    if secret::check_name(field, name).is_ok() && !is_number(name) {
        return Ok(());
    }
    let allowed = format!("1 to {NAME_CHARS_MAX} letters, digits and /_+=.@-, not digits alone");
    Err(Error::invalid(field, name, allowed))
}

/// `NAME` or `NAME:VERSION`, of a `valueFrom` that names a config.
pub(crate) fn referred(value_from: &str) -> Option<&str> {
    value_from.strip_prefix(PREFIX).filter(|rest| !is_number(rest))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_has_a_name_that_no_secret_has_and_no_version_could_be() {
        assert_eq!(name_of(&secret_name("app.env")), Some("app.env"));
        assert_eq!(name_of("app.env"), None);
        assert!(secret::check_name("name", &secret_name("app.env")).is_err());
        for name in ["", "3", "a:b", "a b", "ä"] {
            let error = check_name("name", name).unwrap_err().to_string();
            assert!(error.contains("not digits alone"), "{name}: {error}");
        }
        assert_eq!((referred("config:a:3"), referred("config:3")), (Some("a:3"), None));
    }
}
