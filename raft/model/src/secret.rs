//! Secrets: values that tasks need and nobody is shown, by name and version, and how a task
//! definition refers to one.
//!
//! A value is here as sealed bytes: who may open them, and how, is not known to the state
//! (`muster-identity`, docs/decisions/0017). Invariant: a secret has at least one version, the
//! newest last; numbers grow and are not given out twice while the secret lives.

use crate::access_key::SealedSecret;
use crate::config;
use crate::error::{Error, Kind};
use crate::limits::{NAME_CHARS_MAX, SECRET_KEY_CHARS_MAX};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Arc;

/// What changes secrets. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretCommand {
    Create {
        name: Arc<str>,
        value: SealedSecret,
    },
    /// A new version.
    PutValue {
        name: Arc<str>,
        value: SealedSecret,
    },
    Delete {
        name: Arc<str>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub name: Arc<str>,
    pub created_at: Time,
    /// The oldest first; the last is what a reference without a version means.
    pub versions: Vec<SecretVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// From 1.
    pub number: u64,
    pub value: SealedSecret,
    pub created_at: Time,
}

impl Secret {
    /// Bytes of all its sealed values.
    pub fn sealed_bytes(&self) -> usize {
        self.versions.iter().map(|version| version.value.0.len()).sum()
    }

    /// The one of this number; without one the newest.
    ///
    /// # Errors
    /// Names those that there are.
    pub fn version(&self, number: Option<u64>) -> Result<&SecretVersion, Error> {
        let found = match number {
            None => self.versions.last(),
            Some(number) => self.versions.iter().find(|version| version.number == number),
        };
        found.ok_or_else(|| {
            let kept: Vec<String> = self.versions.iter().map(|v| v.number.to_string()).collect();
            let allowed = format!("one of the versions that are kept: {}", kept.join(", "));
            let name = &self.name;
            Error::invalid("valueFrom", format!("{name}:{}", number.unwrap_or(0)), allowed)
        })
    }
}

/// Letters, digits and `/_+=.@-`, as AWS Secrets Manager names secrets.
///
/// # Errors
/// Says what is allowed.
pub fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    if !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.bytes().all(charset) {
        return Ok(());
    }
    let allowed = format!("1 to {NAME_CHARS_MAX} letters, digits and /_+=.@-");
    Err(Error::invalid(field, name, allowed))
}

/// ECS `valueFrom`: which secret, which version of it, and which member if its value is JSON.
///
/// `NAME`, `NAME:VERSION`, the same after `config:` for a config, or an ARN as ECS takes it, whose
/// region and account are not compared, so that a definition from elsewhere finds the secret of the
/// same name here:
/// `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:KEY:STAGE:VERSION]` and
/// `arn:aws:ssm:REGION:ACCOUNT:parameter/NAME[:VERSION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// The names that it may have here, the likeliest first.
    names: Vec<String>,
    pub key: Option<String>,
    pub version: Option<u64>,
}

/// Secrets Manager appends a hyphen and six characters to a secret's name in its ARN.
const ARN_SUFFIX_CHARS: usize = 6;
const FORMS: &str = "NAME, NAME:VERSION, config:NAME, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME with or \
                     without :KEY:STAGE:VERSION, or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME";

impl FromStr for SecretReference {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::invalid("valueFrom", text, FORMS);
        if let Some(rest) = config::referred(text) {
            return named(text, rest, config::check_name, config::secret_name);
        }
        let Some(arn) = text.strip_prefix("arn:") else { return plain(text, text) };
        let mut parts = arn.splitn(5, ':');
        let (partition, service) = (parts.next(), parts.next());
        let resource = parts.nth(2).ok_or_else(wrong)?;
        if !partition.is_some_and(|it| it.starts_with("aws")) {
            return Err(wrong());
        }
        match service {
            Some("secretsmanager") => {
                managed(text, resource.strip_prefix("secret:").ok_or_else(wrong)?)
            }
            Some("ssm") => {
                let name = resource.strip_prefix("parameter/").ok_or_else(wrong)?;
                // A name with levels begins with a slash, which the ARN leaves out.
                let slash = if name.contains('/') { "/" } else { "" };
                plain(text, &format!("{slash}{name}"))
            }
            _ => Err(wrong()),
        }
    }
}

/// `NAME` or `NAME:VERSION`.
fn plain(text: &str, rest: &str) -> Result<SecretReference, Error> {
    named(text, rest, check_name, str::to_owned)
}

/// `plain`, of what has such names and is kept under such.
fn named(
    text: &str,
    rest: &str,
    check: fn(&str, &str) -> Result<(), Error>,
    kept_as: fn(&str) -> String,
) -> Result<SecretReference, Error> {
    let (name, version) = match rest.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (rest, None),
    };
    check("valueFrom", name).map_err(|_| Error::invalid("valueFrom", text, FORMS))?;
    let version = version.map(|version| number(text, version)).transpose()?;
    Ok(SecretReference { names: vec![kept_as(name)], key: None, version })
}

