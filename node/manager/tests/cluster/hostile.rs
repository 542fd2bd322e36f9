//! What an agent that means harm can do: speak for itself, and nothing else.

use crate::harness::{Cluster, PATIENCE, running, told, worker};
use muster_identity::{ConnectOptions, Connector, Identity};
use muster_model::{Command, Phase, Principal, State, TaskId};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::agent_message::Message;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use muster_proto::pb as api;
use muster_proto::pb::ecs_client::EcsClient;
use muster_proto::pb::operator_client::OperatorClient;
use muster_proto::raft;
use muster_proto::raft::raft_client::RaftClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A session by hand.
struct Raw {
    out: mpsc::Sender<pb::AgentMessage>,
    incoming: Streaming<pb::ManagerMessage>,
}

impl Raw {
    async fn open(cluster: &Cluster, identity: &Identity) -> Result<Self, Status> {
        Self::open_with(cluster, identity, Message::Hello(hello())).await
    }

    async fn open_with(
        cluster: &Cluster,
        identity: &Identity,
        first: Message,
    ) -> Result<Self, Status> {
        let (out, queue) = mpsc::channel(16);
        out.send(pb::AgentMessage { message: Some(first) }).await.unwrap();
        let mut client = cluster.dispatch(identity).await;
        let open = client.session(ReceiverStream::new(queue));
        let incoming = tokio::time::timeout(PATIENCE, open).await.unwrap()?.into_inner();
        Ok(Self { out, incoming })
    }

    async fn say(&self, message: Message) {
        self.out.send(pb::AgentMessage { message: Some(message) }).await.unwrap();
    }

    async fn hear(&mut self) -> Result<Option<pb::manager_message::Message>, Status> {
        let heard = tokio::time::timeout(PATIENCE, self.incoming.message()).await.unwrap();
        heard.map(|message| message.and_then(|message| message.message))
    }

    /// Whatever else is said before, the session ends with this.
    async fn ends_with(&mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the session ended without a reason"),
                Err(status) => return status,
            }
        }
    }

    /// The orders of the first complete set.
    async fn complete_set(&mut self) -> Vec<pb::order::Order> {
        loop {
            let Some(message) = self.hear().await.unwrap() else { panic!("no complete set") };
            if let pb::manager_message::Message::Assignments(set) = message {
                assert!(set.complete);
                return set.orders.into_iter().filter_map(|order| order.order).collect();
            }
        }
    }
}

fn hello() -> pb::Hello {
    pb::Hello { spec: worker("", "az-a", "w1").spec, ..pb::Hello::default() }
}

fn report(task: TaskId, phase: Phase) -> Message {
    let observed = pb::Observed { phase: phase as u32, ..pb::Observed::default() };
    let task = task.bits().to_be_bytes().to_vec().into();
    Message::Report(pb::Report {
        sequence: 1,
        reports: vec![pb::TaskReport { task, observed: Some(observed) }],
    })
}

#[tokio::test]
async fn a_report_about_another_instances_task_ends_the_session() {
    let cluster = Cluster::start().await;
    let mut honest = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 1).await;
    let state = cluster.wait("a running task", |s| running(s, web).len() == 1).await;
    let task = running(&state, web)[0].id;

    let hostile = cluster.join("az-a", "w1").await;
    let mut session = Raw::open(&cluster, &hostile).await.unwrap();
    session.say(report(task, Phase::Stopped)).await;
    told(&session.ends_with().await, Code::PermissionDenied, "is not placed on");
    let phase = cluster.replica.state().task(task).unwrap().observed.phase;
    assert_eq!(phase, Phase::Running, "nothing came of it");
    honest.stop().await;
}

