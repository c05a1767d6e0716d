//! Which serial a version gets: after all that were published or seen, not before the clock, and not below what a person sets.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use bindy_model::{Command, Guard, LedgerEntry, Now, Publication, Swapped};
use bindy_zone::{Content, Name, Serial, Soa, Version};

/// The clock of most tests, lower than serials of the form YYYYMMDDnn.
const UNIX: u32 = 1_790_000_000;

fn now(unix: u32) -> Now {
    Now { monotonic: Duration::from_secs(10), unix }
}

/// A content that differs from the others by its number.
fn content(number: u32) -> Content {
    let apex = Name::parse("example.com").unwrap();
    let soa = Soa {
        ttl: 3600,
        primary: apex.clone(),
        mailbox: apex.clone(),
        refresh: number,
        retry: 1,
        expire: 1,
        negative_ttl: 1,
    };
    Content::new(apex, soa)
}

/// Answers every command until nothing more is to be done; returns the serials that were published.
fn settle(publication: &mut Publication, mut commands: Vec<Command>, unix: u32) -> Vec<u32> {
    let mut published = Vec::new();
    while !commands.is_empty() {
        let command = commands.remove(0);
        assert!(published.len() < 5, "it never settles: {published:?}");
        let more = match command {
            Command::Swap { expected, .. } => {
                assert_eq!(expected, publication.ledger().map(|entry| entry.serial));
                publication.swapped(Swapped::Done, now(unix))
            }
            Command::Publish(version) => {
                published.push(version.serial.get());
                Vec::new()
            }
            Command::CatchUp => publication.caught_up(now(unix)),
            Command::Fetch(_) => publication.fetched(None, now(unix)),
        };
        commands.extend(more);
    }
    published
}

fn want(publication: &mut Publication, number: u32, unix: u32) -> Vec<u32> {
    let commands = publication.want(content(number), false, now(unix));
    settle(publication, commands, unix)
}

fn published_at(serial: u32) -> Publication {
    let version = Version { serial: Serial::new(serial), content: content(1) };
    Publication::new(Guard::Relist, Some(LedgerEntry::of(&version)))
}

#[test]
fn a_floor_above_the_published_serial_publishes_the_same_content_under_it() {
    let mut publication = Publication::new(Guard::Relist, None);
    assert_eq!(want(&mut publication, 1, UNIX), [UNIX]);
    publication.set_floor(Some(2_026_010_101));
    assert!(!publication.is_settled(), "the lower serial is not what is wanted");
    assert_eq!(want(&mut publication, 1, UNIX), [2_026_010_101]);
    assert!(publication.is_settled());
    assert_eq!(want(&mut publication, 1, UNIX), [0; 0], "once is enough");
    assert_eq!(want(&mut publication, 2, UNIX), [2_026_010_102]);
}

#[test]
fn a_floor_that_was_raised_while_nothing_ran_is_followed_after_the_start() {
    let mut publication = published_at(UNIX);
    publication.set_floor(Some(2_026_010_101));
    assert_eq!(want(&mut publication, 1, UNIX + 5), [2_026_010_101]);
    let mut publication = published_at(2_026_010_101);
    publication.set_floor(Some(2_026_010_101));
    assert_eq!(
        want(&mut publication, 1, UNIX + 5),
        [2_026_010_101],
        "what the ledger names is served as it is"
    );
}

#[test]
fn a_paused_zone_takes_its_floor_when_it_goes_on() {
    let mut publication = Publication::new(Guard::Relist, None);
    want(&mut publication, 1, UNIX);
    publication.set_floor(Some(2_026_010_101));
    publication.set_word(true, None);
    assert_eq!(want(&mut publication, 1, UNIX), [0; 0]);
    assert!(!publication.is_settled());
    publication.set_word(false, None);
    assert_eq!(want(&mut publication, 1, UNIX), [2_026_010_101]);
}

