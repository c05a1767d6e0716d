//! The store and what runs the candidate, against HTTP: time limits, no hidden repetition, watch or look, release.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod stub;

use std::time::{Duration, Instant};

use bindy_election::{
    Config, Election, Holder, LeaseStore, Problem, Process, Record, Settings, State, Store, Term,
};
use serde_json::json;
use stub::{Mood, Stub};
use tokio_util::sync::CancellationToken;

/// How often a lease is renewed, and looked at where it cannot be watched; it lasts five times as long.
const PERIOD: Duration = Duration::from_millis(200);

fn config(identity: &str) -> Config {
    config_with(identity, PERIOD)
}

fn config_with(identity: &str, period: Duration) -> Config {
    let settings = Settings {
        identity: identity.to_owned(),
        duration: period * 5,
        renew_deadline: period * 3,
        retry_period: period,
        ..Settings::default()
    };
    settings.check().unwrap()
}

fn start(cluster: &kube::Config, identity: &str) -> Election {
    start_with(cluster, config(identity))
}

fn start_with(cluster: &kube::Config, config: Config) -> Election {
    let store = LeaseStore::new(cluster.clone(), &config).unwrap();
    Election::start(config, store, CancellationToken::new()).unwrap()
}

/// Waits for a state, for ten seconds.
async fn wait<T>(election: &Election, what: &str, mut found: impl FnMut(&State) -> Option<T>) -> T {
    let mut state = election.state();
    let waiting = async {
        loop {
            if let Some(found) = found(&state.borrow_and_update()) {
                return found;
            }
            state.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("no {what}"))
}

async fn leader(election: &Election) -> Term {
    let found = |state: &State| match state {
        State::Leader(term) => Some(term.clone()),
        _ => None,
    };
    wait(election, "leader", found).await
}

async fn standby_of(election: &Election, wanted: &str) {
    let found = |state: &State| match state {
        State::Standby { holder } => (holder.as_deref() == Some(wanted)).then_some(()),
        _ => None,
    };
    wait(election, "standby", found).await;
}

fn released(term: u64) -> serde_json::Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "bindy-leader", "labels": {"of": "others"},
            "annotations": {"election.bindy.firestoned.io/released-term": term.to_string()}
        },
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": term}
    })
}

#[tokio::test]
async fn requests_end_in_time_and_are_sent_once() {
    let (stub, cluster) = Stub::start().await;
    let store = LeaseStore::new(cluster, &config("one")).unwrap();
    stub.lock().mood = Mood::Silent;
    let limit = config("one").call_timeout();
    let begun = Instant::now();
    assert_eq!(store.get().await, Err(Problem::Timeout(limit)));
    assert!(begun.elapsed() < limit * 3, "{:?}", begun.elapsed());
    stub.lock().mood = Mood::Busy;
    assert!(matches!(store.get().await, Err(Problem::Other(text)) if text.contains("429")));
    stub.lock().mood = Mood::Well;
    assert_eq!(stub.lock().log, ["get", "get"], "none is repeated");
}

#[tokio::test]
async fn the_store_writes_under_its_precondition_and_keeps_what_others_wrote() {
    let (stub, cluster) = Stub::start().await;
    let store = LeaseStore::new(cluster, &config("one")).unwrap();
    assert_eq!(store.get().await, Ok(None));
    let process = Some(Process::random().unwrap());
    let holder = Holder::Held { identity: "one".into(), process };
    let record = Record { holder, term: 5, duration: Duration::from_secs(15) };
    stub.put(Some(released(4)));
    assert_eq!(store.create(&record).await, Err(Problem::Conflict));
    let found = store.get().await.unwrap().unwrap();
    assert_eq!(found.record.holder, Holder::Released);
    let written = store.update(&record, &found.version).await.unwrap();
    assert_eq!(written.record, record);
    assert_eq!(store.update(&record, &found.version).await, Err(Problem::Conflict));
    let first = stub.lock().lease.clone().unwrap();
    assert_eq!(first["metadata"]["labels"]["of"], "others");
    assert_eq!(first["spec"]["holderIdentity"], "one");
    assert_eq!(first["spec"]["leaseTransitions"], 5);
    assert_eq!(first["spec"]["leaseDurationSeconds"], 15);
    let renewed = store.update(&record, &written.version).await.unwrap();
    let second = stub.lock().lease.clone().unwrap();
    assert_eq!(second["spec"]["acquireTime"], first["spec"]["acquireTime"]);
    assert_ne!(second["spec"]["renewTime"], first["spec"]["renewTime"]);
    stub.put(None);
    assert_eq!(store.update(&record, &renewed.version).await, Err(Problem::Absent));
}

