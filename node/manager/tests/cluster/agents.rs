//! Journeys of the design: a service comes up, the leader changes, an agent restarts or is lost.

use crate::harness::{Cluster, PATIENCE, running};
use muster_model::task::Desired;
use muster_model::{Command, Health, InstanceStatus, Phase};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::attach_order::What;
use muster_proto::pb as api;
use muster_proto::pb::live_client::LiveClient;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_service_comes_up_spread_over_two_agents() {
    let cluster = Cluster::start().await;
    let mut agents = vec![cluster.agent("az-a", "w1").await, cluster.agent("az-b", "w2").await];
    cluster.wait("both agents", |s| s.instances().filter(|i| i.ready()).count() == 2).await;
    let web = cluster.service("web", 4).await;
    let state = cluster.wait("four running tasks", |s| running(s, web).len() == 4).await;
    let zones: BTreeSet<_> = running(&state, web).iter().map(|t| t.instance).collect();
    assert_eq!(zones.len(), 2, "both agents run some");
    for agent in &agents {
        assert_eq!(agent.hollow.running().len(), 2);
        assert_eq!(state.instance(agent.instance()).unwrap().health, Health::Ready);
    }
    for agent in &mut agents {
        agent.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_new_leader_finds_everything_running_and_goes_on() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 2).await;
    let before = cluster.wait("two running tasks", |s| running(s, web).len() == 2).await;
    let pids = agent.hollow.pids();

    cluster.lead(None);
    cluster.lead(Some(0));
    let epoch = before.meta().epoch;
    cluster.wait("the next epoch", |s| s.meta().epoch > epoch).await;
    let api = cluster.service("api", 1).await;
    let state = cluster.wait("a task placed by it", |s| running(s, api).len() == 1).await;

    let tasks = |state: &muster_model::State| -> BTreeSet<_> {
        running(state, web).iter().map(|task| task.id).collect()
    };
    assert_eq!(tasks(&before), tasks(&state), "the same tasks");
    let after = agent.hollow.pids();
    assert!(pids.iter().all(|pid| after.contains(pid)), "{pids:?} still run in {after:?}");
    agent.stop().await;
}

