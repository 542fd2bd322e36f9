//! Secrets: who makes them, what is shown of them, and how one ends.
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
