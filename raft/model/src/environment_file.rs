//! ECS `environmentFiles`: which config one is, and which variables are in its text.
//!
//! ECS reads them from S3. Here the key of the object is the name of a config, whatever the bucket.
//! Invariant: no line of a file is an error, as in ECS: what is no variable is passed over.

use crate::config;
use crate::error::Error;
use crate::secret::SecretReference;

/// ECS asks for it.
const EXTENSION: &str = ".env";
const FORMS: &str = "arn:aws:s3:::BUCKET/KEY.env whose KEY.env is the name of a config, config:NAME \
                     or config:NAME:VERSION";

/// The config that a `value` means.
///
/// # Errors
/// Names the forms that there are.
pub fn reference(value: &str) -> Result<SecretReference, Error> {
    let wrong = || Error::invalid("value", value, FORMS);
    let named = match value.strip_prefix("arn:") {
        Some(arn) => config::secret_name(key_of(arn).ok_or_else(wrong)?),
        None => config::referred(value).map(|_| value.to_owned()).ok_or_else(wrong)?,
    };
    named.parse().map_err(|error| match error {
        Error::Invalid { allowed, .. } => Error::invalid("value", value, allowed),
        other => other,
    })
}

/// The object's key, if a config can be called that.
fn key_of(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(5, ':');
    let (partition, service) = (parts.next()?, parts.next()?);
    let (bucket, key) = parts.nth(2)?.split_once('/')?;
    let object = partition.starts_with("aws") && service == "s3" && !bucket.is_empty();
    let named = key.ends_with(EXTENSION) && config::check_name("value", key).is_ok();
    (object && named).then_some(key)
}

/// Names and values in the order of the lines: `NAME=VALUE`, quotes and spaces included. As ECS's
/// agent reads them, lines that begin with `#`, have no `=`, or nothing on one side of it are no
/// variables.
pub fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_a_config_of_the_objects_key() {
        for (value, name) in [
            ("arn:aws:s3:::bucket/app.env", "config:app.env"),
            ("arn:aws-cn:s3:::bucket/prod/app.env", "config:prod/app.env"),
            ("config:prod/app.env:2", "config:prod/app.env"),
            ("config:anything", "config:anything"),
        ] {
            let missing = reference(value).unwrap().find(|_| None).unwrap_err().to_string();
            assert!(missing.contains(&format!("{name:?}")), "{missing}");
        }
        assert_eq!(reference("config:a:2").unwrap().version, Some(2));
        for value in [
            "",
            "app.env",
            "config:3",
            "arn:aws:s3:::bucket",
            "arn:aws:s3:::bucket/app.txt",
            "arn:aws:s3:::bucket/a:b.env",
            "arn:aws:s3:::/app.env",
            "arn:aws:ssm:eu-west-1:1:parameter/app.env",
            "config:a:0",
        ] {
            let error = reference(value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("value: {value:?}")), "{value}: {error}");
        }
    }

    #[test]
    fn lines_are_read_as_ecs_agent_reads_them() {
        let text = "A=1\r\n#B=2\nC = \"x y\" \n\nD\nE=\n=F\nG=h=i\n #J=k\nA=2";
        let read: Vec<_> = variables(text).collect();
        let expected = [("A", "1"), ("C ", " \"x y\" "), ("G", "h=i"), (" #J", "k"), ("A", "2")];
        assert_eq!(read, expected);
    }
}
