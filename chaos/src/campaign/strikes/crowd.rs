//! Too many at once: clients without pause, bodies that are too large, peers that say nothing,
//! watches that nobody reads, and agents that all come back in one moment.

use super::managers::signal;
use super::{Span, Struck};
use crate::campaign::field::Field;
use crate::campaign::workload::Stop;
use crate::campaign::{heal, kernel};
use muster_proto::pb;
use nix::sys::signal::Signal;
use pb::ecs_client::EcsClient;
use pb::live_client::LiveClient;
use std::time::Duration;

/// Ten times the workload's clients.
const CLIENTS: usize = 64;
/// Watches per manager; none of them reads.
const WATCHES: usize = 100;
const SILENT: usize = 50;
/// Agents that come back at once: as many processes as two cores carry beside a cluster.
const AGENTS: u32 = 60;
/// All of them have joined, or are back, within this; the promise is 10 s.
const BACK_WITHIN: Duration = Duration::from_secs(40);
const BACK_PROMISED: Duration = Duration::from_secs(10);

/// Ten times the clients, bodies that are too large, silent peers and unread watches.
///
/// # Errors
/// Nobody leads.
pub fn abuse(field: &mut Field, span: Span) -> Result<Struck, String> {
    let term = |field: &Field| field.statuses().into_iter().flatten().map(|s| s.term).max();
    let (before, memory) = (term(field), resident(field));
    let (struck, stop) = (field.record.now(), Stop::default());
    for client in 0..CLIENTS {
        let (door, stop) = (field.door(client)?, stop.clone());
        field.spawn(async move {
            while !stop.now() {
                let request = pb::ListClustersRequest::default();
                let call =
                    async |channel, request| EcsClient::new(channel).list_clusters(request).await;
                door.read(request, call).await.ok();
            }
        });
    }
    for address in field.managers.clone() {
        silent(field, address.clone(), &stop);
        unread(field, address.clone(), &stop);
        huge(field, address);
    }
    let waited = field.last(span.longest.min(Duration::from_secs(8)));
    let grown = resident(field).saturating_sub(memory) >> 20;
    stop.end();
    waited?;
    if term(field) != before {
        field.record.breach("I9", "abuse of the API moved the leader".into());
    }
    let managers = field.managers.len();
    let what = format!(
        "{CLIENTS} clients without pause, {} silent peers, {} unread watches, bodies of 8 MiB; \
         managers grew by {grown} MiB",
        SILENT * managers,
        WATCHES * managers
    );
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Peers that connect and say nothing.
fn silent(field: &Field, address: String, stop: &Stop) {
    let stop = stop.clone();
    field.spawn(async move {
        let mut silent = Vec::new();
        for _ in 0..SILENT {
            silent.extend(tokio::net::TcpStream::connect(&address).await.ok());
        }
        stop.ended().await;
    });
}

/// Watches of everything that are opened and never read.
fn unread(field: &Field, address: String, stop: &Stop) {
    let (dialer, stop, record) = (field.dialer.clone(), stop.clone(), field.record.clone());
    field.spawn(async move {
        let Ok(channel) = dialer(&address) else { return };
        let mut watches = Vec::new();
        for _ in 0..WATCHES {
            let watch = LiveClient::new(channel.clone()).watch(pb::WatchRequest::default()).await;
            watches.extend(watch.ok());
        }
        record.count("watches opened and not read", watches.len() as u64);
        stop.ended().await;
    });
}

/// Bodies that must be refused.
fn huge(field: &Field, address: String) {
    let (dialer, record) = (field.dialer.clone(), field.record.clone());
    field.spawn(async move {
        let Ok(channel) = dialer(&address) else { return };
        for _ in 0..8 {
            let tags = vec![pb::Tag { key: "k".into(), value: "x".repeat(8 << 20) }];
            let request = pb::TagResourceRequest { tags, ..Default::default() };
            let answer = EcsClient::new(channel.clone()).tag_resource(request).await;
            match answer {
                Ok(_) => record.breach("I11", "a body of 8 MiB was accepted".into()),
                Err(_) => record.count("bodies of 8 MiB refused", 1),
            }
        }
    });
}

/// The leader dies, and every agent must find the next one.
///
/// # Errors
/// They do not join, or the machine refuses.
pub fn reconnect(field: &mut Field, _: Span) -> Result<Struck, String> {
    let simulated = field.shape.workers + 1..=field.shape.workers + field.shape.simulated;
    let hosts: Vec<_> = simulated.map(|number| format!("w{number}")).collect();
    for (number, host) in (1..=AGENTS).zip(hosts.iter().cycle()) {
        field.cluster.join_guest(number, host);
    }
    let all = AGENTS + field.shape.workers + field.shape.simulated;
    field.until("the crowd has joined", BACK_WITHIN, || heal::connected(field, all))?;
    // A lease outlives its session: the kernel knows who is really there.
    let sessions = |field: &Field, number: u32| {
        field.cluster.pid(&format!("m{number}")).map_or(0, kernel::sessions)
    };
    let old = field.wait_leader()?;
    let (leader, before, memory) = (format!("m{old}"), sessions(field, old), resident(field));
    let struck = field.record.now();
    signal(field, &leader, Signal::SIGKILL)?;
    field.cluster.reap(&leader);
    let came = field.until("all agents are back", BACK_WITHIN, || match field.leader() {
        Some(number) if number != old => match sessions(field, number) {
            there if there >= all as usize => Ok(there),
            there => Err(format!("{there} sessions with m{number}")),
        },
        _ => Err("nobody leads yet".into()),
    });
    let took = Duration::from_micros(field.record.now() - struck);
    let grown = resident(field).saturating_sub(memory) >> 20;
    field.cluster.start(&leader);
    let healed = field.record.now();
    farewell(field)?;
    for number in 1..=AGENTS {
        field.cluster.kill_guest(number);
    }
    match came {
        Err(why) if why == "interrupted" => return Err(why),
        Err(why) => field.record.breach("I9", why),
        Ok(_) if took > BACK_PROMISED => {
            let what = format!("{all} agents were back after {took:.1?}; promised: 10 s");
            field.record.breach("I9", what);
        }
        Ok(_) => {}
    }
    let what = format!(
        "kill -9 of {leader} with {all} agents and {before} connections of theirs: all back at the \
         next after {took:.1?}, managers grew by {grown} MiB"
    );
    Ok(Struck { what, struck, healed, replaced: None })
}

/// Takes the guests out of the cluster in order: their deaths would be the loss of most of it.
fn farewell(field: &Field) -> Result<(), String> {
    let guests = heal::instances(field)?.into_iter().filter(|i| i.ec2_instance_id.starts_with('g'));
    let arns: Vec<_> = guests.map(|guest| guest.container_instance_arn).collect();
    let door = field.door(0)?;
    field.ask(async move {
        for container_instance in arns {
            let request = pb::DeregisterContainerInstanceRequest {
                container_instance,
                force: true,
                ..Default::default()
            };
            let call = async |channel, request| {
                EcsClient::new(channel).deregister_container_instance(request).await
            };
            door.write(request, call).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// Resident bytes of all managers.
fn resident(field: &Field) -> u64 {
    let hosts = (1..=field.shape.managers).filter_map(|n| field.cluster.pid(&format!("m{n}")));
    hosts.filter_map(kernel::memory).sum()
}
