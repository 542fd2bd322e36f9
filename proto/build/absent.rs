//! `api/absent.txt`: what Amazon ECS has and this API has not, as tables.
//!
//! It reads lines. Whether one is right, needed or missing is judged by a test that has the model
//! which ECS publishes (chaos/tests/ecs_model.rs).

use std::error::Error;
use std::fmt::Write as _;

/// A reason that begins so is why asking for it is no error: it tells the cluster something, and
/// asks for nothing.
const IGNORED: &str = "ignored: ";

/// The operations without an rpc and the members without a field, each with its reason.
pub fn tables(text: &str) -> Result<String, Box<dyn Error>> {
    let (mut operations, mut members) = (String::new(), String::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, why) = line
            .split_once(": ")
            .filter(|(name, why)| !name.is_empty() && !why.is_empty())
            .ok_or_else(|| format!("api/absent.txt: {line:?}: expected `name: why`"))?;
        match name.split_once('.') {
            None => writeln!(operations, "({name:?}, {why:?}),")?,
            Some(_) if why.starts_with(IGNORED) => {}
            Some((shape, member)) => writeln!(members, "({shape:?}, {member:?}, {why:?}),")?,
        }
    }
    Ok(format!(
        "/// Operations of ECS that have no rpc, and what they would need.\n\
         pub static NOT_BUILT_OPERATIONS: &[(&str, &str)] = &[\n{operations}];\n\
         /// Members of ECS's shapes that are no fields: message, member, what it would need.\n\
         static NOT_BUILT_MEMBERS: &[(&str, &str, &str)] = &[\n{members}];\n"
    ))
}
