//! Task roles: what a task may with its credentials, and when they count no more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_api::ecs::{Door, Trust};
use muster_identity::{Session, SessionCredentials, Sessions};
use muster_model::{Command, Observed, Phase, TaskId, TaskReport, Time};
use muster_proto::pb;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use support::door::{Key, START, refused, send_head, signed};
use support::{ADMIN, Bench, Planner, definition, user};

const HOUR: u64 = 3_600_000;
const UNTIL: Time = Time(START.0 + 6 * HOUR);
const LISTS: &str = r#"{"Statement": {"Effect": "Allow", "Action": "ecs:List*", "Resource": "*"}}"#;

/// A cluster in which tasks of `web` have the role of this name.
struct World {
    bench: Bench,
    door: Arc<Door>,
    _planner: Planner,
}

async fn world() -> World {
    let mut bench = Bench::with_authority().await;
    bench.instance(4096, 4096).await;
    let task_role_arn = "arn:aws:iam::111122223333:role/app/web".into();
    let web = pb::RegisterTaskDefinitionRequest { task_role_arn, ..definition("web", 64, 64) };
    let mut admin = bench.admin().await;
    admin.register_task_definition(web).await.unwrap();
    admin.register_task_definition(definition("bare", 64, 64)).await.unwrap();
    let (door, planner) = (bench.api.ecs(Trust::Signed), bench.planner());
    World { bench, door, _planner: planner }
}

impl World {
    async fn run(&self, family: &str, overrides: pb::TaskOverride) -> TaskId {
        let (task_definition, overrides) = (family.into(), Some(overrides));
        let run = pb::RunTaskRequest { task_definition, overrides, ..Default::default() };
        let answer = self.bench.admin().await.run_task(run).await.unwrap().into_inner();
        answer.tasks[0].task_arn.rsplit('/').next().unwrap().parse().unwrap()
    }

    fn sessions(&self) -> Sessions {
        Sessions::of(&self.bench.replica.state().meta().authority.key_pem).unwrap()
    }

    fn credentials(&self, role: &str, task: TaskId) -> SessionCredentials {
        self.sessions().credentials(&Session { role: role.into(), task, expires_at: UNTIL })
    }

    /// How a list of tasks is answered.
    async fn lists(&self, of: &SessionCredentials) -> (u16, Value) {
        send_head(&self.door, signed("ListTasks", "{}", START, &key(of)), "{}").await
    }

    /// The exception that it is refused with.
    async fn refuses(&self, key: &Key<'_>, at: Time) -> (String, String) {
        refused(&self.door, signed("ListTasks", "{}", at, key), "{}").await
    }

    async fn attach(&self, task_role: &str, user: &str, document: &str) {
        let put = pb::PutPolicyRequest {
            name: "p".into(),
            user: user.into(),
            task_role: task_role.into(),
            document: document.into(),
            ..Default::default()
        };
        self.bench.operator(self::user(ADMIN)).await.put_policy(put).await.unwrap();
    }
}

fn key(of: &SessionCredentials) -> Key<'_> {
    let key = Key::new(&of.access_key_id, of.secret_access_key.reveal());
    Key { token: Some(&of.token), ..key }
}

fn none() -> pb::TaskOverride {
    pb::TaskOverride::default()
}

#[tokio::test]
async fn a_task_may_what_the_policies_of_its_role_allow() {
    let mut world = world().await;
    let task = world.run("web", none()).await;
    let mine = world.credentials("web", task);
    let (exception, message) = world.refuses(&key(&mine), START).await;
    assert_eq!(exception, "AccessDeniedException");
    assert!(
        message.contains("assumed-role/web") && message.contains("--task-role web"),
        "{message}"
    );
    // Those of others of the same name are not its own.
    world.bench.user("web", muster_model::UserRole::Admin).await;
    world.attach("", "web", LISTS).await;
    world.attach("db", "", LISTS).await;
    let (exception, _) = world.refuses(&key(&mine), START).await;
    assert_eq!(exception, "AccessDeniedException");

    world.attach("web", "", LISTS).await;
    let (status, answer) = world.lists(&mine).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["taskArns"][0].as_str().unwrap().ends_with(&task.to_string()), "{answer}");
    let describe = signed("DescribeClusters", "{}", START, &key(&mine));
    let (exception, message) = refused(&world.door, describe, "{}").await;
    assert_eq!(exception, "AccessDeniedException");
    let who = format!("User: arn:aws:sts::000000000000:assumed-role/web/{task} is not authorized");
    assert!(message.starts_with(&who), "{message}");
    let changed = signed("ListTasks", "{}", START, &key(&mine));
    let (exception, _) = refused(&world.door, changed, r#"{"maxResults": 1}"#).await;
    assert_eq!(exception, "InvalidSignatureException");
}

#[tokio::test]
async fn what_a_run_overrides_is_the_role() {
    let world = world().await;
    world.attach("job", "", LISTS).await;
    world.attach("web", "", LISTS).await;
    let task_role_arn = "arn:aws:iam::000000000000:role/job".to_owned();
    let other = pb::TaskOverride { task_role_arn: task_role_arn.clone(), ..none() };
    let task = world.run("web", other).await;
    let (status, answer) = world.lists(&world.credentials("job", task)).await;
    assert_eq!(status, 200, "{answer}");
    let (exception, _) = world.refuses(&key(&world.credentials("web", task)), START).await;
    assert_eq!(exception, "UnrecognizedClientException");
    let describe = pb::DescribeTasksRequest { tasks: vec![task.to_string()], ..Default::default() };
    let answer = world.bench.admin().await.describe_tasks(describe).await.unwrap().into_inner();
    assert_eq!(answer.tasks[0].overrides.as_ref().unwrap().task_role_arn, task_role_arn);
    let (task_definition, task_role_arn) = ("web".into(), "arn:aws:iam::1:user/ann".into());
    let overrides = Some(pb::TaskOverride { task_role_arn, ..none() });
    let run = pb::RunTaskRequest { task_definition, overrides, ..Default::default() };
    let error = world.bench.admin().await.run_task(run).await.unwrap_err();
    assert!(error.message().contains("overrides.taskRoleArn"), "{error}");
}

