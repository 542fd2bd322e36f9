//! What goes when nothing uses it any more, by age and when the disk fills, and what stays whatever
//! happens.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::layout::{layout, tar};
use lab::{Lab, assign, image, key, lab_with, machine, script, sh, task, until};
use muster_agent::image::manifest::digest_of;
use muster_agent::image::sweep::{InUse, Sweep, Swept, Which};
use muster_agent::image::{Image, LayerLimits, PullBehavior, Registries, Store};
use muster_agent::journal::names_in;
use muster_agent::runtime::DiskMarks;
use muster_model::TaskId;
use muster_model::spec::NetworkMode;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);
/// Where the agent in the child process sweeps.
const SWEPT_DIR: &str = "MUSTER_TEST_SWEPT_DIR";

/// An image store in a directory, and images beside it.
struct Shop {
    dir: tempfile::TempDir,
    store: Arc<Store>,
}

impl Shop {
    fn open(behavior: PullBehavior) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: open(dir.path(), behavior), dir }
    }

    /// Pulls an image made of layers with one file each, and waits until it is on the disk.
    async fn pull(&self, name: &str, layers: &[&str]) -> Image {
        let from = self.made(name, layers);
        let image = self.store.pull(&from, None).await.unwrap().image;
        self.synced().await;
        image
    }

    fn made(&self, name: &str, layers: &[&str]) -> String {
        let from = self.dir.path().join("from").join(name);
        let _ = fs::remove_dir_all(&from);
        let layers: Vec<_> = layers.iter().map(|text| layer(text)).collect();
        layout(&from, &layers);
        format!("oci-layout:{}", from.display())
    }

    async fn synced(&self) {
        let layers = self.store.layers_dir();
        let all = || names_in(&layers).iter().all(|l| layers.join(l).join("synced").exists());
        until("layers are synced", async || all().then_some(())).await;
    }

    fn sweep(&self, in_use: InUse, which: Which) -> Swept {
        let sweep = Sweep::begin(&self.store, || Ok(in_use)).unwrap();
        sweep.remove(which, || true).unwrap()
    }

    /// Lets time pass since everything was last used.
    fn age(&self, by: Duration) {
        for dir in ["refs", "layers"] {
            let dir = self.dir.path().join("store").join(dir);
            names_in(&dir).iter().for_each(|name| age(&dir.join(name), by));
        }
    }

    fn layers(&self) -> Vec<String> {
        names_in(&self.store.layers_dir())
    }

    fn count(&self, of: &str) -> usize {
        names_in(&self.dir.path().join("store").join(of)).len()
    }
}

fn open(dir: &Path, behavior: PullBehavior) -> Arc<Store> {
    let registries = Registries::default();
    let store = Store::open(&dir.join("store"), registries, behavior, LayerLimits::STANDARD);
    Arc::new(store.unwrap())
}

fn layer(text: &str) -> (Vec<u8>, String) {
    let layer = tar(&[(&format!("of-{text}"), text)]);
    let id = digest_of(&layer);
    (layer, id)
}

