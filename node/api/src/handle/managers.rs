//! The managers themselves: who replicates, who leads, who may go.
//!
//! Removing checks first that the rest can still decide anything; the leader alone hears who
//! answers, so it alone is asked. The row decides: the leader makes Raft's membership follow it.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::limits::{FOLLOW_LOOK, REACHABLE_WITHIN};
use crate::write::Fresh;
use muster_model::{Command, Error, Kind, RaftId, State};
use muster_proto::convert::operator as convert;
use muster_proto::pb;
use muster_replica::{Change, Instant, Member, RaftStatus};
use std::sync::Arc;

impl Dispatcher {
    /// What this manager knows; answered without a quorum too.
    pub async fn raft_status(
        &self,
        call: &Call,
        request: pb::RaftStatusRequest,
    ) -> Result<pb::RaftStatusResponse, Error> {
        let state = self.replica.state();
        call.saw(&state, Some(self.replica.age()));
        let status = self.replica.status();
        let leader = self.leader();
        let state_hash = match request.state_hash {
            true => hash_of(state.clone()).await?,
            false => String::new(),
        };
        Ok(pb::RaftStatusResponse {
            id: status.id.0,
            term: status.term,
            leader: leader.as_ref().map(|(id, _)| id.0),
            leader_address: leader.map(|(_, address)| address).unwrap_or_default(),
            last_log_index: status.log_last.unwrap_or(0),
            applied_index: state.applied().0,
            snapshot_index: status.snapshot.unwrap_or(0),
            log_bytes: status.log_bytes,
            epoch: state.meta().epoch.0,
            members: status.members.iter().map(|member| row(&state, &status, member)).collect(),
            state_hash,
        })
    }

    /// Returns once another manager leads.
    pub async fn transfer_leadership(
        &self,
        call: &Call,
        request: pb::TransferLeadershipRequest,
    ) -> Result<pb::TransferLeadershipResponse, Error> {
        let to = (request.to != 0).then_some(RaftId(request.to));
        let before = self.leader().map(|(id, _)| id);
        if let Some(to) = to {
            let status = self.replica.status();
            voter(&status, to)?;
            if before == Some(to) {
                return Ok(pb::TransferLeadershipResponse { leader: to.0 });
            }
        }
        self.replica.change(Change::Transfer(to), call.deadline).await?;
        let mut leadership = self.replica.leadership();
        let moved = leadership.wait_for(|now| match (&now.leader, to) {
            (Some((id, _)), Some(to)) => *id == to,
            (Some((id, _)), None) => Some(*id) != before,
            (None, _) => false,
        });
        let told = match tokio::time::timeout_at(call.deadline, moved).await {
            Ok(Ok(now)) => now.leader.as_ref().map(|(id, _)| id.0),
            Ok(Err(_)) | Err(_) => None,
        };
        let leader = told.ok_or_else(|| Error::UnknownOutcome {
            why: "leadership was asked to move, and no new leader was heard of in time".into(),
        })?;
        Ok(pb::TransferLeadershipResponse { leader })
    }

    /// Makes a joined learner a voter.
    pub async fn add_manager(
        &self,
        call: &Call,
        request: pb::AddManagerRequest,
    ) -> Result<pb::AddManagerResponse, Error> {
        let id = convert::raft_id("id", request.id)?;
        let state = self.replica.read(call.deadline).await?;
        let not_found = || Error::not_found(Kind::Manager, id);
        let row = state.manager(id).ok_or_else(not_found)?;
        if row.removed_at.is_some() {
            return Err(Error::NotActive { kind: Kind::Manager, name: id.to_string() });
        }
        let status = self.replica.status();
        match status.members.iter().find(|member| member.id == id) {
            Some(member) if member.voter => {}
            _ => self.replica.change(Change::Promote(id), call.deadline).await?,
        }
        Ok(pb::AddManagerResponse { voters: voters(&self.replica.status()) })
    }

    /// Takes a manager out for good, unless the rest could not decide anything without it.
    pub async fn remove_manager(
        &self,
        call: &Call,
        request: pb::RemoveManagerRequest,
    ) -> Result<pb::RemoveManagerResponse, Error> {
        self.require_leading("remove a manager")?;
        let id = convert::raft_id("id", request.id)?;
        let state = self.replica.read(call.deadline).await?;
        state.manager(id).ok_or_else(|| Error::not_found(Kind::Manager, id))?;
        removable(&state, &self.replica.status(), id, request.force)?;
        let make = |_: &mut crate::write::Draft<'_>| Ok(Command::RemoveManager { manager: id });
        self.write(call, "", Fresh::IfMissing, make).await?;
        self.gone(id, call.deadline).await?;
        Ok(pb::RemoveManagerResponse { voters: voters(&self.replica.status()) })
    }

    /// Waits until Raft's membership has followed the row. Membership has no watch: it is looked
    /// at, a few times a second, by the one caller that removes a manager.
    async fn gone(&self, id: RaftId, deadline: Instant) -> Result<(), Error> {
        while self.replica.status().members.iter().any(|member| member.id == id) {
            if Instant::now() + FOLLOW_LOOK >= deadline {
                return Err(Error::UnknownOutcome {
                    why: format!(
                        "manager {id} may not join in any more, but Raft still counts it; see \
                         `muster operator raft status`"
                    ),
                });
            }
            tokio::time::sleep(FOLLOW_LOOK).await;
        }
        Ok(())
    }
}