/// `NAME` or `NAME:KEY:STAGE:VERSION`, each of the three possibly empty.
fn managed(text: &str, rest: &str) -> Result<SecretReference, Error> {
    let mut parts = rest.split(':');
    let name = parts.next().unwrap_or_default();
    check_name("valueFrom", name).map_err(|_| Error::invalid("valueFrom", text, FORMS))?;
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let (key, stage, version) = (part(), part(), part());
    if parts.next().is_some() {
        return Err(Error::invalid("valueFrom", text, FORMS));
    }
    if stage.is_some_and(|stage| stage != "AWSCURRENT") {
        let allowed = "the stage AWSCURRENT or none: versions have no other stages here";
        return Err(Error::invalid("valueFrom", text, allowed));
    }
    if key.is_some_and(|key| key.len() > SECRET_KEY_CHARS_MAX) {
        let allowed = format!("a key of at most {SECRET_KEY_CHARS_MAX} characters");
        return Err(Error::invalid("valueFrom", text, allowed));
    }
    let mut names = vec![name.to_owned()];
    let suffixed = name.rsplit_once('-').filter(|(bare, suffix)| {
        !bare.is_empty()
            && suffix.len() == ARN_SUFFIX_CHARS
            && suffix.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    names.extend(suffixed.map(|(bare, _)| bare.to_owned()));
    let version = version.map(|version| number(text, version)).transpose()?;
    Ok(SecretReference { names, key: key.map(str::to_owned), version })
}

fn number(text: &str, version: &str) -> Result<u64, Error> {
    let number = version.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        let allowed = "the number of a version, from 1; see `muster secret describe` or `muster \
                       config list`";
        Error::invalid("valueFrom", text, allowed)
    })
}

impl SecretReference {
    /// The row that is meant, among those that `find` finds.
    ///
    /// # Errors
    /// `NotFound` under the name as it was written.
    pub fn find<'a>(
        &self,
        find: impl Fn(&str) -> Option<&'a Arc<Secret>>,
    ) -> Result<&'a Arc<Secret>, Error> {
        let found = self.names.iter().find_map(|name| find(name));
        let name = self.names.first().map_or("", String::as_str);
        found.ok_or_else(|| Error::not_found(Kind::Secret, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Option<String>, Option<u64>) {
        let SecretReference { names, key, version } = text.parse().unwrap();
        (names, key, version)
    }

    #[test]
    fn a_reference_is_a_name_or_one_of_amazons_arns() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(read("db"), (names(&["db"]), None, None));
        assert_eq!(read("/prod/db:3"), (names(&["/prod/db"]), None, Some(3)));
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";
        assert_eq!(read(&format!("{arn}db")), (names(&["db"]), None, None));
        let suffixed = read(&format!("{arn}prod-db-AbC12f:password::2"));
        assert_eq!(
            suffixed,
            (names(&["prod-db-AbC12f", "prod-db"]), Some("password".into()), Some(2))
        );
        assert_eq!(read(&format!("{arn}db::AWSCURRENT:")), (names(&["db"]), None, None));
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/";
        assert_eq!(read(&format!("{arn}db")), (names(&["db"]), None, None));
        assert_eq!(read(&format!("{arn}prod/db")), (names(&["/prod/db"]), None, None));
        assert_eq!(read("config:app.env"), (names(&["config:app.env"]), None, None));
        assert_eq!(read("config:app.env:2"), (names(&["config:app.env"]), None, Some(2)));
        assert_eq!(read("config:2"), (names(&["config"]), None, Some(2)), "of a secret");
    }

    #[test]
    fn what_is_no_reference_is_refused_with_its_forms() {
        let arn = "arn:aws:secretsmanager:r:a:secret:";
        let (previous, many) = (format!("{arn}db::AWSPREVIOUS:"), format!("{arn}db:k:::"));
        for (text, told) in [
            ("", "NAME:VERSION"),
            ("a b", "NAME:VERSION"),
            ("db:0", "from 1"),
            ("db:x", "from 1"),
            ("db:1:2", "from 1"),
            ("config:", "from 1"),
            ("config:a b", "config:NAME"),
            ("config:a:0", "from 1"),
            ("arn:aws:s3:::bucket", "NAME:VERSION"),
            ("arn:aws:secretsmanager", "NAME:VERSION"),
            ("arn:aws:ssm:r:a:db", "NAME:VERSION"),
            (arn, "NAME:VERSION"),
            (&previous, "AWSCURRENT"),
            (&many, "NAME:VERSION"),
        ] {
            let error = text.parse::<SecretReference>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
