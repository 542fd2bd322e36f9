//! `muster import`: task definitions and services as `aws ecs describe-...` prints them, made here.
//!
//! What only answers carry is dropped. What asks for something that Muster does not have is an
//! error that names it; `--leave-out` is how a user says that it is not needed. All of a document
//! is read before any of it is made. Invariant: nothing that was asked for is lost without having
//! been named.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use super::taskdef::read;
use clap::Args;
use muster_model::Error;
use muster_model::tags::is_reserved;
use muster_proto::{json, pb};
use serde_json::{Map, Value};
use std::path::PathBuf;

const FORMS: &str = "what `aws ecs describe-task-definition --include TAGS` or `aws ecs \
                     describe-services --include TAGS` prints, or a task definition by itself";

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    aws ecs describe-task-definition --task-definition web > web.json\n  \
    muster import web.json\n  \
    aws ecs describe-services --cluster shop --services web | muster import - --dry-run\n  \
    muster import service.json --leave-out loadBalancers --leave-out networkConfiguration\n  \
    muster import web.json --leave-out containerDefinitions.dockerSecurityOptions")]
pub struct Import {
    /// What `aws ecs describe-task-definition` or `describe-services` prints (- reads standard
    /// input).
    file: PathBuf,
    /// A member to go without; dots lead inwards, lists are gone through. May be said again.
    #[arg(long, value_name = "MEMBER")]
    leave_out: Vec<String>,
    /// Only say what would be asked for.
    #[arg(long)]
    dry_run: bool,
}

/// What a document asks for.
#[derive(Debug, PartialEq)]
enum Wanted {
    Definition(Box<pb::RegisterTaskDefinitionRequest>),
    Service(Box<pb::CreateServiceRequest>),
}

impl Import {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let text = read(&self.file)?;
        self.make(&text, context).await.map_err(with_advice)
    }

    async fn make(self, text: &str, context: &Context) -> Result<(), CliError> {
        let wanted = wanted(text, &self.leave_out, &context.cluster)?;
        let mut made = Vec::new();
        for one in wanted {
            let shown = match (one, self.dry_run) {
                (Wanted::Definition(request), true) => json::to_value(&*request),
                (Wanted::Service(request), true) => json::to_value(&*request),
                (Wanted::Definition(request), false) => register(context, *request).await?,
                (Wanted::Service(request), false) => create(context, *request).await?,
            };
            made.push(shown);
        }
        match (context.output, self.dry_run) {
            (Format::Table, false) => Ok(()),
            _ => output::json(&Value::Array(made)),
        }
    }
}

async fn register(
    context: &Context,
    mut request: pb::RegisterTaskDefinitionRequest,
) -> Result<Value, CliError> {
    request.client_token = context.token();
    let call = context.ecs(request, async |mut ecs, r| ecs.register_task_definition(r).await);
    let made = call.await?.task_definition.unwrap_or_default();
    if context.output == Format::Table {
        output::print(&format!("task definition {}:{}\n", made.family, made.revision))?;
    }
    Ok(json::to_value(&made))
}

async fn create(
    context: &Context,
    mut request: pb::CreateServiceRequest,
) -> Result<Value, CliError> {
    request.client_token = context.token();
    let call = context.ecs(request, async |mut ecs, r| ecs.create_service(r).await);
    let made = call.await?.service.unwrap_or_default();
    if context.output == Format::Table {
        let definition = output::short(&made.task_definition);
        output::print(&format!(
            "service {} of {} tasks of {definition}; next: muster service wait {0}\n",
            made.service_name, made.desired_count
        ))?;
    }
    Ok(json::to_value(&made))
}

