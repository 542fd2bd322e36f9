//! Requests and answers as ECS clients see them, recorded in `tests/data/*.txt`.
//!
//! A script is stanzas of `Rpc`, a JSON request, `----` and what was answered: JSON, or
//! `Code: message`. `Rpc as NAME` calls as another user; `instance CPU MEMORY`, `running TASK`,
//! `slot SERVICE`, `user NAME ROLE` and `leader no` set the stage. Ids and times are replaced by
//! `<1>`, `<2>` … in order of appearance and may be used so in later requests. `UPDATE=1` records
//! anew; commit only a difference you can explain.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::UserRole;
use muster_proto::pb::ecs_client::EcsClient;
use muster_proto::{json, pb};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use support::{Bench, Planner, user};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// What one script runs on.
struct Stage {
    bench: Bench,
    planner: Option<Planner>,
    /// The n-th one is written `<n>`.
    ids: Vec<String>,
}

fn told<T: json::Described + serde::Serialize>(
    answer: Result<Response<T>, Status>,
) -> Result<Value, Status> {
    Ok(json::to_value(&answer?.into_inner()))
}

fn refused(error: &muster_model::Error) -> Status {
    muster_proto::error::to_status(error)
}

macro_rules! asked {
    ($client:expr, $text:expr, $request:ident, $method:ident) => {
        match json::from_str_strict::<pb::$request>($text) {
            Ok(request) => told($client.$method(request).await),
            Err(error) => Err(refused(&error)),
        }
    };
}

/// What is beside tasks, services and the things they run on.
async fn operation(
    client: &mut EcsClient<Channel>,
    rpc: &str,
    request: &str,
) -> Result<Value, Status> {
    macro_rules! one {
        ($request:ident, $method:ident) => {
            asked!(client, request, $request, $method)
        };
    }
    match rpc {
        "StartTask" => one!(StartTaskRequest, start_task),
        "PutAttributes" => one!(PutAttributesRequest, put_attributes),
        "DeleteAttributes" => one!(DeleteAttributesRequest, delete_attributes),
        "ListAttributes" => one!(ListAttributesRequest, list_attributes),
        "UpdateCluster" => one!(UpdateClusterRequest, update_cluster),
        "UpdateClusterSettings" => one!(UpdateClusterSettingsRequest, update_cluster_settings),
        "PutClusterCapacityProviders" => {
            one!(PutClusterCapacityProvidersRequest, put_cluster_capacity_providers)
        }
        "DeleteTaskDefinitions" => one!(DeleteTaskDefinitionsRequest, delete_task_definitions),
        "GetTaskProtection" => one!(GetTaskProtectionRequest, get_task_protection),
        "UpdateTaskProtection" => one!(UpdateTaskProtectionRequest, update_task_protection),
        "ListServicesByNamespace" => {
            one!(ListServicesByNamespaceRequest, list_services_by_namespace)
        }
        "ListServiceDeployments" => {
            one!(ListServiceDeploymentsRequest, list_service_deployments)
        }
        "DescribeServiceDeployments" => {
            one!(DescribeServiceDeploymentsRequest, describe_service_deployments)
        }
        "StopServiceDeployment" => {
            one!(StopServiceDeploymentRequest, stop_service_deployment)
        }
        "ContinueServiceDeployment" => {
            one!(ContinueServiceDeploymentRequest, continue_service_deployment)
        }
        "DescribeServiceRevisions" => {
            one!(DescribeServiceRevisionsRequest, describe_service_revisions)
        }
        "PutAccountSetting" => one!(PutAccountSettingRequest, put_account_setting),
        "PutAccountSettingDefault" => {
            one!(PutAccountSettingDefaultRequest, put_account_setting_default)
        }
        "DeleteAccountSetting" => one!(DeleteAccountSettingRequest, delete_account_setting),
        "ListAccountSettings" => one!(ListAccountSettingsRequest, list_account_settings),
        "DiscoverPollEndpoint" => one!(DiscoverPollEndpointRequest, discover_poll_endpoint),
        "SubmitTaskStateChange" => one!(SubmitTaskStateChangeRequest, submit_task_state_change),
        "SubmitContainerStateChange" => {
            one!(SubmitContainerStateChangeRequest, submit_container_state_change)
        }
        "SubmitAttachmentStateChanges" => {
            one!(SubmitAttachmentStateChangesRequest, submit_attachment_state_changes)
        }
        "DescribeCapacityProviders" => {
            one!(DescribeCapacityProvidersRequest, describe_capacity_providers)
        }
        "CreateCapacityProvider" => one!(CreateCapacityProviderRequest, create_capacity_provider),
        "UpdateCapacityProvider" => one!(UpdateCapacityProviderRequest, update_capacity_provider),
        "DeleteCapacityProvider" => one!(DeleteCapacityProviderRequest, delete_capacity_provider),
        "CreateTaskSet" => one!(CreateTaskSetRequest, create_task_set),
        "UpdateTaskSet" => one!(UpdateTaskSetRequest, update_task_set),
        "DeleteTaskSet" => one!(DeleteTaskSetRequest, delete_task_set),
        "UpdateServicePrimaryTaskSet" => {
            one!(UpdateServicePrimaryTaskSetRequest, update_service_primary_task_set)
        }
        "DescribeTaskSets" => one!(DescribeTaskSetsRequest, describe_task_sets),
        "UpdateContainerAgent" => one!(UpdateContainerAgentRequest, update_container_agent),
        other => panic!("unknown rpc {other}"),
    }
}

