//! Logs and commands in containers: an order to the task's agent, and the stream it opens for it.
//!
//! It pairs the two and steps aside: bytes flow between the caller and the agent's stream without a
//! task of ours in between. Invariant: an order that is not answered in time leaves nothing behind.

use crate::hub::{Attached, Hub, Order};
use crate::limits::ATTACH_WAIT;
use muster_model::{Error, InstanceId, Kind, TaskId};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::attach_order::What;
use std::sync::Arc;

/// Opens streams to agents. Works on the manager that leads: agents keep their sessions there.
#[derive(Clone)]
pub struct Live {
    pub(crate) hub: Arc<Hub>,
}

/// Forgets the order when its caller is gone or its time is over.
struct Forget<'a> {
    hub: &'a Hub,
    attach: u128,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.hub.cancel_attach(self.attach);
    }
}

impl Live {
    /// Asks the agent of `task` to open a stream for `what`, and waits for it. Dropping both halves
    /// of the answer ends what the agent does for it.
    ///
    /// # Errors
    /// `NotFound` for an unknown task; `Refused` for one that is on no instance; `Unavailable` when
    /// this manager does not lead (with the leader's address), the agent is not connected, or it
    /// did not answer within 10 s.
    pub async fn attach(&self, task: TaskId, what: What) -> Result<Attached, Error> {
        let instance = self.instance_of(task)?;
        let unavailable = |why: String| Error::Unavailable { why };
        if self.hub.reign().is_err() {
            let leader = self.hub.replica.leadership().borrow().leader.clone();
            return Err(unavailable(match leader {
                Some((_, address)) => format!("this manager does not lead; ask {address}"),
                None => "no manager leads at the moment".to_owned(),
            }));
        }
        let order = pb::AttachOrder {
            attach: Default::default(),
            task: task.bits().to_be_bytes().to_vec().into(),
            what: Some(what),
        };
        let Order { attach, stream, closed } = self.hub.order_attach(instance, order)?;
        let _forget = Forget { hub: &self.hub, attach };
        let answered = closed.run_until_cancelled(stream);
        match tokio::time::timeout(ATTACH_WAIT, answered).await {
            Ok(Some(Ok(attached))) => Ok(attached),
            Ok(Some(Err(_)) | None) => Err(unavailable(format!(
                "the agent of container instance {instance} has just disconnected; ask again"
            ))),
            Err(_) => Err(unavailable(format!(
                "the agent of container instance {instance} did not answer within {} s",
                ATTACH_WAIT.as_secs()
            ))),
        }
    }

    fn instance_of(&self, task: TaskId) -> Result<InstanceId, Error> {
        let state = self.hub.replica.state();
        let row = state.task(task).ok_or_else(|| Error::not_found(Kind::Task, task))?;
        row.instance
            .ok_or_else(|| Error::refused(format!("task {task} is not placed on an instance yet")))
    }
}
