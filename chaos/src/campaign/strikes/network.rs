//! Faults of the network between hosts: cut both ways, or one way only.

use super::{Span, Struck};
use crate::campaign::field::Field;
use std::time::Duration;

/// Cuts every (from, to), waits, and undoes it, whatever happened meanwhile.
fn cut(field: &mut Field, cuts: &[(String, String)], span: Duration) -> Result<(u64, u64), String> {
    let struck = field.record.now();
    for (from, to) in cuts {
        field.cluster.lab.done(&["cut", from, to]);
    }
    let waited = field.last(span);
    for (from, to) in cuts {
        field.cluster.lab.done(&["uncut", from, to]);
    }
    waited.map(|()| (struck, field.record.now()))
}

pub(super) fn both_ways(one: &str, others: &[String]) -> Vec<(String, String)> {
    let out = others.iter().map(|other| (one.to_owned(), other.clone()));
    let back = others.iter().map(|other| (other.clone(), one.to_owned()));
    out.chain(back).collect()
}

pub(super) fn others(field: &Field, not: &str) -> Vec<String> {
    let managers = (1..=field.shape.managers).map(|number| format!("m{number}"));
    managers.filter(|host| host != not).collect()
}

fn some_time(field: &mut Field, span: Span) -> Duration {
    let longest = u64::try_from(span.longest.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(2000 + field.below(longest.saturating_sub(2000).min(4000)))
}

/// The leader alone on one side, or a follower alone, in turn.
///
/// # Errors
/// Nobody leads, or the hub refuses.
pub fn symmetric(field: &mut Field, span: Span) -> Result<Struck, String> {
    let leader = format!("m{}", field.wait_leader()?);
    let minority = field.below(2) == 0;
    let alone = match minority {
        true => leader.clone(),
        false => others(field, &leader).pop().unwrap_or_default(),
    };
    let with = others(field, &alone);
    let time = some_time(field, span);
    let (struck, healed) = cut(field, &both_ways(&alone, &with), time)?;
    let side = if minority { "leader" } else { "follower" };
    let what =
        format!("{side} {alone} cut off from the other managers for {:.1} s", time.as_secs_f32());
    Ok(Struck { what, struck, healed, replaced: None })
}

/// One direction only: the leader's to one follower, one's to the leader, the leader's to all, or
/// an agent's to the leader.
///
/// # Errors
/// Nobody leads, or the hub refuses.
pub fn one_way(field: &mut Field, span: Span) -> Result<Struck, String> {
    let leader = format!("m{}", field.wait_leader()?);
    let followers = others(field, &leader);
    let one = followers[field.below(followers.len() as u64) as usize].clone();
    let workers = u64::from(field.shape.workers + field.shape.simulated);
    let (cuts, who) = match field.below(4) {
        0 => (vec![(leader.clone(), one.clone())], format!("from leader {leader} to {one}")),
        1 => (vec![(one.clone(), leader.clone())], format!("from {one} to leader {leader}")),
        2 => {
            let agent = format!("w{}", 1 + field.below(workers));
            (vec![(agent.clone(), leader.clone())], format!("from {agent} to leader {leader}"))
        }
        _ => {
            let all = followers.iter().map(|other| (leader.clone(), other.clone()));
            (all.collect(), format!("from leader {leader} to all"))
        }
    };
    let time = some_time(field, span);
    let (struck, healed) = cut(field, &cuts, time)?;
    let what = format!("nothing arrives {who} for {:.1} s", time.as_secs_f32());
    Ok(Struck { what, struck, healed, replaced: None })
}

/// A worker without managers for less than its lease and for more, in turn.
///
/// # Errors
/// The hub refuses.
pub fn worker(field: &mut Field, span: Span) -> Result<Struck, String> {
    let workers = u64::from(field.shape.workers + field.shape.simulated);
    let worker = format!("w{}", 1 + field.below(workers));
    let managers: Vec<_> = others(field, "");
    let time = if field.below(2) == 0 { Duration::from_secs(3) } else { span.longest };
    let (struck, healed) = cut(field, &both_ways(&worker, &managers), time)?;
    let what = format!("{worker} cut off from all managers for {:.1} s", time.as_secs_f32());
    Ok(Struck { what, struck, healed, replaced: None })
}

/// A share of what arrives at the leader is lost.
///
/// # Errors
/// Nobody leads, or the host refuses.
pub fn loss(field: &mut Field, span: Span) -> Result<Struck, String> {
    let leader = format!("m{}", field.wait_leader()?);
    let percent = 1 + field.below(30);
    let share = format!("{:.2}", percent as f64 / 100.0);
    let rule = |verb: &str| {
        let words = ["run", &leader, "iptables", verb, "INPUT", "-m", "statistic", "--mode"];
        let more = ["random", "--probability", &share, "-j", "DROP"];
        field.cluster.lab.done(&[&words[..], &more[..]].concat());
    };
    let struck = field.record.now();
    rule("-A");
    let waited = field.last(span.longest.min(Duration::from_secs(6)));
    rule("-D");
    waited?;
    let what = format!("{percent} % of what arrives at the leader {leader} is lost");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}
