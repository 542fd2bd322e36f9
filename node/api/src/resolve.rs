//! Tasks and instances by the first digits of their id, as people type them: pure.
//!
//! Everything else (names, whole ids, ARNs) is `muster_proto::arn`'s. A prefix of six or more
//! hexadecimal digits is accepted if only one row of the cluster has it.

use crate::limits::ID_PREFIX_MIN;
use muster_model::{Cluster, Error, Instance, State, Task, TaskId};
use muster_proto::arn;
use std::sync::Arc;

/// A task by id, ARN or unique prefix.
///
/// # Errors
/// `NotFound`; `Invalid` for a prefix of several, or an ARN of another cluster of managers.
pub fn task<'s>(state: &'s State, of: &Cluster, text: &str) -> Result<&'s Arc<Task>, Error> {
    match (arn::task(state, of, text), prefix(text)) {
        (Err(missing @ Error::NotFound { .. }), Some((from, to))) => {
            let within = TaskId::from_bits(from)..=TaskId::from_bits(to);
            let rows = state.tasks_within(within).filter(|row| row.cluster == of.id);
            only(rows, "task", text)?.ok_or(missing)
        }
        (found, _) => found,
    }
}

/// A container instance by id, ARN, host name or unique prefix.
///
/// # Errors
/// As `task`.
pub fn instance<'s>(
    state: &'s State,
    of: &Cluster,
    text: &str,
) -> Result<&'s Arc<Instance>, Error> {
    match (arn::instance(state, of, text), prefix(text)) {
        (Err(missing @ Error::NotFound { .. }), Some((from, to))) => {
            let within = |row: &&Arc<Instance>| (from..=to).contains(&row.id.bits());
            let rows = state.instances().filter(within).filter(|row| row.cluster == of.id);
            only(rows, "containerInstance", text)?.ok_or(missing)
        }
        (found, _) => found,
    }
}

/// First and last id that begins with these digits; `None` if they are none, too few or too many.
fn prefix(text: &str) -> Option<(u128, u128)> {
    let short = (ID_PREFIX_MIN..32).contains(&text.len());
    if !short || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u128::from_str_radix(text, 16).ok()?;
    let rest = (32 - text.len()) * 4;
    Some((bits << rest, bits << rest | ((1 << rest) - 1)))
}

fn only<'s, T>(
    mut rows: impl Iterator<Item = &'s Arc<T>>,
    field: &str,
    prefix: &str,
) -> Result<Option<&'s Arc<T>>, Error> {
    let first = rows.next();
    match rows.next() {
        None => Ok(first),
        Some(_) => Err(Error::invalid(field, prefix, "a prefix that only one id begins with")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let range = Some((0xabcdef_u128 << 104, (0xabcdf0_u128 << 104) - 1));
        assert_eq!(prefix("abcdef"), range);
        assert_eq!(prefix("ABCDEF"), range);
        let last = "0123456789abcdef0123456789abcde";
        assert_eq!(prefix(last).map(|(from, to)| to - from), Some(15));
    }

    #[test]
    fn too_few_too_many_and_other_characters_are_no_prefix() {
        let whole = "0123456789abcdef0123456789abcdef";
        let long = format!("0{whole}");
        for bad in ["", "abcde", "abcdeg", "+abcdef", whole, long.as_str(), "é-é-é-"] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }
}
