//! Single decisions, each by name.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::config::Settings;

/// A candidate whose first acquisition has this number.
fn candidate(process: u128) -> Candidate {
    let settings = Settings { identity: "pod".to_owned(), ..Settings::default() };
    Candidate::new(settings.check().unwrap(), Process::from_number(process - 1))
}

/// Seconds after the start.
fn at(seconds: u64) -> Moment {
    Moment::START.after(Duration::from_secs(1_000 + seconds))
}

fn lease(holder: Holder, term: u64, version: u64) -> Option<Observed> {
    let metadata = ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() };
    let record = Record { holder, term, duration: Duration::from_secs(15) };
    Some(Observed { record, version: Version::new(metadata) })
}

fn held(identity: &str, process: u128) -> Holder {
    Holder::Held { identity: Arc::from(identity), process: Some(Process::from_number(process)) }
}

fn seen(candidate: &mut Candidate, seconds: u64, lease: Option<Observed>) -> Step {
    candidate.step(at(seconds), Event::Answered(Ok(lease)))
}

fn is_taken(step: &Step) -> bool {
    matches!(&step.request, Some(Request::Update(record, _)) if matches!(record.holder, Holder::Held { .. }))
}

/// A leader in term 4 since second 0.
fn leader() -> Candidate {
    let mut candidate = candidate(1);
    candidate.step(at(0), Event::Wake);
    assert!(is_taken(&seen(&mut candidate, 0, lease(Holder::Released, 3, 1))));
    let step = seen(&mut candidate, 0, lease(held("pod", 1), 4, 2));
    assert_eq!(step.standing, Standing::Leader { number: 4, deadline: at(10) });
    candidate
}

#[test]
fn a_record_of_another_process_of_the_same_name_is_somebody_elses() {
    let mut restarted = candidate(2);
    restarted.step(at(0), Event::Wake);
    let step = seen(&mut restarted, 0, lease(held("pod", 1), 4, 1));
    assert!(matches!(step.standing, Standing::Standby { .. }));
    assert_eq!(step.request, None);
    assert!(!is_taken(&restarted.step(at(14), Event::Watched(lease(held("pod", 1), 4, 1)))));
    restarted.step(at(14), Event::Answered(Ok(lease(held("pod", 1), 4, 1))));
    assert!(is_taken(&restarted.step(at(15), Event::Wake)), "after the duration");
}

#[test]
fn a_lost_reply_of_an_acquisition_is_found_in_the_lease_and_counts_from_its_sending() {
    let mut candidate = candidate(1);
    candidate.step(at(0), Event::Wake);
    seen(&mut candidate, 0, lease(Holder::Released, 3, 1));
    let lost = candidate.step(at(2), Event::Answered(Err(Failure::Unknown)));
    assert_eq!(lost.request, Some(Request::Get));
    let step = seen(&mut candidate, 3, lease(held("pod", 1), 4, 2));
    assert_eq!(step.standing, Standing::Leader { number: 4, deadline: at(10) });
}

#[test]
fn a_reply_after_the_deadline_brings_no_term_back() {
    let mut leader = leader();
    assert!(is_taken(&leader.step(at(9), Event::Wake)));
    let step = seen(&mut leader, 10, lease(held("pod", 1), 4, 3));
    assert!(matches!(step.standing, Standing::Standby { .. }));
}

#[test]
fn a_copy_of_a_released_lease_that_is_put_back_hands_nothing_over() {
    let mut standby = candidate(1);
    standby.step(at(0), Event::Wake);
    seen(&mut standby, 0, lease(held("other", 7), 5, 1));
    let step = standby.step(at(1), Event::Watched(lease(Holder::Released, 4, 2)));
    assert!(!is_taken(&step));
    let vacant = Record { holder: Holder::Vacant, term: 5, duration: Duration::from_secs(15) };
    assert!(matches!(step.request, Some(Request::Update(record, _)) if record == vacant), "others are told");
}

#[test]
fn a_holder_removed_by_hand_is_waited_out_and_a_release_is_not() {
    for (holder, now) in [(Holder::Vacant, false), (Holder::Released, true)] {
        let mut standby = candidate(1);
        standby.step(at(0), Event::Wake);
        seen(&mut standby, 0, lease(held("other", 7), 5, 1));
        assert_eq!(is_taken(&standby.step(at(1), Event::Watched(lease(holder, 5, 2)))), now);
    }
}

