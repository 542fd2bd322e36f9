//! Secrets and configs: their names and values.

use muster_model::limits::SECRET_VALUE_BYTES_MAX;
use muster_model::secret::check_name;
use muster_model::{Error, config};

/// CreateSecret and PutSecretValue.
///
/// # Errors
/// Never quotes the value.
pub fn checked(name: &str, value: &str) -> Result<(), Error> {
    check_name("name", name)?;
    checked_value(value)
}

/// CreateConfig and PutConfigValue; what the config is kept as.
///
/// # Errors
/// Never quotes the value.
pub fn checked_config(name: &str, value: &str) -> Result<String, Error> {
    checked_value(value)?;
    config_name(name)
}

/// What a config is kept as.
pub fn config_name(name: &str) -> Result<String, Error> {
    config::check_name("name", name)?;
    Ok(config::secret_name(name))
}

fn checked_value(value: &str) -> Result<(), Error> {
    if value.is_empty() || value.len() > SECRET_VALUE_BYTES_MAX {
        let allowed = format!("1 to {SECRET_VALUE_BYTES_MAX} bytes");
        return Err(Error::invalid("value", format!("{} bytes", value.len()), allowed));
    }
    if value.contains('\0') {
        let allowed = "text without NUL: no variable of an environment can hold one";
        return Err(Error::invalid("value", "a text with NUL", allowed));
    }
    Ok(())
}
