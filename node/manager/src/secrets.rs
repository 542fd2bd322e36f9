//! What a task's containers are given of secrets and configs, opened for the agent that runs them.
//!
//! The one place where a value leaves the vault. It decides whether the caller may be told: the
//! task is placed on its instance and should run. Invariant: no value stands in an error or a log.

use crate::placed::placed;
use muster_identity::{Sealed, SecretText, Vault};
use muster_model::spec::{ContainerDefinition, ContainerFile};
use muster_model::{Error, InstanceId, SecretReference, State, TaskId, environment_file, limits};
use muster_proto::dispatch as pb;
use std::collections::BTreeMap;

/// What `instance` is told of `task`.
///
/// # Errors
/// `Denied` for a task that is not placed there, known or not, so that nobody learns of others';
/// `Refused` for one that is to stop or has ended. `NotFound` for a secret, `Invalid` for a version
/// or a key that it has not.
pub fn of_task(
    state: &State,
    instance: InstanceId,
    task: TaskId,
) -> Result<pb::TaskSecretsResponse, Error> {
    let vault = Vault::of(&state.meta().authority.key_pem).map_err(unusable)?;
    opened(state, &vault, instance, task)
}

fn opened(
    state: &State,
    vault: &Vault,
    instance: InstanceId,
    task: TaskId,
) -> Result<pb::TaskSecretsResponse, Error> {
    let row = placed(state, instance, task, "read secrets of")?;
    if !row.wanted() || row.finished() {
        return Err(Error::refused(format!("task {task} is not to run any more")));
    }
    let gone = || Error::refused(format!("the definition of task {task} is gone"));
    let spec = state.spec_of(row).ok_or_else(gone)?;
    let given = spec.containers.iter().filter(|c| c.secret_references().next().is_some());
    let containers: Result<Vec<_>, Error> =
        given.map(|container| of_container(state, vault, container)).collect();
    let containers = containers?;
    let bytes: usize = containers.iter().map(bytes_of).sum();
    if bytes > limits::TASK_SECRETS_BYTES_MAX {
        return Err(Error::LimitExceeded {
            what: format!("bytes of the secrets of task {task}"),
            value: bytes as u64,
            limit: limits::TASK_SECRETS_BYTES_MAX as u64,
        });
    }
    tracing::info!(%task, %instance, containers = containers.len(), "task's secrets told");
    Ok(pb::TaskSecretsResponse { containers })
}

fn of_container(
    state: &State,
    vault: &Vault,
    container: &ContainerDefinition,
) -> Result<pb::ContainerSecrets, Error> {
    let open = |from: &String| Ok(value(state, vault, &from.parse()?)?.reveal().to_owned());
    let file = |file: &ContainerFile| {
        Ok(pb::SecretFile { path: file.path.clone(), value: open(&file.value_from)? })
    };
    let secrets = container
        .secrets
        .iter()
        .map(|(name, from)| Ok(pb::SecretVariable { name: name.clone(), value: open(from)? }));
    let mut environment = secrets.collect::<Result<Vec<_>, Error>>()?;
    environment.extend(of_environment_files(state, vault, container)?);
    Ok(pb::ContainerSecrets {
        container: container.name.clone(),
        environment,
        repository_credentials: container.repository_credentials.as_ref().map(open).transpose()?,
        files: container.files.iter().map(file).collect::<Result<_, Error>>()?,
    })
}