#[tokio::test]
async fn what_is_not_this_task_s_own_and_current_is_refused_in_aws_s_words() {
    let world = world().await;
    world.attach("web", "", LISTS).await;
    let (task, bare) = (world.run("web", none()).await, world.run("bare", none()).await);
    let mine = world.credentials("web", task);
    assert_eq!(world.lists(&mine).await.0, 200);
    let own = key(&mine);
    let unknown = "UnrecognizedClientException";

    let other = world.credentials("web", bare);
    let foreign = muster_identity::Authority::create("x", std::time::SystemTime::now()).unwrap();
    let session = Session { role: "web".into(), task, expires_at: UNTIL };
    let foreign = Sessions::of(&foreign.key_pem()).unwrap().credentials(&session);
    let nowhere = world.credentials("web", TaskId::from_bits(7));
    let cases = [
        ("a token of another task", Key { token: Some(&other.token), ..own.clone() }),
        ("no token", Key { token: None, ..own.clone() }),
        ("no session's key", Key { id: "AKIAAAAAAAAAAAAAAAAA", ..own.clone() }),
        ("no token at all", Key { token: Some("forged"), ..own.clone() }),
        ("a task without the role", key(&other)),
        ("another cluster", key(&foreign)),
        ("a task that is not there", key(&nowhere)),
    ];
    for (what, key) in cases {
        let (exception, message) = world.refuses(&key, START).await;
        assert_eq!(exception, unknown, "{what}: {message}");
    }
    let (exception, _) = world.refuses(&Key { secret: "guessed", ..own.clone() }, START).await;
    assert_eq!(exception, "InvalidSignatureException");

    // Until the moment, and from the moment on that the token names.
    world.bench.pass(Duration::from_millis(6 * HOUR - 60_000));
    let late = Time(UNTIL.0 - 60_000);
    let (status, answer) =
        send_head(&world.door, signed("ListTasks", "{}", late, &own), "{}").await;
    assert_eq!(status, 200, "{answer}");
    world.bench.pass(Duration::from_secs(60));
    let (exception, message) = world.refuses(&own, UNTIL).await;
    assert_eq!(exception, "ExpiredTokenException");
    assert_eq!(message, "The security token included in the request is expired");
}

#[tokio::test]
async fn credentials_end_with_their_task_and_not_before() {
    let mut world = world().await;
    world.attach("web", "", LISTS).await;
    let task = world.run("web", none()).await;
    let mine = world.credentials("web", task);
    let mut states = world.bench.replica.watch();
    states.mark_changed();
    let placed = |state: &Arc<muster_model::State>| state.task(task).unwrap().instance.is_some();
    let placed = tokio::time::timeout(Duration::from_secs(20), states.wait_for(placed));
    let instance = placed.await.unwrap().unwrap().task(task).unwrap().instance.unwrap();
    let reason = "enough".into();
    world.bench.commit(Command::StopTask { task, reason }).await;
    assert_eq!(world.lists(&mine).await.0, 200, "it may still say goodbye");
    let observed = Observed { phase: Phase::Stopped, ..Observed::default() };
    let reports = vec![TaskReport { task, instance, observed }];
    world.bench.commit(Command::Report { reports }).await;
    let (exception, message) = world.refuses(&key(&mine), START).await;
    assert_eq!(exception, "ExpiredTokenException");
    assert!(message.contains(&format!("task {task} has ended")), "{message}");
}

#[tokio::test]
async fn anybody_may_read_who_signs_identities_and_with_which_key() {
    let mut world = world().await;
    let read = async |path: &str| {
        let (head, ()) = http::Request::get(path).body(()).unwrap().into_parts();
        let reply = world.door.answer(&head, Default::default()).await;
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        (reply.status.as_u16(), reply.content_type, body)
    };
    let (status, kind, about) = read("/.well-known/openid-configuration").await;
    assert_eq!((status, kind), (200, "application/json"));
    assert_eq!(about["issuer"], "https://muster.test");
    assert_eq!(about["jwks_uri"], "https://muster.test/.well-known/jwks.json");
    assert_eq!(about["id_token_signing_alg_values_supported"][0], "ES256");
    assert_eq!(read("/.well-known/jwks.json").await.2, serde_json::json!({ "keys": [] }));
    assert_eq!(read("/.well-known/other").await.0, 400);
    let signer = muster_identity::Signer::of(&muster_identity::Signer::mint().unwrap()).unwrap();
    let (public, private) = (signer.public().into(), Default::default());
    world.bench.commit(Command::CreateSigningKey { public, private }).await;
    let read = async |path: &str| {
        let (head, ()) = http::Request::get(path).body(()).unwrap().into_parts();
        world.door.answer(&head, Default::default()).await.body
    };
    let keys: Value = serde_json::from_slice(&read("/.well-known/jwks.json").await).unwrap();
    assert_eq!(keys["keys"][0], muster_identity::json_web_key(signer.public()).unwrap());
}
