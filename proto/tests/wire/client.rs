//! The client against managers that are silent, gone, not leading or broken. Time is paused:
//! seconds pass at once, and a wait that never ends would hang the test, not slow it down.

use muster_model::Error;
use muster_proto::client::{CHANNELS_MAX, Client, Dialer, HEDGE_AFTER, PAUSE_MAX, TRY_WAIT};
use muster_proto::error::{LEADER_METADATA, to_status};
use muster_proto::pb;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// A client of three managers, and the addresses it dialled, in order.
fn client() -> (Client, Arc<Mutex<Vec<String>>>) {
    let dialled = Arc::new(Mutex::new(Vec::new()));
    let list = dialled.clone();
    let dial: Dialer = Arc::new(move |address: &str| {
        list.lock().unwrap().push(address.to_owned());
        // Never used: the calls of these tests do not send anything.
        Ok(Endpoint::from_static("http://127.0.0.1:1").connect_lazy())
    });
    let endpoints = ["m1", "m2", "m3"].map(String::from).to_vec();
    (Client::new(endpoints, dial).unwrap(), dialled)
}

fn unavailable(leader: Option<&str>) -> Status {
    let mut status = to_status(&Error::Unavailable { why: "no leader".into() });
    if let Some(leader) = leader {
        status.metadata_mut().insert(LEADER_METADATA, leader.parse().unwrap());
    }
    status
}

/// Counts tries and answers the n-th one as told.
struct Tries(Mutex<usize>);

