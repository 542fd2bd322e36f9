//! Policies as rows: whose they are, and the text that was written.
//!
//! It does not know what a document says: it is checked where it enters and judged where a request
//! is (`node/api`). Kept as the text itself, so that what is shown is what was put.

use crate::cluster::UserRole;
use crate::error::Error;
use crate::limits::ROLE_NAME_CHARS_MAX;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a policy is attached to. The order is that of the keys on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Holder {
    /// Every user who has the role.
    Role(UserRole),
    User(Arc<str>),
    /// Every task that has the role, by its name.
    TaskRole(Arc<str>),
}

/// The name of the role that ECS's `taskRoleArn` names: `NAME`, or an ARN whose last part it is, as
/// in `arn:aws:iam::111122223333:role/service/NAME`. Account and path are not compared, so that a
/// definition from elsewhere finds the role of the same name here.
///
/// # Errors
/// Says what is allowed. IAM's rule: 1 to 64 letters, digits and `_+=,.@-`.
pub fn task_role_name<'a>(field: &str, text: &'a str) -> Result<&'a str, Error> {
    let name = match text.strip_prefix("arn:") {
        None => Some(text),
        Some(arn) => match arn.splitn(5, ':').collect::<Vec<_>>()[..] {
            [_, "iam", "", _, resource] => {
                resource.strip_prefix("role/").and_then(|path| path.rsplit('/').next())
            }
            _ => None,
        },
    };
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    let fits =
        |name: &&str| (1..=ROLE_NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(charset);
    name.filter(fits).ok_or_else(|| {
        let allowed = format!(
            "the name of a role, 1 to {ROLE_NAME_CHARS_MAX} letters, digits and _+=,.@-, or \
             arn:aws:iam::ACCOUNT:role/NAME"
        );
        Error::invalid(field, text, allowed)
    })
}

/// A policy of one user, one role of users or one task role, as IAM's inline policies; its name is
/// unique there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub holder: Holder,
    pub name: Arc<str>,
    /// IAM's JSON.
    pub document: Arc<str>,
    pub created_at: Time,
    /// When the document was last replaced.
    pub updated_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_known_by_its_name_whatever_its_account_and_path() {
        let long = "r".repeat(ROLE_NAME_CHARS_MAX);
        for (text, name) in [
            ("web", "web"),
            ("arn:aws:iam::111122223333:role/web", "web"),
            ("arn:aws-cn:iam::111122223333:role/service-role/a/web.1@x", "web.1@x"),
            (long.as_str(), long.as_str()),
        ] {
            assert_eq!(task_role_name("taskRoleArn", text).unwrap(), name);
        }
    }

    #[test]
    fn what_names_no_role_is_refused() {
        let long = "r".repeat(ROLE_NAME_CHARS_MAX + 1);
        for text in [
            "",
            "a b",
            "a/b",
            "arn:aws:iam::1:role/",
            "arn:aws:iam::1:user/web",
            "arn:aws:iam:eu:1:role/web",
            "arn:aws:sts::1:assumed-role/web",
            "arn:aws:iam",
            &long,
        ] {
            let told = task_role_name("taskRoleArn", text).unwrap_err().to_string();
            assert!(told.contains("taskRoleArn") && told.contains("role/NAME"), "{told}");
        }
    }
}