/// Reads all of a document before any of it is asked for.
fn wanted(text: &str, leave_out: &[String], cluster: &str) -> Result<Vec<Wanted>, CliError> {
    let unread = |error: serde_json::Error| CliError::Usage(format!("document: {error}"));
    let mut document: Value = serde_json::from_str(text).map_err(unread)?;
    let mut wanted = Vec::new();
    if let Some(services) = document.get_mut("services").and_then(Value::as_array_mut) {
        let mut services: Vec<_> = services.iter_mut().filter_map(Value::as_object_mut).collect();
        services.retain(|service| service.get("status").is_none_or(|s| s != "INACTIVE"));
        leave(&mut services, leave_out)?;
        for service in services {
            let mut request: pb::CreateServiceRequest = asked(as_request(std::mem::take(service)))?;
            cluster.clone_into(&mut request.cluster);
            wanted.push(Wanted::Service(Box::new(request)));
        }
        return Ok(wanted);
    }
    let tags = document.get_mut("tags").map(Value::take);
    let definition = match document.get_mut("taskDefinition") {
        Some(definition) => definition.take(),
        None => document,
    };
    let Value::Object(mut definition) = definition else {
        return Err(CliError::Usage(format!("the document is not an object; allowed: {FORMS}")));
    };
    if !definition.contains_key("containerDefinitions") {
        return Err(CliError::Usage(format!("there is nothing to import; allowed: {FORMS}")));
    }
    if let Some(tags) = tags {
        definition.insert("tags".into(), tags);
    }
    without_reserved_tags(&mut definition);
    leave(&mut [&mut definition], leave_out)?;
    Ok(vec![Wanted::Definition(Box::new(asked(definition)?))])
}

/// By the rules of ECS's wire protocol: names that no request has are an answer's own.
fn asked<T: json::Described + serde::de::DeserializeOwned>(
    members: Map<String, Value>,
) -> Result<T, CliError> {
    let text = Value::Object(members).to_string();
    Ok(json::from_ecs(text.as_bytes())?)
}

fn with_advice(error: CliError) -> CliError {
    match error {
        CliError::Cluster(unsupported @ Error::Unsupported { .. }) => {
            CliError::Failed(format!("{unsupported}; to go on without it: --leave-out MEMBER"))
        }
        other => other,
    }
}

/// A described service as a request for one like it.
fn as_request(mut service: Map<String, Value>) -> Map<String, Value> {
    // Revisions are counted anew here: the newest of the family is meant.
    if let Some(Value::String(definition)) = service.get_mut("taskDefinition") {
        let family = output::short(definition).split(':').next().unwrap_or_default().to_owned();
        *definition = family;
    }
    // ECS shows a number for each, and takes none for a DAEMON.
    if service.get("schedulingStrategy").is_some_and(|strategy| strategy == "DAEMON") {
        service.remove("desiredCount");
    }
    without_reserved_tags(&mut service);
    service
}

/// What CloudFormation and others of AWS's put on a resource is theirs: users write no such tag.
fn without_reserved_tags(members: &mut Map<String, Value>) {
    if let Some(Value::Array(tags)) = members.get_mut("tags") {
        tags.retain(|tag| !tag["key"].as_str().is_some_and(is_reserved));
    }
}

/// Takes each named member out of all of these.
fn leave(from: &mut [&mut Map<String, Value>], names: &[String]) -> Result<(), CliError> {
    for name in names {
        let path: Vec<&str> = name.split('.').collect();
        let mut found = false;
        for members in from.iter_mut() {
            found |= remove(members, &path);
        }
        if !found {
            let members = from.iter().flat_map(|members| members.keys().cloned());
            let mut members: Vec<String> = members.collect();
            members.sort();
            members.dedup();
            return Err(CliError::Usage(format!(
                "--leave-out {name:?}: there is no such member; the document has {}",
                members.join(", ")
            )));
        }
    }
    Ok(())
}

