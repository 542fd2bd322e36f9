//! What the drive does before anything else, and after everything.

use super::*;
use crate::drive::scripted::{Scripted, assignment, task};
use muster_model::dispatch::{Assignments, Order};
use muster_model::{Epoch, Index, InstanceId};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);

/// A drive over a scripted engine, with both ends of its session.
struct Driven {
    told: mpsc::UnboundedReceiver<String>,
    session: mpsc::Sender<FromSession>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Driven {
    fn start(obeyed: PathBuf) -> Self {
        let (engine, told) = Scripted::new(&[]);
        let (session, from_session) = mpsc::channel(8);
        let (_, events) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let obeyed = Obeyed::open(obeyed).unwrap();
        let clock: Clock = Arc::new(|| Time(1_000_000));
        let drive = Drive::new(Parts {
            worker: Worker::new(InstanceId::from_bits(1), obeyed.highest()),
            clock: clock.clone(),
            lanes: Lanes::new(engine, 4, 4),
            obeyed,
            session: from_session,
            events,
            contact: Arc::new(Contact::new(Path::new("nowhere"), clock)),
            stop: stop.clone(),
        });
        let running = tokio::spawn(drive.run(Vec::new()));
        Self { told, session, stop, running }
    }

    async fn order(&self, epoch: u64, revision: u64, tasks: &[u128]) {
        let run = |n: &u128| Order::Run(Box::new((*assignment(*n)).clone()));
        let orders = Assignments {
            epoch: Epoch(epoch),
            revision: Index(revision),
            complete: false,
            orders: tasks.iter().map(run).collect(),
        };
        let input = FromSession::Input(WorkerInput::Assignments(orders));
        assert!(self.session.send(input).await.is_ok());
    }

    /// Answered after everything that was said before was heard.
    async fn standing(&self) -> Standing {
        let (answer, standing) = oneshot::channel();
        assert!(self.session.send(FromSession::Ask(answer)).await.is_ok());
        tokio::time::timeout(PATIENCE, standing).await.unwrap().unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn orders_are_written_down_before_they_are_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not there yet/obeyed.json");
    let mut driven = Driven::start(path.clone());
    driven.order(3, 7, &[1]).await;
    // In ten seconds of its own time the drive tries ten times, and nothing of the order begins.
    assert!(tokio::time::timeout(PATIENCE, driven.told.recv()).await.is_err());
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let begun = tokio::time::timeout(PATIENCE, driven.told.recv()).await.unwrap();
    assert_eq!(begun.as_deref(), Some("pull 1"));
    assert_eq!(Obeyed::open(path).unwrap().highest(), (Epoch(3), Index(7)));
    driven.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_still_refuses_what_it_has_outlived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("obeyed.json");
    let driven = Driven::start(path.clone());
    driven.order(3, 7, &[]).await;
    assert_eq!(driven.standing().await.epoch, Epoch(3));
    driven.stop().await;

    let mut driven = Driven::start(path);
    driven.order(2, 900, &[1]).await;
    driven.order(3, 6, &[2]).await;
    let standing = driven.standing().await;
    assert_eq!((standing.epoch, standing.revision), (Epoch(3), Index(7)));
    assert!(standing.inventory.is_empty(), "neither was obeyed");
    driven.order(3, 7, &[3]).await;
    assert_eq!(driven.standing().await.inventory[0].task, task(3));
    let begun = tokio::time::timeout(PATIENCE, driven.told.recv()).await.unwrap();
    assert_eq!(begun.as_deref(), Some("pull 3"));
    driven.stop().await;
}

#[tokio::test]
async fn a_stop_is_heard_while_the_disk_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let mut driven = Driven::start(dir.path().join("never there/obeyed.json"));
    driven.order(3, 7, &[1]).await;
    // Once the order is taken: a stop that comes before it says nothing about the disk.
    while driven.session.capacity() < driven.session.max_capacity() {
        tokio::task::yield_now().await;
    }
    driven.stop.cancel();
    tokio::time::timeout(PATIENCE, &mut driven.running).await.unwrap().unwrap();
    assert!(driven.told.try_recv().is_err(), "nothing was done without it");
}