#[tokio::test]
async fn an_agents_certificate_opens_neither_the_users_api_nor_raft() {
    let cluster = Cluster::start().await;
    let hostile = cluster.channel(&cluster.join("az-a", "w1").await).await;
    let mut ecs = EcsClient::new(hostile.clone());
    let read = ecs.list_clusters(api::ListClustersRequest::default()).await.unwrap_err();
    told(&read, Code::PermissionDenied, "instance/");
    let write = api::CreateClusterRequest { cluster_name: "x".into(), ..Default::default() };
    told(&ecs.create_cluster(write).await.unwrap_err(), Code::PermissionDenied, "instance/");
    let mut raft = RaftClient::new(hostile.clone());
    let vote = raft.vote(raft::VoteRequest::default()).await.unwrap_err();
    told(&vote, Code::PermissionDenied, "instance/");
    let mut operator = OperatorClient::new(hostile);
    let token = api::RotateTokenRequest { role: "worker".into(), ..Default::default() };
    told(&operator.rotate_token(token).await.unwrap_err(), Code::PermissionDenied, "instance/");

    // The same calls are answered to whom they are for.
    let mut ecs = EcsClient::new(cluster.channel(&cluster.founded.admin).await);
    let clusters = ecs.list_clusters(api::ListClustersRequest::default()).await.unwrap();
    assert_eq!(clusters.into_inner().cluster_arns.len(), 1);
}

#[tokio::test]
async fn an_inventory_of_foreign_tasks_is_answered_by_stop() {
    let cluster = Cluster::start().await;
    let mut honest = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 1).await;
    let state = cluster.wait("a running task", |s| running(s, web).len() == 1).await;
    let task = running(&state, web)[0].id;
    let bytes = bytes::Bytes::from(task.bits().to_be_bytes().to_vec());

    let hostile = cluster.join("az-a", "w1").await;
    let held = pb::Held { task: bytes.clone(), phase: Phase::Running as u32 };
    let hello = pb::Hello { inventory: vec![held], ..hello() };
    let mut session = Raw::open_with(&cluster, &hostile, Message::Hello(hello)).await.unwrap();
    let orders = session.complete_set().await;
    let stopped = matches!(
        &orders[..],
        [pb::order::Order::Stop(told) | pb::order::Order::Forget(told)] if *told == bytes
    );
    assert!(stopped, "{orders:?}");
    assert!(cluster.replica.state().task(task).unwrap().running(), "the real one runs on");
    honest.stop().await;
}

#[tokio::test]
async fn only_an_instance_opens_a_session() {
    let cluster = Cluster::start().await;
    for identity in [&cluster.founded.admin, &cluster.founded.manager] {
        let refused = Raw::open(&cluster, identity).await.err().unwrap();
        told(&refused, Code::PermissionDenied, "may not");
    }
    let connector = Connector::pinned(cluster.founded.worker_token.ca);
    let address = cluster.address.to_string();
    let channel = connector.connect(&address, ConnectOptions::default()).await.unwrap();
    let stream = tokio_stream::iter([pb::AgentMessage { message: Some(Message::Hello(hello())) }]);
    let refused = DispatchClient::new(channel).session(stream).await.err().unwrap();
    told(&refused, Code::Unauthenticated, "certificate");
}

#[tokio::test]
async fn an_instance_that_was_deregistered_is_refused() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let mut session = Raw::open(&cluster, &identity).await.unwrap();
    session.complete_set().await;
    let Principal::Instance(instance) = identity.principal() else { panic!() };
    cluster.propose(Command::DeregisterInstance { instance, force: true }).await;
    session.ends_with().await;
    let refused = Raw::open(&cluster, &identity).await.err().unwrap();
    told(&refused, Code::Unauthenticated, "muster join");
}

#[tokio::test]
async fn a_session_of_an_old_epoch_is_over_with_it() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let mut old = Raw::open(&cluster, &identity).await.unwrap();
    old.complete_set().await;
    let epoch = cluster.replica.state().meta().epoch;
    cluster.lead(None);
    told(&old.ends_with().await, Code::Unavailable, "no manager leads");
    let refused = Raw::open(&cluster, &identity).await.err().unwrap();
    told(&refused, Code::Unavailable, "no manager leads");
    cluster.lead(Some(0));
    cluster.wait("the next epoch", |s| s.meta().epoch > epoch).await;
    Raw::open(&cluster, &identity).await.unwrap().complete_set().await;
}

