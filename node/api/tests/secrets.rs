//! Secrets and configs: who makes them, what is shown of them, and how one ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_identity::{Sealed, Vault};
use muster_model::UserRole;
use muster_proto::pb;
use muster_proto::pb::operator_client::OperatorClient;
use support::{Bench, user};
use tonic::transport::Channel;
use tonic::{Code, Status};

type Operator = OperatorClient<Channel>;

async fn start() -> (Bench, Operator) {
    let mut bench = Bench::with_authority().await;
    bench.user("ann", UserRole::Operator).await;
    let operator = bench.operator(user("ann")).await;
    (bench, operator)
}

async fn create(operator: &mut Operator, value: &str, token: &str) -> Result<u64, Status> {
    let (name, value, client_token) = ("db".into(), value.into(), token.into());
    let request = pb::CreateSecretRequest { name, value, client_token };
    Ok(operator.create_secret(request).await?.into_inner().version)
}

async fn put(operator: &mut Operator, value: &str, token: &str) -> Result<u64, Status> {
    let (name, value, client_token) = ("db".into(), value.into(), token.into());
    let request = pb::PutSecretValueRequest { name, value, client_token };
    Ok(operator.put_secret_value(request).await?.into_inner().version)
}

/// What a version opens as.
fn value(bench: &Bench, version: u64) -> String {
    let state = bench.replica.state();
    let row = state.secret("db").unwrap();
    let vault = Vault::of(&state.meta().authority.key_pem).unwrap();
    let sealed = &row.version(Some(version)).unwrap().value;
    vault.open(Sealed::Secret("db"), sealed).unwrap().reveal().to_owned()
}

