//! gRPC: one line per rpc. Unpacks the call, runs the dispatcher's method, packs answer or error.
//!
//! It holds no rule of its own. A request without the guard's mark is refused, so a service that
//! was mounted without the guard serves nobody.

use crate::authz::{Caller, Rule, allow};
use crate::call::{Call, put};
use crate::dispatcher::Dispatcher;
use crate::guard::Admitted;
use crate::live::Answers;
use crate::watch::Watching;
use futures::stream::{Map, StreamExt};
use muster_model::{Error, UserRole};
use muster_proto::dispatch::{self, attach_down};
use muster_proto::error::LEADER_METADATA;
use muster_proto::target::Acts;
use muster_proto::{convert, pb};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// What the three services share; a clone is a handle.
#[derive(Clone)]
pub struct Front {
    dispatcher: Arc<Dispatcher>,
}

impl Front {
    pub fn new(dispatcher: Arc<Dispatcher>) -> Self {
        Self { dispatcher }
    }

    /// The call that a request is.
    fn open<T>(&self, request: Request<T>) -> Result<(Call, T), Status> {
        let (_, extensions, message) = request.into_parts();
        let Some(admitted) = extensions.get::<Admitted>() else {
            // Says what any caller without a certificate hears; the operator sees the log.
            tracing::error!("a service is mounted without the guard: all its calls are refused");
            let nobody = allow("", Some(Rule::User(UserRole::ReadOnly)), &Caller::Nobody);
            return Err(nobody.err().unwrap_or_else(|| Status::internal("no guard")));
        };
        let trace = self.dispatcher.current_trace();
        let call = Call::new(admitted.clone(), trace).map_err(|error| self.status(&error))?;
        Ok((call, message))
    }

    /// Policies decide, by what the request acts on.
    async fn policies<R: Acts + Sync>(&self, call: &Call, request: &R) -> Result<(), Error> {
        self.dispatcher.permit(call, request).await
    }

    /// The role decides, and the guard has asked it.
    #[allow(clippy::unused_async, reason = "takes the place of `policies`")]
    async fn roles<R: Sync>(&self, _call: &Call, _request: &R) -> Result<(), Error> {
        Ok(())
    }

    /// An answer, with what it was read from beside it.
    fn close<T>(&self, call: &Call, answer: Result<T, Error>) -> Result<Response<T>, Status> {
        let mut response = Response::new(answer.map_err(|error| self.status(&error))?);
        call.tell(response.metadata_mut());
        Ok(response)
    }

    /// An error in gRPC's words; with the leader's address where asking there may help.
    fn status(&self, error: &Error) -> Status {
        let mut status = muster_proto::error::to_status(error);
        let elsewhere = matches!(error, Error::Unavailable { .. } | Error::UnknownOutcome { .. });
        if let Some((_, address)) = self.dispatcher.leader().filter(|_| elsewhere) {
            put(status.metadata_mut(), LEADER_METADATA, &address);
        }
        status
    }
}

macro_rules! rpcs {
    (impl $server:path as $service:ident, asking $ask:ident {
        $($name:ident: $request:ident -> $response:ident;)*
    }) => {
        #[tonic::async_trait]
        impl $server for $service {$(
            async fn $name(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                let _under_way = self.0.dispatcher.under_way.token();
                let (call, message) = self.0.open(request)?;
                let answer = match self.0.$ask(&call, &message).await {
                    Ok(()) => self.0.dispatcher.$name(&call, message).await,
                    Err(denied) => Err(denied),
                };
                self.0.close(&call, answer)
            }
        )*}
    };
}

#[derive(Clone)]
pub struct EcsService(pub Front);

/// Every operation of ECS that has an rpc, as the `.proto` lists them.
macro_rules! ecs {
    ($($operation:ident $name:ident $request:ident $response:ident;)*) => {
        rpcs! {
            impl pb::ecs_server::Ecs as EcsService, asking policies {
                $($name: $request -> $response;)*
            }
        }
    };
}
muster_proto::ecs_operations!(ecs);

#[derive(Clone)]
pub struct OperatorService(pub Front);

