//! The error table: every error survives the wire, and says what it should.

use muster_model::{Epoch, Error, Kind};
use muster_proto::error::{detail, ecs, face, from_status, to_status};
use tonic::{Code, Status};

const KINDS: [Kind; 19] = [
    Kind::Cluster,
    Kind::TaskDefinition,
    Kind::Service,
    Kind::Task,
    Kind::ContainerInstance,
    Kind::Manager,
    Kind::User,
    Kind::Deployment,
    Kind::AccessKey,
    Kind::Policy,
    Kind::Target,
    Kind::AgentUpdate,
    Kind::AccountSetting,
    Kind::CapacityProvider,
    Kind::Schedule,
    Kind::Secret,
    Kind::Alarm,
    Kind::TaskSet,
    Kind::Job,
];

fn every() -> Vec<Error> {
    let name = || "web".to_owned();
    let mut all = vec![
        Error::invalid("containerDefinitions[0].cpu", "-1", "0 to 10"),
        Error::invalid("desiredCount", "-1", "0 to 10"),
        Error::LimitExceeded { what: "clusters".into(), value: 3, limit: 2 },
        Error::TokenReused { resources: vec!["arn:a".into()] },
        Error::StaleEpoch { refused: Epoch(1), current: Epoch(u64::MAX) },
        Error::refused("no"),
        Error::Denied { principal: "user/a".into(), action: "create services".into() },
        Error::Unsupported { feature: "x".into(), instead: "y".into() },
        Error::Unavailable { why: "no leader".into() },
        Error::UnknownOutcome { why: "connection lost".into() },
        Error::Compacted { since: 1, oldest: 5 },
        Error::UpgradeRequired { what: "level 7".into() },
    ];
    for kind in KINDS {
        all.push(Error::NotFound { kind, name: name() });
        all.push(Error::Exists { kind, name: name() });
        all.push(Error::NotActive { kind, name: name() });
        all.push(Error::VersionMismatch { kind, name: name(), found: 2, expected: 1 });
        for what in ["2 services", "2 container instances", "2 tasks"] {
            all.push(Error::InUse { kind, name: name(), what: what.into() });
        }
    }
    all
}

#[test]
fn every_error_survives_the_way_through_a_status() {
    for error in every() {
        let status = to_status(&error);
        assert_eq!(from_status(&status), error, "{status:?}");
        let face = face(&error);
        assert_eq!((status.code(), status.message()), (face.code, face.message.as_str()));
        assert_ne!(face.code, Code::Ok);
        let detail = detail(&status).unwrap();
        assert_eq!(
            (detail.exception.as_str(), detail.http_status),
            (face.exception, face.http.into())
        );
    }
}

#[test]
fn a_hostile_text_is_cut_before_it_travels() {
    let error = Error::NotFound { kind: Kind::Service, name: "é".repeat(100_000) };
    let status = to_status(&error);
    assert!(status.details().len() < 8 * 1024, "{}", status.details().len());
    let many = Error::TokenReused { resources: vec!["arn:aws:ecs:x".repeat(100); 1000] };
    assert!(to_status(&many).details().len() < 16 * 1024);
    assert!(matches!(from_status(&status), Error::NotFound { kind: Kind::Service, .. }));
}

#[test]
fn a_status_of_somebody_else_becomes_the_nearest_error() {
    for (code, unknown) in
        [(Code::Unknown, true), (Code::Internal, true), (Code::Unavailable, false)]
    {
        let error = from_status(&Status::new(code, "transport error"));
        assert_eq!(matches!(error, Error::UnknownOutcome { .. }), unknown, "{error:?}");
        assert_eq!(matches!(error, Error::Unavailable { .. }), !unknown, "{error:?}");
    }
    let garbage = Status::with_details(Code::NotFound, "x", vec![0xff; 40].into());
    assert!(matches!(from_status(&garbage), Error::Refused { .. }));
}

#[test]
fn ecs_clients_get_ecs_names_and_words() {
    let says = |error: Error| {
        let face = face(&error);
        (face.exception, face.http, face.message)
    };
    let not_found = |kind| says(Error::NotFound { kind, name: "web".into() });
    let (exception, http, message) = not_found(Kind::Cluster);
    assert_eq!((exception, http), ("ClusterNotFoundException", 400));
    assert!(message.starts_with("Cluster not found."), "{message}");
    let (exception, _, message) = not_found(Kind::TaskDefinition);
    assert_eq!(exception, "ClientException");
    assert!(message.starts_with("Unable to describe task definition."), "{message}");
    assert_eq!(not_found(Kind::Service).0, "ServiceNotFoundException");
    let (exception, _, message) = says(Error::Exists { kind: Kind::Service, name: "web".into() });
    assert_eq!(exception, "InvalidParameterException");
    assert!(message.starts_with("Creation of service was not idempotent."), "{message}");
    let used = |kind, what: &str| says(Error::InUse { kind, name: "x".into(), what: what.into() });
    let instance = used(Kind::ContainerInstance, "2 tasks run on it");
    assert!(instance.2.starts_with("Found running tasks on the instance."));
    let service = used(Kind::Service, "3");
    assert!(service.2.starts_with("The service cannot be stopped while it is scaled above 0."));
    assert_eq!(used(Kind::Cluster, "it contains 2 services").0, "ClusterContainsServicesException");
    assert_eq!(says(Error::TokenReused { resources: vec![] }).0, "ConflictException");
    assert_eq!(says(Error::Unavailable { why: "x".into() }).1, 500);
    let over = says(Error::NotActive { kind: Kind::Deployment, name: "ecs-svc/1 of web".into() });
    assert_eq!(over.0, "ConflictException");
    assert!(over.2.contains("not ecs-svc/1 of web: see `muster service deployments`"), "{over:?}");
    assert_eq!(not_found(Kind::Resource).0, "ResourceNotFoundException");
}

#[test]
fn a_request_that_is_too_large_is_told_by_its_size_and_the_limit() {
    let text = "Error, decoded message length too large: found 5000000 bytes, the limit is: \
                4194304 bytes";
    let error = from_status(&Status::out_of_range(text));
    let what = "bytes of the message".to_owned();
    assert_eq!(error, Error::LimitExceeded { what, value: 5_000_000, limit: 4_194_304 });
    let other = from_status(&Status::out_of_range("grpc-timeout: bad"));
    assert_eq!(muster_proto::error::message(&other), "request: grpc-timeout: bad.");
}

/// Programs compare ECS's sentence, people read what stands behind it.
#[test]
fn what_people_read_begins_with_what_programs_compare() {
    for error in every() {
        let (sentence, message) = (ecs::message(&error), face(&error).message);
        let apart = matches!(error, Error::Invalid { .. } | Error::Unsupported { .. });
        let begins = message.starts_with(sentence.trim_end_matches('.'));
        assert!(apart || begins, "{message:?} does not begin {sentence:?}");
    }
    let missing = Error::NotFound { kind: Kind::Service, name: "web".into() };
    assert_eq!(ecs::message(&missing), "Service not found.");
    assert_eq!(face(&missing).message, "Service not found. \"web\": see `muster service list`.");
    let target = Error::NotFound { kind: Kind::Target, name: "i".into() };
    assert_eq!(ecs::message(&target), "The specified target wasn't found.");
}
