//! Lifecycle hooks whose targets are endpoints: what they are told, how often, and what their
//! answers make of a deployment. The service wants no tasks, so that only the hook is waited for.

use crate::harness::{Cluster, PATIENCE};
use muster_manager::limits::HOOK_ANSWER_BYTES_MAX;
use muster_model::command::UpdateService;
use muster_model::service::ServiceChange;
use muster_model::service::{HaltCause, Outcome};
use muster_model::{
    Command, DeploymentId, DeploymentStrategy, Endpoint, HookTarget, LifecycleHook, Pace,
    ServiceId, Stage, State,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What hooks call in these tests, on loopback.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// One call that waits for its answer.
struct Call {
    stream: BufReader<TcpStream>,
    path: String,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// With a query that nobody but the endpoint is to see.
    fn url(&self) -> String {
        format!("http://{}/ready?key=hush", self.address)
    }

    async fn called(&self) -> Call {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("the endpoint is called").unwrap();
        let mut stream = BufReader::new(stream);
        let (mut first, mut bytes) = (String::new(), 0);
        stream.read_line(&mut first).await.unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => bytes = value.parse().unwrap(),
                "content-type" => assert_eq!(value, "application/json"),
                _ => {}
            }
        }
        let mut body = vec![0; bytes];
        stream.read_exact(&mut body).await.unwrap();
        let path = first.strip_prefix("POST ").unwrap().split(' ').next().unwrap().to_owned();
        Call { stream, path, body: serde_json::from_slice(&body).unwrap() }
    }
}

impl Call {
    /// The body of the call. `status` as on the first line, with further headers behind it.
    async fn answer(mut self, status: &str, body: &str) -> Value {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        // Who has read enough hangs up.
        let _ = self.stream.write_all(format!("{head}{body}").as_bytes()).await;
        let _ = self.stream.shutdown().await;
        self.body
    }

    async fn says(self, answer: Value) -> Value {
        self.answer("200 OK", &answer.to_string()).await
    }
}

/// A service whose first deployment is complete.
async fn service(cluster: &Cluster) -> ServiceId {
    let id = cluster.service("web", 0).await;
    let complete = |state: &State| {
        let first = state.service(id).and_then(|row| row.primary().cloned());
        first.is_some_and(|first| first.has_completed())
    };
    cluster.wait("the first deployment is complete", complete).await;
    id
}

/// Begins deployment `number`, which shifts traffic and calls `url` after scaling up.
async fn deploy(cluster: &Cluster, service: ServiceId, number: u128, url: String) -> DeploymentId {
    let target =
        HookTarget::Http(Endpoint { url, details: [("suite".into(), "smoke".into())].into() });
    let stages = vec![Stage::PostScaleUp];
    let hook = LifecycleHook { stages, target, ..LifecycleHook::default() };
    let strategy = DeploymentStrategy { pace: Pace::BlueGreen, bake_minutes: 0, hooks: vec![hook] };
    let deployment = DeploymentId::from_bits(number);
    cluster
        .propose(Command::UpdateService(UpdateService {
            service,
            expected_version: None,
            deployment,
            definition: None,
            force_new_deployment: true,
            change: ServiceChange { strategy: Some(strategy), ..ServiceChange::default() }.into(),
        }))
        .await;
    deployment
}

/// Waits for the deployment's end; what the service's history says of hooks.
async fn ended(
    cluster: &Cluster,
    service: ServiceId,
    id: DeploymentId,
    as_: Outcome,
) -> Vec<String> {
    let state = cluster
        .wait(&format!("deployment {id} ends as {as_:?}"), |state| {
            let row = state.service(service).unwrap();
            let end = row.all_deployments().find(|one| one.id == id).and_then(|one| one.end);
            end.is_some_and(|end| end.outcome == as_)
        })
        .await;
    let of = format!("(deployment {}) hook ", id.shown());
    let all = state.events(service).filter_map(|(_, event)| event.text.split_once(&of));
    all.map(|(_, text)| text.to_owned()).collect()
}