#[tokio::test]
async fn a_released_lease_is_handed_over_by_one_event() {
    let (stub, cluster) = Stub::start().await;
    stub.put(Some(released(4)));
    // Nobody looks by himself before the test has failed.
    let period = Duration::from_secs(20);
    let first = start_with(&cluster, config_with("one", period));
    let term = leader(&first).await;
    assert_eq!(term.number(), 5);
    let second = start_with(&cluster, config_with("two", period));
    standby_of(&second, "one").await;
    // The watch stands when it has told of a renewal.
    let renewals = second.metrics().snapshot().since_renewal.unwrap();
    assert!(renewals < Duration::from_secs(5));
    tokio::time::timeout(Duration::from_secs(5), async {
        while !stub.lock().log.contains(&"watch") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let mut was_live = false;
    first.release(async { was_live = term.is_live() }).await;
    assert!(was_live, "the term lives until its writes have ended");
    assert!(!term.is_live());
    let next = leader(&second).await;
    assert_eq!(next.number(), 6);
}

#[tokio::test]
async fn without_the_right_to_watch_a_standby_looks_every_period() {
    let (stub, cluster) = Stub::start().await;
    stub.lock().no_watch = true;
    stub.put(Some(released(1)));
    let first = start(&cluster, "one");
    leader(&first).await;
    let second = start(&cluster, "two");
    standby_of(&second, "one").await;
    let looks = |stub: &Stub| stub.lock().log.iter().filter(|verb| **verb == "get").count();
    let looked = async {
        while looks(&stub) < 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looked).await.unwrap();
    first.release(async {}).await;
    assert_eq!(leader(&second).await.number(), 3);
    let log = stub.lock().log.clone();
    assert_eq!(log.iter().filter(|verb| **verb == "watch").count(), 2, "once each: {log:?}");
}

#[tokio::test]
async fn a_term_ends_by_the_clock_when_the_server_is_silent_and_another_begins_later() {
    let (stub, cluster) = Stub::start().await;
    stub.put(Some(released(1)));
    let one = start(&cluster, "one");
    let term = leader(&one).await;
    stub.lock().mood = Mood::Silent;
    tokio::time::timeout(Duration::from_secs(2), term.ended()).await.unwrap();
    assert!(term.check().is_err() && !one.metrics().snapshot().leader);
    standby_of(&one, "one").await;
    stub.lock().mood = Mood::Well;
    let next = leader(&one).await;
    assert!(next.number() > term.number());
    assert!(one.metrics().snapshot().failed > 0);
}

#[tokio::test]
async fn a_lease_given_to_somebody_else_is_left_alone_for_its_duration() {
    let (stub, cluster) = Stub::start().await;
    stub.put(Some(released(1)));
    let one = start(&cluster, "one");
    let term = leader(&one).await;
    let begun = Instant::now();
    stub.put(Some(json!({
        "metadata": {"name": "bindy-leader"},
        "spec": {
            "holderIdentity": "foreign", "leaseDurationSeconds": 2, "leaseTransitions": 9,
            "renewTime": "2199-01-01T00:00:00.000000Z"
        }
    })));
    standby_of(&one, "foreign").await;
    assert!(!term.is_live());
    assert_eq!(leader(&one).await.number(), 10);
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_deleted_lease_is_made_again_by_its_leader_in_the_same_term() {
    let (stub, cluster) = Stub::start().await;
    stub.put(Some(released(1)));
    let one = start(&cluster, "one");
    let two = start(&cluster, "two");
    let term = tokio::select! {
        term = leader(&one) => term,
        term = leader(&two) => term,
    };
    let holder = stub.holder();
    stub.put(None);
    let again = async {
        while stub.holder() != holder {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
    assert!(term.is_live());
    assert_eq!(stub.lock().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 2);
}

#[tokio::test]
async fn the_first_start_waits_one_duration() {
    let (stub, cluster) = Stub::start().await;
    let begun = Instant::now();
    let one = start(&cluster, "one");
    let term = leader(&one).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((term.number(), stub.holder().as_deref()), (1, Some("one")));
    drop(one);
    tokio::time::timeout(Duration::from_secs(1), term.ended()).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_keeps_its_term_until_its_writes_have_ended() {
    let (stub, cluster) = Stub::start().await;
    stub.put(Some(released(1)));
    let cancel = CancellationToken::new();
    let config = config("one");
    let store = LeaseStore::new(cluster, &config).unwrap();
    let one = Election::start(config.clone(), store, cancel.clone()).unwrap();
    let term = leader(&one).await;
    cancel.cancel();
    // Longer than a term lives without a renewal.
    tokio::time::sleep(config.renew_deadline() * 2).await;
    assert!(term.is_live());
    one.release(async {}).await;
    assert_eq!(stub.holder().as_deref(), Some(""));
    assert_eq!(stub.lock().lease.as_ref().unwrap()["spec"]["leaseDurationSeconds"], 1);
}