/// The variables that stand in files alone, each as the first of them has it.
fn of_environment_files(
    state: &State,
    vault: &Vault,
    container: &ContainerDefinition,
) -> Result<Vec<pb::SecretVariable>, Error> {
    let mut variables = BTreeMap::new();
    for file in &container.environment_files {
        let text = value(state, vault, &environment_file::reference(file)?)?;
        for (name, value) in environment_file::variables(text.reveal()) {
            if !container.environment.contains_key(name) && !container.secrets.contains_key(name) {
                variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
    }
    Ok(variables.into_iter().map(|(name, value)| pb::SecretVariable { name, value }).collect())
}

fn bytes_of(given: &pb::ContainerSecrets) -> usize {
    let credentials = given.repository_credentials.as_ref().map_or(0, String::len);
    let variables = given.environment.iter().map(|pair| pair.name.len() + pair.value.len());
    let files = given.files.iter().map(|file| file.value.len());
    variables.chain(files).sum::<usize>() + credentials
}

/// What a reference means.
fn value(state: &State, vault: &Vault, reference: &SecretReference) -> Result<SecretText, Error> {
    let secret = reference.find(|name| state.secret(name))?;
    let version = secret.version(reference.version)?;
    let value = vault.open(Sealed::Secret(&secret.name), &version.value).map_err(unusable)?;
    match &reference.key {
        None => Ok(value),
        Some(key) => member(&value, key).ok_or_else(|| {
            let allowed = format!("a key of secret {:?}, whose value must be JSON", secret.name);
            Error::invalid("valueFrom", key, allowed)
        }),
    }
}

/// A member of a JSON object: text as it is, anything else as JSON. No variable holds a NUL.
fn member(value: &SecretText, key: &str) -> Option<SecretText> {
    let json: serde_json::Value = serde_json::from_str(value.reveal()).ok()?;
    let text = match json.as_object()?.get(key)? {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (!text.contains('\0')).then(|| SecretText::new(text))
}

fn unusable(error: muster_identity::Error) -> Error {
    Error::Unavailable { why: format!("secrets: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_identity::Authority;
    use muster_model::fixture::World;
    use muster_model::{Command, SecretCommand};
    use std::time::SystemTime;

    const TASK: &str = "service web definition=web:1\ntask t1 service=web on=i1";

    /// Secrets, and what opens them.
    fn world() -> (World, Vault) {
        let authority = Authority::create("test", SystemTime::now()).unwrap();
        let vault = Vault::of(&authority.key_pem()).unwrap();
        let mut world = World::from_text("instance i1 ready\ninstance i2 ready");
        for (name, value) in [
            ("db", "hush"),
            ("db", "hush2"),
            ("json", r#"{"k": "v", "n": 7}"#),
            ("config:a.env", "A=file\nB=1\n#C=1\nB=2"),
            ("config:b.env", "B=3\nD=4"),
        ] {
            let value = SecretText::new(value.to_owned());
            let value = vault.seal(Sealed::Secret(name), &value).unwrap();
            let command = match world.state.secret(name) {
                None => SecretCommand::Create { name: name.into(), value },
                Some(_) => SecretCommand::PutValue { name: name.into(), value },
            };
            world.apply(Command::Secret(command)).unwrap();
        }
        (world, vault)
    }

    /// What the instance is told of a task with this `valueFrom`, placed on i1.
    fn told(from: &str, instance: &str) -> Result<String, String> {
        let (mut world, vault) = world();
        world.extend(&format!("definition web secret=A={from}\n{TASK}"));
        let (instance, task) = (world.instance(instance), world.task("t1"));
        let answer =
            opened(&world.state, &vault, instance, task).map_err(|error| error.to_string())?;
        let [web] = answer.containers.as_slice() else { return Err(format!("{answer:?}")) };
        Ok(web.environment[0].value.clone())
    }

    #[test]
    fn the_agent_of_the_tasks_instance_is_told_what_the_definition_names() {
        assert_eq!(told("db", "i1").unwrap(), "hush2", "the newest");
        assert_eq!(told("db:1", "i1").unwrap(), "hush");
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:json-AbC12f";
        assert_eq!(told(&format!("{arn}:k::"), "i1").unwrap(), "v");
        assert_eq!(told(&format!("{arn}:n::"), "i1").unwrap(), "7");
    }

    #[test]
    fn a_file_is_told_with_its_path() {
        let (mut world, vault) = world();
        world.extend(&format!("definition web file=/run/db=db:1 file=/run/k=json\n{TASK}"));
        let (instance, task) = (world.instance("i1"), world.task("t1"));
        let answer = opened(&world.state, &vault, instance, task).unwrap();
        let files = &answer.containers[0].files;
        let files: Vec<_> = files.iter().map(|file| (&*file.path, &*file.value)).collect();
        assert_eq!(files, [("/run/db", "hush"), ("/run/k", r#"{"k": "v", "n": 7}"#)]);
    }

    #[test]
    fn of_environment_files_the_first_wins_and_what_the_definition_says_before_them() {
        let (mut world, vault) = world();
        let files = "env-file=arn:aws:s3:::bucket/a.env env-file=config:b.env";
        world.extend(&format!("definition web secret=A=db {files}\n{TASK}"));
        let (instance, task) = (world.instance("i1"), world.task("t1"));
        let answer = opened(&world.state, &vault, instance, task).unwrap();
        let given = answer.containers[0].environment.iter();
        let given: Vec<_> = given.map(|pair| (&*pair.name, &*pair.value)).collect();
        assert_eq!(given, [("A", "hush2"), ("B", "1"), ("D", "4")]);
    }

    #[test]
    fn nobody_else_is_and_what_is_missing_is_named() {
        let error = told("db", "i2").unwrap_err();
        assert!(error.contains("not placed there"), "{error}");
        assert_eq!(told("api", "i1").unwrap_err(), "secret \"api\" not found");
        let error = told("db:3", "i1").unwrap_err();
        assert!(error.contains("\"db:3\"") && error.contains("1, 2"), "{error}");
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db:key::";
        let error = told(arn, "i1").unwrap_err();
        assert!(error.contains("\"key\"") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_task_that_is_not_to_run_any_more_is_given_nothing() {
        let (mut world, vault) = world();
        world.extend(&format!("definition web secret=A=db\n{TASK} running"));
        let (instance, task) = (world.instance("i1"), world.task("t1"));
        assert!(opened(&world.state, &vault, instance, task).is_ok());
        world.extend("stop t1");
        let error = opened(&world.state, &vault, instance, task).unwrap_err().to_string();
        assert!(error.contains("not to run"), "{error}");
        let unknown = opened(&world.state, &vault, instance, TaskId::from_bits(77));
        assert!(matches!(unknown, Err(Error::Denied { .. })), "{unknown:?}");
    }
}
