//! Pulling: from a real registry on loopback with and without credentials, from folders and
//! archives, and what happens when a registry lies or is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use base64::Engine as _;
use lab::layout::{layout, tar};
use lab::registry::Registry;
use lab::{assign, image_dir, isolated, key, lab, script, sh, task, until};
use muster_agent::image::manifest::digest_of;
use muster_agent::image::{Credentials, Image, LayerLimits, PullBehavior, Registries, Store};
use muster_model::dispatch::Assignment;
use muster_model::spec::NetworkMode;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn store(dir: &Path, registries: Registries, behavior: PullBehavior) -> Arc<Store> {
    Arc::new(Store::open(dir, registries, behavior, LayerLimits::STANDARD).unwrap())
}

/// Runs a test in its own network with a store of its own.
fn with_store<F: Future<Output = ()>>(
    registries: Registries,
    behavior: PullBehavior,
    test: impl FnOnce(Arc<Store>, PathBuf) -> F + Send,
) {
    image_dir();
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            test(store(dir.path(), registries, behavior), dir.path().to_owned()).await;
        });
    });
}

fn standard<F: Future<Output = ()>>(test: impl FnOnce(Arc<Store>, PathBuf) -> F + Send) {
    with_store(Registries::default(), PullBehavior::Default, test);
}

async fn pull(store: &Arc<Store>, name: &str) -> Result<Image, String> {
    let pulled = store.pull(name, None).await;
    pulled.map(|pulled| pulled.image).map_err(|e| e.to_string())
}

fn layer_count(dir: &Path) -> usize {
    fs::read_dir(dir.join("layers")).unwrap().count()
}

#[test]
fn an_image_of_a_registry_runs() {
    lab(|mut lab| async {
        let registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let mut main = script("main", "echo pulled");
        main.image = registry.name("lab/bb:1");
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!((exit.exit_code, log.as_str()), (Some(0), "pulled\n"));
        lab
    });
}

#[test]
fn basic_credentials_are_needed_given_and_never_mixed() {
    let users = "lab:$2y$05$d9d0..4Gp9GZvHlBqFHRGOGyJqJ7pT2nmmeKbdO3Cq7kIl6Rs4vVm\n";
    standard(|store, _| async move {
        let hash =
            sh("perl -e 'print crypt(\"pw\", \"\\$2y\\$05\\$\" . \"abcdefghijklmnopqrstuu\")'");
        let users = users.split_once(':').map(|(name, _)| format!("{name}:{hash}\n")).unwrap();
        let registry = Registry::start("127.0.0.1:5000", Some(&users)).await;
        registry.push("bb", "lab/bb:1", "--dest-creds lab:pw");
        let name = registry.name("lab/bb:1");
        let basic = |password: &str| Credentials::Basic {
            username: "lab".into(),
            password: password.into(),
        };
        let error = pull(&store, &name).await.unwrap_err();
        assert!(error.starts_with("CannotPullContainerAuthError: "), "{error}");
        assert!(error.contains("check the credentials"), "{error}");
        let wrong = store.pull(&name, Some(&basic("wrong"))).await.err().unwrap().to_string();
        assert!(wrong.starts_with("CannotPullContainerAuthError: "), "{wrong}");
        assert!(!wrong.contains(&base64::engine::general_purpose::STANDARD.encode("lab:wrong")));
        store.pull(&name, Some(&basic("pw"))).await.unwrap();
        // What one user may see, another still may not.
        assert!(pull(&store, &name).await.is_err());
    });
}

#[test]
fn bytes_that_do_not_match_their_digest_are_refused() {
    standard(|store, dir| async move {
        let registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let inspect = format!(
            "skopeo inspect --raw --tls-verify=false docker://{}",
            registry.name("lab/bb:1")
        );
        let manifest: serde_json::Value = serde_json::from_str(&sh(&inspect)).unwrap();
        let digest = manifest["layers"][0]["digest"].as_str().unwrap();
        let file = registry.blob(digest);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, bad).unwrap();
        let error = pull(&store, &registry.name("lab/bb:1")).await.unwrap_err();
        assert!(
            error.starts_with("CannotPullContainerError: ") && error.contains("digest"),
            "{error}"
        );
        assert_eq!(layer_count(&dir), 0);
        fs::write(&file, good).unwrap();
        pull(&store, &registry.name("lab/bb:1")).await.unwrap();
        assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    });
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    standard(|store, _| async move {
        let registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        for name in ["lab/bb:2", "lab/none:1"] {
            let error = pull(&store, &registry.name(name)).await.unwrap_err();
            assert!(error.starts_with("CannotPullImageManifestError: "), "{error}");
            assert!(error.contains("check name and tag"), "{error}");
        }
        let digest = registry.name(&format!("lab/bb@sha256:{:064}", 0));
        let error = pull(&store, &digest).await.unwrap_err();
        assert!(error.starts_with("CannotPullContainerError: "), "{error}");
    });
}

