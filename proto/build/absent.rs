//! `api/absent.txt`: what Amazon ECS has and this API has not, as a table.

use std::error::Error;
use std::fmt::Write as _;

/// The operations without an rpc, each with its reason.
pub fn operations(text: &str) -> Result<String, Box<dyn Error>> {
    let mut code = String::from(
        "/// Operations of ECS that have no rpc, and what they would need.\n\
         pub static NOT_BUILT_OPERATIONS: &[(&str, &str)] = &[\n",
    );
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, why) = line.split_once(": ").ok_or_else(|| format!("absent.txt: {line:?}"))?;
        if !name.contains('.') {
            writeln!(code, "({name:?}, {why:?}),")?;
        }
    }
    code.push_str("];\n");
    Ok(code)
}