rpcs! {
    impl pb::operator_server::Operator as OperatorService, asking roles {
        raft_status: RaftStatusRequest -> RaftStatusResponse;
        transfer_leadership: TransferLeadershipRequest -> TransferLeadershipResponse;
        add_manager: AddManagerRequest -> AddManagerResponse;
        remove_manager: RemoveManagerRequest -> RemoveManagerResponse;
        rotate_token: RotateTokenRequest -> RotateTokenResponse;
        create_user: CreateUserRequest -> CreateUserResponse;
        list_users: ListUsersRequest -> ListUsersResponse;
        remove_user: RemoveUserRequest -> RemoveUserResponse;
        create_access_key: CreateAccessKeyRequest -> CreateAccessKeyResponse;
        list_access_keys: ListAccessKeysRequest -> ListAccessKeysResponse;
        update_access_key: UpdateAccessKeyRequest -> UpdateAccessKeyResponse;
        delete_access_key: DeleteAccessKeyRequest -> DeleteAccessKeyResponse;
        put_policy: PutPolicyRequest -> PutPolicyResponse;
        delete_policy: DeletePolicyRequest -> DeletePolicyResponse;
        list_policies: ListPoliciesRequest -> ListPoliciesResponse;
        get_policy: GetPolicyRequest -> GetPolicyResponse;
        create_secret: CreateSecretRequest -> CreateSecretResponse;
        put_secret_value: PutSecretValueRequest -> PutSecretValueResponse;
        list_secrets: ListSecretsRequest -> ListSecretsResponse;
        describe_secret: DescribeSecretRequest -> DescribeSecretResponse;
        delete_secret: DeleteSecretRequest -> DeleteSecretResponse;
        create_config: CreateConfigRequest -> CreateConfigResponse;
        put_config_value: PutConfigValueRequest -> PutConfigValueResponse;
        list_configs: ListConfigsRequest -> ListConfigsResponse;
        get_config: GetConfigRequest -> GetConfigResponse;
        delete_config: DeleteConfigRequest -> DeleteConfigResponse;
        set_alarm_state: SetAlarmStateRequest -> SetAlarmStateResponse;
        describe_alarms: DescribeAlarmsRequest -> DescribeAlarmsResponse;
        delete_alarm: DeleteAlarmRequest -> DeleteAlarmResponse;
    }
}

#[derive(Clone)]
pub struct LiveService(pub Front);

/// A stream whose errors are in gRPC's words.
type Statuses<S, T> = Map<S, Box<dyn FnMut(Result<T, Error>) -> Result<T, Status> + Send>>;

impl Front {
    fn stream<S, T>(&self, answers: S) -> Statuses<S, T>
    where
        S: futures::Stream<Item = Result<T, Error>>,
    {
        let front = self.clone();
        answers.map(Box::new(move |answer: Result<T, Error>| {
            answer.map_err(|error| front.status(&error))
        }))
    }
}

impl LiveService {
    async fn permitted<R: Acts + Sync>(&self, request: Request<R>) -> Result<(Call, R), Status> {
        let (call, message) = self.0.open(request)?;
        let permitted = self.0.policies(&call, &message).await;
        permitted.map_err(|denied| self.0.status(&denied))?;
        Ok((call, message))
    }
}

impl LiveService {
    /// What is run again and again may be run by itself.
    async fn may_schedule(
        &self,
        call: &Call,
        cluster: &str,
        spec: Option<&pb::ScheduleSpec>,
    ) -> Result<(), Status> {
        let Some(job) = spec.and_then(|spec| spec.run_job.clone()) else {
            return self.may_run(call, cluster, spec.and_then(|spec| spec.run_task.as_ref())).await;
        };
        self.may_run(call, cluster, job.run_task.as_ref()).await?;
        let (cluster, client_token) = (cluster.to_owned(), String::new());
        let run = pb::RunJobRequest { cluster, spec: Some(job), client_token };
        self.0.policies(call, &run).await.map_err(|denied| self.0.status(&denied))
    }

    /// A schedule or a job runs tasks in the name of whoever wrote it.
    async fn may_run(
        &self,
        call: &Call,
        cluster: &str,
        run: Option<&pb::RunTaskRequest>,
    ) -> Result<(), Status> {
        let run = convert::task::nested_run(cluster, run);
        let run = run.map_err(|error| self.0.status(&error))?;
        self.0.policies(call, &run).await.map_err(|denied| self.0.status(&denied))
    }
}

#[tonic::async_trait]
impl pb::live_server::Live for LiveService {
    type WatchStream = Statuses<Watching, pb::WatchResponse>;
    type LogsStream = Statuses<Answers<pb::LogsResponse>, pb::LogsResponse>;
    type StatsStream = Statuses<Answers<pb::StatsResponse>, pb::StatsResponse>;
    type ExecStream = Statuses<Answers<pb::ExecResponse>, pb::ExecResponse>;