#[test]
fn a_registry_that_is_down_is_stood_in_for_by_the_cache() {
    standard(|store, dir| async move {
        let mut registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let name = registry.name("lab/bb:1");
        let first = pull(&store, &name).await.unwrap();
        registry.stop();
        assert_eq!(pull(&store, &name).await.unwrap(), first);
        let pinned = format!("{}@{}", registry.name("lab/bb"), first.digest);
        let never_seen = pull(&store, &registry.name("lab/bb:2")).await.unwrap_err();
        assert!(never_seen.contains("is the registry up"), "{never_seen}");
        // Pinned by digest but never pulled under that name: nothing to stand in.
        assert!(pull(&store, &pinned).await.is_err());
        drop(store);
        let always = super_store(&dir, PullBehavior::Always);
        assert!(pull(&always, &name).await.unwrap_err().contains("is the registry up"));
    });
}

fn super_store(dir: &Path, behavior: PullBehavior) -> Arc<Store> {
    store(dir, Registries::default(), behavior)
}

/// Other bits of the same layer under a name that a registry knows, or does not.
fn push_other(name: &str, dir: &Path) {
    let make = lab::repository().join("deploy/lib/mkimage");
    let other = dir.join("other");
    sh(&format!("{} {} bb -e MOVED=yes", make.display(), other.display()));
    let to = format!("docker://{name}");
    sh(&format!("skopeo copy -q --dest-tls-verify=false oci:{}:bb {to}", other.display()));
}

#[test]
fn a_version_that_was_settled_is_pulled_whatever_its_tag_means() {
    standard(|store, dir| async move {
        let mut registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let name = registry.name("lab/bb:1");
        let of = async |image: &str, digest: &str| {
            let pulled = store.pull_pinned(image, digest, None).await;
            pulled.map(|pulled| pulled.image).map_err(|e| e.to_string())
        };
        let first = pull(&store, &name).await.unwrap();
        push_other(&name, &dir);
        // The tag is not asked for: what it meant is here.
        assert_eq!(of(&name, &first.digest).await.unwrap(), first);
        let second = pull(&store, &name).await.unwrap();
        assert_ne!(first.digest, second.digest);
        // And no longer is, under that name.
        let again = of(&name, &first.digest).await.unwrap();
        assert_eq!((&again.digest, &again.config), (&first.digest, &first.config));
        let unknown = format!("sha256:{:064}", 0);
        let error = of(&name, &unknown).await.unwrap_err();
        assert!(error.contains(&format!("its deployment runs {unknown}")), "{error}");
        assert!(error.ends_with("force a new deployment to have the tag resolved anew"), "{error}");
        registry.stop();
        assert_eq!(of(&name, &first.digest).await.unwrap(), again);
        assert_eq!(of(&name, &second.digest).await.unwrap(), second);
        let error = of(&name, &unknown).await.unwrap_err();
        assert!(error.contains("is the registry up"), "{error}");
        let error = of(&name, "../../tags").await.unwrap_err();
        assert!(error.contains("64 lower-case hex digits"), "{error}");
        // What has but one version is that.
        let own = pull(&store, &lab::image()).await.unwrap();
        assert_eq!(of(&lab::image(), &first.digest).await.unwrap(), own);
    });
}

#[test]
fn a_container_runs_the_version_that_its_order_names() {
    lab(|lab| async {
        let registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let mut main = script("main", "echo \"moved: $MOVED\"");
        main.image = registry.name("lab/bb:1");
        let ordered = assign(task(NetworkMode::None, vec![main.clone()]));
        let first = lab.run(&ordered).await.remove(0).image_digest;
        lab.printed(&key(&ordered, "main"), "moved: \n").await;
        push_other(&main.image, lab.dir.path());
        let later = assign(task(NetworkMode::None, vec![main.clone()]));
        assert_ne!(lab.run(&later).await.remove(0).image_digest, first);
        lab.printed(&key(&later, "main"), "moved: yes\n").await;
        let ordered = assign(task(NetworkMode::None, vec![main]));
        let digests = [("main".into(), first.as_str().into())].into();
        let ordered = Arc::new(Assignment { digests, ..Assignment::clone(&ordered) });
        assert_eq!(lab.run(&ordered).await.remove(0).image_digest, first);
        lab.printed(&key(&ordered, "main"), "moved: \n").await;
        lab
    });
}

