//! Policies of users, roles and task roles. What they mean is `policy`'s; here they are put and
//! shown.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh};
use muster_model::{Command, Error, Kind};
use muster_proto::convert::policy as convert;
use muster_proto::{pb, view};

impl Dispatcher {
    /// From here on requests are judged by it.
    pub async fn put_policy(
        &self,
        call: &Call,
        request: pb::PutPolicyRequest,
    ) -> Result<pb::PutPolicyResponse, Error> {
        let command = convert::put(&request)?;
        let Command::PutPolicy { holder, name, .. } = &command else {
            return Err(Error::refused("not a policy"));
        };
        let make = |_: &mut Draft<'_>| Ok(command.clone());
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(policy = %name, ?holder, by = %call.principal, "policy put");
        let row = written.state.policy(holder, name);
        let policy = row.map(|row| view::policy(row));
        Ok(pb::PutPolicyResponse { policy })
    }

    pub async fn delete_policy(
        &self,
        call: &Call,
        request: pb::DeletePolicyRequest,
    ) -> Result<pb::DeletePolicyResponse, Error> {
        let command = convert::delete(&request)?;
        let make = |_: &mut Draft<'_>| Ok(command.clone());
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(
            policy = request.name,
            user = request.user,
            role = request.role,
            task_role = request.task_role,
            by = %call.principal,
            "policy deleted"
        );
        Ok(pb::DeletePolicyResponse {})
    }

    /// Without the documents: all of them could be 60 MiB.
    pub async fn list_policies(
        &self,
        call: &Call,
        request: pb::ListPoliciesRequest,
    ) -> Result<pb::ListPoliciesResponse, Error> {
        let pb::ListPoliciesRequest { user, role, task_role, .. } = &request;
        let holder = match (user.as_str(), role.as_str(), task_role.as_str()) {
            ("", "", "") => None,
            (user, role, task_role) => Some(convert::holder(user, role, task_role)?),
        };
        let state = self.view(call, request.stale).await?;
        let wanted = |row: &muster_model::Policy| holder.as_ref().is_none_or(|h| row.holder == *h);
        let rows = state.policies().filter(|row| wanted(row));
        let policies =
            rows.map(|row| pb::PolicyRow { document: String::new(), ..view::policy(row) });
        Ok(pb::ListPoliciesResponse { policies: policies.collect() })
    }

    pub async fn get_policy(
        &self,
        call: &Call,
        request: pb::GetPolicyRequest,
    ) -> Result<pb::GetPolicyResponse, Error> {
        let holder = convert::holder(&request.user, &request.role, &request.task_role)?;
        let state = self.view(call, request.stale).await?;
        let row = state.policy(&holder, &request.name);
        let row = row.ok_or_else(|| Error::not_found(Kind::Policy, &request.name))?;
        Ok(pb::GetPolicyResponse { policy: Some(view::policy(row)) })
    }
}
