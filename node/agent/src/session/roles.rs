//! Asks the managers for what a task acts as its task role with.
//!
//! Any manager answers, whoever leads; each is asked once. It keeps nothing: who asks does.

use crate::metadata::role::{Credentials, Identity, TaskRoles};
use crate::session::secrets::{Asker, is_final};
use muster_identity::SecretText;
use muster_model::{Error, TaskId, Time};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use muster_proto::error::from_status;
use tonic::transport::Channel;
use tonic::{Response, Status};

impl Asker {
    /// The first answer, or the first refusal that another manager would give too.
    async fn ask_any<T, F>(&self, call: impl Fn(DispatchClient<Channel>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = Status::unavailable("no manager is known");
        for address in self.book.all() {
            match self.ask(&address, &call).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_final(&status) => return Err(from_status(&status)),
                Err(status) => last = status,
            }
        }
        Err(Error::Unavailable { why: format!("no manager answered: {}", last.message()) })
    }
}

#[tonic::async_trait]
impl TaskRoles for Asker {
    async fn credentials(&self, task: TaskId) -> Result<Credentials, Error> {
        let request = pb::TaskCredentialsRequest { task: convert::id_to_wire(task.bits()) };
        let answer = self
            .ask_any(|mut client| {
                let request = request.clone();
                async move { client.get_task_credentials(request).await }
            })
            .await?;
        Ok(Credentials {
            role_arn: answer.role_arn,
            access_key_id: answer.access_key_id,
            secret_access_key: SecretText::new(answer.secret_access_key),
            token: SecretText::new(answer.token),
            expires_at: Time(answer.expires_at_ms),
        })
    }

    async fn identity(&self, task: TaskId, audience: &str) -> Result<Identity, Error> {
        let (task, audience) = (convert::id_to_wire(task.bits()), audience.to_owned());
        let request = pb::TaskIdentityRequest { task, audience };
        let answer = self
            .ask_any(|mut client| {
                let request = request.clone();
                async move { client.sign_task_identity(request).await }
            })
            .await?;
        let (token, expires_at) = (SecretText::new(answer.token), Time(answer.expires_at_ms));
        Ok(Identity { token, expires_at })
    }
}