#[tokio::test]
async fn agents_follow_the_leader_from_manager_to_manager() {
    let mut cluster = Cluster::start().await;
    cluster.add_manager().await;
    cluster.add_manager().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 1).await;
    cluster.wait("a task", |s| running(s, web).len() == 1).await;
    let pids = agent.hollow.pids();
    // Twice around, the last step with nobody leading in between.
    for (round, leader) in [1, 2, 0, 1].into_iter().enumerate() {
        let epoch = cluster.replica.state().meta().epoch;
        if round == 3 {
            cluster.lead(None);
        }
        cluster.lead(Some(leader));
        cluster.wait("its epoch", |s| s.meta().epoch > epoch).await;
        let next = cluster.service(&format!("next{round}"), 1).await;
        cluster.wait("a task placed by it", |s| running(s, next).len() == 1).await;
    }
    assert!(pids.iter().all(|pid| agent.hollow.pids().contains(pid)), "nothing was restarted");
    agent.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn many_agents_come_back_to_the_next_leader_at_once() {
    const AGENTS: usize = 60;
    let mut cluster = Cluster::start().await;
    cluster.add_manager().await;
    let mut agents = Vec::new();
    for n in 0..AGENTS {
        agents.push(cluster.agent("az-a", &format!("w{n}")).await);
    }
    let ready = |s: &muster_model::State| s.instances().filter(|i| i.ready()).count();
    cluster.wait("all agents", |s| ready(s) == AGENTS).await;
    let (epoch, moved) = (cluster.replica.state().meta().epoch, Instant::now());
    cluster.lead(Some(1));
    cluster.wait("its epoch", |s| s.meta().epoch > epoch).await;
    // One task for each: placed everywhere, and running only where the agent is back.
    let web = cluster.service("web", u32::try_from(AGENTS).unwrap()).await;
    cluster.wait("a task on each", |s| running(s, web).len() == AGENTS).await;
    assert!(moved.elapsed() < Duration::from_secs(10), "took {:?}", moved.elapsed());
    for agent in &mut agents {
        assert_eq!(agent.hollow.running().len(), 1);
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_knows_only_a_follower_finds_the_leader() {
    let mut cluster = Cluster::start().await;
    cluster.add_manager().await;
    let follower = cluster.seats[1].address.to_string();
    let mut agent = cluster.agent_knowing(&follower, "az-a", "w1").await;
    let web = cluster.service("web", 1).await;
    cluster.wait("a task", |s| running(s, web).len() == 1).await;
    // What it learnt is enough for the next start, whatever the configuration says.
    agent.stop().await;
    agent.config.managers = vec!["127.0.0.1:1".into()];
    agent.start();
    let api = cluster.service("api", 1).await;
    cluster.wait("a task after its restart", |s| running(s, api).len() == 1).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_restarts_adopts_what_runs() {
    for kill in [false, true] {
        let cluster = Cluster::start().await;
        let mut agent = cluster.agent("az-a", "w1").await;
        let web = cluster.service("web", 2).await;
        let before = cluster.wait("two running tasks", |s| running(s, web).len() == 2).await;
        let pids = agent.hollow.pids();
        match kill {
            true => agent.kill().await,
            false => agent.stop().await,
        }
        assert_eq!(agent.hollow.pids(), pids, "containers outlive their agent");
        // One ends while nobody looks: the next agent still learns how.
        let ended = running(&before, web)[0].id;
        agent.hollow.end(ended, 3).await;
        agent.start();
        let state = cluster
            .wait("the ended task's exit code, and a replacement", |s| {
                let task = s.task(ended).unwrap();
                task.observed.phase == Phase::Stopped && running(s, web).len() == 2
            })
            .await;
        let containers = &state.task(ended).unwrap().observed.containers;
        assert_eq!(containers[0].exit_code, Some(3));
        let kept = running(&before, web)[1].id;
        assert!(running(&state, web).iter().any(|task| task.id == kept), "the other was adopted");
        agent.stop().await;
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_lost_instance_is_replaced_and_told_to_stop_when_it_returns() {
    let cluster = Cluster::start_sped_up(20).await;
    let mut lost = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 2).await;
    cluster.wait("two tasks on the first", |s| running(s, web).len() == 2).await;
    let mut other = cluster.agent("az-b", "w2").await;
    let second = other.instance();
    cluster.wait("the second agent", |s| s.instance(second).is_some_and(|i| i.ready())).await;

    lost.kill().await;
    let elsewhere = |s: &muster_model::State| {
        let tasks = running(s, web);
        tasks.len() == 2 && tasks.iter().all(|task| task.instance == Some(second))
    };
    cluster.wait("both replaced on the second", elsewhere).await;
    assert_eq!(lost.hollow.running().len(), 2, "nobody could tell the first to stop");

    lost.start();
    let first = lost.instance();
    let stopped = |s: &muster_model::State| {
        let abandoned = |t: &muster_model::Task| matches!(t.desired, Desired::Abandoned { .. });
        s.instance(first).is_some_and(|i| i.ready())
            && s.tasks().filter(|t| abandoned(t)).all(|t| t.observed.phase == Phase::Stopped)
    };
    cluster.wait("the first returned, its abandoned tasks stopped", stopped).await;
    assert_eq!(lost.hollow.running().len(), 0);
    lost.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_drained_instance_gives_its_tasks_away_first() {
    let cluster = Cluster::start_sped_up(20).await;
    let mut first = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 2).await;
    cluster.wait("two tasks on the first", |s| running(s, web).len() == 2).await;
    let mut second = cluster.agent("az-a", "w2").await;
    let (from, to) = (first.instance(), second.instance());
    cluster.wait("the second agent", |s| s.instance(to).is_some_and(|i| i.ready())).await;
    let status = InstanceStatus::Draining;
    cluster.propose(Command::UpdateInstanceStatus { instance: from, status }).await;
    cluster
        .wait("both moved", |s| {
            let tasks = running(s, web);
            tasks.len() == 2 && tasks.iter().all(|task| task.instance == Some(to))
        })
        .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn logs_come_from_the_agent_that_runs_the_task() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("az-a", "w1").await;
    let web = cluster.service("web", 1).await;
    let state = cluster.wait("a running task", |s| running(s, web).len() == 1).await;
    let task = running(&state, web)[0].id;
    let live = cluster.live.as_ref().unwrap();
    let logs = || What::Logs(pb::AttachLogs::default());
    let mut attached = live.attach(task, logs()).await.unwrap();
    let mut lines = Vec::new();
    let read = async {
        while let Some(message) = attached.up.message().await.unwrap() {
            let Some(pb::attach_up::Message::Log(line)) = message.message else { panic!() };
            lines.push(line.line);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    assert_eq!(lines, [&b"app pretends to run"[..]]);

    // What the agent refuses is the caller's answer, not a hang.
    let exec = What::Exec(pb::AttachExec { container: "app".into(), ..Default::default() });
    let mut attached = live.attach(task, exec).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, attached.up.message()).await.unwrap().unwrap();
    let Some(pb::attach_up::Message::Error(why)) = answer.unwrap().message else { panic!() };
    assert!(why.contains("simulate"), "{why}");

    // The whole way, as a user asks.
    let mut user = LiveClient::new(cluster.channel(&cluster.founded.admin).await);
    let asked = api::LogsRequest { task: task.to_string(), ..Default::default() };
    let mut lines = user.logs(asked).await.unwrap().into_inner();
    let line = tokio::time::timeout(PATIENCE, lines.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((line.container.as_str(), line.stream.as_str()), ("app", "stdout"));

    agent.stop().await;
    let gone = live.attach(task, logs()).await.err().unwrap();
    assert!(gone.to_string().contains("connected"), "{gone}");
}
