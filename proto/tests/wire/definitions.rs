//! Task definitions in ECS's form: read, registered, shown, and read again, nothing lost.

use crate::world::World;
use muster_proto::json::{from_str_strict, to_value};
use muster_proto::{arn, convert, pb, view};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;

const FILES: [(&str, &str); 3] = [
    ("web", include_str!("../data/definitions/web.json")),
    ("sleep", include_str!("../data/definitions/minimal.json")),
    ("batch-job", include_str!("../data/definitions/sized.json")),
];

#[test]
fn what_was_registered_is_shown_and_registers_again() {
    for (family, text) in FILES {
        let mut world = World::empty();
        let request: pb::RegisterTaskDefinitionRequest = from_str_strict(text).unwrap();
        let spec = convert::definition::checked(&request).unwrap();
        world.apply(convert::definition::register(&request).unwrap()).unwrap();
        let row = arn::definition(&world.state, family).unwrap();
        let shown = view::definition(&world.state, row);
        let mut again = to_value(&shown);
        let members = again.as_object_mut().unwrap();
        for answered in [
            "taskDefinitionArn",
            "revision",
            "status",
            "compatibilities",
            "requiresAttributes",
            "registeredAt",
            "registeredBy",
        ] {
            assert!(members.remove(answered).is_some(), "{family}: no {answered}");
        }
        // ECS answers tags beside the definition, not in it.
        let tags: Vec<Value> = view::tags(&row.spec.tags).iter().map(to_value).collect();
        members.insert("tags".into(), Value::Array(tags));
        let request: pb::RegisterTaskDefinitionRequest =
            from_str_strict(&again.to_string()).unwrap();
        assert_eq!(convert::definition::checked(&request).unwrap(), spec, "{family}");
    }
}

/// Every value of the file stands in the answer, except sizes that ECS normalises.
#[test]
fn nothing_of_a_file_is_lost() {
    for (family, text) in FILES {
        let mut world = World::empty();
        let request: pb::RegisterTaskDefinitionRequest = from_str_strict(text).unwrap();
        world.apply(convert::definition::register(&request).unwrap()).unwrap();
        let row = arn::definition(&world.state, family).unwrap();
        let shown = to_value(&view::definition(&world.state, row));
        let mut asked: Value = serde_json::from_str(text).unwrap();
        let members = asked.as_object_mut().unwrap();
        members.remove("tags");
        for (size, normalised) in [("cpu", "512"), ("memory", "1024")] {
            if members.contains_key(size) {
                assert_eq!(shown[size], normalised);
                members.remove(size);
            }
        }
        within("", &asked, &shown);
    }
}

fn within(path: &str, asked: &Value, shown: &Value) {
    match (asked, shown) {
        (Value::Object(asked), Value::Object(shown)) => {
            for (name, asked) in asked {
                let path = format!("{path}.{name}");
                match shown.get(name) {
                    Some(shown) => within(&path, asked, shown),
                    None => assert!(
                        asked.is_null()
                            || asked == &Value::Bool(false)
                            || asked == &Value::Array(vec![]),
                        "{path} is lost"
                    ),
                }
            }
        }
        (Value::Array(asked), Value::Array(shown)) if path.ends_with("environment") => {
            // Kept by name: the order of variables means nothing.
            assert!(asked.iter().all(|asked| shown.contains(asked)), "{path}: {asked:?} {shown:?}");
        }
        (Value::Array(asked), Value::Array(shown)) => {
            assert_eq!(asked.len(), shown.len(), "{path}");
            for (index, (asked, shown)) in asked.iter().zip(shown).enumerate() {
                within(&format!("{path}[{index}]"), asked, shown);
            }
        }
        (asked, shown) => assert_eq!(asked, shown, "{path}"),
    }
}

#[test]
fn a_definition_has_64_kib_at_most() {
    let mut request: pb::RegisterTaskDefinitionRequest = from_str_strict(FILES[1].1).unwrap();
    let labels = &mut request.container_definitions[0].docker_labels;
    labels.extend((0..8).map(|n| (n.to_string(), "x".repeat(8 * 1024))));
    let error = convert::definition::checked(&request).unwrap_err().to_string();
    assert!(error.contains("at most 65536 bytes"), "{error}");
}

#[test]
fn times_are_shown_to_the_millisecond() {
    let mut world = World::empty();
    let request: pb::RegisterTaskDefinitionRequest = from_str_strict(FILES[1].1).unwrap();
    world.apply(convert::definition::register(&request).unwrap()).unwrap();
    let mut row = (**arn::definition(&world.state, "sleep").unwrap()).clone();
    row.registered_at = muster_model::Time(1_704_067_200_250);
    let shown = to_value(&view::definition(&world.state, &row));
    assert_eq!(shown["registeredAt"].to_string(), "1704067200.25");
}

fn again(world: &World, family: &str) -> pb::RegisterTaskDefinitionRequest {
    let row = arn::definition(&world.state, family).unwrap();
    let shown = view::definition(&world.state, row);
    pb::RegisterTaskDefinitionRequest {
        family: shown.family,
        container_definitions: shown.container_definitions,
        network_mode: shown.network_mode,
        cpu: shown.cpu,
        memory: shown.memory,
        volumes: shown.volumes,
        placement_constraints: shown.placement_constraints,
        requires_compatibilities: shown.requires_compatibilities,
        task_role_arn: shown.task_role_arn,
        execution_role_arn: shown.execution_role_arn,
        tags: view::tags(&row.spec.tags),
        client_token: String::new(),
        runtime_platform: shown.runtime_platform,
        pid_mode: shown.pid_mode,
        ipc_mode: shown.ipc_mode,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes of a good request, damaged: refused or taken, and what is taken can be shown and
    /// taken again.
    #[test]
    fn what_is_accepted_survives_being_shown(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
    ) {
        let request: pb::RegisterTaskDefinitionRequest = from_str_strict(FILES[0].1).unwrap();
        let mut bytes = request.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let decoded = pb::RegisterTaskDefinitionRequest::decode(bytes.as_slice());
        let spec = decoded.map(|request| convert::definition::checked(&request));
        if let Ok(Ok(spec)) = spec {
            let mut world = World::empty();
            let command = muster_model::Command::RegisterTaskDefinition(spec.clone().into());
            world.apply(command).unwrap();
            let request = again(&world, &spec.family);
            prop_assert_eq!(convert::definition::checked(&request).unwrap(), spec);
        }
    }
}