#[test]
fn numbers_go_on_after_a_deletion_as_long_as_somebody_remembers() {
    let mut standby = candidate(1);
    standby.step(at(0), Event::Wake);
    seen(&mut standby, 0, lease(held("other", 7), 5, 1));
    let vacant = |term| Record { holder: Holder::Vacant, term, duration: Duration::from_secs(15) };
    let step = standby.step(at(1), Event::Watched(None));
    assert_eq!(step.request, Some(Request::Create(vacant(5))));
    // Somebody was faster who knew nothing.
    standby.step(at(1), Event::Answered(Err(Failure::Conflict)));
    let step = seen(&mut standby, 1, lease(Holder::Vacant, 0, 2));
    assert!(matches!(step.request, Some(Request::Update(record, _)) if record == vacant(5)));
}

#[test]
fn a_number_set_to_the_highest_possible_does_not_block_elections() {
    let highest = u64::from(i32::MAX.unsigned_abs());
    let mut standby = candidate(1);
    standby.step(at(0), Event::Wake);
    let step = seen(&mut standby, 0, lease(Holder::Released, highest, 1));
    assert!(matches!(step.request, Some(Request::Update(record, _)) if record.term == 1));
}

#[test]
fn a_leader_whose_lease_is_edited_or_deleted_goes_on_and_one_whose_lease_is_given_away_stops() {
    for (found, goes_on) in [
        (None, true),
        (lease(Holder::Vacant, 4, 9), true),
        (lease(held("pod", 1), 77, 9), true),
        (lease(held("other", 1), 4, 9), false),
        (lease(held("pod", 2), 4, 9), false),
    ] {
        let mut leader = leader();
        leader.step(at(2), Event::Wake);
        let look = leader.step(at(2), Event::Answered(Err(Failure::Conflict)));
        assert_eq!(look.request, Some(Request::Get));
        let step = seen(&mut leader, 2, found.clone());
        assert_eq!(matches!(step.standing, Standing::Leader { .. }), goes_on, "{found:?}");
        assert_eq!(step.request.is_some(), goes_on, "{found:?}");
    }
}

#[test]
fn single_failures_of_a_busy_server_are_tried_again_soon_and_an_editor_is_not_raced() {
    let mut leader = leader();
    leader.step(at(2), Event::Wake);
    let step = leader.step(at(2), Event::Answered(Err(Failure::Unknown)));
    assert_eq!((step.request, step.wake), (None, Some(at(2).after(Duration::from_millis(500)))));
    leader.step(at(3), Event::Wake);
    let mut looks = 0;
    while leader.step(at(3), Event::Answered(Err(Failure::Conflict))).request.is_some() {
        looks += 1;
        seen(&mut leader, 3, lease(held("pod", 1), 4, 10 + looks));
        assert!(looks < 10);
    }
    assert_eq!(looks, 3);
}

#[test]
fn who_withdraws_while_it_acquires_gives_back_what_it_gets() {
    let mut candidate = candidate(1);
    candidate.step(at(0), Event::Wake);
    seen(&mut candidate, 0, lease(Holder::Released, 3, 1));
    assert_eq!(candidate.step(at(0), Event::Withdraw).standing, Standing::Releasing);
    let step = seen(&mut candidate, 1, lease(held("pod", 1), 4, 2));
    assert!(matches!(step.request, Some(Request::Update(record, _)) if record.holder == Holder::Released));
    assert_eq!(seen(&mut candidate, 1, lease(Holder::Released, 4, 3)).standing, Standing::Stopped);
}

#[test]
fn a_standby_that_withdraws_stops_and_a_leader_goes_on_until_it_releases() {
    let mut standby = candidate(1);
    standby.step(at(0), Event::Wake);
    assert_eq!(standby.step(at(0), Event::Withdraw).standing, Standing::Stopped);
    let mut leader = leader();
    assert!(matches!(leader.step(at(1), Event::Withdraw).standing, Standing::Leader { .. }));
    assert!(is_taken(&leader.step(at(2), Event::Wake)), "it renews");
    let step = leader.step(at(2), Event::Release);
    assert_eq!((step.standing, step.request), (Standing::Releasing, None), "the renewal is under way");
    let step = seen(&mut leader, 2, lease(held("pod", 1), 4, 3));
    assert!(matches!(step.request, Some(Request::Update(record, _)) if record.holder == Holder::Released));
}