#[tokio::test]
async fn a_secret_is_made_changed_and_shown_without_its_values() {
    let (bench, mut operator) = start().await;
    assert_eq!(create(&mut operator, "hush\n", "").await.unwrap(), 1);
    assert_eq!(put(&mut operator, "hush2", "").await.unwrap(), 2);
    assert_eq!((value(&bench, 1), value(&bench, 2)), ("hush\n".into(), "hush2".into()));
    let list = pb::ListSecretsRequest { stale: false };
    let listed = operator.list_secrets(list).await.unwrap().into_inner().secrets;
    let describe = pb::DescribeSecretRequest { name: "db".into(), stale: false };
    let row = operator.describe_secret(describe.clone()).await.unwrap().into_inner().secret;
    let row = row.unwrap();
    assert_eq!(listed, std::slice::from_ref(&row));
    assert_eq!(row.versions.iter().map(|v| v.version).collect::<Vec<_>>(), [1, 2]);
    assert!(!format!("{:?}", bench.replica.state()).contains("hush"));

    let delete = pb::DeleteSecretRequest { name: "db".into(), client_token: String::new() };
    operator.delete_secret(delete.clone()).await.unwrap();
    let gone = operator.describe_secret(describe).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    assert!(gone.message().contains("muster secret list"), "{gone}");
    assert_eq!(operator.delete_secret(delete).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(put(&mut operator, "x", "").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_repeat_makes_no_second_version_and_another_value_under_its_token_is_refused() {
    let (bench, mut operator) = start().await;
    assert_eq!(create(&mut operator, "hush", "a").await.unwrap(), 1);
    assert_eq!(create(&mut operator, "hush", "a").await.unwrap(), 1);
    assert_eq!(put(&mut operator, "hush2", "b").await.unwrap(), 2);
    assert_eq!(put(&mut operator, "hush2", "b").await.unwrap(), 2);
    let refused = put(&mut operator, "hush3", "b").await.unwrap_err();
    assert!(refused.message().contains("token"), "{refused}");
    assert_eq!(value(&bench, 2), "hush2");
    let refused = create(&mut operator, "hush3", "a").await.unwrap_err();
    assert!(refused.message().contains("token"), "{refused}");
}

#[tokio::test]
async fn what_is_no_value_is_refused_and_not_quoted() {
    let (_bench, mut operator) = start().await;
    let long = "hush".repeat(16 * 1024 + 1);
    for (value, told) in [("", "1 to 65536"), (&*long, "65540 bytes"), ("hu\0sh", "NUL")] {
        let refused = create(&mut operator, value, "").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(told), "{refused}");
        assert!(!refused.message().contains("hush"), "{refused}");
    }
    let request = pb::CreateSecretRequest { name: "d b".into(), ..Default::default() };
    let refused = operator.create_secret(request).await.unwrap_err();
    assert!(refused.message().contains("name: \"d b\""), "{refused}");
}

async fn create_config(operator: &mut Operator, name: &str, value: &str) -> Result<u64, Status> {
    let (name, value) = (name.into(), value.into());
    let request = pb::CreateConfigRequest { name, value, client_token: String::new() };
    Ok(operator.create_config(request).await?.into_inner().version)
}

async fn get_config(operator: &mut Operator, version: Option<u64>) -> Result<String, Status> {
    let request = pb::GetConfigRequest { name: "app".into(), version, stale: false };
    Ok(operator.get_config(request).await?.into_inner().value)
}

#[tokio::test]
async fn a_config_is_read_again_and_is_kept_sealed_as_secrets_are() {
    let (mut bench, mut operator) = start().await;
    assert_eq!(create_config(&mut operator, "app", "level=info\n").await.unwrap(), 1);
    let (name, value) = ("app".into(), "level=warn\n".into());
    let put = pb::PutConfigValueRequest { name, value, client_token: String::new() };
    assert_eq!(operator.put_config_value(put).await.unwrap().into_inner().version, 2);
    bench.user("eve", UserRole::ReadOnly).await;
    let mut viewer = bench.operator(user("eve")).await;
    assert_eq!(get_config(&mut viewer, None).await.unwrap(), "level=warn\n");
    assert_eq!(get_config(&mut viewer, Some(1)).await.unwrap(), "level=info\n");
    let missing = get_config(&mut viewer, Some(3)).await.unwrap_err();
    let told = "version: \"3\" is not allowed; allowed: one of the versions that are kept: 1, 2";
    assert!(missing.message().contains(told), "{missing}");
    let denied = create_config(&mut viewer, "b", "x").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    assert!(!format!("{:?}", bench.replica.state()).contains("level="));

    let list = pb::ListConfigsRequest { stale: false };
    let listed = operator.list_configs(list).await.unwrap().into_inner().configs;
    assert_eq!(listed.iter().map(|row| &*row.name).collect::<Vec<_>>(), ["app"]);
    let delete = pb::DeleteConfigRequest { name: "app".into(), client_token: String::new() };
    operator.delete_config(delete).await.unwrap();
    let gone = get_config(&mut operator, None).await.unwrap_err();
    assert!(gone.message().contains("muster config list"), "{gone}");
}

#[tokio::test]
async fn neither_secrets_nor_configs_are_reached_as_the_other() {
    let (_bench, mut operator) = start().await;
    create(&mut operator, "hush", "").await.unwrap();
    create_config(&mut operator, "app", "x").await.unwrap();
    let get = |name: &str| pb::GetConfigRequest { name: name.into(), version: None, stale: false };
    assert_eq!(operator.get_config(get("db")).await.unwrap_err().code(), Code::NotFound);
    let listed = operator.list_secrets(pb::ListSecretsRequest { stale: false }).await.unwrap();
    assert_eq!(listed.into_inner().secrets.len(), 1);
    let name = || "config:app".to_owned();
    let describe = pb::DescribeSecretRequest { name: name(), stale: false };
    assert_eq!(operator.describe_secret(describe).await.unwrap_err().code(), Code::NotFound);
    let delete = pb::DeleteSecretRequest { name: name(), client_token: String::new() };
    assert_eq!(operator.delete_secret(delete).await.unwrap_err().code(), Code::InvalidArgument);
    for name in ["3", "a:b", ""] {
        let refused = create_config(&mut operator, name, "x").await.unwrap_err();
        assert!(refused.message().contains("digits alone"), "{refused}");
    }
    let refused = create_config(&mut operator, "big", &"x".repeat(65_537)).await.unwrap_err();
    assert!(refused.message().contains("1 to 65536 bytes"), "{refused}");
}
