//! What a user was promised is there in the end, and was done once. Without it an acknowledged
//! request is lost in a failover, or a repeated one runs twice the tasks.

use crate::sim::world::short;
use muster_model::{Changes, Command, Entry, Error, RequestId, Response, State};
use std::collections::BTreeMap;

/// A repeat of what was done already does nothing, and hears what the first one heard. `answered`
/// is kept here, not read from the state: its memory is what is judged.
pub(super) fn check_entry(
    answered: &mut BTreeMap<RequestId, Response>,
    changes: &Changes,
    entry: &Entry,
    answer: &Result<Response, Error>,
) -> Result<(), String> {
    let judged_anew = matches!(
        entry.command,
        Command::Plan { .. } | Command::Report { .. } | Command::Takeover { .. }
    );
    let nothing =
        changes.tasks.is_empty() && changes.services.is_empty() && changes.instances.is_empty();
    if judged_anew {
        return Ok(());
    }
    let id = short(entry.request);
    let Some(first) = answered.get(&entry.request) else {
        if let Ok(response) = answer {
            answered.insert(entry.request, response.clone());
        }
        return Ok(());
    };
    if !nothing {
        return Err(format!("request {id} was done twice"));
    }
    match answer {
        Ok(again) if again == first => Ok(()),
        _ => Err(format!("request {id} was answered {first:?}, and then {answer:?}")),
    }
}

pub(super) fn check(state: &State, promised: &[(RequestId, Response)]) -> Result<(), String> {
    for (request, response) in promised {
        let row = state.request(*request);
        if row.map(|row| &row.answer) != Some(&Ok(response.clone())) {
            let id = short(request);
            return Err(format!("request {id} was answered {response:?} and is gone"));
        }
        let there = match response {
            Response::Service(id) => state.service(*id).is_some(),
            Response::Cluster(id) => state.cluster(*id).is_some(),
            Response::Instance(id) => state.instance(*id).is_some(),
            Response::Definition(id) => state.definition(*id).is_some(),
            // Finished tasks are forgotten after a while.
            _ => true,
        };
        if !there {
            return Err(format!("{response:?} was promised and does not exist"));
        }
    }
    Ok(())
}
