//! Task roles over the wire: the agent of the task's instance is told what the task acts with, by
//! any manager, and no other agent is.

use crate::harness::{Cluster, told};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_identity::{Identity, Sessions};
use muster_model::spec::ContainerDefinition;
use muster_model::{Command, DefinitionId, Response, TaskDefinition, TaskId};
use muster_proto::dispatch as pb;
use serde_json::Value;
use tonic::{Code, Status};

/// Whom tasks' identities name.
pub const ISSUER: &str = "https://muster.test";

async fn define(cluster: &Cluster, family: &str, role: Option<&str>) -> DefinitionId {
    let container = ContainerDefinition {
        name: "app".into(),
        image: "app:1".into(),
        essential: true,
        memory_mib: Some(6),
        ..ContainerDefinition::default()
    };
    let definition = TaskDefinition {
        family: family.into(),
        containers: vec![container],
        task_role_arn: role.map(str::to_owned),
        ..TaskDefinition::default()
    };
    match cluster.propose(Command::RegisterTaskDefinition(definition.into())).await {
        Response::Definition(definition) => definition,
        other => panic!("{other:?}"),
    }
}

async fn running(cluster: &Cluster, definition: DefinitionId) -> TaskId {
    let task = cluster.run(definition).await;
    cluster.wait("the task runs", |s| s.task(task).is_some_and(|task| task.running())).await;
    task
}

async fn credentials(
    cluster: &Cluster,
    asks: &Identity,
    task: TaskId,
) -> Result<pb::TaskCredentialsResponse, Status> {
    let task = task.bits().to_be_bytes().to_vec().into();
    let mut client = cluster.dispatch(asks).await;
    let answer = client.get_task_credentials(pb::TaskCredentialsRequest { task }).await;
    answer.map(tonic::Response::into_inner)
}

async fn identity(
    cluster: &Cluster,
    asks: &Identity,
    task: TaskId,
    audience: &str,
) -> Result<pb::TaskIdentityResponse, Status> {
    let (task, audience) = (task.bits().to_be_bytes().to_vec().into(), audience.into());
    let mut client = cluster.dispatch(asks).await;
    let answer = client.sign_task_identity(pb::TaskIdentityRequest { task, audience }).await;
    answer.map(tonic::Response::into_inner)
}

const ROLE: &str = "arn:aws:iam::111122223333:role/app/web";

#[tokio::test]
async fn only_the_agent_that_a_task_is_placed_with_is_told_its_credentials() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    cluster.wait("its agent", |s| s.instances().any(|instance| instance.ready())).await;
    let task = running(&cluster, define(&cluster, "web", Some(ROLE)).await).await;
    let before = (cluster.clock)().0;
    let answer = credentials(&cluster, &agent.identity, task).await.unwrap();
    // Of this cluster's account, whatever the definition says.
    let account = cluster.replica.state().meta().account.clone();
    assert_eq!(answer.role_arn, format!("arn:aws:iam::{account}:role/web"));
    let hours = 6 * 3_600_000;
    assert!((before + hours..before + hours + 3_600_000).contains(&answer.expires_at_ms));
    let sessions = Sessions::of(&cluster.replica.state().meta().authority.key_pem).unwrap();
    let session = sessions.read(&answer.token).unwrap();
    assert_eq!((session.role.as_str(), session.task), ("web", task));
    assert_eq!(session.expires_at.0, answer.expires_at_ms);
    let made = sessions.credentials(&session);
    assert_eq!(answer.access_key_id, made.access_key_id);
    assert_eq!(answer.secret_access_key, made.secret_access_key.reveal());

    let other = cluster.join("az-b", "w2").await;
    for task in [task, TaskId::from_bits(7)] {
        let refused = credentials(&cluster, &other, task).await.unwrap_err();
        told(&refused, Code::PermissionDenied, "not placed there");
        let refused = identity(&cluster, &other, task, "a").await.unwrap_err();
        told(&refused, Code::PermissionDenied, "not placed there");
    }
    for caller in [&cluster.founded.admin, &cluster.founded.manager] {
        let refused = credentials(&cluster, caller, task).await.unwrap_err();
        told(&refused, Code::PermissionDenied, "GetTaskCredentials");
        let refused = identity(&cluster, caller, task, "a").await.unwrap_err();
        told(&refused, Code::PermissionDenied, "SignTaskIdentity");
    }
    let bare = running(&cluster, define(&cluster, "bare", None).await).await;
    let refused = credentials(&cluster, &agent.identity, bare).await.unwrap_err();
    assert!(refused.message().contains("has no task role"), "{refused}");
    agent.stop().await;
}

#[tokio::test]
async fn a_task_that_has_ended_acts_no_more() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    cluster.wait("its agent", |s| s.instances().any(|instance| instance.ready())).await;
    let task = running(&cluster, define(&cluster, "web", Some("web")).await).await;
    credentials(&cluster, &agent.identity, task).await.unwrap();
    cluster.propose(Command::StopTask { task, reason: "enough".into() }).await;
    cluster.wait("it has stopped", |s| s.task(task).is_none_or(|task| task.finished())).await;
    let refused = credentials(&cluster, &agent.identity, task).await.unwrap_err();
    assert!(refused.message().contains("has ended"), "{refused}");
    let refused = identity(&cluster, &agent.identity, task, "a").await.unwrap_err();
    assert!(refused.message().contains("has ended"), "{refused}");
    agent.stop().await;
}

/// A part of a token, read without its key: what the signature is worth is tested where it is made.
fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn an_identity_says_who_a_task_is_under_one_key() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    cluster.wait("its agent", |s| s.instances().any(|instance| instance.ready())).await;
    let task = running(&cluster, define(&cluster, "web", Some(ROLE)).await).await;
    assert!(cluster.replica.state().signing_key().is_none());
    let ask = async |audience: &str| identity(&cluster, &agent.identity, task, audience).await;
    let answer = ask("https://vault.example").await.unwrap();
    let (header, claims) = (part(&answer.token, 0), part(&answer.token, 1));
    let state = cluster.replica.state();
    let public = state.signing_key().unwrap().public.clone();
    assert_eq!(header["kid"], muster_identity::key_id(&public));
    assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &"https://vault.example".into()));
    let account = &state.meta().account;
    assert_eq!(claims["sub"], format!("arn:aws:iam::{account}:role/web"));
    for (name, value) in [("role", "web"), ("cluster", "default"), ("family", "web")] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert!(claims["task"].as_str().unwrap().ends_with(&task.to_string()), "{claims}");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    assert_eq!(claims["exp"].as_u64().unwrap(), answer.expires_at_ms / 1000);
    assert_eq!(claims.get("service"), None, "it is of none");

    ask("another").await.unwrap();
    assert_eq!(cluster.replica.state().signing_key().unwrap().public, public, "the same key");
    for audience in ["", "a b", "\u{e9}", &"a".repeat(256)] {
        let refused = ask(audience).await.unwrap_err();
        told(&refused, Code::InvalidArgument, "audience");
    }
    agent.stop().await;
}
