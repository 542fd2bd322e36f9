//! Short texts from people, requests and headers: tokens, digests, image references, ARNs, ids,
//! times, pages, networks.
//!
//! What has one spelling is written as it was read.

use super::world::world;
use super::{text, texts};
use http::HeaderValue;
use muster_agent::image::ImageReference;
use muster_agent::network::addresses::Subnet;
use muster_api::{deadline, page};
use muster_identity::{CaDigest, JoinRole, JoinToken, user_name_allowed};
use muster_model::secret::check_name;
use muster_model::{Error, SecretReference, TaskId, config, environment_file};
use muster_proto::{arn, convert};

fn token() -> JoinToken {
    JoinToken::with_secret(JoinRole::Worker, CaDigest::of_der(b"a cluster"), [7; 16])
}

#[test]
fn join_token() {
    let seeds = || {
        let token = token().reveal();
        texts(&[&token, &token.replace("wkr", "mgr"), &format!(" {token}\n"), "MUSTER-2-mgr-a-b"])
    };
    muster_fuzz::target("join_token", seeds, |input| {
        let Some(text) = text(input) else { return };
        match text.parse::<JoinToken>() {
            Ok(token) => assert_eq!(token.reveal(), text.trim()),
            // An error never quotes what may be a secret: hex digits at the end.
            Err(why) => {
                let told = why.to_string();
                let secret = text.trim().rsplit('-').next().unwrap_or_default();
                let hex = secret.len() >= 16 && secret.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(!hex || !told.contains(secret), "{told}");
            }
        }
        if let Ok(digest) = text.parse::<CaDigest>() {
            assert_eq!(digest.to_string(), text);
        }
    });
}

#[test]
fn image_reference() {
    let seeds = || {
        texts(&[
            "nginx",
            "127.0.0.1:5055/lab/bb:1",
            "busybox@sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7",
            "oci-layout:/images/batch:latest",
            "oci-archive:/a:b/i.tar",
        ])
    };
    muster_fuzz::target("image_reference", seeds, |input| {
        let Some(text) = text(input) else { return };
        let Ok(reference) = ImageReference::parse(text) else { return };
        reference.digest();
        let written = reference.to_string();
        // The name as Docker spells it out may be longer than what a definition may say.
        if written.len() <= 1024 {
            assert_eq!(ImageReference::parse(&written).ok(), Some(reference), "{written}");
        }
    });
}

#[test]
fn resource_name() {
    let seeds = || {
        let arn = |rest: &str| format!("arn:aws:ecs:local:000000000000:{rest}");
        texts(&[
            &arn("cluster/default"),
            &arn("service/default/web"),
            &arn("task/default/00000000000000000000000000000001"),
            &arn("task-definition/web:1"),
            &arn("container-instance/default/00000000000000000000000000000001"),
            "web:1",
            "service/web",
            "i1",
        ])
    };
    muster_fuzz::target("resource_name", seeds, |input| {
        let Some(text) = text(input) else { return };
        let world = world();
        let state = &world.state;
        let default = arn::cluster(state, "").expect("every world has it");
        let _ = arn::cluster_or_deleted(state, text);
        let _ = arn::service_or_deleted(state, default, text);
        let _ = arn::instance(state, default, text);
        let _ = arn::family(state, text);
        let _ = arn::resource(state, text);
        // What a name finds, the ARN written of it finds as well.
        let arns = arn::Arns::of(state);
        if let Ok(cluster) = arn::cluster(state, text) {
            assert_eq!(arn::cluster(state, &arns.cluster(&cluster.name)), Ok(cluster));
        }
        if let Ok(service) = arn::service(state, default, text) {
            let written = arns.service(&default.name, &service.spec.name);
            assert_eq!(arn::service(state, default, &written), Ok(service));
        }
        if let Ok(task) = arn::task(state, default, text) {
            let written = arns.task(&default.name, task.id);
            assert_eq!(arn::task(state, default, &written), Ok(task));
        }
        if let Ok(row) = arn::definition(state, text) {
            let written = arns.definition(&row.spec.family, row.revision);
            assert_eq!(arn::definition(state, &written), Ok(row));
        }
    });
}

#[test]
fn secret_reference() {
    let seeds = || {
        texts(&[
            "prod/db",
            "/prod/db:3",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbC12f:password::2",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db::AWSCURRENT:",
            "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db",
            "config:prod/app.env:1",
        ])
    };
    muster_fuzz::target("secret_reference", seeds, |input| {
        let Some(text) = text(input) else { return };
        let Ok(reference) = text.parse::<SecretReference>() else { return };
        // It is looked up by names that a secret may have, and is missing under what was written.
        let missing = reference.find(|name| {
            let allowed = match config::name_of(name) {
                Some(name) => config::check_name("name", name),
                None => check_name("name", name),
            };
            assert_eq!(allowed, Ok(()));
            None
        });
        let Err(Error::NotFound { name, .. }) = missing else { panic!("{missing:?}") };
        assert!(
            name.strip_prefix('/').is_some_and(|name| text.contains(name)) || text.contains(&name)
        );
        assert!(reference.version.is_none_or(|number| number > 0));
    });
}

#[test]
fn environment_file() {
    let seeds = || {
        texts(&[
            "arn:aws:s3:::settings/prod/app.env",
            "config:prod/app.env:2",
            "# of production\nLEVEL=info\r\nURL=http://a/?b=c\nEMPTY=\n",
        ])
    };
    muster_fuzz::target("environment_file", seeds, |input| {
        let Some(text) = text(input) else { return };
        // The text of one: each variable stands in it as one line does.
        for (name, value) in environment_file::variables(text) {
            assert!(!name.is_empty() && !value.is_empty() && !name.contains('='));
            assert!(!name.starts_with('#') && text.contains(&format!("{name}={value}")));
        }
        // The value of one: it is looked up as a config, and as no secret.
        let Ok(reference) = environment_file::reference(text) else { return };
        let missing = reference.find(|name| {
            let config = config::name_of(name).expect("a config");
            assert_eq!(config::check_name("name", config), Ok(()));
            None
        });
        assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    });
}

#[test]
fn small_text() {
    let seeds = || {
        texts(&[
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "99999999H",
            "100m",
            "dGFza3MKNw",
            "10.88.1.0/24",
            "client-token-1",
            "0123456789abcdef0123456789abcdef",
            "ann@example",
        ])
    };
    muster_fuzz::target("small_text", seeds, |input| {
        if let Ok(header) = HeaderValue::from_bytes(input) {
            let now = tokio::time::Instant::now();
            if let Ok(at) = deadline::of(Some(&header), now) {
                assert!(at >= now && at - now <= muster_api::limits::DEADLINE_MAX);
            }
            deadline::trace_parent(&header);
        }
        let Some(text) = text(input) else { return };
        if let Ok(page) = page::Page::new("tasks", text, 7) {
            page.take(std::iter::once((text.to_owned(), 1)));
        }
        if let Ok(subnet) = text.parse::<Subnet>() {
            let written = subnet.to_string().parse::<Subnet>();
            assert!(written == Ok(subnet) && subnet.contains(subnet.gateway()));
        }
        if let Ok(id) = text.parse::<TaskId>() {
            assert_eq!(id.to_string(), text.to_ascii_lowercase());
        }
        let _ = convert::request_id(text);
        let _ = convert::operator::token_role(text);
        let _ = convert::operator::user_role(text);
        let _ = convert::policy::document(text);
        // Who the API lets in, a certificate can name, and the other way round.
        if user_name_allowed(text).is_ok() {
            assert_eq!(convert::operator::user_name(text), Ok(()));
        }
    });
}
