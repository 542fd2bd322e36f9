//! The soak: the workload alone, for as long as is asked, and what each process takes of the
//! machine at its start and at its end. I11 in its strict form: within ten per cent.
//!
//! What a cluster remembers for a day (what requests were answered) or an hour (stopped tasks) is
//! history, not a leak: the soak's workload keeps its names, and the memory of answers is filled to
//! its limit before the first look. Invariant: it strikes nothing.

use super::field::{Field, INTERRUPTED};
use super::footprint::{self, Footprint};
use super::workload::COUNTERS;
use super::{heal, hub};
use muster_model::limits::REQUESTS_MAX;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the processes.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Of the soak's time: what counts as its start, and as its end.
const EDGE: f64 = 0.15;
/// A minute shows nothing.
pub const MINUTES_MIN: u64 = 2;
/// Two days, the longest soak that is promised.
pub const MINUTES_MAX: u64 = 48 * 60;
/// Clients that fill the memory of answers; each writes a tag of its own, of 50 that there may be.
const FILLERS: usize = 32;
/// Writes between two words of how far that is: some seconds.
const TELL_EVERY: usize = 20_000;

/// Runs beside the workload for `time`, and compares the ends.
///
/// # Errors
/// The cluster is not well, or the campaign is interrupted.
pub fn run(field: &Field, time: Duration) -> Result<(), String> {
    println!("filling the memory of answers: {REQUESTS_MAX} writes");
    fill(field)?;
    let began = Instant::now();
    let mut looks = Vec::new();
    let mut told = 0;
    while began.elapsed() < time {
        field.last(LOOK_EVERY.min(time.saturating_sub(began.elapsed())))?;
        looks.push((began.elapsed(), footprint::all(field)));
        let minutes = began.elapsed().as_secs() / 60;
        if minutes > told {
            told = minutes;
            heal::well(field)?;
            let left = time.saturating_sub(began.elapsed()).as_secs() / 60;
            println!("{minutes:>4} min  {}; {left} min left", line(&looks));
        }
    }
    let edge = time.mul_f64(EDGE);
    let start = middle(looks.iter().filter(|(at, _)| *at <= edge).map(|(_, seen)| seen));
    let end = middle(looks.iter().filter(|(at, _)| *at + edge >= time).map(|(_, seen)| seen));
    field.record.count("looks at all processes", looks.len() as u64);
    footprint::compare_strictly(field, &start, &end);
    Ok(())
}

/// What the leader's memory and the like are now, for whoever watches.
fn line(looks: &[(Duration, BTreeMap<String, Footprint>)]) -> String {
    let Some((_, last)) = looks.last() else { return String::new() };
    let managers = last.iter().filter(|(host, _)| host.starts_with('m'));
    managers.map(|(host, seen)| format!("{host} {seen}")).collect::<Vec<_>>().join("; ")
}

/// The median of each number of each process: a compaction or a burst is no growth.
fn middle<'a>(
    looks: impl Iterator<Item = &'a BTreeMap<String, Footprint>>,
) -> BTreeMap<String, Footprint> {
    let mut seen: BTreeMap<String, Vec<Footprint>> = BTreeMap::new();
    for (host, footprint) in looks.flatten() {
        seen.entry(host.clone()).or_default().push(*footprint);
    }
    seen.into_iter().map(|(host, all)| (host, footprint::median(&all))).collect()
}

/// As many writes as the cluster remembers answers of.
fn fill(field: &Field) -> Result<(), String> {
    let arn = field.cluster_arn(COUNTERS)?;
    let left = Arc::new(AtomicUsize::new(REQUESTS_MAX));
    let mut doors = Vec::new();
    for turn in 0..FILLERS {
        doors.push(field.door(turn)?);
    }
    field.ask(async move {
        let mut fillers = tokio::task::JoinSet::new();
        for (number, door) in doors.into_iter().enumerate() {
            fillers.spawn(filler(door, arn.clone(), format!("fill{number}"), left.clone()));
        }
        while let Some(ended) = fillers.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    })
}

async fn filler(
    door: hub::Door,
    arn: String,
    key: String,
    left: Arc<AtomicUsize>,
) -> Result<(), String> {
    let one_less = |left: usize| left.checked_sub(1);
    while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if number < REQUESTS_MAX && number.is_multiple_of(TELL_EVERY) {
            println!("{number} writes left");
        }
        let request = pb::TagResourceRequest {
            resource_arn: arn.clone(),
            tags: vec![pb::Tag { key: key.clone(), value: number.to_string() }],
            ..Default::default()
        };
        let call = async |channel, request| EcsClient::new(channel).tag_resource(request).await;
        door.write(request, call).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_no_growth_and_a_climb_is() {
        let look = |memory| BTreeMap::from([("m1".to_owned(), Footprint::of(memory, 40, 8, 100))]);
        let burst = [look(100), look(900), look(101)];
        assert_eq!(middle(burst.iter())["m1"], Footprint::of(101, 40, 8, 100));
        let climb = [look(100), look(200), look(300)];
        assert_eq!(middle(climb.iter())["m1"], Footprint::of(200, 40, 8, 100));
    }
}
