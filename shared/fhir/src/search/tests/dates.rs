use super::*;

/// Prefixes, in the order of the expected results.
const PREFIXES: [&str; 9] = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];

fn assert_prefixes(member: &str, date: &str, expected: &str) {
    let expected: Vec<_> = expected.split(' ').collect();
    for prefix in PREFIXES {
        let text = format!("date={prefix}{date}");
        let line = resource("Observation", member);
        assert_eq!(is_found(&query(&format!("Observation?{text}")), &line), expected.contains(&prefix), "{text} {member}");
    }
}

#[test]
fn prefixes_compare_time_ranges_as_the_standard_says() {
    let moment = r#""effectiveDateTime":"2013-01-14T10:00:00Z""#;
    assert_prefixes(moment, "2013-01-14", "eq ge le ap");
    assert_prefixes(moment, "2013-01-14T10:00:00Z", "eq ge le ap");
    assert_prefixes(moment, "2013-01-13", "ne gt ge sa ap");
    assert_prefixes(moment, "2013-01-15", "ne lt le eb ap");
    // A day is longer than its first minute, so it is not within that minute.
    assert_prefixes(r#""effectiveDateTime":"2013-01-14""#, "2013-01-14T00:00", "ne gt ge ap");
    assert_prefixes(r#""effectiveDateTime":"2013-01-14""#, "2013-01-14T10:00", "ne gt ge lt le ap");
}

#[test]
fn a_period_without_a_start_or_end_is_unlimited() {
    let open = r#""effectivePeriod":{"start":"2013-01-15"}"#;
    assert_prefixes(open, "2013-01-14", "ne gt ge sa ap");
    assert_prefixes(open, "2020", "ne gt ge lt le ap");
    let closed = r#""effectivePeriod":{"start":"2013-01-21","end":"2013-03-14"}"#;
    assert_prefixes(closed, "2013", "eq ge le ap");
    assert_prefixes(closed, "2013-03-14", "ne lt le ap");
    assert_prefixes(closed, "2013-03-15", "ne lt le eb ap");
    assert_prefixes(r#""effectivePeriod":{"end":"2013"}"#, "2014", "ne lt le eb ap");
}

#[test]
fn approximately_is_a_tenth_of_the_distance_to_now() {
    // 2016-11-23 is 3,650 days before 2026-11-21, so the tolerance is 365 days.
    let on = |day: &str| format!(r#""effectiveDateTime":"{day}""#);
    assert_found("Observation", &on("2015-11-24"), &["date=ap2016-11-23"], &[]);
    assert_found("Observation", &on("2015-11-23"), &[], &["date=ap2016-11-23"]);
    assert_found("Observation", &on("2017-11-23"), &["date=ap2016-11-23"], &[]);
    assert_found("Observation", &on("2017-11-24"), &[], &["date=ap2016-11-23"]);
}

#[test]
fn time_zones_are_respected_and_default_to_utc() {
    let members = r#""effectiveDateTime":"2020-01-01T00:30:00+02:00""#;
    let found = ["date=2019-12-31", "date=2019-12-31T22:30:00Z", "date=2019-12-31T22:30", "date=2020-01-01T00:30:00+02:00", "date=2019"];
    assert_found("Observation", members, &found, &["date=2020-01-01", "date=2020-01-01T00:30:00Z"]);
    // A plus sign that was not encoded arrives as a space.
    assert_found("Observation", members, &["date=2020-01-01T00:30:00 02:00"], &[]);
}

#[test]
fn the_digits_of_a_fractional_second_determine_its_precision() {
    let members = r#""effectiveInstant":"2020-01-01T00:00:00.123Z""#;
    let found =
        ["date=2020-01-01T00:00:00Z", "date=2020-01-01T00:00:00.1Z", "date=2020-01-01T00:00:00.123Z", "date=lt2020-01-01T00:00:00.124Z"];
    assert_found("Observation", members, &found, &["date=2020-01-01T00:00:00.12300Z", "date=2020-01-01T00:00:00.2Z", "date=gt2020"]);
}

#[test]
fn a_timing_spans_all_its_events_and_bounds() {
    let events = r#""effectiveTiming":{"event":["2020-03-01","2020-05-01"]}"#;
    assert_found("Observation", events, &["date=2020", "date=ge2020-04", "date=lt2020-03-02"], &["date=2020-03", "date=gt2020-05-01"]);
    let bounds = r#""effectiveTiming":{"repeat":{"boundsPeriod":{"start":"2013-01-31","end":"2013-03-24"}}}"#;
    assert_found("Observation", bounds, &["date=2013", "date=ap2013-02-01"], &["date=2013-02", "date=2014"]);
    assert_found("Observation", r#""effectiveTiming":{"repeat":{"count":3}}"#, &["date:missing=false"], &["date=ge1900", "date=ne1900"]);
}

#[test]
fn an_invalid_date_in_a_resource_never_matches() {
    for text in ["", "soon", "2020-13", "2020-02-30", "2020-1-1", "2020-01-01T", "2020-01-01T25:00:00Z", "20200101", "2020-01-01T10Z"] {
        let member = format!(r#""effectiveDateTime":"{text}""#);
        assert_found("Observation", &member, &["date:missing=false"], &["date=ge0001", "date=ne0001", "date=le9999"]);
    }
    assert_found("Observation", r#""effectivePeriod":{}"#, &[], &["date=ge0001"]);
}

#[test]
fn the_last_day_of_the_calendar_and_leap_days_match() {
    assert_found(
        "Patient",
        r#""birthDate":"9999-12-31""#,
        &["birthdate=9999", "birthdate=9999-12", "birthdate=ge9999-12-31"],
        &["birthdate=gt9999"],
    );
    assert_found(
        "Patient",
        r#""birthDate":"2024-02-29""#,
        &["birthdate=2024-02-29", "birthdate=2024-02", "birthdate=lt2024-03"],
        &["birthdate=gt2024-02"],
    );
}

#[test]
fn last_updated_is_a_date_and_all_clauses_must_match() {
    let members = r#""meta":{"lastUpdated":"2020-06-01T00:00:00Z"},"gender":"male""#;
    let found = ["_lastUpdated=ge2020&_lastUpdated=lt2021", "_lastUpdated=2019,2020", "_lastUpdated=gt2020-05-31T23:59:59Z&gender=male"];
    assert_found("Patient", members, &found, &["_lastUpdated=ge2020&_lastUpdated=lt2020-06", "_lastUpdated=ge2020&gender=female"]);
}
