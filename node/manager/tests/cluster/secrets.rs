//! Secrets over the wire: the agent of the task's instance is told them, by any manager, and no
//! other agent is.

use crate::harness::{Cluster, told};
use muster_identity::{Identity, Sealed, SecretText, Vault};
use muster_model::spec::ContainerDefinition;
use muster_model::{Command, Response, SecretCommand, TaskDefinition, TaskId};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A definition of one container that is given secret `db`, and the secret.
async fn given(cluster: &Cluster) -> muster_model::DefinitionId {
    let vault = Vault::of(&cluster.replica.state().meta().authority.key_pem).unwrap();
    let value = SecretText::new("hush".to_owned());
    let value = vault.seal(Sealed::Secret("db"), &value).unwrap();
    cluster.propose(Command::Secret(SecretCommand::Create { name: "db".into(), value })).await;
    let container = ContainerDefinition {
        name: "app".into(),
        image: "app:1".into(),
        essential: true,
        memory_mib: Some(6),
        secrets: [("PASSWORD".to_owned(), "db".to_owned())].into(),
        ..ContainerDefinition::default()
    };
    let (family, containers) = ("given".into(), vec![container]);
    let definition = TaskDefinition { family, containers, ..TaskDefinition::default() };
    match cluster.propose(Command::RegisterTaskDefinition(definition.into())).await {
        Response::Definition(definition) => definition,
        other => panic!("{other:?}"),
    }
}

async fn ask(
    client: &mut DispatchClient<Channel>,
    task: TaskId,
) -> Result<pb::TaskSecretsResponse, Status> {
    let request = pb::TaskSecretsRequest { task: task.bits().to_be_bytes().to_vec().into() };
    client.get_task_secrets(request).await.map(tonic::Response::into_inner)
}

async fn asked_by(
    cluster: &Cluster,
    identity: &Identity,
    task: TaskId,
) -> Result<pb::TaskSecretsResponse, Status> {
    ask(&mut cluster.dispatch(identity).await, task).await
}

#[tokio::test]
async fn only_the_agent_that_a_task_is_placed_with_is_told_its_secrets() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    cluster.wait("its agent", |s| s.instances().any(|instance| instance.ready())).await;
    let task = cluster.run(given(&cluster).await).await;
    cluster.wait("the task runs", |s| s.task(task).is_some_and(|task| task.running())).await;
    let answer = asked_by(&cluster, &agent.identity, task).await.unwrap();
    assert_eq!(answer.containers.len(), 1);
    assert_eq!(answer.containers[0].environment[0].value, "hush");

    let other = cluster.join("az-b", "w2").await;
    let refused = asked_by(&cluster, &other, task).await.unwrap_err();
    told(&refused, Code::PermissionDenied, "not placed there");
    let unknown = asked_by(&cluster, &other, TaskId::from_bits(7)).await.unwrap_err();
    told(&unknown, Code::PermissionDenied, "not placed there");
    for identity in [&cluster.founded.admin, &cluster.founded.manager] {
        let refused = asked_by(&cluster, identity, task).await.unwrap_err();
        told(&refused, Code::PermissionDenied, "GetTaskSecrets");
    }
    let bytes = pb::TaskSecretsRequest { task: vec![1, 2].into() };
    let refused = cluster.dispatch(&agent.identity).await.get_task_secrets(bytes).await;
    told(&refused.unwrap_err(), Code::InvalidArgument, "task");
    agent.stop().await;
}

#[tokio::test]
async fn a_task_that_was_stopped_is_given_nothing_and_what_is_missing_is_said() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    cluster.wait("its agent", |s| s.instances().any(|instance| instance.ready())).await;
    let definition = given(&cluster).await;
    let task = cluster.run(definition).await;
    cluster.wait("the task runs", |s| s.task(task).is_some_and(|task| task.running())).await;
    let name = "db".into();
    cluster.propose(Command::Secret(SecretCommand::Delete { name })).await;
    let missing = asked_by(&cluster, &agent.identity, task).await.unwrap_err();
    told(&missing, Code::NotFound, "\"db\" not found");
    let reason = "enough".into();
    cluster.propose(Command::StopTask { task, reason }).await;
    let refused = asked_by(&cluster, &agent.identity, task).await.unwrap_err();
    assert!(refused.message().contains("not to run any more"), "{refused}");
    agent.stop().await;
}
