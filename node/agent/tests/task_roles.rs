//! What containers act as their task role with, asked for from inside real ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, script, task, until};
use muster_model::spec::{ContainerDefinition, NetworkMode, TaskDefinition};
use serde_json::Value;
use std::sync::atomic::Ordering;

const CREDENTIALS: &str = "wget -qO- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const IDENTITY: &str = "wget -qO- $MUSTER_CONTAINER_IDENTITY_URI";

fn acting(mode: NetworkMode, containers: Vec<ContainerDefinition>) -> TaskDefinition {
    TaskDefinition { task_role_arn: Some("web".into()), ..task(mode, containers) }
}

fn read(log: &str) -> Value {
    serde_json::from_str(log).unwrap_or_else(|e| panic!("{e}: {log}"))
}

#[test]
fn every_container_of_a_task_with_a_role_acts_as_it() {
    lab(|mut lab| async {
        let mut main = script("main", CREDENTIALS);
        let forged = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        main.environment.insert(forged.into(), "/v2/credentials/forged".into());
        let said = format!("{IDENTITY}?audience=https%3A%2F%2Fa.example");
        let side = script("side", &format!("{CREDENTIALS}; echo; {said}"));
        let assignment = assign(acting(NetworkMode::Bridge, vec![main, side]));
        lab.run(&assignment).await;
        for name in ["main", "side"] {
            assert_eq!(lab.exit(&key(&assignment, name)).await.exit_code, Some(0), "{name}");
        }
        let own = read(&lab.log(&key(&assignment, "main")).await);
        assert_eq!(own["RoleArn"], "arn:aws:iam::000000000000:role/web");
        assert_eq!(own["AccessKeyId"], "ASIAAAAAAAAAAAAAAAAA");
        assert_eq!(own["SecretAccessKey"], "hush");
        assert_eq!(own["Token"], format!("token of {}", assignment.task));
        let expires = own["Expiration"].as_str().unwrap();
        assert!(expires.ends_with('Z') && expires.len() == 20, "{expires}");
        let log = lab.log(&key(&assignment, "side")).await;
        let (same, said) = log.split_once('\n').unwrap();
        assert_eq!(read(same), own);
        let token = format!("identity of {} for https://a.example", assignment.task);
        assert_eq!(read(said)["Token"], token.as_str());
        let acted = lab.told.acted.lock().unwrap().clone();
        // Before anybody asked; at most once more, had a container been that quick.
        let asked = acted.iter().filter(|what| **what == assignment.task.to_string()).count();
        assert!((1..=2).contains(&asked), "{acted:?}");
        lab
    });
}

#[test]
fn only_the_task_itself_is_answered_and_one_without_a_role_has_nothing_to_ask() {
    lab(|mut lab| async {
        let show = "echo $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; exec sleep 60";
        let one = assign(acting(NetworkMode::Bridge, vec![script("main", show)]));
        lab.run(&one).await;
        let main = key(&one, "main");
        lab.printed(&main, "/v2/credentials/").await;
        let path = lab.log(&main).await.trim().to_owned();
        let id = path.rsplit('/').next().unwrap().to_owned();
        let ask = |path: &str| format!("wget -O- http://169.254.170.2{path}");
        let asks = [
            ask(&path),
            ask(&format!("/v2/identity/{id}?audience=a")),
            ask(&format!("/v4/{id}")),
            ask("/v2/credentials"),
            "echo [$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI$MUSTER_CONTAINER_IDENTITY_URI]".into(),
        ];
        let spy = |mode| task(mode, vec![script("spy", &asks.join("; "))]);
        let (_, log) = lab.finish(spy(NetworkMode::Bridge)).await;
        assert_eq!(log.matches("400 Bad Request").count(), 3, "{log}");
        assert_eq!(log.matches("404 Not Found").count(), 1, "{log}");
        assert!(!log.contains("hush") && log.contains("[]"), "{log}");
        let (_, log) =
            lab.finish(acting(NetworkMode::None, vec![script("main", asks[4].as_str())])).await;
        assert_eq!(log, "[]\n");
        lab
    });
}

#[test]
fn mode_host_has_it_too() {
    lab(|mut lab| async {
        lab::sh(
            "ip link add out0 type veth peer name out1 && ip addr add 192.0.2.1/24 dev out0 \
            && ip link set out0 up && ip link set out1 up && ip route add default via 192.0.2.9",
        );
        let main = script("main", CREDENTIALS);
        let (exit, log) = lab.finish(acting(NetworkMode::Host, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        assert_eq!(read(&log)["SecretAccessKey"], "hush");
        lab
    });
}

#[test]
fn an_outage_of_the_managers_goes_unnoticed_until_credentials_expire() {
    lab(|mut lab| async {
        let ask = format!("echo up; until [ -e /go ]; do sleep 0.1; done; {CREDENTIALS}");
        let first = assign(acting(NetworkMode::Bridge, vec![script("main", &ask)]));
        lab.run(&first).await;
        let asked = first.task.to_string();
        until("credentials before anybody asked", async || {
            lab.told.acted.lock().unwrap().contains(&asked).then_some(())
        })
        .await;
        lab.told.gone.store(true, Ordering::Relaxed);
        let go = ["touch", "/go"].map(str::to_owned);
        let mut run = lab.runtime.exec(&key(&first, "main"), &go, None).unwrap();
        while run.output.recv().await.is_some() {}
        assert_eq!(lab.exit(&key(&first, "main")).await.exit_code, Some(0));
        assert!(lab.log(&key(&first, "main")).await.contains("hush"));

        // A task that comes now has none, says so, and gets them when they are back.
        let wait = format!(
            "wget -O- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; \
                            until {CREDENTIALS}; do sleep 0.1; done"
        );
        let second = assign(acting(NetworkMode::Bridge, vec![script("main", &wait)]));
        lab.run(&second).await;
        lab.printed(&key(&second, "main"), "503 Service Unavailable").await;
        lab.told.gone.store(false, Ordering::Relaxed);
        assert_eq!(lab.exit(&key(&second, "main")).await.exit_code, Some(0));
        lab
    });
}

#[test]
fn what_has_expired_is_asked_for_anew_and_a_new_agent_asks_for_its_own() {
    lab(|lab| async {
        lab.told.short.store(true, Ordering::Relaxed);
        let twice = format!("{CREDENTIALS} && {CREDENTIALS} && echo up; exec sleep 60");
        let assignment = assign(acting(NetworkMode::Bridge, vec![script("main", &twice)]));
        lab.run(&assignment).await;
        lab.printed(&key(&assignment, "main"), "up").await;
        let asked = |lab: &lab::Lab| lab.told.acted.lock().unwrap().len();
        assert!(asked(&lab) >= 2, "{}", asked(&lab));
        lab.told.short.store(false, Ordering::Relaxed);
        lab.told.acted.lock().unwrap().clear();
        let (lab, _) = lab.restart().await;
        until("the new agent's question", async || (asked(&lab) > 0).then_some(())).await;
        lab
    });
}
