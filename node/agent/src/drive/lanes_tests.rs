//! Order and independence of actions, over an engine whose actions end when the test says so.

use super::*;
use crate::drive::scripted::{Scripted, assignment, task};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);

/// What begins until everything has ended or `count` actions have begun.
async fn begun(
    lanes: &mut Lanes,
    told: &mut mpsc::UnboundedReceiver<String>,
    count: usize,
) -> Vec<String> {
    let mut seen = Vec::new();
    let gather = async {
        while seen.len() < count {
            tokio::select! {
                Some(name) = told.recv() => seen.push(name),
                () = lanes.moved() => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, gather).await.expect("as many begin");
    seen
}

/// Lets everything that can run do so, and says what began beyond what was seen before.
async fn nothing_more(lanes: &mut Lanes, told: &mut mpsc::UnboundedReceiver<String>) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
        while let Some(()) = futures::FutureExt::now_or_never(lanes.moved()) {}
    }
    assert_eq!(told.try_recv().ok(), None);
}

#[tokio::test]
async fn actions_of_one_container_wait_for_each_other() {
    let (engine, mut told) = Scripted::new(&["create 1/a"]);
    let mut lanes = Lanes::new(engine.clone(), 4, 4);
    lanes.create(assignment(1), "a".into());
    lanes.start(task(1), "a".into());
    lanes.signal(task(1), "a".into(), Signal::Kill);
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["create 1/a"]);
    nothing_more(&mut lanes, &mut told).await;
    engine.let_go("create 1/a");
    assert_eq!(begun(&mut lanes, &mut told, 2).await, ["start 1/a", "Kill 1/a"]);
}

#[tokio::test]
async fn a_hung_container_holds_up_neither_its_task_nor_others() {
    let (engine, mut told) = Scripted::new(&["create 1/a", "pull 2"]);
    let mut lanes = Lanes::new(engine.clone(), 4, 4);
    lanes.create(assignment(1), "a".into());
    lanes.pull(assignment(2));
    lanes.create(assignment(1), "b".into());
    lanes.pull(assignment(3));
    let mut seen = begun(&mut lanes, &mut told, 4).await;
    seen.sort();
    assert_eq!(seen, ["create 1/a", "create 1/b", "pull 2", "pull 3"]);
}

#[tokio::test]
async fn stopping_is_journalled_before_the_first_signal() {
    let (engine, mut told) = Scripted::new(&["stopping 1"]);
    let mut lanes = Lanes::new(engine.clone(), 4, 4);
    lanes.stopping(task(1));
    lanes.signal(task(1), "a".into(), Signal::Stop);
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["stopping 1"]);
    nothing_more(&mut lanes, &mut told).await;
    engine.let_go("stopping 1");
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["Stop 1/a"]);
}

#[tokio::test]
async fn deleting_comes_last_and_gives_up_a_pull() {
    let (engine, mut told) = Scripted::new(&["pull 1", "Kill 1/a"]);
    let mut lanes = Lanes::new(engine.clone(), 4, 4);
    lanes.pull(assignment(1));
    lanes.signal(task(1), "a".into(), Signal::Kill);
    assert_eq!(begun(&mut lanes, &mut told, 2).await.len(), 2);
    lanes.delete(task(1));
    nothing_more(&mut lanes, &mut told).await;
    // The pull is never let go: it is given up. The signal must have ended.
    engine.let_go("Kill 1/a");
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["delete 1"]);
    nothing_more(&mut lanes, &mut told).await;
    assert!(lanes.lanes.is_empty() && lanes.owners.is_empty(), "nothing is left of it");
}

#[tokio::test]
async fn starts_and_pulls_have_places() {
    let (engine, mut told) = Scripted::new(&["pull 1", "create 1/a"]);
    let mut lanes = Lanes::new(engine.clone(), 1, 1);
    lanes.pull(assignment(1));
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["pull 1"]);
    lanes.pull(assignment(2));
    lanes.create(assignment(1), "a".into());
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["create 1/a"]);
    lanes.create(assignment(2), "a".into());
    nothing_more(&mut lanes, &mut told).await;
    engine.let_go("pull 1");
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["pull 2"]);
    engine.let_go("create 1/a");
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["create 2/a"]);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_at_the_end_is_given_up() {
    let (engine, mut told) = Scripted::new(&["start 1/a"]);
    let mut lanes = Lanes::new(engine.clone(), 1, 1);
    lanes.start(task(1), "a".into());
    assert_eq!(begun(&mut lanes, &mut told, 1).await, ["start 1/a"]);
    let started = tokio::time::Instant::now();
    lanes.finish().await;
    assert_eq!(started.elapsed(), FINISH_WAIT);
}
