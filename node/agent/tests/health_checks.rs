//! Health checks, executed inside real containers: what counts, and what becomes of one that hangs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::agent::{Agent, agent, checked, now, stops_with};
use lab::{assign, script, sh, task, until};
use muster_control::io::ContainerEvent;
use muster_model::dispatch::Order;
use muster_model::life::{HealthCheck, HealthStatus};
use muster_model::spec::{ContainerDefinition, NetworkMode};
use muster_model::{Millis, Observed};

#[test]
fn a_check_that_hangs_is_killed_with_all_it_started_and_holds_up_no_stop() {
    agent(async |mut agent, _| {
        // A number that no other process has among its arguments.
        let line = "sleep 918273 & sleep 918273";
        let app = checked(script("app", &stops_with(0, 0)), line);
        let assignment = assign(task(NetworkMode::None, vec![app]));
        agent.run(&assignment).await;
        let outcome = async |agent: &mut Agent| {
            let outcome = |event: &ContainerEvent| match event {
                ContainerEvent::Checked { outcome, .. } => Some(outcome.clone()),
                _ => None,
            };
            agent.until(outcome).await.unwrap_err()
        };
        assert_eq!(&*outcome(&mut agent).await, "it took longer than its timeout of 2 s");
        let hanging = || sh("grep -alz '^918273$' /proc/[0-9]*/cmdline 2>/dev/null | wc -l");
        until("nothing hangs", async || (hanging().trim() == "0").then_some(())).await;
        // The next one is under way when the task is told to stop.
        until("it hangs again", async || (hanging().trim() == "2").then_some(())).await;
        agent.order(Order::Stop(assignment.task)).await;
        // The end of the container cuts the check short, and that may be told first.
        let first = agent.until(|event| match event {
            ContainerEvent::Exited { exit_code, .. } => Some(format!("ended {exit_code:?}")),
            ContainerEvent::Checked { outcome: Err(why), .. } => {
                why.contains("timeout").then(|| why.to_string())
            }
            _ => None,
        });
        assert_eq!(first.await, "ended Some(0)", "the signal waited for the check");
        agent
    });
}

#[test]
fn a_failing_check_says_why_in_few_words() {
    agent(async |mut agent, _| {
        let line = "yes no-such-thing | head -c 1000000 >&2; exit 3";
        let app = checked(script("app", &stops_with(0, 0)), line);
        agent.run(&assign(task(NetworkMode::None, vec![app]))).await;
        let why = agent
            .until(|event| match event {
                ContainerEvent::Checked { outcome: Err(why), .. } => Some(why.clone()),
                _ => None,
            })
            .await;
        assert!(why.starts_with("it ended with code 3: no-such-thing"), "{why}");
        assert!(why.len() < 300, "{}", why.len());
        agent
    });
}

/// Looks each second, which is oftener than the edge allows, so that every look may count.
fn looks(command: &[&str], retries: u32, start_period_secs: u32) -> HealthCheck {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    HealthCheck { command, interval_secs: 1, timeout_secs: 60, retries, start_period_secs }
}

/// Fails at the looks of these numbers, and says which one it is.
fn fails_at(numbers: &str) -> String {
    format!(
        "echo look >> /looks; n=$(wc -l < /looks); echo look $n; \
         case $n in {numbers}) exit 1;; esac"
    )
}

fn with(check: HealthCheck, name: &str) -> ContainerDefinition {
    let health_check = Some(check);
    ContainerDefinition { health_check, ..script(name, &stops_with(0, 0)) }
}

/// Why the container at `index` is UNHEALTHY, once it is.
fn unhealthy(index: usize) -> impl Fn(&Observed) -> Option<String> {
    move |task| {
        let container = &task.containers[index];
        let unhealthy = container.health == HealthStatus::Unhealthy;
        unhealthy.then(|| container.reason.as_deref().unwrap_or_default().to_owned())
    }
}

#[test]
fn a_command_is_executed_word_by_word_and_by_no_shell() {
    agent(async |mut agent, _| {
        // A shell would split the first, and know the second.
        let words = with(looks(&["CMD", "test", "two words", "=", "two words"], 1, 0), "words");
        let line = with(looks(&["CMD", "exit 0"], 1, 0), "line");
        agent.run(&assign(task(NetworkMode::None, vec![words, line]))).await;
        let decided = |task: &Observed| {
            let health = [task.containers[0].health, task.containers[1].health];
            (!health.contains(&HealthStatus::Unknown)).then_some(health)
        };
        let health = agent.reported(decided).await;
        assert_eq!(health, [HealthStatus::Healthy, HealthStatus::Unhealthy]);
        agent
    });
}

#[test]
fn only_failures_in_a_row_make_a_container_unhealthy() {
    agent(async |mut agent, _| {
        let app = with(looks(&["CMD-SHELL", &fails_at("1|3|[5-9]*")], 2, 0), "app");
        agent.run(&assign(task(NetworkMode::None, vec![app]))).await;
        let why = agent.reported(unhealthy(0)).await;
        assert_eq!(why, "health check failed 2 times in a row: it ended with code 1: look 6");
        agent
    });
}

#[test]
fn failures_within_the_start_period_count_only_after_a_pass() {
    agent(async |mut agent, _| {
        let app = with(looks(&["CMD-SHELL", &fails_at("1|2|4")], 1, 3600), "app");
        agent.run(&assign(task(NetworkMode::None, vec![app]))).await;
        let why = agent.reported(unhealthy(0)).await;
        assert_eq!(why, "health check failed: it ended with code 1: look 4");
        agent
    });
}

#[test]
fn failures_count_once_the_start_period_is_over() {
    agent(async |mut agent, _| {
        let app = with(looks(&["CMD", "false"], 1, 3), "app");
        agent.run(&assign(task(NetworkMode::None, vec![app]))).await;
        let started = agent.reported(|task| task.started_at).await;
        agent.reported(unhealthy(0)).await;
        assert!(now().since(started) >= Millis::from_secs(3));
        agent
    });
}