fn age(path: &Path, by: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

fn uses(image: &Image) -> InUse {
    InUse {
        layers: image.layers.iter().cloned().collect(),
        images: [image.digest.clone()].into(),
        ..InUse::default()
    }
}

fn sorted(layers: &[&String]) -> Vec<String> {
    let mut layers: Vec<String> = layers.iter().map(|&layer| layer.clone()).collect();
    layers.sort();
    layers
}

#[tokio::test]
async fn an_old_image_goes_and_a_layer_that_another_has_stays() {
    let shop = Shop::open(PullBehavior::Default);
    let a = shop.pull("a", &["base", "a"]).await;
    let b = shop.pull("b", &["base", "b"]).await;
    let c = shop.pull("c", &["base", "c"]).await;
    shop.age(HOUR * 2);
    // Pulled again, so used again.
    shop.pull("c", &["base", "c"]).await;
    let swept = shop.sweep(uses(&b), Which::UnusedFor(HOUR));
    assert_eq!((swept.images, swept.layers), (1, 1));
    assert_eq!(shop.layers(), sorted(&[&a.layers[0], &b.layers[1], &c.layers[1]]));
    assert_eq!((shop.count("refs"), shop.count("configs"), shop.count("tmp")), (2, 2, 0));
    // What a container used until now is not old when the container is gone.
    let swept = shop.sweep(InUse::default(), Which::UnusedFor(HOUR));
    assert_eq!(swept, Swept::default());
    assert_eq!(shop.pull("a", &["base", "a"]).await, a);
    let swept = shop.sweep(InUse::default(), Which::Any);
    assert_eq!((swept.images, swept.layers, shop.layers().len()), (3, 4, 0));
    assert_eq!((shop.count("refs"), shop.count("configs"), shop.count("tmp")), (0, 0, 0));
}

#[tokio::test]
async fn layers_of_a_tag_that_moved_go_when_they_are_old() {
    let shop = Shop::open(PullBehavior::Default);
    let old = shop.pull("web", &["base", "old"]).await;
    let new = shop.pull("web", &["base", "new"]).await;
    assert_eq!(shop.count("refs"), 1);
    let by_age = Which::UnusedFor(HOUR);
    assert_eq!(shop.sweep(InUse::default(), by_age), Swept::default());
    shop.age(HOUR * 2);
    // A container still runs of it.
    let swept = shop.sweep(uses(&old), Which::Any);
    assert_eq!((swept.images, swept.layers), (1, 1));
    assert_eq!(shop.layers(), sorted(&[&old.layers[0], &old.layers[1]]));
    shop.pull("web", &["base", "new"]).await;
    assert_eq!(shop.sweep(InUse::default(), by_age), Swept::default());
    shop.age(HOUR * 2);
    shop.pull("web", &["base", "new"]).await;
    assert_eq!(shop.sweep(InUse::default(), by_age).layers, 1);
    assert_eq!(shop.layers(), sorted(&[&new.layers[0], &new.layers[1]]));
}

#[tokio::test]
async fn nothing_goes_while_it_is_not_known_what_a_container_has() {
    let shop = Shop::open(PullBehavior::Default);
    let a = shop.pull("a", &["a"]).await;
    let b = shop.pull("b", &["b"]).await;
    let unnamed = |digest: &str| InUse {
        images: [digest.to_owned()].into(),
        unresolved: [digest.to_owned()].into(),
        ..InUse::default()
    };
    let refused = |read| Sweep::begin(&shop.store, || read).err().unwrap().to_string();
    let told = refused(Ok(unnamed("sha256:gone")));
    assert!(told.contains("sha256:gone") && told.contains("no image is removed"), "{told}");
    assert!(refused(Err(std::io::Error::other("no journal"))).contains("no journal"));
    assert_eq!(shop.layers().len(), 2);
    // A reference tells what the record did not.
    let swept = shop.sweep(unnamed(&b.digest), Which::Any);
    assert_eq!((swept.images, shop.layers()), (1, b.layers));
    drop(a);
}

#[tokio::test]
async fn the_least_recently_used_go_first_and_no_more_than_is_needed() {
    let shop = Shop::open(PullBehavior::Default);
    for name in ["one", "two", "three"] {
        shop.pull(name, &[name]).await;
    }
    shop.age(HOUR);
    for name in ["one", "three"] {
        shop.pull(name, &[name]).await;
    }
    let sweep = Sweep::begin(&shop.store, || Ok(InUse::default())).unwrap();
    let swept = sweep.remove(Which::Any, || shop.layers().len() > 2).unwrap();
    assert_eq!((swept.images, swept.layers), (1, 1));
    let (_, two) = layer("two");
    let left: Vec<String> = shop.layers().iter().map(|l| content(&shop, l)).collect();
    assert!(!left.iter().any(|id| id.contains(&two)), "{left:?}");
}

fn content(shop: &Shop, layer: &str) -> String {
    fs::read_to_string(shop.store.layers_dir().join(layer).join("layer.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_never_gets_what_a_sweep_is_taking() {
    let shop = Shop::open(PullBehavior::PreferCached);
    let names: Vec<String> =
        (0..4).map(|n| shop.made(&n.to_string(), &["base", &n.to_string()])).collect();
    let over = AtomicBool::new(false);
    let swept = std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut swept = 0;
            while !over.load(Ordering::Relaxed) {
                swept += shop.sweep(InUse::default(), Which::Any).layers;
            }
            swept
        });
        let pulled = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                // Until sweeps have taken what pulls had brought, often enough.
                for round in 0..400 {
                    let pulled = shop.store.pull(&names[round % 4], None).await;
                    let pulled = pulled.map_err(|e| e.to_string())?;
                    let dir = shop.store.layers_dir();
                    for layer in &pulled.image.layers {
                        let files = fs::read_dir(dir.join(layer).join("fs"));
                        if files.map_or(0, Iterator::count) != 1 {
                            return Err(format!("round {round}: layer {layer} is not whole"));
                        }
                    }
                }
                Ok::<(), String>(())
            })
        });
        over.store(true, Ordering::Relaxed);
        pulled.unwrap();
        sweeper.join().unwrap()
    });
    assert!(swept > 0, "no sweep took anything");
}

