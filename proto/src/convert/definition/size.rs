//! Sizes of a task as ECS writes them: "1024", "1 vCPU", ".5 vcpu", "2048", "2GB"; and what a
//! container wants of named resources.
//!
//! Decimals are read as integers of a thousandth: no floats decide anything here.

use crate::convert::dispatch::resource_name;
use crate::convert::{At, at_most};
use crate::pb;
use muster_model::Error;
use muster_model::limits::{
    CPU_UNITS_MAX, MEMORY_MIB_MAX, MEMORY_MIB_MIN, NAMED_AMOUNT_MAX, NAMED_RESOURCES_MAX,
};
use muster_model::spec::Named;

/// The kernel's smallest share.
const CPU_UNITS_MIN: u64 = 2;
/// Digits after the point.
const DECIMALS: usize = 3;

/// CPU units; `None` if the text is empty.
pub(crate) fn cpu(at: &At<'_>, text: &str) -> Result<Option<u32>, Error> {
    let range = CPU_UNITS_MIN..=u64::from(CPU_UNITS_MAX);
    let allowed = || {
        format!("{CPU_UNITS_MIN} to {CPU_UNITS_MAX} units such as \"1024\", or vCPUs as \"1 vCPU\"")
    };
    sized(text, "vcpu").filter(|units| range.contains(units)).map_or_else(
        || if text.is_empty() { Ok(None) } else { Err(at.invalid(text, allowed())) },
        |units| Ok(u32::try_from(units).ok()),
    )
}

/// MiB; `None` if the text is empty.
pub(crate) fn memory(at: &At<'_>, text: &str) -> Result<Option<u32>, Error> {
    let range = u64::from(MEMORY_MIB_MIN)..=u64::from(MEMORY_MIB_MAX);
    let allowed =
        || format!("{MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} MiB such as \"2048\", or GB as \"2 GB\"");
    sized(text, "gb").filter(|mib| range.contains(mib)).map_or_else(
        || if text.is_empty() { Ok(None) } else { Err(at.invalid(text, allowed())) },
        |mib| Ok(u32::try_from(mib).ok()),
    )
}

/// A plain number, or a decimal number of `unit`, of which one is 1024.
fn sized(text: &str, unit: &str) -> Option<u64> {
    if text.len() > 32 {
        return None;
    }
    let lower = text.trim().to_ascii_lowercase();
    let Some(number) = lower.strip_suffix(unit) else { return digits(&lower) };
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > DECIMALS || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { digits(whole)? };
    let thousandths = if fraction.is_empty() { 0 } else { digits(&format!("{fraction:0<3}"))? };
    let total = whole.checked_mul(1000)?.checked_add(thousandths)?;
    total.checked_mul(1024).map(|units| units / 1000)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// ECS `resourceRequirements`: whole numbers of resources that instances declare.
pub(crate) fn requirements(
    list: &At<'_>,
    wire: &[pb::ResourceRequirement],
) -> Result<Named, Error> {
    at_most(list, wire.len(), NAMED_RESOURCES_MAX, "resources")?;
    let mut named = Named::new();
    for (index, wire) in wire.iter().enumerate() {
        let at = list.index(index);
        let kind = at.field("type");
        if wire.r#type == "InferenceAccelerator" {
            return Err(kind.unsupported(&wire.r#type, "use GPU or a resource of your own"));
        }
        resource_name(&kind, &wire.r#type)?;
        let value = at.field("value");
        let units = digits(&wire.value).and_then(|units| u32::try_from(units).ok());
        let units = units.filter(|units| (1..=NAMED_AMOUNT_MAX).contains(units));
        let allowed = || format!("1 to {NAMED_AMOUNT_MAX}, such as \"1\"");
        let units = units.ok_or_else(|| value.invalid(&wire.value, allowed()))?;
        if named.insert(wire.r#type.clone(), units).is_some() {
            return Err(kind.invalid(&wire.r#type, "each type once"));
        }
    }
    Ok(named)
}
