//! ECS's enums, which are strings on the wire: a constant for each, and the one that a field is of.

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Value};
use std::error::Error;
use std::fmt::Write as _;

/// A constant for each of the `spellings` of all files.
pub fn constants(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for file in pool.files() {
        for line in texts(pool, &file.options(), "muster.v1.spellings")? {
            let (name, values) =
                line.split_once(": ").ok_or_else(|| format!("spellings: {line}"))?;
            let values: Vec<&str> = values.split_whitespace().collect();
            writeln!(code, "/// ECS's `{name}`.")?;
            writeln!(code, "pub static {}: &[&str] = &{values:?};", constant(name))?;
        }
    }
    Ok(code)
}

/// The constant that says what a field may, if it is one of ECS's enums. One that is not declared
/// does not compile.
pub fn of(field: &FieldDescriptor) -> Result<Option<String>, Box<dyn Error>> {
    let texts = texts(field.parent_pool(), &field.options(), "muster.v1.spelled")?;
    Ok(texts.first().map(|name| format!("crate::spelled::{}", constant(name))))
}

fn texts(
    pool: &DescriptorPool,
    options: &DynamicMessage,
    name: &str,
) -> Result<Vec<String>, Box<dyn Error>> {
    let extension = pool.get_extension_by_name(name).ok_or_else(|| format!("no option {name}"))?;
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    Ok(match options.get_extension(&extension).as_ref() {
        Value::String(text) => vec![text.clone()],
        Value::List(texts) => texts.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect(),
        other => return Err(format!("option {name}: {other:?}").into()),
    })
}

/// `LAUNCH_TYPE` of `LaunchType`, `OS_FAMILY` of `OSFamily`.
fn constant(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut constant = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let lower = |at: usize| letters.get(at).is_some_and(|letter| letter.is_lowercase());
        if at > 0 && letter.is_uppercase() && (lower(at - 1) || lower(at + 1)) {
            constant.push('_');
        }
        constant.extend(letter.to_uppercase());
    }
    constant
}