fn remove(members: &mut Map<String, Value>, path: &[&str]) -> bool {
    match path {
        [] => false,
        [last] => members.remove(*last).is_some(),
        [first, inner @ ..] => match members.get_mut(*first) {
            Some(Value::Object(members)) => remove(members, inner),
            Some(Value::Array(values)) => {
                let objects = values.iter_mut().filter_map(Value::as_object_mut);
                objects.fold(false, |found, members| remove(members, inner) | found)
            }
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ECS answers it, shortened.
    const DEFINITION: &str = r#"{
        "taskDefinition": {
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:17",
            "containerDefinitions": [{
                "name": "web", "image": "nginx", "cpu": 0, "memory": 128, "essential": true,
                "portMappings": [{ "containerPort": 80, "hostPort": 0, "protocol": "tcp" }],
                "environment": [], "mountPoints": [], "volumesFrom": [], "systemControls": [],
                "dockerSecurityOptions": ["label:disable"],
                "logConfiguration": { "logDriver": "awslogs", "options": {
                    "awslogs-group": "/ecs/web", "awslogs-region": "eu-west-1" } }
            }],
            "family": "web", "taskRoleArn": "arn:aws:iam::111122223333:role/web",
            "networkMode": "bridge", "revision": 17, "volumes": [], "status": "ACTIVE",
            "requiresAttributes": [{ "name": "com.amazonaws.ecs.capability.task-iam-role" }],
            "placementConstraints": [], "compatibilities": ["EXTERNAL", "EC2"],
            "registeredAt": "2026-03-01T10:00:00+01:00", "registeredBy": "arn:aws:iam::1:user/a"
        },
        "tags": [{ "key": "team", "value": "shop" },
                 { "key": "aws:cloudformation:stack-name", "value": "shop" }]
    }"#;

    const SERVICES: &str = r#"{ "services": [
        { "serviceName": "web", "status": "ACTIVE", "desiredCount": 3, "runningCount": 3,
          "taskDefinition": "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:17",
          "loadBalancers": [{ "containerName": "web", "containerPort": 80 }],
          "launchType": "EC2", "schedulingStrategy": "REPLICA", "createdAt": "2026-03-01",
          "deploymentConfiguration": { "maximumPercent": 150, "alarms": { "enable": false } },
          "deployments": [{ "id": "ecs-svc/1" }], "events": [{ "message": "steady" }] },
        { "serviceName": "old", "status": "INACTIVE", "taskDefinition": "old:1" },
        { "serviceName": "logs", "status": "ACTIVE", "desiredCount": 9, "loadBalancers": [],
          "taskDefinition": "logs:2", "schedulingStrategy": "DAEMON" }
    ], "failures": [] }"#;

    fn told(result: Result<Vec<Wanted>, CliError>) -> String {
        match result {
            Ok(wanted) => format!("{wanted:?}"),
            Err(error) => with_advice(error).to_string(),
        }
    }

    #[test]
    fn a_described_definition_becomes_a_request_without_what_only_answers_carry() {
        let text = DEFINITION.replace(r#""dockerSecurityOptions": ["label:disable"],"#, "");
        let wanted = wanted(&text, &[], "default").unwrap();
        let [Wanted::Definition(request)] = wanted.as_slice() else { panic!("{wanted:?}") };
        assert_eq!((request.family.as_str(), request.tags.len()), ("web", 1));
        let log = request.container_definitions[0].log_configuration.as_ref().unwrap();
        assert_eq!((log.log_driver.as_str(), log.options.len()), ("awslogs", 2));
    }

    #[test]
    fn what_is_not_built_is_named_and_left_out_only_when_that_is_said() {
        let error = told(wanted(DEFINITION, &[], "default"));
        assert!(error.contains("containerDefinitions[0].dockerSecurityOptions"), "{error}");
        assert!(error.contains("--leave-out"), "{error}");
        let without = ["containerDefinitions.dockerSecurityOptions".to_owned()];
        assert!(wanted(DEFINITION, &without, "default").is_ok());
        let error = told(wanted(DEFINITION, &["secrets".to_owned()], "default"));
        assert!(error.contains("no such member") && error.contains("networkMode"), "{error}");
    }

    #[test]
    fn described_services_become_requests_of_the_cluster_that_is_chosen() {
        let error = told(wanted(SERVICES, &[], "blue"));
        assert!(error.contains("loadBalancers is not supported"), "{error}");
        let wanted = wanted(SERVICES, &["loadBalancers".to_owned()], "blue").unwrap();
        let [Wanted::Service(web), Wanted::Service(logs)] = wanted.as_slice() else {
            panic!("{wanted:?}")
        };
        assert_eq!((web.task_definition.as_str(), web.desired_count), ("web", 3));
        assert_eq!((web.cluster.as_str(), logs.desired_count), ("blue", 0));
        let configured = web.deployment_configuration.as_ref().unwrap();
        assert_eq!(configured.maximum_percent, Some(150));
    }

    #[test]
    fn a_document_that_holds_neither_is_refused_with_what_is_allowed() {
        for text in ["{}", "[]", "{\"taskDefinition\": 3}", "{\"clusters\": []}"] {
            let error = told(wanted(text, &[], "default"));
            assert!(error.contains("describe-services"), "{text}: {error}");
        }
        assert!(told(wanted("{", &[], "default")).starts_with("document: "));
    }
}
