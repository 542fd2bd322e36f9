//! Protection of a service's tasks from scale-in: show it, change it.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, Token};
use crate::{read, resolve};
use muster_model::{Error, Kind};
use muster_proto::{arn, convert, pb, view};

/// ECS: tasks in one UpdateTaskProtection call.
const UPDATE_PROTECTION_MAX: usize = 10;

impl Dispatcher {
    pub async fn get_task_protection(
        &self,
        call: &Call,
        request: pb::GetTaskProtectionRequest,
    ) -> Result<pb::GetTaskProtectionResponse, Error> {
        read::protection::get(&*self.view(call, request.stale).await?, &request)
    }

    /// One entry of the log per task: some may change while others fail, as in ECS.
    pub async fn update_task_protection(
        &self,
        call: &Call,
        request: pb::UpdateTaskProtectionRequest,
    ) -> Result<pb::UpdateTaskProtectionResponse, Error> {
        convert::some_names("tasks", &request.tasks, UPDATE_PROTECTION_MAX)?;
        let mut answer = pb::UpdateTaskProtectionResponse::default();
        for text in &request.tasks {
            let token = Token { client: &request.client_token, part: text };
            let make = |draft: &mut Draft<'_>| {
                let cluster = arn::cluster(draft.state, &request.cluster)?;
                let task = resolve::task(draft.state, cluster, text)?.id.to_string();
                convert::task::protect(draft.state, &request, &task)
            };
            let failure = match self.write(call, token, Fresh::IfMissing, make).await {
                Ok(written) => {
                    let cluster = arn::cluster(&written.state, &request.cluster)?;
                    let row = resolve::task(&written.state, cluster, text)?;
                    answer.protected_tasks.push(view::protection(&written.state, row));
                    continue;
                }
                Err(Error::NotFound { kind: Kind::Task, .. }) => view::missing,
                Err(Error::NotActive { kind: Kind::Task, .. }) => read::protection::not_valid,
                Err(error) => return Err(error),
            };
            let state = call.seeing(self.replica.state());
            let cluster = arn::cluster(&state, &request.cluster)?;
            answer.failures.push(failure(read::arn_or(&state, "task", cluster, text)));
        }
        Ok(answer)
    }
}
