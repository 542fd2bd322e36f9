//! What a request would do: the entry it would make, foreseen on a fresh state instead of
//! committed.
//!
//! The request is checked and resolved by the code of the real one. How the scheduler decides is
//! not known here: the process says who foresees.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::handle::run::required;
use crate::make;
use crate::write::Draft;
use muster_model::{Command, Entry, Error, IdSource};
use muster_proto::{pb, view};

impl Dispatcher {
    pub async fn plan_task(
        &self,
        call: &Call,
        request: pb::RunTaskRequest,
    ) -> Result<pb::Foresight, Error> {
        required(&request.cluster, self.any_instance(call, &request.cluster).await?)?;
        self.foreseen(call, |draft| make::run_task(draft, &request)).await
    }

    pub async fn plan_create_service(
        &self,
        call: &Call,
        request: pb::CreateServiceRequest,
    ) -> Result<pb::Foresight, Error> {
        self.foreseen(call, |draft| make::create_service(draft, &request)).await
    }

    pub async fn plan_update_service(
        &self,
        call: &Call,
        request: pb::UpdateServiceRequest,
    ) -> Result<pb::Foresight, Error> {
        self.foreseen(call, |draft| make::update_service(draft, &request)).await
    }

    async fn foreseen(
        &self,
        call: &Call,
        make: impl Fn(&mut Draft<'_>) -> Result<Command, Error>,
    ) -> Result<pb::Foresight, Error> {
        let state = self.view(call, false).await?;
        // No client token: an earlier answer to one is not what would happen now.
        let (request, seed) = {
            let mut ids = self.ids();
            (ids.request_at(self.time()), ids.request().bits())
        };
        let mut draft = Draft { state: &state, ids: IdSource::new(seed), earlier: None };
        let command = make(&mut draft)?;
        let (at, by) = (self.time(), call.principal.clone());
        let entry = Entry { request, at, by, trace: None, command };
        let turn = tokio::time::timeout_at(call.deadline, self.foreseers.clone().acquire_owned());
        let busy = || Error::Unavailable { why: "too many foresights at once: try again".into() };
        let turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let foresee = self.foresee.clone();
        // It reads every instance and task: not on a thread that serves.
        let told = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            foresee(&state, &entry).map(|told| view::foresight(&told))
        });
        told.await.map_err(|error| Error::Unavailable { why: format!("foresight: {error}") })?
    }
}
