//! Messages that carry secrets in the clear: their `Debug` says which, and never what.
//!
//! Invariant: each message of `api/*.proto` with a secret's value in it is listed here and in
//! `build.rs`, which leaves out prost's own `Debug`.

use crate::{dispatch, pb};
use std::fmt;

impl fmt::Debug for pb::CreateSecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSecretRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for pb::PutSecretValueRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutSecretValueRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for dispatch::SecretVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretVariable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for dispatch::SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for dispatch::ContainerSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerSecrets")
            .field("container", &self.container)
            .field("environment", &self.environment)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_printed() {
        let hush = || "hush".to_owned();
        let create = pb::CreateSecretRequest { value: hush(), ..Default::default() };
        let put = pb::PutSecretValueRequest { value: hush(), ..Default::default() };
        let variable = dispatch::SecretVariable { name: "PASSWORD".into(), value: hush() };
        let file = dispatch::SecretFile { path: "/run/key".into(), value: hush() };
        let container = dispatch::ContainerSecrets {
            environment: vec![variable],
            files: vec![file],
            repository_credentials: Some(hush()),
            ..Default::default()
        };
        let answer = dispatch::TaskSecretsResponse { containers: vec![container] };
        let printed = format!("{create:?} {put:?} {answer:?}");
        let told = printed.contains("PASSWORD") && printed.contains("/run/key");
        assert!(told && !printed.contains("hush"), "{printed}");
    }
}
