//! The sizes that a task has on Fargate. None runs there from here; a definition that names FARGATE
//! is held to them as in ECS, so that whoever tries it here first is told before ECS tells them.

use crate::convert::At;
use muster_model::Error;
use muster_model::spec::Resources;

pub const FARGATE: &str = "FARGATE";
const GIB: u32 = 1024;

/// # Errors
/// In ECS's words, where the size is missing or none of Fargate's.
pub fn check(task: Resources) -> Result<(), Error> {
    let Resources { cpu, memory_mib } = task;
    for (field, value) in [("cpu", cpu), ("memory", memory_mib)] {
        if value == 0 {
            let why = format!("Fargate requires that '{field}' be defined at the task level.");
            return Err(At::Field(field).invalid("", why));
        }
    }
    if is_size(task) {
        return Ok(());
    }
    let why = format!(
        "No Fargate configuration exists for given values: {cpu} CPU, {memory_mib} memory. See the \
         Amazon ECS documentation for the valid values."
    );
    Err(At::Field("cpu").invalid(cpu, why))
}

/// ECS's table: memory for each number of cpu units, from, to and by how much.
fn is_size(task: Resources) -> bool {
    let (from, to, step) = match task.cpu {
        256 => return [GIB / 2, GIB, 2 * GIB].contains(&task.memory_mib),
        512 => (1, 4, 1),
        1024 => (2, 8, 1),
        2048 => (4, 16, 1),
        4096 => (8, 30, 1),
        8192 => (16, 60, 4),
        16_384 => (32, 120, 8),
        _ => return false,
    };
    let (gib, rest) = (task.memory_mib / GIB, task.memory_mib % GIB);
    rest == 0 && (from..=to).contains(&gib) && (gib - from) % step == 0
}
