//! Jobs: the rpcs of tasks that are run until enough have succeeded.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh, Written, unexpected};
use muster_model::{Command, Error, JobCommand, JobId, Kind, Response};
use muster_proto::convert::job as convert;
use muster_proto::{arn, pb, view};
use std::sync::Arc;

impl Dispatcher {
    pub async fn run_job(
        &self,
        call: &Call,
        request: pb::RunJobRequest,
    ) -> Result<pb::RunJobResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let id = draft.ids.job(self.time());
            convert::run(draft.state, id, &request)
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::RunJobResponse { job: Some(shown(&written)?) })
    }

    pub async fn stop_job(
        &self,
        call: &Call,
        request: pb::StopJobRequest,
    ) -> Result<pb::StopJobResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let id = meant(draft, &request.cluster, &request.job)?;
            let reason = Arc::from(request.reason.as_str());
            Ok(Command::Job(JobCommand::Stop { id, reason }))
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::StopJobResponse { job: Some(shown(&written)?) })
    }

    pub async fn delete_job(
        &self,
        call: &Call,
        request: pb::DeleteJobRequest,
    ) -> Result<pb::DeleteJobResponse, Error> {
        let make = |draft: &mut Draft<'_>| {
            let id = meant(draft, &request.cluster, &request.job)?;
            Ok(Command::Job(JobCommand::Delete { id }))
        };
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::DeleteJobResponse {})
    }

    pub async fn describe_jobs(
        &self,
        call: &Call,
        request: pb::DescribeJobsRequest,
    ) -> Result<pb::DescribeJobsResponse, Error> {
        read::job::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_jobs(
        &self,
        call: &Call,
        request: pb::ListJobsRequest,
    ) -> Result<pb::ListJobsResponse, Error> {
        read::job::list(&*self.view(call, request.stale).await?, &request)
    }
}

/// A repeat is about the job it was about, not a new one of the same name.
fn meant(draft: &Draft<'_>, cluster: &str, job: &str) -> Result<JobId, Error> {
    if let Some(Response::Job(id)) = draft.earlier {
        return Ok(*id);
    }
    let cluster = arn::cluster(draft.state, cluster)?;
    Ok(convert::named(draft.state, cluster, job)?.id)
}

fn shown(written: &Written) -> Result<pb::Job, Error> {
    let Response::Job(id) = &written.response else {
        return Err(unexpected(&written.response));
    };
    let row = written.state.job(*id).ok_or_else(|| Error::not_found(Kind::Job, id))?;
    Ok(view::job(&written.state, row))
}
