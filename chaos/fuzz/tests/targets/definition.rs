//! Task definitions as ECS's JSON.
//!
//! What passes strictly passes leniently and means the same; what is shown of it is accepted again
//! and is the same; what is registered can be described.

use super::world::world;
use super::{text, texts};
use muster_model::Command;
use muster_proto::json::{from_str_lenient, from_str_strict, to_value};
use muster_proto::{convert, pb, view};

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../../../proto/tests/data/definitions/minimal.json"),
        include_str!("../../../../proto/tests/data/definitions/sized.json"),
        include_str!("../../../../proto/tests/data/definitions/web.json"),
        include_str!("../../../../deploy/examples/web.json"),
        r#"{"family": "a", "containerDefinitions": [{"name": "a", "image": "a", "cpu": 1e3, "memory": -4}], "colour": {"deep": [[[[1]]]]}}"#,
    ])
}

#[test]
fn task_definition() {
    muster_fuzz::target("task_definition", seeds, |input| {
        let Some(text) = text(input) else { return };
        let strict = from_str_strict::<pb::RegisterTaskDefinitionRequest>(text);
        let lenient = from_str_lenient::<pb::RegisterTaskDefinitionRequest>(text);
        if let Ok(strict) = &strict {
            assert_eq!(lenient.as_ref().ok(), Some(strict), "strict and lenient differ");
            let shown = to_value(strict).to_string();
            let again = from_str_strict::<pb::RegisterTaskDefinitionRequest>(&shown);
            assert_eq!(again.as_ref(), Ok(strict), "{shown}");
        }
        if let Ok(request) = lenient {
            register(&request);
        }
    });
}

fn register(request: &pb::RegisterTaskDefinitionRequest) {
    let Ok(command) = convert::definition::register(request) else { return };
    let Command::RegisterTaskDefinition(spec) = &command else { panic!("{command:?}") };
    let spec = spec.clone();
    let mut world = world();
    if world.apply(command).is_ok() {
        let row = world.state.latest(&spec.family).expect("it was registered").clone();
        let shown = view::definition(&world.state, &row);
        assert_eq!(shown.family, spec.family);
        to_value(&shown);
    }
}