/// tonic's methods take anything that becomes a request; JSON needs to know which.
trait Typed {
    async fn call(&mut self, rpc: &str, request: &str) -> Result<Value, Status>;
}

impl Typed for EcsClient<Channel> {
    async fn call(&mut self, rpc: &str, request: &str) -> Result<Value, Status> {
        macro_rules! one {
            ($request:ident, $method:ident) => {
                asked!(self, request, $request, $method)
            };
        }
        match rpc {
            "CreateCluster" => one!(CreateClusterRequest, create_cluster),
            "DescribeClusters" => one!(DescribeClustersRequest, describe_clusters),
            "ListClusters" => one!(ListClustersRequest, list_clusters),
            "DeleteCluster" => one!(DeleteClusterRequest, delete_cluster),
            "RegisterTaskDefinition" => {
                one!(RegisterTaskDefinitionRequest, register_task_definition)
            }
            "DescribeTaskDefinition" => {
                one!(DescribeTaskDefinitionRequest, describe_task_definition)
            }
            "ListTaskDefinitions" => one!(ListTaskDefinitionsRequest, list_task_definitions),
            "ListTaskDefinitionFamilies" => {
                one!(ListTaskDefinitionFamiliesRequest, list_task_definition_families)
            }
            "DeregisterTaskDefinition" => {
                one!(DeregisterTaskDefinitionRequest, deregister_task_definition)
            }
            "CreateService" => one!(CreateServiceRequest, create_service),
            "UpdateService" => one!(UpdateServiceRequest, update_service),
            "DeleteService" => one!(DeleteServiceRequest, delete_service),
            "DescribeServices" => one!(DescribeServicesRequest, describe_services),
            "ListServices" => one!(ListServicesRequest, list_services),
            "RunTask" => one!(RunTaskRequest, run_task),
            "StopTask" => one!(StopTaskRequest, stop_task),
            "DescribeTasks" => one!(DescribeTasksRequest, describe_tasks),
            "ListTasks" => one!(ListTasksRequest, list_tasks),
            "DescribeContainerInstances" => {
                one!(DescribeContainerInstancesRequest, describe_container_instances)
            }
            "ListContainerInstances" => {
                one!(ListContainerInstancesRequest, list_container_instances)
            }
            "UpdateContainerInstancesState" => {
                one!(UpdateContainerInstancesStateRequest, update_container_instances_state)
            }
            "DeregisterContainerInstance" => {
                one!(DeregisterContainerInstanceRequest, deregister_container_instance)
            }
            "TagResource" => one!(TagResourceRequest, tag_resource),
            "UntagResource" => one!(UntagResourceRequest, untag_resource),
            "ListTagsForResource" => one!(ListTagsForResourceRequest, list_tags_for_resource),
            other => operation(self, other, request).await,
        }
    }
}

impl Stage {
    async fn new() -> Self {
        let bench = Bench::start().await;
        Self { bench, planner: None, ids: Vec::new() }
    }

