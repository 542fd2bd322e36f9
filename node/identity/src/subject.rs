//! How a principal is written into a certificate and read back.
//!
//! Organization = the role, common name = the id in its one canonical spelling. Reading accepts
//! exactly what writing produces, so no two subjects mean the same principal.

use crate::digest::hex;
use crate::error::Error;
use crate::limits::NAME_BYTES_MAX;
use muster_model::{InstanceId, Principal, RaftId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

const MANAGER: &str = "muster-manager";
const INSTANCE: &str = "muster-instance";
const USER: &str = "muster-user";

/// A principal in the words of a certificate.
pub struct Subject {
    pub organization: &'static str,
    pub common_name: String,
    /// Subject alternative name. Managers carry the name that clients verify.
    pub dns_name: &'static str,
}

impl Subject {
    /// # Errors
    /// When a user's name is not allowed in a certificate, or for an assumed role.
    pub fn of(principal: &Principal) -> Result<Self, Error> {
        Ok(match principal {
            Principal::Manager(id) => Self {
                organization: MANAGER,
                common_name: id.to_string(),
                dns_name: crate::tls::SERVER_NAME,
            },
            Principal::Instance(id) => Self {
                organization: INSTANCE,
                common_name: id.to_string(),
                dns_name: "instance.muster",
            },
            Principal::User(name) => {
                user_name_allowed(name)?;
                Self { organization: USER, common_name: name.clone(), dns_name: "user.muster" }
            }
            Principal::AssumedRole { .. } => {
                let problem = format!("{principal} signs requests and has no certificate");
                return Err(Error::invalid("principal", problem));
            }
        })
    }
}

/// Whether a user may have this name: 1 to 64 characters, letters, digits and `.`, `_`, `-`, `@`,
/// the first a letter or digit.
///
/// # Errors
/// Names the value and what is allowed.
pub fn user_name_allowed(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    let problem = format!(
        "{shown:?} is not allowed: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_', '-' or '@', \
         starting with a letter or digit"
    );
    Err(Error::invalid("user name", problem))
}

/// Who a certificate speaks for. It says nothing about whether the certificate is to be believed.
///
/// # Errors
/// When `der` is not a certificate, or its subject is not one this crate writes.
pub fn principal_of(der: &[u8]) -> Result<Principal, Error> {
    Ok(read(der)?.principal)
}

/// What we need to know of a certificate that this cluster issued.
pub struct Facts {
    pub principal: Principal,
    /// Lower-case hex, as `IssuedCert::serial_hex`.
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Reads a certificate of ours.
pub fn read(der: &[u8]) -> Result<Facts, Error> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|_| Error::certificate("not an X.509 certificate"))?;
    if !rest.is_empty() {
        return Err(Error::certificate("bytes after its end"));
    }
    let subject = certificate.subject();
    let organization = only("organization", subject.iter_organization())?;
    let common_name = only("common name", subject.iter_common_name())?;
    let validity = certificate.validity();
    Ok(Facts {
        principal: principal(organization, common_name)?,
        serial: hex(certificate.raw_serial()),
        not_before: from_unix(validity.not_before.timestamp())?,
        not_after: from_unix(validity.not_after.timestamp())?,
    })
}

fn principal(organization: &str, common_name: &str) -> Result<Principal, Error> {
    let stranger = || {
        Error::certificate(format!(
            "its subject {organization:?}/{common_name:?} is not one this cluster gives out"
        ))
    };
    let found = match organization {
        MANAGER => Principal::Manager(RaftId(common_name.parse().map_err(|_| stranger())?)),
        INSTANCE => {
            let id: InstanceId = common_name.parse().map_err(|_| stranger())?;
            Principal::Instance(id)
        }
        USER => Principal::User(common_name.to_owned()),
        _ => return Err(stranger()),
    };
    // `+7`, `07` and upper-case hex parse too: only the spelling we write is that principal.
    match Subject::of(&found) {
        Ok(written) if written.common_name == common_name => Ok(found),
        _ => Err(stranger()),
    }
}

fn only<'a>(
    what: &'static str,
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<&'a str, Error> {
    let value = values.next().and_then(|value| value.as_str().ok());
    match (value, values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(Error::certificate(format!("its subject must have exactly one {what}"))),
    }
}

/// Seconds since 1970 as a time of this process.
pub fn from_unix(seconds: i64) -> Result<SystemTime, Error> {
    let out_of_range = || Error::certificate(format!("time {seconds} s is out of range"));
    let seconds = u64::try_from(seconds).map_err(|_| out_of_range())?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(out_of_range)
}

/// Whole seconds since 1970.
pub fn to_unix(time: SystemTime) -> Result<i64, Error> {
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Error::invalid("clock", "it is before 1970: set it (`date -u`)"))?;
    i64::try_from(since.as_secs())
        .map_err(|_| Error::invalid("clock", "it is beyond any calendar: set it (`date -u`)"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_spelling_is_a_principal() {
        let hex = "0123456789abcdef0123456789abcdef";
        assert_eq!(principal(MANAGER, "7").unwrap(), Principal::Manager(RaftId(7)));
        assert!(matches!(principal(INSTANCE, hex), Ok(Principal::Instance(_))));
        assert_eq!(principal(USER, "ann").unwrap(), Principal::User("ann".into()));
        for (organization, name) in [
            (MANAGER, "+7"),
            (MANAGER, "07"),
            (MANAGER, ""),
            (MANAGER, "18446744073709551616"),
            (INSTANCE, "0123456789ABCDEF0123456789ABCDEF"),
            (INSTANCE, "7"),
            (USER, ""),
            (USER, "a b"),
            (USER, "-a"),
            (USER, "müller"),
            ("muster-authority", "x"),
            ("", "7"),
        ] {
            assert!(principal(organization, name).is_err(), "{organization}/{name}");
        }
    }

    #[test]
    fn a_user_name_may_be_64_characters_and_not_65() {
        assert!(user_name_allowed(&"a".repeat(64)).is_ok());
        assert!(user_name_allowed(&"a".repeat(65)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = principal_of(&bytes);
        }
    }
}