#[test]
fn a_tag_is_resolved_each_time_and_a_digest_never_again() {
    standard(|store, dir| async move {
        let mut registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let name = registry.name("lab/bb:1");
        let first = pull(&store, &name).await.unwrap();
        push_other(&name, &dir);
        let second = pull(&store, &name).await.unwrap();
        assert_ne!(first.digest, second.digest);
        assert!(second.config.env.unwrap().contains(&"MOVED=yes".to_owned()));
        // Both share their one layer.
        assert_eq!((first.layers, layer_count(&dir)), (second.layers, 1));
        let pinned = format!("{}@{}", registry.name("lab/bb"), first.digest);
        pull(&store, &pinned).await.unwrap();
        registry.stop();
        drop(store);
        // With this behaviour the cache never stands in for a registry that is asked and is down.
        let store = super_store(&dir, PullBehavior::Always);
        assert_eq!(pull(&store, &pinned).await.unwrap().digest, first.digest);
    });
}

#[test]
fn an_index_gives_this_machines_image_or_says_what_it_has() {
    standard(|store, _| async move {
        let registry = Registry::start("127.0.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        let name = registry.name("lab/bb:1");
        let own = pull(&store, &name).await.unwrap().digest;
        let raw = sh(&format!("skopeo inspect --raw --tls-verify=false docker://{name}"));
        let entry = |arch: &str| {
            format!(
                "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
                 \"digest\":\"{own}\",\
                 \"size\":{},\"platform\":{{\"os\":\"linux\",\"architecture\":\"{arch}\"}}}}",
                raw.len()
            )
        };
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = |entries: &str| {
            format!("{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\"manifests\":[{entries}]}}")
        };
        let arch = muster_agent::image::manifest::own_architecture();
        let both = format!("{},{}", entry("s390x"), entry(arch));
        registry.put_manifest("lab/bb", "many", kind, &index(&both));
        let many = registry.name("lab/bb:many");
        let image = pull(&store, &many).await.unwrap();
        // Other machines take other entries of it.
        let digest = digest_of(index(&both).as_bytes());
        assert_eq!(image.digest, digest);
        assert_ne!(image.digest, own);
        let by_name = format!("{}@{digest}", registry.name("lab/bb"));
        let named = pull(&store, &by_name).await.unwrap();
        assert_eq!((named.digest, named.layers), (image.digest, image.layers));
        registry.put_manifest("lab/bb", "other", kind, &index(&entry("s390x")));
        let error = pull(&store, &registry.name("lab/bb:other")).await.unwrap_err();
        assert!(error.contains("linux/s390x") && error.contains(arch), "{error}");
    });
}

#[test]
fn plain_http_beyond_loopback_must_be_allowed() {
    let insecure = Registries { insecure: vec!["10.92.0.1:5000".into()], ..Default::default() };
    with_store(insecure, PullBehavior::Default, |store, dir| async move {
        sh("ip link add out0 type veth peer name out1 && ip addr add 10.92.0.1/24 dev out0 \
            && ip link set out0 up && ip link set out1 up");
        let registry = Registry::start("10.92.0.1:5000", None).await;
        registry.push("bb", "lab/bb:1", "");
        pull(&store, &registry.name("lab/bb:1")).await.unwrap();
        drop(store);
        let strict = super_store(&dir.join("strict"), PullBehavior::Default);
        let error = pull(&strict, &registry.name("lab/bb:1")).await.unwrap_err();
        assert!(error.starts_with("CannotPullContainerError: "), "{error}");
    });
}

#[test]
fn a_machine_without_any_authority_is_told_what_to_install() {
    standard(|store, _| async move {
        // The mounts of this test are its own.
        for dir in ["/etc/ssl", "/usr/lib/ssl", "/usr/share/ca-certificates"] {
            sh(&format!("[ ! -d {dir} ] || mount -t tmpfs tmpfs {dir}"));
        }
        for _ in 0..2 {
            let error = pull(&store, "registry.invalid/lab/bb:1").await.unwrap_err();
            assert!(error.starts_with("CannotPullContainerError: "), "{error}");
            assert!(error.contains("ca-certificates"), "{error}");
        }
        // What needs no registry works.
        pull(&store, &lab::image()).await.unwrap();
    });
}

#[test]
fn the_same_layer_is_fetched_once_however_many_want_it() {
    standard(|store, dir| async move {
        let registry = Registry::start("127.0.0.1:5000", None).await;
        for n in 0..8 {
            registry.push("bb", &format!("lab/bb:{n}"), "");
        }
        let names: Vec<String> = (0..8).map(|n| registry.name(&format!("lab/bb:{n}"))).collect();
        let pulls = futures::future::join_all(names.iter().map(|name| pull(&store, name))).await;
        assert!(pulls.iter().all(Result::is_ok), "{pulls:?}");
        assert_eq!(layer_count(&dir), 1);
        assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    });
}

#[test]
fn layers_hide_what_is_below_them_in_a_real_mount() {
    standard(|store, dir| async move {
        let lower = tar(&[("a/hidden", "1"), ("a/seen", "2"), ("b/all", "3"), ("top", "old")]);
        let upper = tar(&[("a/.wh.hidden", ""), ("b/.wh..wh..opq", ""), ("top", "new")]);
        let packed = zstd::encode_all(&upper[..], 1).unwrap();
        let from = dir.join("layout");
        layout(&from, &[(lower.clone(), digest_of(&lower)), (packed, digest_of(&upper))]);
        let image = pull(&store, &format!("oci-layout:{}", from.display())).await.unwrap();
        let container = dir.join("container");
        muster_agent::runtime::rootfs::mount_image(&container, &store.layers_dir(), &image)
            .unwrap();
        let root = container.join("rootfs");
        let seen = sh(&format!("cd {} && find . -type f | sort && cat top", root.display()));
        muster_agent::runtime::rootfs::unmount(&root).unwrap();
        assert_eq!(seen, "./a/seen\n./top\nnew");
    });
}

#[test]
fn as_many_layers_as_docker_allows_fit_into_one_mount() {
    standard(|store, dir| async move {
        let layers: Vec<_> = (0..127)
            .map(|n| {
                let layer = tar(&[(&format!("f{n}"), "x")]);
                let id = digest_of(&layer);
                (layer, id)
            })
            .collect();
        let from = dir.join("layout");
        layout(&from, &layers);
        let image = pull(&store, &format!("oci-layout:{}", from.display())).await.unwrap();
        let container = dir.join("c");
        muster_agent::runtime::rootfs::mount_image(&container, &store.layers_dir(), &image)
            .unwrap();
        let root = container.join("rootfs");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 127);
        muster_agent::runtime::rootfs::unmount(&root).unwrap();
    });
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_refused() {
    standard(|store, dir| async move {
        let layer = tar(&[("f", "x")]);
        let from = dir.join("layout");
        layout(&from, &[(layer, digest_of(b"something else"))]);
        let error = pull(&store, &format!("oci-layout:{}", from.display())).await.unwrap_err();
        assert!(error.contains("wanted was"), "{error}");
        assert_eq!(layer_count(&dir), 0);
        let error = pull(&store, &format!("oci-layout:{}:none", from.display())).await.unwrap_err();
        assert!(error.contains("no tag \"none\""), "{error}");
        let error = pull(&store, "oci-layout:/no/such/dir").await.unwrap_err();
        assert!(error.contains("/no/such/dir"), "{error}");
    });
}

#[test]
fn an_archive_is_read_once_and_again_when_it_changes() {
    standard(|store, dir| async move {
        let file = dir.join("image.tar");
        let pack = |from: &Path| sh(&format!("tar -C {} -cf {} .", from.display(), file.display()));
        pack(&image_dir());
        let name = format!("oci-archive:{}:bb", file.display());
        let first = pull(&store, &name).await.unwrap();
        assert_eq!(pull(&store, &name).await.unwrap(), first);
        let other = dir.join("layout");
        let layer = tar(&[("f", "x")]);
        layout(&other, &[(layer.clone(), digest_of(&layer))]);
        pack(&other);
        let changed = pull(&store, &format!("oci-archive:{}", file.display())).await.unwrap();
        assert_ne!(changed.digest, first.digest);
        assert!(pull(&store, &name).await.is_err(), "the tag is gone");
    });
}

#[test]
fn a_layer_of_an_earlier_boot_that_was_never_synced_is_pulled_again() {
    standard(|store, dir| async move {
        let name = lab::image();
        let image = pull(&store, &name).await.unwrap();
        let layer = dir.join("layers").join(&image.layers[0]);
        until("synced", async || layer.join("synced").exists().then_some(())).await;
        let age = |synced: bool| {
            let file = layer.join("layer.json");
            let mut record: serde_json::Value =
                serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            record["boot_id"] = "an earlier one".into();
            fs::write(&file, record.to_string()).unwrap();
            if !synced {
                fs::remove_file(layer.join("synced")).unwrap();
            }
        };
        drop(store);
        age(true);
        drop(super_store(&dir, PullBehavior::Default));
        assert!(layer.exists());
        age(false);
        let store = super_store(&dir, PullBehavior::Default);
        assert!(!layer.exists());
        pull(&store, &name).await.unwrap();
        assert!(layer.exists());
    });
}