#[tokio::test]
async fn a_follower_says_where_the_leader_is() {
    let mut cluster = Cluster::start().await;
    cluster.add_manager().await;
    let identity = cluster.join("az-a", "w1").await;
    cluster.lead(Some(1));
    let refused = Raw::open(&cluster, &identity).await.err().unwrap();
    told(&refused, Code::Unavailable, "manager 2 at");
    let hint = refused.metadata().get(muster_proto::error::LEADER_METADATA).unwrap();
    assert_eq!(hint.to_str().unwrap(), cluster.seats[1].address.to_string());
}

#[tokio::test]
async fn a_newer_session_ends_the_older_one() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let mut older = Raw::open(&cluster, &identity).await.unwrap();
    older.complete_set().await;
    let mut newer = Raw::open(&cluster, &identity).await.unwrap();
    newer.complete_set().await;
    told(&older.ends_with().await, Code::Aborted, "newer session");
}

#[tokio::test]
async fn an_agent_that_does_not_read_loses_its_session_and_holds_up_nobody() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let mut deaf = Raw::open(&cluster, &identity).await.unwrap();
    deaf.complete_set().await;
    // More than the stream's window and the session's queue hold together, in pieces of 60 KiB.
    let big = cluster.definition("big", "x".repeat(60_000)).await;
    for _ in 0..160 {
        let task = cluster.run(big).await;
        // One by one, so that each is a message of its own.
        let placed = |s: &State| s.task(task).is_some_and(|task| task.instance.is_some());
        cluster.wait("a task placed", placed).await;
    }
    let mut honest = cluster.agent("az-b", "w2").await;
    let web = cluster.service("web", 1).await;
    cluster.wait("a task of another agent", |s| running(s, web).len() == 1).await;
    told(&deaf.ends_with().await, Code::ResourceExhausted, "connect again");
    honest.stop().await;
}

#[tokio::test]
async fn nonsense_ends_the_session_that_sent_it() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let short = pb::TaskReport { task: vec![1, 2, 3].into(), observed: None };
    let nonsense = [
        Message::Hello(hello()),
        Message::Report(pb::Report { sequence: 1, reports: vec![short] }),
    ];
    for message in nonsense {
        let mut session = Raw::open(&cluster, &identity).await.unwrap();
        session.say(message).await;
        assert_eq!(session.ends_with().await.code(), Code::InvalidArgument);
    }
    let first = Message::Heartbeat(pb::Heartbeat::default());
    let refused = Raw::open_with(&cluster, &identity, first).await.err().unwrap();
    told(&refused, Code::InvalidArgument, "Hello");
}

/// Strict tasks run on no other word.
#[tokio::test]
async fn a_heartbeat_is_confirmed_if_it_asks_and_its_instance_is_ready() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let mut session = Raw::open(&cluster, &identity).await.unwrap();
    session.complete_set().await;
    let Principal::Instance(instance) = identity.principal() else { panic!() };
    let ready = |s: &State| s.instance(instance).is_some_and(|row| row.ready());
    let state = cluster.wait("the instance READY", ready).await;
    for number in [None, Some(7)] {
        session.say(Message::Heartbeat(pb::Heartbeat { number })).await;
    }
    let confirmed = loop {
        match session.hear().await.unwrap() {
            Some(pb::manager_message::Message::Confirmed(confirmed)) => break confirmed,
            Some(_) => {}
            None => panic!("the session ended"),
        }
    };
    assert_eq!((confirmed.number, confirmed.epoch), (7, state.meta().epoch.0));
    assert!(confirmed.revision > 0, "the complete set comes first");
}