    /// What a stanza's command answers, as text with placeholders.
    async fn run(&mut self, command: &str, request: &str) -> String {
        let request = self.filled(request);
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["instance", cpu, memory] => {
                let (cpu, memory) = (cpu.parse().unwrap(), memory.parse().unwrap());
                let id = self.bench.instance(cpu, memory).await.to_string();
                self.masked(&id)
            }
            ["planner"] => {
                self.planner = Some(self.bench.planner());
                "ok".into()
            }
            ["slot", service] => {
                let id = self.bench.slot(service).await.to_string();
                self.masked(&id)
            }
            ["running", task] => {
                let task = self.filled(task);
                self.bench.running(&task).await;
                "ok".into()
            }
            ["user", name, role] => {
                let role = match role {
                    "operator" => UserRole::Operator,
                    "read-only" => UserRole::ReadOnly,
                    other => panic!("role {other}"),
                };
                self.bench.user(name, role).await;
                "ok".into()
            }
            ["leader", now] => {
                self.bench.memory.lead(now == "yes");
                "ok".into()
            }
            [rpc] => self.call("admin", rpc, &request).await,
            [rpc, "as", name] => self.call(name, rpc, &request).await,
            _ => panic!("unknown command {command:?}"),
        }
    }

    async fn call(&mut self, name: &str, rpc: &str, request: &str) -> String {
        let mut ecs = self.bench.ecs(user(name)).await;
        let text = match ecs.call(rpc, request).await {
            Ok(mut value) => {
                mask_times(&mut value);
                serde_json::to_string_pretty(&value).unwrap()
            }
            Err(status) => {
                let exception = muster_proto::error::detail(&status).map(|d| d.exception);
                let code: Code = status.code();
                let named =
                    exception.map_or_else(|| format!("{code:?}"), |e| format!("{code:?} {e}"));
                format!("{named}: {}", status.message())
            }
        };
        self.masked(&text)
    }

    /// Ids in place of placeholders.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (n, id) in self.ids.iter().enumerate() {
            text = text.replace(&format!("<{}>", n + 1), id);
        }
        text
    }

    /// Placeholders in place of ids: 32 hexadecimal digits, container UUIDs, deployment numbers.
    fn masked(&mut self, text: &str) -> String {
        let mut masked = String::new();
        let mut rest = text;
        while let Some(found) = rest.find(|c: char| c.is_ascii_hexdigit()) {
            let (before, word) = rest.split_at(found);
            let end = word.find(|c: char| !c.is_ascii_hexdigit() && c != '-').unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            masked.push_str(before);
            match is_id(word) {
                true => {
                    let known = self.ids.iter().position(|id| id == word);
                    let at = known.unwrap_or_else(|| {
                        self.ids.push(word.to_owned());
                        self.ids.len() - 1
                    });
                    write!(masked, "<{}>", at + 1).unwrap();
                }
                false => masked.push_str(word),
            }
            rest = after;
        }
        masked + rest
    }
}

fn is_id(word: &str) -> bool {
    let hex = word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let uuid = word.len() == 36 && word.bytes().filter(|b| *b == b'-').count() == 4;
    let deployment = word.len() == 19 && word.bytes().all(|b| b.is_ascii_digit());
    hex || uuid || deployment
}

/// Times count requests, and the planner's turns among them.
fn mask_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Number(_) if name.ends_with("At") || name.ends_with("Date") => {
                        *value = "<time>".into()
                    }
                    other => mask_times(other),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_times),
        _ => {}
    }
}

async fn replay(path: &Path) -> (String, String) {
    let recorded = std::fs::read_to_string(path).unwrap();
    let mut stage = Stage::new().await;
    let mut told = String::new();
    for stanza in recorded.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let stanza = stanza.trim();
        let lines: Vec<&str> = stanza.lines().collect();
        let begin = lines.iter().position(|line| !line.starts_with('#')).unwrap();
        let end = lines.iter().position(|line| *line == "----").unwrap_or(lines.len());
        let request = lines[begin + 1..end].join("\n");
        let answer = stage.run(lines[begin], &request).await;
        write!(told, "{}\n----\n{answer}\n\n", lines[..end].join("\n")).unwrap();
    }
    (recorded, told)
}

#[tokio::test]
async fn requests_are_answered_as_recorded() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut paths: Vec<_> =
        std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        let (recorded, told) = replay(&path).await;
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, told).unwrap();
            continue;
        }
        let differ = told.lines().zip(recorded.lines()).enumerate().find(|(_, (a, b))| a != b);
        let name = path.display();
        assert!(told == recorded, "{name} differs: {differ:#?}; UPDATE=1 records anew");
    }
}