fn row(state: &State, status: &RaftStatus, member: &Member) -> pb::RaftMember {
    let row = state.manager(member.id);
    let text = |field: fn(&muster_model::Manager) -> &str| {
        row.map_or_else(String::new, |row| field(row).to_owned())
    };
    let role = match (status.leader == Some(member.id), member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    pb::RaftMember {
        id: member.id.0,
        name: text(|row| &row.name),
        zone: text(|row| &row.zone),
        address: member.address.clone(),
        role: role.into(),
        matched_index: member.matched,
        last_acknowledged_ms: member.answered.and_then(|ago| ago.as_millis().try_into().ok()),
        reachable: reachable(status, member),
    }
}

/// Itself, or answered this manager lately.
fn reachable(status: &RaftStatus, member: &Member) -> bool {
    member.id == status.id || member.answered.is_some_and(|ago| ago <= REACHABLE_WITHIN)
}

fn voter(status: &RaftStatus, id: RaftId) -> Result<(), Error> {
    match status.members.iter().find(|member| member.id == id) {
        Some(member) if member.voter => Ok(()),
        Some(_) => Err(Error::refused(format!(
            "manager {id} does not vote yet; promote it: muster operator raft add {id}"
        ))),
        None => Err(Error::not_found(Kind::Manager, id)),
    }
}

fn voters(status: &RaftStatus) -> Vec<u64> {
    status.members.iter().filter(|member| member.voter).map(|member| member.id.0).collect()
}

/// Whether the managers that remain could still decide: a majority of them must answer now.
fn removable(state: &State, status: &RaftStatus, id: RaftId, force: bool) -> Result<(), Error> {
    let in_use =
        |what: String| Err(Error::InUse { kind: Kind::Manager, name: id.to_string(), what });
    if id == status.id {
        return in_use(
            "it leads; hand leadership over first: muster operator raft transfer".to_owned(),
        );
    }
    let Some(member) = status.members.iter().find(|member| member.id == id) else { return Ok(()) };
    if !member.voter {
        return Ok(());
    }
    let rest: Vec<&Member> =
        status.members.iter().filter(|other| other.voter && other.id != id).collect();
    let silent: Vec<String> = rest
        .iter()
        .filter(|other| !reachable(status, other))
        .map(|other| named(state, other.id))
        .collect();
    let (needed, answering) = (rest.len() / 2 + 1, rest.len() - silent.len());
    if force || (!rest.is_empty() && answering >= needed) {
        return Ok(());
    }
    in_use(format!(
        "without it {} voters remain, of which {needed} must answer and {answering} do (silent: \
         {}); bring those back or remove them first, or repeat with force",
        rest.len(),
        if silent.is_empty() { "none".to_owned() } else { silent.join(", ") }
    ))
}

fn named(state: &State, id: RaftId) -> String {
    match state.manager(id) {
        Some(row) => format!("{} ({id})", row.name),
        None => id.to_string(),
    }
}

/// Every row is hashed: seconds with a million tasks, and not on a thread that serves.
async fn hash_of(state: Arc<State>) -> Result<String, Error> {
    let hash = tokio::task::spawn_blocking(move || state.hash()).await;
    let hash = hash.map_err(|error| Error::Unavailable { why: format!("state hash: {error}") })?;
    Ok(format!("{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Voters by id, answering or not; manager 1 leads.
    fn status(voters: &[(u64, bool)]) -> RaftStatus {
        let member = |(id, answers): &(u64, bool)| Member {
            id: RaftId(*id),
            address: format!("m{id}:7700"),
            voter: true,
            matched: None,
            answered: answers.then_some(Duration::from_millis(40)),
        };
        let members = voters.iter().map(member).collect();
        RaftStatus { id: RaftId(1), members, ..RaftStatus::default() }
    }

    fn told(voters: &[(u64, bool)], id: u64) -> Result<(), String> {
        let state = State::default();
        removable(&state, &status(voters), RaftId(id), false).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manager_goes_when_the_rest_is_a_quorum() {
        assert_eq!(told(&[(1, true), (2, true), (3, true)], 3), Ok(()));
        assert_eq!(told(&[(1, true), (2, true), (3, false)], 3), Ok(()));
        assert_eq!(told(&[(1, true), (2, true)], 2), Ok(()));
        assert_eq!(told(&[(1, true)], 9), Ok(()));
    }

    #[test]
    fn a_step_that_loses_the_quorum_is_refused_and_says_what_remains() {
        let refused = told(&[(1, true), (2, true), (3, false)], 2).err().unwrap_or_default();
        assert!(refused.contains("2 voters remain, of which 2 must answer and 1 do"), "{refused}");
        assert!(refused.contains("silent: 3"), "{refused}");
        let leader = told(&[(1, true), (2, true)], 1).err().unwrap_or_default();
        assert!(leader.contains("raft transfer"), "{leader}");
        let forced = status(&[(1, true), (2, true), (3, false)]);
        assert!(removable(&State::default(), &forced, RaftId(2), true).is_ok());
    }
}