#[test]
fn a_standby_with_a_watch_that_tells_of_renewals_asks_nothing() {
    let mut standby = candidate(1);
    standby.step(at(0), Event::Watching(true));
    seen(&mut standby, 0, lease(held("other", 7), 5, 1));
    for second in (2..40).step_by(2) {
        let step = standby.step(at(second), Event::Watched(lease(held("other", 7), 5, 1 + second)));
        assert_eq!((step.request, step.wake), (None, Some(at(second).after(Duration::from_millis(2_500)))));
    }
    assert_eq!(standby.step(at(41), Event::Wake).request, Some(Request::Get), "a renewal is missing");
}

/// Found by the simulator (BINDY_SEED=1000124): the release was carried out and its answer lost, another led, and somebody put
/// back an older copy of the lease, which the releasing process took for its own and released once more.
#[test]
fn a_release_that_may_have_been_carried_out_is_not_repeated_for_another_state() {
    let mut leader = leader();
    let is_release = |step: &Step| matches!(&step.request, Some(Request::Update(record, _)) if record.holder == Holder::Released);
    assert!(is_release(&leader.step(at(1), Event::Release)));
    let again = leader.step(at(2), Event::Answered(Err(Failure::Unknown)));
    assert!(is_release(&again), "the same state may be written again");
    let step = leader.step(at(2), Event::Answered(Err(Failure::Conflict)));
    assert_eq!((step.standing, step.request), (Standing::Stopped, None));
}

/// Found by the simulator (BINDY_SEED=1001568): the watch was faster than the reply, and an acquisition of that number which had
/// come to nothing long before made the new one look too old.
#[test]
fn an_acquisition_counts_from_its_own_sending_although_an_earlier_one_came_to_nothing() {
    let mut candidate = candidate(1);
    candidate.step(at(0), Event::Wake);
    assert!(is_taken(&seen(&mut candidate, 0, lease(Holder::Released, 3, 1))));
    candidate.step(at(2), Event::Answered(Err(Failure::Unknown)));
    seen(&mut candidate, 2, lease(held("pod", 1), 3, 2));
    assert!(is_taken(&candidate.step(at(20), Event::Wake)));
    let step = candidate.step(at(20), Event::Watched(lease(held("pod", 2), 5, 3)));
    assert_eq!(step.standing, Standing::Leader { number: 5, deadline: at(30) });
}

/// Found by the simulator (BINDY_SEED=1002786): an acquisition was carried out although it had been given up, a later one had the same
/// number, and the old record was taken for it.
#[test]
fn an_earlier_acquisition_that_is_found_in_the_lease_is_not_taken_for_a_later_one() {
    let mut candidate = candidate(1);
    candidate.step(at(0), Event::Wake);
    assert!(is_taken(&seen(&mut candidate, 0, lease(Holder::Released, 3, 1))));
    candidate.step(at(2), Event::Answered(Err(Failure::Unknown)));
    let again = seen(&mut candidate, 12, lease(Holder::Released, 3, 1));
    assert!(is_taken(&again), "it was a stale read");
    candidate.step(at(12), Event::Answered(Err(Failure::Conflict)));
    let step = seen(&mut candidate, 12, lease(held("pod", 1), 4, 2));
    assert!(matches!(step.standing, Standing::Standby { .. }), "{:?}", step.standing);
}

/// Found by the simulator (BINDY_SEED=1003512): news of the watch put off a look without which nothing is written.
#[test]
fn news_of_the_watch_put_off_no_look_that_is_due() {
    let mut standby = candidate(1);
    standby.step(at(0), Event::Watching(true));
    let lost = standby.step(at(1), Event::Answered(Err(Failure::Unknown)));
    assert_eq!(lost.wake, Some(at(2)));
    let told = standby.step(at(1), Event::Watched(lease(held("other", 7), 5, 1)));
    assert_eq!((told.request, told.wake), (None, Some(at(2))));
}

/// Found by the simulator (BINDY_SEED=1000596): somebody edited the number in a record of this process to what its next acquisition
/// had.
#[test]
fn an_edited_number_makes_no_acquisition_of_an_old_record() {
    let mut candidate = leader();
    candidate.step(at(2), Event::Wake);
    candidate.step(at(10), Event::Answered(Err(Failure::Unknown)));
    seen(&mut candidate, 10, lease(held("other", 7), 5, 3));
    candidate.step(at(24), Event::Wake);
    seen(&mut candidate, 25, lease(held("other", 7), 5, 3));
    let step = candidate.step(at(26), Event::Watched(lease(held("pod", 1), 6, 4)));
    assert!(matches!(step.standing, Standing::Standby { .. }), "{:?}", step.standing);
}
