//! JSON: what is refused and how, what is written, and that no text makes it panic.

use muster_model::Error;
use muster_proto::json::{self, from_str_lenient, from_str_strict, to_value};
use muster_proto::pb;
use muster_proto::pb::RegisterTaskDefinitionRequest as Register;
use proptest::prelude::*;

fn refused(text: &str) -> String {
    from_str_strict::<Register>(text).unwrap_err().to_string()
}

#[test]
fn an_unknown_field_is_named_with_its_path_and_the_nearest_known_one() {
    assert_eq!(
        refused(r#"{"containerDefinitions": [{"name": "a"}, {"imgae": "x"}]}"#),
        "containerDefinitions[1].imgae: \"imgae\" is not allowed; allowed: the fields of \
         ContainerDefinition, the nearest is \"image\" (--lenient ignores others)"
    );
    let far = refused(r#"{"containerDefinitions": [{"portMappings": [{"zzzzzzzzz": 1}]}]}"#);
    assert!(far.contains("they are containerPort, hostPort, protocol, name"), "{far}");
    assert!(refused(r#"{"networkmode": "host"}"#).contains("the nearest is \"networkMode\""));
}

#[test]
fn what_ecs_has_and_muster_does_not_is_said_so_unless_it_asks_for_nothing() {
    let text = r#"{"containerDefinitions": [{"firelensConfiguration": {"type": "fluentbit"}}]}"#;
    let error = from_str_strict::<Register>(text).unwrap_err();
    let Error::Unsupported { feature, instead } = &error else { panic!("{error:?}") };
    assert_eq!(feature, "containerDefinitions[0].firelensConfiguration");
    let why = "log routers are not built: logs are kept by the agent; leave it out";
    assert_eq!(*instead, format!("{why}, or pass --lenient to have it ignored"));
    let error = json::from_ecs::<Register>(text.as_bytes()).unwrap_err();
    let Error::Unsupported { instead, .. } = &error else { panic!("{error:?}") };
    assert_eq!(instead, why);
    let empty = r#"{"containerDefinitions": [{"healthCheck": null, "links": [], "privileged": false,
        "volumesFrom": [], "secrets": []}], "pidMode": "", "proxyConfiguration": {}}"#;
    from_str_strict::<Register>(empty).unwrap();
    json::from_ecs::<Register>(empty.as_bytes()).unwrap();
}

#[test]
fn what_is_done_anyhow_may_be_asked_for() {
    let asks = |text: &str| json::from_ecs::<pb::UpdateServiceRequest>(text.as_bytes()).is_err();
    for (text, refused) in [
        (r#"{"deploymentController": {"type": "ECS"}}"#, false),
        (r#"{"monitoring": {"metricConfigurations": []}}"#, false),
        (r#"{"platformVersion": "LATEST"}"#, true),
        (r#"{"deploymentConfiguration": {"strategy": "ROLLING", "bakeTimeInMinutes": 0}}"#, false),
        (r#"{"deploymentConfiguration": {"bakeTimeInMinutes": 5}}"#, false),
        (r#"{"deploymentConfiguration": {"earlySuccessCriteria": {"type": "A"}}}"#, true),
        (r#"{"deploymentConfiguration": {"alarms": {"enable": false}}}"#, false),
        (r#"{"deploymentConfiguration": {"alarms": {"enable": true}}}"#, false),
        (r#"{"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": true}}}"#, false),
    ] {
        assert_eq!(asks(text), refused, "{text}");
    }
}

#[test]
fn what_tells_and_does_not_ask_is_ignored() {
    let told = br#"{"versionInfo": {"agentVersion": "1.9", "dockerVersion": "26"},
        "totalResources": [{"name": "CPU", "doubleValue": 0.0, "longValue": 0, "integerValue": 8}]}"#;
    let request: pb::RegisterContainerInstanceRequest = json::from_ecs(told).unwrap();
    assert_eq!(request.version_info.unwrap().agent_version, "1.9");
    assert_eq!(request.total_resources[0].integer_value, 8);
}

#[test]
fn what_only_answers_carry_is_said_so() {
    let error = refused(r#"{"revision": 3}"#);
    assert!(error.contains("revision is set by the cluster"), "{error}");
}

#[test]
fn lenient_ignores_unknown_fields_and_nothing_else() {
    let text = r#"{"family": "a", "fmaily": 1, "containerDefinitions": [{"firelensConfiguration": {"x": 1}}]}"#;
    let request = from_str_lenient::<Register>(text).unwrap();
    assert_eq!(request.family, "a");
    assert_eq!(request.container_definitions.len(), 1);
    assert!(from_str_lenient::<Register>(r#"{"family": 1}"#).is_err());
    assert!(from_str_lenient::<Register>(r#"{"family": "a", "family": "b"}"#).is_err());
}

#[test]
fn a_wrong_type_names_path_value_and_what_is_allowed() {
    for (text, error) in [
        (
            r#"{"containerDefinitions": [{"cpu": "256"}]}"#,
            "containerDefinitions[0].cpu: \"256\" is not allowed; allowed: a whole number from \
             -2147483648 to 2147483647",
        ),
        (r#"{"family": 7}"#, "family: \"7\" is not allowed; allowed: a string"),
        (
            r#"{"containerDefinitions": [{"essential": "yes"}]}"#,
            "containerDefinitions[0].essential: \"yes\" is not allowed; allowed: true or false",
        ),
        (
            r#"{"containerDefinitions": {"name": "a"}}"#,
            "containerDefinitions: \"an object\" is not allowed; allowed: a list of objects \
             (ContainerDefinition)",
        ),
        (
            r#"{"containerDefinitions": [[]]}"#,
            "containerDefinitions[0]: \"a list\" is not allowed; allowed: an object \
             (ContainerDefinition)",
        ),
        (
            r#"{"containerDefinitions": [{"dockerLabels": {"a": 1}}]}"#,
            "containerDefinitions[0].dockerLabels.a: \"1\" is not allowed; allowed: a string",
        ),
        (
            r#"{"containerDefinitions": [{"command": ["a", 2]}]}"#,
            "containerDefinitions[0].command[1]: \"2\" is not allowed; allowed: a string",
        ),
        (
            r#"{"containerDefinitions": [{"cpu": 1.5}]}"#,
            "containerDefinitions[0].cpu: \"1.5\" is not allowed; allowed: a whole number from \
             -2147483648 to 2147483647",
        ),
        (
            r#"{"containerDefinitions": [{"memory": 99999999999}]}"#,
            "containerDefinitions[0].memory: \"99999999999\" is not allowed; allowed: a whole \
             number from -2147483648 to 2147483647",
        ),
        (
            "[]",
            "document: \"a list\" is not allowed; allowed: an object \
             (RegisterTaskDefinitionRequest)",
        ),
    ] {
        assert_eq!(refused(text), error);
    }
}

#[test]
fn a_list_with_null_in_it_is_refused_like_any_wrong_type() {
    assert!(refused(r#"{"requiresCompatibilities": [null]}"#).contains("[0]: \"null\""));
}

#[test]
fn names_given_twice_are_refused_with_their_path() {
    assert_eq!(
        refused(r#"{"containerDefinitions": [{"name": "a", "name": "b"}]}"#),
        "containerDefinitions[0].name: \"given twice\" is not allowed; allowed: each name once"
    );
}

#[test]
fn syntax_errors_name_line_and_column() {
    for text in ["", "{", "{\"family\": }", "{\"family\": \"a\"} x", "nul", "{\"a\": 1e999}"] {
        let error = refused(text);
        // The place is the field: the parser's own text, which names it too, is only the value.
        assert!(error.starts_with("line 1 column "), "{text:?}: {error}");
    }
}

#[test]
fn deep_nesting_and_size_are_bounded() {
    let deep = "[".repeat(100_000);
    assert!(refused(&deep).contains("at most 32 levels"), "{}", refused(&deep));
    let wide = format!("{{\"x\": \"{}\"}}", "a".repeat(json::BYTES_MAX));
    assert!(refused(&wide).contains("at most 4194304 bytes"));
}

#[test]
fn lists_that_clients_index_are_written_even_if_empty_and_others_are_not() {
    let shown = to_value(&pb::ContainerDefinition::default());
    for always in ["portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"] {
        assert_eq!(shown[always], serde_json::json!([]), "{always}");
    }
    for absent in ["command", "entryPoint", "memory", "user", "linuxParameters", "dockerLabels"] {
        assert!(shown.get(absent).is_none(), "{absent}");
    }
    assert_eq!(shown["cpu"], 0);
    let shown = to_value(&pb::Service::default());
    for always in [
        "loadBalancers",
        "serviceRegistries",
        "events",
        "deployments",
        "placementConstraints",
        "placementStrategy",
    ] {
        assert_eq!(shown[always], serde_json::json!([]), "{always}");
    }
    let shown = to_value(&pb::Cluster::default());
    for always in
        ["tags", "settings", "statistics", "capacityProviders", "defaultCapacityProviderStrategy"]
    {
        assert_eq!(shown[always], serde_json::json!([]), "{always}");
    }
    let shown = to_value(&pb::TaskDefinition::default());
    for always in ["volumes", "placementConstraints", "compatibilities"] {
        assert_eq!(shown[always], serde_json::json!([]), "{always}");
    }
    assert_eq!(
        to_value(&pb::DescribeTasksResponse::default()).to_string(),
        r#"{"failures":[],"tasks":[]}"#
    );
    assert_eq!(to_value(&pb::ListTagsForResourceResponse::default()).to_string(), r#"{"tags":[]}"#);
}

#[test]
fn names_are_ecs_own_where_camel_case_differs() {
    let binding = to_value(&pb::NetworkBinding { bind_ip: "0.0.0.0".into(), ..Default::default() });
    assert_eq!(binding["bindIP"], "0.0.0.0");
    let instance =
        to_value(&pb::ContainerInstance { ec2_instance_id: "w1".into(), ..Default::default() });
    assert_eq!(instance["ec2InstanceId"], "w1");
}

#[test]
fn times_are_epoch_seconds_with_a_fraction() {
    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let task = pb::Task { started_at: time(1_704_067_201, 500_000_000), ..Default::default() };
    let shown = to_value(&task);
    assert_eq!(shown["startedAt"].to_string(), "1704067201.5");
    assert!(shown.get("stoppedAt").is_none());
    let event: pb::ServiceEvent = from_str_strict(r#"{"createdAt": 1704067201.25}"#).unwrap();
    assert_eq!(event.created_at, time(1_704_067_201, 250_000_000));
    let event: pb::ServiceEvent = from_str_strict(r#"{"createdAt": 1704067201}"#).unwrap();
    assert_eq!(event.created_at, time(1_704_067_201, 0));
    for extreme in ["1e300", "-1e300", "-0.5"] {
        from_str_strict::<pb::ServiceEvent>(&format!(r#"{{"createdAt": {extreme}}}"#)).unwrap();
    }
}

#[test]
fn a_watched_change_is_one_row_by_its_kind() {
    use pb::watch_response::{Change, change::Row};
    let row = Some(Row::RemovedArn("arn:x".into()));
    let response = pb::WatchResponse { changes: vec![Change { row }], ..Default::default() };
    assert_eq!(to_value(&response)["changes"][0].to_string(), r#"{"removedArn":"arn:x"}"#);
}

#[test]
fn a_log_line_is_text_whatever_the_container_wrote() {
    let line = prost::bytes::Bytes::from_static(b"caf\xc3\xa9 \xff");
    let shown = to_value(&pb::LogsResponse { line, ..Default::default() });
    assert_eq!(shown["line"], "café \u{fffd}");
}

/// Text that looks like a task definition, broken in all kinds of ways.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "[a-z:/ ]{0,8}".prop_map(|s| format!("{s:?}")),
    ];
    let name = prop_oneof![
        Just("containerDefinitions"),
        Just("family"),
        Just("name"),
        Just("portMappings"),
        Just("memory"),
        Just("volumes"),
        Just("host"),
        Just("healthCheck"),
        Just("dockerLabels"),
        Just("linuxParameters"),
        Just("nmae"),
        Just(""),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec((name.clone(), inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        let _ = from_str_strict::<Register>(&text);
        let _ = from_str_lenient::<pb::CreateServiceRequest>(&text);
    }

    #[test]
    fn no_document_makes_it_panic(text in document()) {
        if let Ok(request) = from_str_lenient::<Register>(&text) {
            let _ = muster_proto::convert::definition::register(&request);
        }
        let _ = from_str_strict::<Register>(&text);
        let _ = from_str_strict::<pb::RunTaskRequest>(&text);
        let _ = from_str_strict::<pb::WatchResponse>(&text);
    }

    /// What the schema lets through, serde decodes: the derived decoder's own errors never show.
    #[test]
    fn what_passes_the_check_decodes(text in document()) {
        if let Err(error) = from_str_lenient::<Register>(&text) {
            prop_assert!(!error.to_string().contains("its ECS JSON form"), "{error}");
        }
    }
}

/// ECS's clients index the ports; a number has no ports beside it.
#[test]
fn a_set_of_ports_is_written_though_it_is_empty() {
    let row = |name: &str, kind: &str| pb::InstanceResource {
        name: name.into(),
        r#type: kind.into(),
        ..pb::InstanceResource::default()
    };
    let written = |name, kind| to_value(&row(name, kind));
    let ports = serde_json::json!({
        "name": "PORTS_UDP", "type": "STRINGSET", "integerValue": 0, "stringSetValue": []
    });
    assert_eq!(written("PORTS_UDP", "STRINGSET"), ports);
    let cpu = serde_json::json!({ "name": "CPU", "type": "INTEGER", "integerValue": 0 });
    assert_eq!(written("CPU", "INTEGER"), cpu);
}