/// Not a test by itself: the sweeper that the test below kills. It removes one more thing for each
/// line that it reads.
#[test]
fn sweeper_in_a_process_of_its_own() {
    let Ok(dir) = std::env::var(SWEPT_DIR) else { return };
    let store = open(Path::new(&dir), PullBehavior::Default);
    let used = fs::read_to_string(Path::new(&dir).join("used")).unwrap();
    let used = InUse { layers: used.lines().map(str::to_owned).collect(), ..InUse::default() };
    let sweep = Sweep::begin(&store, || Ok(used)).unwrap();
    let told = || std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0);
    sweep.remove(Which::Any, told).unwrap();
}

#[tokio::test]
async fn a_sweep_that_is_killed_leaves_whole_layers_or_none() {
    let shop = Shop::open(PullBehavior::PreferCached);
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let mut images = Vec::new();
    for name in &names {
        images.push(shop.pull(name, &["base", name]).await);
    }
    let used = &images[7].layers;
    fs::write(shop.dir.path().join("used"), used.join("\n")).unwrap();
    let Shop { dir, store } = shop;
    drop(store);
    let mut sweeper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweeper_in_a_process_of_its_own"])
        .env(SWEPT_DIR, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let refs = dir.path().join("store/refs");
    sweeper.stdin.as_mut().unwrap().write_all("go\n".repeat(20).as_bytes()).unwrap();
    until("some are gone", async || (names_in(&refs).len() <= 30).then_some(())).await;
    sweeper.kill().unwrap();
    sweeper.wait().unwrap();
    let store = open(dir.path(), PullBehavior::PreferCached);
    let shop = Shop { dir, store };
    assert_eq!(shop.count("tmp"), 0);
    let whole = |layer: &String| shop.store.layers_dir().join(layer).join("fs").is_dir();
    assert!(shop.layers().iter().all(whole) && used.iter().all(whole));
    // There is nowhere to pull from any more: what is still known is all there.
    fs::remove_dir_all(shop.dir.path().join("from")).unwrap();
    let mut left = 0;
    for name in &names {
        let from = format!("oci-layout:{}", shop.dir.path().join("from").join(name).display());
        if let Ok(pulled) = shop.store.pull(&from, None).await {
            assert!(pulled.image.layers.iter().all(whole));
            left += 1;
        }
    }
    assert!((20..=30).contains(&left), "{left}");
    let last = InUse { layers: used.iter().cloned().collect(), ..InUse::default() };
    assert_eq!(shop.sweep(last, Which::Any).images, left);
    assert_eq!(shop.layers().len(), 2);
}

/// Deletes what a test left, and ends its agent.
async fn over(lab: Lab) {
    for task in names_in(&lab.config.data_dir.join("tasks")) {
        lab.runtime.delete(task.parse::<TaskId>().unwrap()).await.unwrap();
    }
    lab.runtime.close().await;
}

/// Waits until the layers here are on the disk; says how many there are.
async fn layers(lab: &Lab) -> usize {
    let dir = lab.config.data_dir.join("images/layers");
    let all = || names_in(&dir).iter().all(|layer| dir.join(layer).join("synced").exists());
    until("layers are synced", async || all().then_some(())).await;
    names_in(&dir).len()
}

#[test]
fn a_container_that_runs_keeps_its_image_and_starts_again_in_place() {
    lab_with(
        |config| config.images_kept = Duration::ZERO,
        |lab| async {
            let text = "echo up; until [ -e /go ]; do usleep 20000; done";
            let assignment = assign(task(NetworkMode::None, vec![script("main", text)]));
            let main = key(&assignment, "main");
            lab.runtime.begin(&assignment).await.unwrap();
            lab.runtime.pull(&assignment).await.unwrap();
            assert_eq!(layers(&lab).await, 1);
            // Pulled for a container that is not made yet.
            lab.runtime.clean_up();
            lab.runtime.create(&assignment, &main.name).await.unwrap();
            lab.runtime.start(&main).await.unwrap();
            lab.printed(&main, "up").await;
            lab.runtime.clean_up();
            let (mut lab, booted) = lab.restart().await;
            assert_eq!(booted.tasks.len(), 1);
            lab.runtime.clean_up();
            lab.runtime.kill(&main);
            lab.exit(&main).await;
            // Ended and not deleted: it may be started again.
            lab.runtime.clean_up();
            assert_eq!(layers(&lab).await, 1);
            lab.runtime.restart(&main).await.unwrap();
            lab.printed(&main, "up\nup").await;
            lab.runtime.delete(assignment.task).await.unwrap();
            lab.runtime.clean_up();
            assert_eq!(layers(&lab).await, 0);
            lab
        },
    );
}

/// A layer of so many MiB that no file system makes smaller.
fn heavy(name: &str, mib: usize) -> (Vec<u8>, String) {
    let layer = tar(&[(name, &"x".repeat(mib << 20))]);
    let id = digest_of(&layer);
    (layer, id)
}

#[test]
fn a_disk_that_fills_is_cleared_of_logs_then_of_images_and_never_of_what_runs() {
    let marks = |config: &mut muster_agent::runtime::RuntimeConfig| {
        config.disk = DiskMarks { high_percent: 70, low_percent: 55 };
    };
    machine(marks, async |dir, config| {
        let data = config.data_dir.clone();
        fs::create_dir_all(&data).unwrap();
        sh(&format!("mount -t tmpfs -o size=100m tmpfs {}", data.display()));
        let lab = Lab::open(dir, config).await;
        let main = assign(task(NetworkMode::None, vec![script("main", "echo up; sleep 600")]));
        lab.run(&main).await;
        let from = |name: &str| lab.dir.path().join("from").join(name);
        let refs = data.join("images/refs");
        for (n, name) in ["old", "middle", "new"].into_iter().enumerate() {
            layout(&from(name), &[heavy(name, 15)]);
            let known = names_in(&refs);
            let image = format!("oci-layout:{}", from(name).display());
            lab.runtime.pull_image(&image, None, None).await.unwrap();
            let new = names_in(&refs).into_iter().find(|file| !known.contains(file)).unwrap();
            age(&refs.join(new), HOUR / 2 / (n as u32 + 1));
        }
        assert_eq!(layers(&lab).await, 4);
        let log = |name: &str, mib: usize| {
            let at: PathBuf = data.join("logs").join(name);
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("log"), vec![b'x'; mib << 20]).unwrap();
            at
        };
        lab.runtime.clean_up();
        assert_eq!((layers(&lab).await, lab.runtime.disk_fills()), (4, false));
        // 45 of images and 26 of logs are 71 of 100: the older log is enough.
        let (first, second) = (log("first", 24), log("second", 4));
        age(&first, HOUR / 2);
        assert!(lab.runtime.disk_fills());
        lab.runtime.clean_up();
        assert_eq!((layers(&lab).await, first.exists(), second.exists()), (4, false, true));
        // What runs fills the disk: the other log and two images make room, the oldest first.
        let writes = data.join("tasks").join(main.task.to_string()).join("containers/main/upper/f");
        fs::write(&writes, vec![b'x'; 30 << 20]).unwrap();
        assert!(lab.runtime.disk_fills());
        lab.runtime.clean_up();
        assert_eq!((layers(&lab).await, second.exists()), (2, false));
        let left = sh(&format!("ls {}/images/layers/*/fs", data.display()));
        assert!(left.contains("new") && left.contains("bin"), "{left}");
        // And then there is nothing more to take: it says so, and touches nothing that is in use.
        fs::write(&writes, vec![b'x'; 80 << 20]).unwrap();
        lab.runtime.clean_up();
        assert!(lab.runtime.disk_fills());
        assert_eq!(layers(&lab).await, 1);
        lab.printed(&key(&main, "main"), "up").await;
        lab.runtime.pull_image(&image(), None, None).await.unwrap();
        over(lab).await;
    });
}
