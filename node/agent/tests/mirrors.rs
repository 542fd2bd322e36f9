//! Pulling in a network that reaches no public registry: from the mirrors of the configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::registry::Registry;
use lab::{image_dir, isolated, lab_with, script, sh, task};
use muster_agent::image::{
    Credentials, Image, LayerLimits, PullBehavior, Registries, Store, mirror,
};
use muster_model::spec::NetworkMode;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const HERE: &str = "127.0.0.1:5000";

/// Mirrors as an agent's configuration has them.
fn registries(mirrors: &[(&str, &str)]) -> Registries {
    let own = |(name, url): &(&str, &str)| ((*name).to_owned(), (*url).to_owned());
    let pairs: Vec<_> = mirrors.iter().map(own).collect();
    Registries {
        mirrors: mirror::read(&mirror::gather(&pairs), &[]).unwrap(),
        ..Registries::default()
    }
}

fn store(dir: &Path, registries: Registries) -> Arc<Store> {
    let behavior = PullBehavior::Default;
    Arc::new(Store::open(dir, registries, behavior, LayerLimits::STANDARD).unwrap())
}

async fn pull(store: &Arc<Store>, name: &str) -> Result<Image, String> {
    let pulled = store.pull(name, None).await;
    pulled.map(|pulled| pulled.image).map_err(|e| e.to_string())
}

/// Runs a test in a network of its own, where no name can be looked up, with a directory.
fn closed<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F + Send) {
    image_dir();
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(test(dir.path().to_owned()));
    });
}

#[test]
fn a_container_of_a_public_name_runs_from_a_mirror() {
    let change = |config: &mut muster_agent::runtime::RuntimeConfig| {
        config.registries = registries(&[("docker.io", "http://127.0.0.1:5000")]);
    };
    lab_with(change, |mut lab| async {
        let registry = Registry::start(HERE, None).await;
        registry.push("bb", "library/busybox:latest", "");
        let mut main = script("main", "echo from a mirror");
        main.image = "busybox".to_owned();
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!((exit.exit_code, log.as_str()), (Some(0), "from a mirror\n"));
        lab
    });
}

#[test]
fn each_registry_has_mirrors_of_its_own_below_a_path_or_not() {
    closed(|dir| async move {
        let registry = Registry::start(HERE, None).await;
        registry.push("bb", "docker/library/httpd:latest", "");
        registry.push("bb", "proxy/hub/library/busybox:1", "");
        let mirrors = [
            ("public.ecr.aws", "http://127.0.0.1:5000"),
            ("docker.io", "http://127.0.0.1:5000/proxy/hub"),
        ];
        let store = store(&dir, registries(&mirrors));
        let httpd = pull(&store, "public.ecr.aws/docker/library/httpd:latest").await.unwrap();
        assert_eq!(httpd.reference, "public.ecr.aws/docker/library/httpd:latest");
        let busybox = pull(&store, "busybox:1").await.unwrap();
        assert_eq!(busybox.reference, "docker.io/library/busybox:1");
        // By digest too, and still checked against it.
        let pinned = format!("docker.io/library/busybox@{}", busybox.digest);
        assert_eq!(pull(&store, &pinned).await.unwrap().digest, busybox.digest);
    });
}

#[test]
fn the_next_mirror_is_asked_and_never_the_registry_itself() {
    closed(|dir| async move {
        let mut registry = Registry::start(HERE, None).await;
        registry.push("bb", "library/busybox:1", "");
        let mirrors = [
            ("docker.io", "http://127.0.0.1:5999"), // nobody listens
            ("docker.io", "http://127.0.0.1:5000/empty"),
            ("docker.io", "http://127.0.0.1:5000"),
        ];
        let store = store(&dir, registries(&mirrors));
        let first = pull(&store, "busybox:1").await.unwrap();
        let error = pull(&store, "busybox:2").await.unwrap_err();
        assert!(error.starts_with("CannotPullContainerError: "), "{error}");
        for (_, mirror) in mirrors {
            assert!(error.contains(&format!("mirror {mirror}: ")), "{error}");
        }
        assert!(!error.contains("index.docker.io"), "{error}");
        // Mirrors that are down are stood in for by the cache, as registries are.
        registry.stop();
        assert_eq!(pull(&store, "busybox:1").await.unwrap(), first);
    });
}

#[test]
fn what_no_mirror_has_is_said_to_be_missing() {
    closed(|dir| async move {
        let _registry = Registry::start(HERE, None).await;
        let store = store(&dir, registries(&[("docker.io", "http://127.0.0.1:5000")]));
        let error = pull(&store, "busybox").await.unwrap_err();
        assert!(error.starts_with("CannotPullImageManifestError: "), "{error}");
        assert!(error.contains("mirror http://127.0.0.1:5000: "), "{error}");
    });
}

#[test]
fn a_mirror_gets_its_own_credentials_and_never_those_of_the_registry() {
    closed(|dir| async move {
        let hash =
            sh("perl -e 'print crypt(\"pw\", \"\\$2y\\$05\\$\" . \"abcdefghijklmnopqrstuu\")'");
        let registry = Registry::start(HERE, Some(&format!("lab:{hash}\n"))).await;
        registry.push("bb", "library/busybox:1", "--dest-creds lab:pw");
        let right = Credentials::Basic { username: "lab".into(), password: "pw".into() };
        let mirrored = registries(&[("docker.io", "http://127.0.0.1:5000")]);
        let of = |name: &str, inside: &str| {
            let credentials = BTreeMap::from([(name.to_owned(), right.clone())]);
            store(&dir.join(inside), Registries { credentials, ..mirrored.clone() })
        };
        // Had they been sent, they would have been let in.
        let hub = of("docker.io", "hub");
        for given in [None, Some(&right)] {
            let error = hub.pull("busybox:1", given).await.err().unwrap().to_string();
            assert!(error.starts_with("CannotPullContainerAuthError: "), "{error}");
        }
        pull(&of(HERE, "own"), "busybox:1").await.unwrap();
    });
}