    async fn pause_service_deployment(
        &self,
        request: Request<pb::PauseServiceDeploymentRequest>,
    ) -> Result<Response<pb::PauseServiceDeploymentResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.pause_service_deployment(&call, message).await)
    }

    async fn plan_task(
        &self,
        request: Request<pb::RunTaskRequest>,
    ) -> Result<Response<pb::Foresight>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.plan_task(&call, message).await)
    }

    async fn plan_create_service(
        &self,
        request: Request<pb::CreateServiceRequest>,
    ) -> Result<Response<pb::Foresight>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.plan_create_service(&call, message).await)
    }

    async fn plan_update_service(
        &self,
        request: Request<pb::UpdateServiceRequest>,
    ) -> Result<Response<pb::Foresight>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.plan_update_service(&call, message).await)
    }

    async fn create_schedule(
        &self,
        request: Request<pb::CreateScheduleRequest>,
    ) -> Result<Response<pb::CreateScheduleResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.may_schedule(&call, &message.cluster, message.spec.as_ref()).await?;
        self.0.close(&call, self.0.dispatcher.create_schedule(&call, message).await)
    }

    async fn update_schedule(
        &self,
        request: Request<pb::UpdateScheduleRequest>,
    ) -> Result<Response<pb::UpdateScheduleResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.may_schedule(&call, &message.cluster, message.spec.as_ref()).await?;
        self.0.close(&call, self.0.dispatcher.update_schedule(&call, message).await)
    }

    async fn run_job(
        &self,
        request: Request<pb::RunJobRequest>,
    ) -> Result<Response<pb::RunJobResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        let run = message.spec.as_ref().and_then(|spec| spec.run_task.as_ref());
        self.may_run(&call, &message.cluster, run).await?;
        self.0.close(&call, self.0.dispatcher.run_job(&call, message).await)
    }

    async fn stop_job(
        &self,
        request: Request<pb::StopJobRequest>,
    ) -> Result<Response<pb::StopJobResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.stop_job(&call, message).await)
    }

    async fn delete_job(
        &self,
        request: Request<pb::DeleteJobRequest>,
    ) -> Result<Response<pb::DeleteJobResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.delete_job(&call, message).await)
    }

    async fn describe_jobs(
        &self,
        request: Request<pb::DescribeJobsRequest>,
    ) -> Result<Response<pb::DescribeJobsResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.describe_jobs(&call, message).await)
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.list_jobs(&call, message).await)
    }

    async fn delete_schedule(
        &self,
        request: Request<pb::DeleteScheduleRequest>,
    ) -> Result<Response<pb::DeleteScheduleResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.delete_schedule(&call, message).await)
    }

    async fn describe_schedules(
        &self,
        request: Request<pb::DescribeSchedulesRequest>,
    ) -> Result<Response<pb::DescribeSchedulesResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.describe_schedules(&call, message).await)
    }

    async fn list_schedules(
        &self,
        request: Request<pb::ListSchedulesRequest>,
    ) -> Result<Response<pb::ListSchedulesResponse>, Status> {
        let (call, message) = self.permitted(request).await?;
        self.0.close(&call, self.0.dispatcher.list_schedules(&call, message).await)
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (call, message) = self.permitted(request).await?;
        let answer = self.0.dispatcher.watch(&call, message).await;
        self.0.close(&call, answer.map(|stream| self.0.stream(stream)))
    }

    async fn logs(
        &self,
        request: Request<pb::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let (call, message) = self.permitted(request).await?;
        let answer = self.0.dispatcher.logs(&call, message).await;
        self.0.close(&call, answer.map(|stream| self.0.stream(stream)))
    }

    async fn stats(
        &self,
        request: Request<pb::StatsRequest>,
    ) -> Result<Response<Self::StatsStream>, Status> {
        let (call, message) = self.permitted(request).await?;
        let answer = self.0.dispatcher.stats(&call, message).await;
        self.0.close(&call, answer.map(|stream| self.0.stream(stream)))
    }

    async fn exec(
        &self,
        request: Request<Streaming<pb::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let (call, mut messages) = self.0.open(request)?;
        let first = tokio::time::timeout_at(call.deadline, messages.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no start message came"))??;
        let start = match first.and_then(|first| first.message) {
            Some(pb::exec_request::Message::Start(start)) => start,
            _ => return Err(Status::invalid_argument("the first message must be start")),
        };
        let input = messages.map(|message| input(message.ok()?.message?));
        let input = Box::pin(tokio_stream::StreamExt::map_while(input, |message| message));
        let permitted = self.0.policies(&call, &start).await;
        permitted.map_err(|denied| self.0.status(&denied))?;
        let answer = self.0.dispatcher.exec(&call, start, input).await;
        self.0.close(&call, answer.map(|stream| self.0.stream(stream)))
    }
}

/// A second start, like a broken stream, ends the input.
fn input(message: pb::exec_request::Message) -> Option<attach_down::Message> {
    use pb::exec_request::Message;
    match message {
        Message::Start(_) => None,
        Message::Stdin(bytes) => Some(attach_down::Message::Stdin(bytes)),
        Message::StdinClosed(closed) => Some(attach_down::Message::StdinClosed(closed)),
        Message::Resize(pb::exec_request::Resize { rows, columns }) => {
            let resize = dispatch::AttachResize { rows, columns };
            Some(attach_down::Message::Resize(resize))
        }
    }
}
