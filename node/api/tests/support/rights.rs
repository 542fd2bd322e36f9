//! Whatever runs tasks in the name of who asked for it needs what RunTask needs, too.

use super::{Bench, user};
use muster_model::{Command, Holder, UserRole};
use muster_proto::pb::live_client::LiveClient;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A user who has no rights but a policy's is refused until that allows `action` and RunTask.
pub async fn needs_run_task<T>(
    mut bench: Bench,
    action: &str,
    ask: impl AsyncFn(&mut LiveClient<Channel>) -> Result<T, Status>,
) {
    bench.user("rex", UserRole::Restricted).await;
    let mut live = bench.live(user("rex")).await;
    for (actions, expected) in [
        (r#""muster:*""#.to_owned(), "ecs:RunTask"),
        (r#""ecs:RunTask""#.to_owned(), action),
        (format!(r#"["{action}", "ecs:RunTask"]"#), ""),
    ] {
        let (holder, name) = (Holder::User("rex".into()), "p".into());
        let allow = r#""Effect": "Allow", "Resource": "*""#;
        let document = format!(r#"{{"Statement": {{{allow}, "Action": {actions}}}}}"#);
        let document: Arc<str> = document.into();
        bench.commit(Command::PutPolicy { holder, name, document }).await;
        match ask(&mut live).await {
            Ok(_) => assert_eq!(expected, "", "{actions}"),
            Err(denied) => {
                assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
                let told = denied.message();
                assert!(!expected.is_empty() && told.contains(expected), "{actions}: {told}");
            }
        }
    }
}
