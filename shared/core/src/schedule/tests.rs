//! Tests of the times of schedules, and of what is due.

use headrace_fhir::instant::Instant;

use super::*;
use crate::vocab::ids::JobId;
use crate::vocab::schedule_key::ScheduleName;

fn at(text: &str) -> Millis {
    let instant = Instant::parse(text).unwrap();
    let seconds: i64 = instant.to_string().parse::<jiff::Timestamp>().unwrap().as_second();
    Millis(u64::try_from(seconds).unwrap() * 1_000)
}

fn cron(fields: &str, zone: &str) -> Timing {
    Timing::parse(&format!("cron({fields})"), Some(zone), at("2026-01-01T00:00:00Z")).unwrap()
}

/// Returns the next times of an expression after a moment.
fn times(timing: &Timing, after: &str, count: usize) -> Vec<String> {
    let mut now = at(after);
    let mut times = Vec::new();
    for _ in 0..count {
        now = timing.next_after(now, Millis(0)).unwrap();
        times.push(now.instant().replace(":00.000Z", "Z"));
    }
    times
}

#[test]
fn a_skipped_local_time_runs_once_and_a_doubled_one_once() {
    // Daylight saving time begins on 29 March 2026 at 01:00Z in Europe, and ends on 25 October at 01:00Z.
    for (fields, zone, after, expected) in [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", ["2026-03-28T01:30Z", "2026-03-29T01:30Z", "2026-03-30T00:30Z"]),
        ("0 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:00Z", "2026-03-31T00:00Z"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T03:00:00Z", ["2026-03-29T01:00Z", "2026-03-30T01:00Z", "2026-03-31T01:00Z"]),
        // The skipped hour and the one after it give the same moments, which run once.
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T20:00:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:00Z", "2026-03-30T01:00Z"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", ["2026-03-29T01:00Z", "2026-03-29T01:30Z", "2026-03-29T02:00Z"]),
        ("40 2 * * *", "Europe/Berlin", "2026-03-29T01:05:00Z", ["2026-03-29T01:40Z", "2026-03-30T00:40Z", "2026-03-31T00:40Z"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z", "2026-10-27T01:30Z"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", ["2026-10-25T00:30Z", "2026-10-25T02:00Z", "2026-10-25T02:30Z"]),
        // Between the two occurrences, the next one is that of the next day.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", ["2026-10-26T01:30Z", "2026-10-27T01:30Z", "2026-10-28T01:30Z"]),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", ["2026-03-08T07:30Z", "2026-03-09T06:30Z", "2026-03-10T06:30Z"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z", "2026-11-03T06:30Z"]),
        // Half an hour, in the southern hemisphere: skipped on 4 October 2026, doubled on 5 April.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T16:00:00Z", ["2026-10-03T15:45Z", "2026-10-04T15:15Z", "2026-10-05T15:15Z"]),
        ("0 2 * * *", "UTC", "2026-03-28T03:00:00Z", ["2026-03-29T02:00Z", "2026-03-30T02:00Z", "2026-03-31T02:00Z"]),
        ("0 2 29 2 *", "UTC", "2026-03-01T00:00:00Z", ["2028-02-29T02:00Z", "2032-02-29T02:00Z", "2036-02-29T02:00Z"]),
        ("0 0 * * MON-FRI", "Asia/Tokyo", "2026-07-02T16:00:00Z", ["2026-07-05T15:00Z", "2026-07-06T15:00Z", "2026-07-07T15:00Z"]),
    ] {
        assert_eq!(times(&cron(fields, zone), after, 3), expected, "{fields} {zone} after {after}");
    }
}

#[test]
fn an_interval_counts_from_the_time_at_which_the_schedule_was_added() {
    let timing = Timing::parse("PT6H", None, Millis(0)).unwrap();
    let anchor = at("2026-01-01T01:30:00Z");
    for (after, next) in [
        ("2026-01-01T01:30:00Z", "2026-01-01T07:30:00Z"),
        ("2026-01-01T07:29:59Z", "2026-01-01T07:30:00Z"),
        ("2026-01-01T07:30:00Z", "2026-01-01T13:30:00Z"),
        ("2026-01-05T00:00:00Z", "2026-01-05T01:30:00Z"),
        ("2025-12-31T00:00:00Z", "2026-01-01T07:30:00Z"),
    ] {
        assert_eq!(timing.next_after(at(after), anchor), Some(at(next)), "{after}");
    }
    assert_eq!((timing.every().as_str(), timing.zone()), ("PT6H", None));
}

#[test]
fn times_that_a_schedule_cannot_have_are_rejected() {
    let reject = |every: &str, zone: Option<&str>| Timing::parse(every, zone, at("2026-01-01T00:00:00Z")).unwrap_err().to_string();
    for (every, zone, words) in [
        ("cron(0 0 30 2 *)", None, "never fires"),
        ("cron(0 0 31 4,6,9,11 *)", None, "never fires"),
        ("cron(0 2 * * *)", Some("Europe/Berln"), "Europe/Berln"),
        ("cron(0 2 * * *)", Some(""), "time zone"),
        ("cron(60 2 * * *)", None, "minute 0-59"),
        ("cron(0 2 * * * *)", None, "no seconds"),
        ("cron(0 2 * *)", None, "five fields"),
        ("cron(0 2 * * * Europe/Berlin)", None, "five fields"),
        ("cron()", None, "five fields"),
        ("0 2 * * *", None, "cron(0 2 * * *)"),
        ("daily", None, "PT6H"),
        ("PT59S", None, "a minute"),
        ("PT0S", None, "a minute"),
        ("PT99999999H", None, "a minute"),
        ("P999999999W", None, "a minute"),
        ("P367D", None, "366 days"),
        ("PT6H", Some("Europe/Berlin"), "no time zone"),
    ] {
        let error = reject(every, zone);
        assert!(error.contains(words), "{every}: {error}");
    }
    // The name of a zone is written as the database has it.
    assert_eq!(cron("0 2 * * *", "europe/berlin").zone(), Some("Europe/Berlin"));
}

fn schedule(timing: Timing, added: &str) -> Schedule {
    let definition = ScheduleDefinition {
        client: None,
        timing,
        level: Level::System,
        parameters: vec![("_type".to_owned(), "Patient".to_owned())],
        is_lenient: false,
        is_incremental: true,
        keep: Some(2),
        created_at: at(added),
    };
    let key = ScheduleKey { name: ScheduleName::parse("nightly").unwrap(), id: "7".repeat(32) };
    Schedule { key, definition, state: ScheduleState::new(at(added)), complete_run: None, revision: 1 }
}

fn job(n: u8) -> JobId {
    JobId::from_random([n; 16])
}

#[test]
fn missed_times_are_made_up_for_once() {
    let mut nightly = schedule(cron("0 2 * * *", "UTC"), "2026-01-01T12:00:00Z");
    assert_eq!(nightly.due_at(at("2026-01-02T01:59:59Z")), None);
    assert_eq!(nightly.due_at(at("2026-01-02T02:00:00Z")), Some(at("2026-01-02T02:00:00Z")));
    // The machine was off for a week.
    let now = at("2026-01-09T08:00:00Z");
    let due_at = nightly.due_at(now).unwrap();
    nightly.state = nightly.firing(&job(1), due_at, now).state;
    assert_eq!(nightly.due_at(now), None);
    assert_eq!(nightly.due_at(at("2026-01-10T02:00:00Z")), Some(at("2026-01-10T02:00:00Z")));
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing_and_one_that_was_far_ahead_stops_nothing() {
    let mut nightly = schedule(cron("0 2 * * *", "UTC"), "2026-01-01T12:00:00Z");
    let fire = |schedule: &mut Schedule, now: &str| {
        let due_at = schedule.due_at(at(now));
        if let Some(due_at) = due_at {
            schedule.state = schedule.firing(&job(1), due_at, at(now)).state;
        }
        due_at.is_some()
    };
    assert!(fire(&mut nightly, "2026-01-02T04:00:00Z"));
    // The clock was five hours ahead: at the right 02:00 the run of the day has been done.
    assert!(!fire(&mut nightly, "2026-01-01T23:00:00Z"));
    assert!(!fire(&mut nightly, "2026-01-02T02:00:00Z"));
    assert!(fire(&mut nightly, "2026-01-03T02:00:00Z"));
    // The clock was ten years ahead for a moment.
    assert!(fire(&mut nightly, "2036-01-03T02:00:00Z"));
    assert!(!fire(&mut nightly, "2026-01-03T02:10:00Z"));
    assert!(nightly.state.is_ahead_of(at("2026-01-03T02:10:00Z")));
    nightly.state.handled_until = at("2026-01-03T02:10:00Z");
    assert!(fire(&mut nightly, "2026-01-04T02:00:00Z"));
}

#[test]
fn a_paused_schedule_runs_on_request_only() {
    let mut nightly = schedule(cron("0 2 * * *", "UTC"), "2026-01-01T12:00:00Z");
    nightly.state.is_paused = true;
    let now = at("2026-01-05T02:00:00Z");
    assert_eq!(nightly.due_at(now), None);
    nightly.state.requested_at = Some(at("2026-01-05T01:00:00Z"));
    assert_eq!(nightly.due_at(now), Some(at("2026-01-05T01:00:00Z")));
    let fired = nightly.firing(&job(1), now, now).state;
    assert_eq!((fired.requested_at, fired.is_paused, fired.kept), (None, true, vec![job(1)]));
}

#[test]
fn the_request_of_a_run_is_the_url_of_the_same_kick_off() {
    let parameters = [("_type", "Patient,Group"), ("_typeFilter", "Observation?code=a&b ä")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let url = kick_off_url("https://x/r4", &Level::Group("g 1".to_owned()), &parameters);
    assert_eq!(url, "https://x/r4/Group/g%201/$export?_type=Patient%2CGroup&_typeFilter=Observation%3Fcode%3Da%26b%20%C3%A4");
    assert_eq!(kick_off_url("https://x/r4", &Level::System, &[]), "https://x/r4/$export");
}

#[test]
fn an_incremental_schedule_exports_what_changed_since_its_last_complete_run() {
    let mut nightly = schedule(cron("0 2 * * *", "UTC"), "2026-01-01T12:00:00Z");
    assert_eq!(nightly.parameters().len(), 1);
    let time = at("2026-01-02T02:00:05Z");
    nightly.complete_run = Some(CompleteRun { job: job(1), transaction_time: time, ended_at: time, configuration: None });
    assert_eq!(nightly.parameters().last().unwrap(), &("_since".to_owned(), "2026-01-02T02:00:05.000Z".to_owned()));
    nightly.definition.is_incremental = false;
    assert_eq!(nightly.parameters().len(), 1);
}

#[test]
fn a_change_keeps_the_base_of_the_next_increment_if_the_same_is_exported() {
    let mut nightly = schedule(cron("0 2 * * *", "UTC"), "2026-01-01T12:00:00Z");
    let (now, time) = (at("2026-01-03T12:00:00Z"), at("2026-01-02T02:00:05Z"));
    nightly.definition.parameters.push(("_container".to_owned(), "nightly".to_owned()));
    nightly.complete_run = Some(CompleteRun { job: job(1), transaction_time: time, ended_at: time, configuration: None });
    nightly.state.last_run = Some(ScheduleRun { job: job(2), due_at: now, started_at: now });
    let change = |change: fn(&mut ScheduleDefinition)| {
        let mut definition = nightly.definition.clone();
        change(&mut definition);
        nightly.redefined(definition, now)
    };
    let same: [fn(&mut ScheduleDefinition); 3] =
        [|_| {}, |definition| definition.keep = None, |definition| definition.parameters.reverse()];
    for same in same {
        let changed = change(same);
        assert_eq!((changed.since(), &changed.state), (Some(time), &nightly.state));
    }
    let hourly = change(|definition| definition.timing = Timing::parse("PT1H", None, Millis(0)).unwrap());
    assert_eq!(hourly.since(), Some(time));
    assert_eq!(hourly.due_at(now), None, "the times of the new definition begin now");
    let other: [fn(&mut ScheduleDefinition); 4] = [
        |definition| definition.level = Level::AllPatients,
        |definition| definition.parameters.truncate(1),
        |definition| definition.is_lenient = true,
        |definition| definition.client = Some(Caller("lab".to_owned())),
    ];
    for other in other {
        let mut changed = change(other);
        assert_eq!((changed.since(), changed.state.handled_until), (None, nightly.state.handled_until));
        // The run that was open during the change is no base either, the one after it is.
        for (n, since) in [(2, None), (3, Some(time))] {
            changed.complete_run = Some(CompleteRun { job: job(n), transaction_time: time, ended_at: time, configuration: None });
            assert_eq!(changed.since(), since);
        }
    }
}

#[test]
fn a_run_at_a_time_that_has_not_come_is_no_base_of_an_increment() {
    let mut nightly = schedule(cron("0 2 * * *", "UTC"), "2026-01-01T12:00:00Z");
    let time = at("2026-01-02T07:00:00Z");
    assert_eq!(nightly.without_future_base(at("2026-01-02T02:00:00Z")), None);
    nightly.complete_run = Some(CompleteRun { job: job(1), transaction_time: time, ended_at: time, configuration: None });
    assert_eq!(nightly.without_future_base(time), None);
    let changed = nightly.without_future_base(at("2026-01-02T02:00:00Z")).unwrap();
    assert_eq!((changed.since(), changed.state.outdated.clone()), (None, vec![job(1)]));
    assert_eq!(changed.without_future_base(at("2026-01-02T02:00:00Z")), None, "once");
    nightly.definition.is_incremental = false;
    assert_eq!(nightly.without_future_base(at("2026-01-02T02:00:00Z")), None);
}