#[tokio::test]
async fn an_endpoint_is_called_until_it_lets_the_deployment_go_on() {
    let cluster = Cluster::start().await;
    let web = service(&cluster).await;
    let server = Server::start().await;
    let id = deploy(&cluster, web, 7, server.url()).await;
    let call = server.called().await;
    assert_eq!(call.path, "/ready?key=hush");
    let told = call.answer("503 Service Unavailable", "").await;
    let arn = "arn:aws:ecs:local:000000000000";
    let green = format!("{arn}:service-revision/default/web/{}", id.number());
    assert_eq!(told["executionId"], format!("{}/post_scale_up-3", id.shown()));
    assert_eq!(told["lifecycleStage"], "POST_SCALE_UP");
    let deployment = format!("{arn}:service-deployment/default/web/{}", id.number());
    assert_eq!(told["resourceArn"], deployment);
    assert_eq!(told["hookDetails"], json!({ "suite": "smoke" }));
    let details = &told["executionDetails"];
    assert_eq!(details["serviceArn"], format!("{arn}:service/default/web"));
    assert_eq!(details["targetServiceRevisionArn"], green);
    assert_eq!(details["productionTrafficWeights"][&green], 0.0);
    assert_eq!(details["productionTrafficWeights"].as_object().unwrap().len(), 2);

    let again = json!({ "hookStatus": "IN_PROGRESS", "callBackDelay": 1 });
    assert_eq!(server.called().await.says(again).await, told, "a call is repeated as it was");
    let last = server.called().await.says(json!({ "hookStatus": "SUCCEEDED" })).await;
    assert_eq!(last, told);
    let history = ended(&cluster, web, id, Outcome::Successful).await;
    let at = server.address;
    let said = [
        format!(
            "post_scale_up-3: http://{at}/ready answered 503 Service Unavailable; it is called \
             again until the hook times out."
        ),
        format!("post_scale_up-3: http://{at}/ready answered SUCCEEDED."),
    ];
    assert_eq!(history, said);
    cluster.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_no_success_rolls_the_deployment_back() {
    let cluster = Cluster::start().await;
    let web = service(&cluster).await;
    let server = Server::start().await;
    let long = " ".repeat(HOOK_ANSWER_BYTES_MAX + 1);
    let moved = format!("302 Found\r\nLocation: {}", server.url());
    let answers = [
        ("200 OK", r#"{"hookStatus": "FAILED"}"#, "answered FAILED."),
        ("200 OK", r#"{"hookStatus": "hush"}"#, "answered no hookStatus that there is."),
        ("200 OK", "hush", "answered no hookStatus that there is."),
        ("200 OK", long.as_str(), "answered more than 16384 bytes."),
        ("404 Not Found", r#"{"hookStatus": "SUCCEEDED"}"#, "answered 404 Not Found."),
        (moved.as_str(), "", "answered 302 Found."),
    ];
    for (number, (status, body, told)) in (7..).zip(answers) {
        let id = deploy(&cluster, web, number, server.url()).await;
        server.called().await.answer(status, body).await;
        let history = ended(&cluster, web, id, Outcome::RolledBack).await;
        let said = format!("post_scale_up-3: http://{}/ready {told}", server.address);
        assert_eq!(history, [said]);
        let row = cluster.replica.state().service(web).cloned().unwrap();
        let halt = row.all_deployments().find(|one| one.id == id).and_then(|one| one.halt);
        assert_eq!(halt.map(|halt| halt.cause), Some(HaltCause::HookFailed), "{told}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_called_again_when_it_is() {
    let cluster = Cluster::start().await;
    let web = service(&cluster).await;
    let server = Server::start().await;
    let (address, url) = (server.address, server.url());
    drop(server);
    let id = deploy(&cluster, web, 7, url).await;
    let refused = "cannot be called: Connection refused";
    let said = |state: &State| state.events(web).any(|(_, event)| event.text.contains(refused));
    cluster.wait("the leader says so", said).await;
    let server = Server { listener: TcpListener::bind(address).await.unwrap(), address };
    server.called().await.says(json!({ "hookStatus": "SUCCEEDED" })).await;
    let history = ended(&cluster, web, id, Outcome::Successful).await;
    assert_eq!(history.len(), 2, "{history:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_new_leader_calls_at_once_and_is_known_by_the_same_execution() {
    let mut cluster = Cluster::start().await;
    cluster.add_manager().await;
    let web = service(&cluster).await;
    let server = Server::start().await;
    let id = deploy(&cluster, web, 7, server.url()).await;
    let later = json!({ "hookStatus": "IN_PROGRESS", "callBackDelay": 3600 });
    let first = server.called().await.says(later).await;
    cluster.lead(Some(1));
    let second = server.called().await;
    assert_eq!(second.body, first);
    second.says(json!({ "hookStatus": "SUCCEEDED" })).await;
    ended(&cluster, web, id, Outcome::Successful).await;
    cluster.stop().await;
}