#[test]
fn a_floor_that_is_not_after_the_published_serial_changes_nothing_and_takes_nothing_back() {
    let mut publication = Publication::new(Guard::Relist, None);
    publication.set_floor(Some(3_900_000_000));
    assert_eq!(want(&mut publication, 1, UNIX), [3_900_000_000]);
    publication.set_floor(Some(4_200_000_000));
    assert_eq!(want(&mut publication, 1, UNIX), [4_200_000_000]);
    for floor in [3_900_000_000, 2_200_000_000] {
        publication.set_floor(Some(floor));
        assert_eq!(want(&mut publication, 1, UNIX), [0; 0], "{floor}");
    }
    publication.set_floor(Some(3_900_000_000));
    assert_eq!(want(&mut publication, 2, UNIX), [4_200_000_001], "no serial goes backwards");
}

#[test]
fn an_entry_that_somebody_has_taken_away_or_set_back_still_counts() {
    let older = LedgerEntry::of(&Version { serial: Serial::new(UNIX), content: content(3) });
    for found in [None, Some(older)] {
        let mut publication = published_at(2_026_010_101);
        publication.set_floor(Some(2_026_010_101));
        assert_eq!(want(&mut publication, 1, UNIX), [2_026_010_101]);
        let swap = publication.want(content(2), false, now(UNIX));
        assert!(matches!(swap[..], [Command::Swap { .. }]), "{swap:?}");
        let commands = publication.swapped(Swapped::Conflict(found), now(UNIX));
        assert_eq!(settle(&mut publication, commands, UNIX), [2_026_010_102], "{found:?}");
    }
}

/// RFC 1982 section 7: from a serial that was set too high there is a way round the circle.
#[test]
fn a_floor_that_is_after_the_published_serial_on_the_circle_leads_back_to_the_clock() {
    let mut publication = published_at(3_000_000_000);
    publication.set_floor(Some(852_516_351));
    assert_eq!(want(&mut publication, 1, UNIX), [852_516_351]);
    assert_eq!(want(&mut publication, 2, UNIX), [UNIX]);
}

#[test]
fn a_floor_below_what_a_server_has_is_passed_over() {
    let mut publication = Publication::new(Guard::Relist, None);
    want(&mut publication, 1, UNIX);
    let commands = publication.observed(Serial::new(2_026_010_200), now(UNIX));
    assert_eq!(settle(&mut publication, commands, UNIX), [2_026_010_201]);
    publication.set_floor(Some(2_026_010_101));
    assert_eq!(want(&mut publication, 1, UNIX), [0; 0]);
}

#[test]
fn serials_go_through_their_wrap_around_and_an_old_floor_stays_behind() {
    let mut publication = Publication::new(Guard::Relist, None);
    publication.set_floor(Some(u32::MAX - 1));
    let clock = u32::MAX - 100;
    let serials: Vec<u32> = (1..=4).flat_map(|number| want(&mut publication, number, clock)).collect();
    assert_eq!(serials, [u32::MAX - 1, u32::MAX, 0, 1]);
    assert_eq!(want(&mut publication, 4, clock), [0; 0]);
}

#[test]
fn a_first_serial_is_as_high_as_its_floor_and_the_clock_is_after_it() {
    let mut publication = Publication::new(Guard::Relist, None);
    publication.set_floor(Some(4_294_967_290));
    assert_eq!(want(&mut publication, 1, UNIX), [4_294_967_290]);
    assert_eq!(want(&mut publication, 2, UNIX), [UNIX]);
    assert!(Serial::new(UNIX).is_after(Serial::new(4_294_967_290)));
}

#[test]
fn a_version_that_was_written_into_an_object_that_is_gone_is_published_with_another_serial_for_the_next_one()
{
    let mut publication = Publication::new(Guard::Relist, None);
    let commands = publication.want(content(1), false, now(UNIX));
    assert!(matches!(commands[..], [Command::Swap { expected: None, .. }]));
    publication.replaced(None);
    assert_eq!(publication.want(content(1), false, now(UNIX)).len(), 0, "one write at a time");
    let commands = publication.swapped(Swapped::Done, now(UNIX));
    assert_eq!(settle(&mut publication, commands, UNIX), [UNIX + 1]);
    assert_eq!(publication.ledger().map(|entry| entry.serial), Some(Serial::new(UNIX + 1)));
}
