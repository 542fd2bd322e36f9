//! Secrets: their names and values.

use muster_model::Error;
use muster_model::limits::SECRET_VALUE_BYTES_MAX;
use muster_model::secret::check_name;

/// CreateSecret and PutSecretValue.
///
/// # Errors
/// Never quotes the value.
pub fn checked(name: &str, value: &str) -> Result<(), Error> {
    check_name("name", name)?;
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