impl Tries {
    fn new() -> Self {
        Self(Mutex::new(0))
    }
    fn next(&self) -> usize {
        let mut tries = self.0.lock().unwrap();
        *tries += 1;
        *tries
    }
    fn count(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

fn after(time: Duration) -> Instant {
    Instant::now() + time
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_manager_that_names_the_leader_is_followed() {
    let (client, dialled) = client();
    let tries = Tries::new();
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        1 => Err(unavailable(Some("m9"))),
        _ => Ok(Response::new(7)),
    };
    assert_eq!(client.call((), after(LONG), &call).await.unwrap(), 7);
    assert_eq!(*dialled.lock().unwrap(), ["m1", "m9"]);
    // What answered is asked first the next time.
    client.call((), after(LONG), &call).await.unwrap();
    assert_eq!(*dialled.lock().unwrap(), ["m1", "m9"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_the_managers_are_asked_in_turn_until_one_answers() {
    let (client, dialled) = client();
    let tries = Tries::new();
    let started = Instant::now();
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        n if n < 10 => Err(unavailable(None)),
        _ => Ok(Response::new(())),
    };
    client.call((), after(LONG), call).await.unwrap();
    assert_eq!(*dialled.lock().unwrap(), ["m1", "m2", "m3"]);
    assert!(started.elapsed() < 10 * PAUSE_MAX, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_manager_costs_a_repeatable_call_less_than_a_second() {
    let (client, dialled) = client();
    let tries = Tries::new();
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        1 => std::future::pending().await,
        _ => Ok(Response::new(())),
    };
    let started = Instant::now();
    client.call_repeatable((), after(LONG), &call).await.unwrap();
    assert!(
        started.elapsed() <= HEDGE_AFTER + Duration::from_millis(50),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(*dialled.lock().unwrap(), ["m1", "m2"]);
    // The one that answered is the favourite now.
    let started = Instant::now();
    client.call_repeatable((), after(LONG), &call).await.unwrap();
    assert!(started.elapsed() < HEDGE_AFTER);
}

#[tokio::test(start_paused = true)]
async fn a_slow_manager_s_own_answer_counts_although_another_was_asked() {
    let (client, _) = client();
    let tries = Tries::new();
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        1 => {
            tokio::time::sleep(2 * HEDGE_AFTER).await;
            Ok(Response::new("slow"))
        }
        _ => std::future::pending().await,
    };
    assert_eq!(client.call_repeatable((), after(LONG), call).await.unwrap(), "slow");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_repeatable_is_with_one_manager_at_a_time() {
    let (client, dialled) = client();
    let tries = Tries::new();
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        1 => std::future::pending().await,
        _ => Ok(Response::new(())),
    };
    let started = Instant::now();
    client.call((), after(LONG), call).await.unwrap();
    assert!(started.elapsed() >= TRY_WAIT, "{:?}", started.elapsed());
    assert_eq!(*dialled.lock().unwrap(), ["m1", "m2"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_an_error_is_not_asked_for_again() {
    let (client, _) = client();
    let tries = Tries::new();
    let refused = Error::invalid("desiredCount", "-1", "0 to 10");
    let call = async |_: Channel, _: Request<()>| {
        tries.next();
        Err::<Response<()>, _>(to_status(&refused))
    };
    assert_eq!(client.call_repeatable((), after(LONG), call).await.unwrap_err(), refused);
    assert_eq!(tries.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_try_of_a_write_carries_the_same_token_and_a_given_one_is_kept() {
    let (client, _) = client();
    let tokens = Mutex::new(Vec::new());
    let call = async |_: Channel, request: Request<pb::DeleteClusterRequest>| {
        let mut tokens = tokens.lock().unwrap();
        tokens.push(request.into_inner().client_token);
        match tokens.len() {
            3 => Ok(Response::new(())),
            _ => Err(Status::unknown("connection reset")),
        }
    };
    client.call_write(pb::DeleteClusterRequest::default(), after(LONG), call).await.unwrap();
    let seen = tokens.lock().unwrap().clone();
    assert_eq!(seen[0].len(), 32);
    assert!(seen.iter().all(|token| *token == seen[0]), "{seen:?}");
    assert_ne!(seen[0], client.fresh_token());

    let given = pb::DeleteClusterRequest { client_token: "mine".into(), ..Default::default() };
    let call = async |_: Channel, request: Request<pb::DeleteClusterRequest>| {
        Ok(Response::new(request.into_inner().client_token))
    };
    assert_eq!(client.call_write(given, after(LONG), call).await.unwrap(), "mine");
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_by_its_deadline_and_says_whether_it_may_have_been_done() {
    let limit = Duration::from_secs(4);
    let (client, _) = client();
    let started = Instant::now();
    let silent =
        async |_: Channel, _: Request<()>| std::future::pending::<Result<Response<()>, _>>().await;
    let error = client.call_repeatable((), after(limit), silent).await.unwrap_err();
    let why = "m1, m2, m3 did not answer in time".to_owned();
    assert_eq!(error, Error::UnknownOutcome { why });
    assert_eq!(started.elapsed().as_secs(), limit.as_secs());

    let away = async |_: Channel, _: Request<()>| Err::<Response<()>, _>(unavailable(None));
    let error = client.call((), after(limit), away).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");

    // Lost once, then nobody there: it may have been done all the same.
    let tries = Tries::new();
    let lost = async |_: Channel, _: Request<()>| match tries.next() {
        1 => Err::<Response<()>, _>(Status::unknown("connection reset")),
        _ => Err(unavailable(None)),
    };
    let error = client.call((), after(limit), lost).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    let late = client.call((), Instant::now(), away).await.unwrap_err();
    assert!(matches!(late, Error::Unavailable { .. }), "{late:?}");
}

#[test]
fn a_client_needs_a_manager() {
    let dial: Dialer = Arc::new(|_: &str| Err("never".into()));
    assert!(matches!(Client::new(vec![], dial), Err(Error::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_be_dialled_is_passed_over() {
    let dial: Dialer = Arc::new(|address: &str| match address {
        "bad" => Err("no such host".into()),
        _ => Ok(Endpoint::from_static("http://127.0.0.1:1").connect_lazy()),
    });
    let client = Client::new(vec!["bad".into(), "good".into()], dial).unwrap();
    let call = async |_: Channel, _: Request<()>| Ok(Response::new(1));
    assert_eq!(client.call((), after(LONG), call).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn hints_do_not_make_a_client_keep_channels_without_end() {
    let (client, dialled) = client();
    let tries = Tries::new();
    let rounds = 2 * CHANNELS_MAX;
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        n if n <= rounds => Err(unavailable(Some(&format!("old{n}")))),
        _ => Ok(Response::new(())),
    };
    client.call((), after(LONG), call).await.unwrap();
    let before = dialled.lock().unwrap().len();
    assert_eq!(before, rounds + 1);
    // The first of them was let go long ago: it is dialled anew.
    let tries = Tries::new();
    let call = async |_: Channel, _: Request<()>| match tries.next() {
        1 => Err(unavailable(Some("old1"))),
        _ => Ok(Response::new(())),
    };
    client.call((), after(LONG), call).await.unwrap();
    assert_eq!(dialled.lock().unwrap().len(), before + 1);
}
