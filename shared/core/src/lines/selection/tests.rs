use headrace_fhir::ResourceType;

use super::*;
use crate::cohort::{Entry, LeftOut};
use crate::job::Planned;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

fn job_id() -> JobId {
    JobId::from_random([7; 16])
}

/// The transaction time is 2026-02-01.
fn selection(request: ExportRequest, terms: &WorkerSettings, roster: Option<Roster>) -> Selection {
    let planned = Planned {
        transaction_time: Millis(1_769_904_000_000),
        tasks: 1,
        source_bytes: 1,
        pass: Pass::Noting,
        roster: None,
        left_out: LeftOut::default(),
    };
    let job = Job { planned: Some(planned), ..Job::accepted(job_id(), Caller("ann".into()), request, Millis(0)) };
    Selection::of(&job, terms, roster, None).unwrap()
}

/// What is said of a line: `S`elected, `M`ember, `C`andidate in this order; `-` if the export has nothing to do with it.
fn said(selection: &Selection, line: &str) -> String {
    match selection.judge(line.as_bytes(), &mut Outline::default()) {
        LineVerdict::Resource(met) => {
            let facts = [(met.facts.is_selected, 'S'), (met.facts.is_member, 'M'), (met.facts.is_candidate, 'C')];
            facts.into_iter().filter(|(fact, _)| *fact).map(|(_, letter)| letter).collect()
        }
        LineVerdict::Passed => "-".to_owned(),
        LineVerdict::Deletions(deletions) => format!("{} deleted", deletions.len()),
        LineVerdict::Refused(reason) => reason,
    }
}

fn system(request: ExportRequest) -> Selection {
    selection(request, &WorkerSettings::default(), None)
}

fn line(kind: &str, id: &str, changed: &str, members: &str) -> String {
    let meta = if changed.is_empty() { String::new() } else { format!(r#""meta":{{"lastUpdated":"{changed}"}},"#) };
    format!(r#"{{"resourceType":"{kind}",{meta}"id":"{id}"{members}}}"#)
}

fn about(subject: &str) -> String {
    line("Observation", "1", "2026-01-10T00:00:00Z", &format!(r#","subject":{{"reference":"{subject}"}}"#))
}

fn moment(text: &str) -> Option<Instant> {
    Some(Instant::parse(text).unwrap())
}

#[test]
fn what_changed_after_the_transaction_time_is_no_part_of_the_export() {
    let all = system(ExportRequest::default());
    assert_eq!(said(&all, &line("Patient", "1", "2026-02-01T00:00:00Z", "")), "SM");
    assert_eq!(said(&all, &line("Patient", "1", "2026-02-01T00:00:00.001Z", "")), "-");
    assert_eq!(said(&all, &line("Patient", "1", "", "")), "SM");
}

// Holds: P10, P13, P20, A7
#[test]
fn since_is_strictly_later_and_until_strictly_earlier_and_neither_concerns_what_has_no_time() {
    let between = system(ExportRequest { since: moment("2026-01-01"), until: moment("2026-01-20"), ..ExportRequest::default() });
    for (changed, expected) in [
        ("2026-01-01T00:00:00Z", "M"),
        ("2026-01-01T00:00:00.001Z", "SM"),
        ("2026-01-19T23:59:59.999Z", "SM"),
        ("2026-01-20T00:00:00Z", "M"),
        ("", "SM"),
        ("yesterday", "SM"),
    ] {
        assert_eq!(said(&between, &line("Patient", "1", changed, "")), expected, "{changed}");
    }
}

#[test]
fn types_and_filters_select_together_and_a_type_without_filter_is_whole() {
    let request = ExportRequest {
        types: Some([kind("Patient"), kind("Observation")].into()),
        type_filters: vec!["Observation?status=final".into(), "Observation?status=amended".into()],
        ..ExportRequest::default()
    };
    let selection = system(request);
    let with = |status: &str| line("Observation", "1", "", &format!(r#","status":"{status}""#));
    assert_eq!(said(&selection, &line("Patient", "1", "", "")), "SM");
    assert_eq!((said(&selection, &with("final")), said(&selection, &with("amended"))), ("SM".into(), "SM".into()));
    // It still competes with other versions.
    assert_eq!(said(&selection, &with("draft")), "M");
    assert_eq!(said(&selection, &line("Condition", "1", "", "")), "-");
}

// Holds: SEC-A13
#[test]
fn what_scopes_leave_of_a_type_goes_for_every_way_into_the_export() {
    let limits = ["Observation?status=final", "Observation?code=7", "Organization?name=a", "Provenance?_id=1"].map(str::to_owned).to_vec();
    let terms = WorkerSettings { adds_referenced: true, ..WorkerSettings::default() };
    let of = |request| selection(ExportRequest { limits: limits.clone(), ..request }, &terms, None);
    let observation =
        |status: &str| line("Observation", "1", "", &format!(r#","status":"{status}","subject":{{"reference":"Patient/1"}}"#));
    for level in [Level::System, Level::AllPatients] {
        let limited = of(ExportRequest { level, ..ExportRequest::default() });
        // It still competes with other versions.
        assert_eq!((said(&limited, &observation("final")), said(&limited, &observation("draft"))), ("SM".into(), "M".into()));
        assert_eq!(said(&limited, &line("Patient", "1", "", "")), "SM", "nothing is said of this type");
    }
    // The client's own filter counts as well, and does not widen the limit.
    let filtered = of(ExportRequest { type_filters: vec!["Observation?status=draft".into()], ..ExportRequest::default() });
    assert_eq!((said(&filtered, &observation("final")), said(&filtered, &observation("draft"))), ("M".into(), "M".into()));

    let patients = of(ExportRequest { level: Level::AllPatients, ..ExportRequest::default() });
    let organization = |name: &str| line("Organization", "1", "", &format!(r#","name":"{name}""#));
    assert_eq!((said(&patients, &organization("a")), said(&patients, &organization("b"))), ("C".into(), String::new()));
    let provenance = |id: &str| line("Provenance", id, "", r#","target":[{"reference":"Observation/1"}]"#);
    assert_eq!((said(&patients, &provenance("1")), said(&patients, &provenance("2"))), ("C".into(), String::new()));
    let associated = of(ExportRequest { associated: [Associated::RelevantProvenanceResources].into(), ..ExportRequest::default() });
    assert_eq!((said(&associated, &provenance("1")), said(&associated, &provenance("2"))), ("MC".into(), "M".into()));

    let members = roster(&[("Patient", "1", false)]);
    let group = ExportRequest { level: Level::Group("g".into()), limits, ..ExportRequest::default() };
    let group = selection(group, &terms, members);
    assert_eq!((said(&group, &observation("final")), said(&group, &observation("draft"))), ("SM".into(), "M".into()));
}

#[test]
fn a_deletion_of_what_may_be_read_in_part_only_is_not_told_but_still_counts() {
    let limits = vec!["Observation?status=final".to_owned()];
    let selection = system(ExportRequest { limits, since: moment("2026-01-15"), ..ExportRequest::default() });
    let entry = |url: &str| format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}}}}"#);
    let text = format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{}]}}"#, entry("Observation/1"), entry("Patient/1"));
    let mut outline = Outline::default();
    let LineVerdict::Deletions(deletions) = selection.judge(text.as_bytes(), &mut outline) else { panic!("no deletions") };
    let found: Vec<_> = selection.reported(&deletions).map(|(entry, _, facts)| (entry, facts.is_deletion, facts.is_selected)).collect();
    assert_eq!(found, [(0, true, false), (1, true, true)]);
}

#[test]
fn at_the_patients_level_what_is_in_no_compartment_is_known_but_not_selected() {
    let level = system(ExportRequest { level: Level::AllPatients, ..ExportRequest::default() });
    assert_eq!(said(&level, &about("Patient/1")), "SM");
    assert_eq!(said(&level, &about("Group/1")), "");
    assert_eq!(said(&level, &line("Patient", "1", "", "")), "SM");
    assert_eq!(said(&level, &line("Practitioner", "1", "", "")), "");
}

fn roster(members: &[(&str, &str, bool)]) -> Option<Roster> {
    let keys = Keys::of(&job_id());
    let entry =
        |(name, id, is_late): &(&str, &str, bool)| Entry { kind: kind(name), key: keys.key(kind(name), id.as_bytes()), is_late: *is_late };
    Some(Roster::of(&job_id(), members.iter().map(entry)))
}

// Holds: R7
#[test]
fn at_a_groups_level_only_its_members_its_group_and_their_compartments_count() {
    let members = roster(&[("Patient", "1", false), ("Practitioner", "5", false), ("Group", "g", false)]);
    let level =
        selection(ExportRequest { level: Level::Group("g".into()), ..ExportRequest::default() }, &WorkerSettings::default(), members);
    for (text, expected) in [
        (about("Patient/1"), "SM"),
        (about("https://example.org/fhir/Patient/1"), "SM"),
        (about("Patient/11"), ""),
        (about("Practitioner/5"), ""),
        (line("Patient", "1", "", ""), "SM"),
        (line("Patient", "2", "", ""), ""),
        (line("Practitioner", "5", "", ""), "SM"),
        (line("Practitioner", "6", "", ""), ""),
        (line("Group", "g", "", ""), "SM"),
        (line("Group", "h", "", r#","member":[{"entity":{"reference":"Patient/1"}}]"#), ""),
    ] {
        assert_eq!(said(&level, &text), expected, "{text}");
    }
    let nobody = selection(ExportRequest { level: Level::Group("g".into()), ..ExportRequest::default() }, &WorkerSettings::default(), None);
    assert_eq!(said(&nobody, &about("Patient/1")), "", "an empty group is nobody, not everybody");
}

// Holds: P11
#[test]
fn who_joined_late_comes_whole_where_the_operator_says_so() {
    let request = ExportRequest { level: Level::Group("g".into()), since: moment("2026-01-15"), ..ExportRequest::default() };
    let members = || roster(&[("Patient", "old", false), ("Patient", "new", true)]);
    let terms = WorkerSettings { adds_new_members: true, ..WorkerSettings::default() };
    let (strict, adding) = (selection(request.clone(), &WorkerSettings::default(), members()), selection(request, &terms, members()));
    assert_eq!((said(&strict, &about("Patient/new")), said(&adding, &about("Patient/new"))), ("M".into(), "SM".into()));
    assert_eq!(said(&adding, &about("Patient/old")), "M");
}

#[test]
fn provenance_outside_the_compartments_waits_for_its_targets() {
    let target =
        |reference: &str| line("Provenance", "1", "2026-01-10T00:00:00Z", &format!(r#","target":[{{"reference":"{reference}"}}]"#));
    let level = |request| ExportRequest { level: Level::AllPatients, ..request };
    let patients = system(level(ExportRequest::default()));
    assert_eq!((said(&patients, &target("Patient/1")), said(&patients, &target("Observation/1"))), ("SM".into(), "C".into()));
    let old = system(level(ExportRequest { since: moment("2026-01-15"), ..ExportRequest::default() }));
    assert_eq!(said(&old, &target("Observation/1")), "");
    let others = system(level(ExportRequest { types: Some([kind("Observation")].into()), ..ExportRequest::default() }));
    assert_eq!(said(&others, &target("Patient/1")), "-");
    // As associated data it comes with what is exported only, whatever its own time and type.
    let associated = [Associated::LatestProvenanceResources].into();
    let request =
        ExportRequest { types: Some([kind("Observation")].into()), since: moment("2026-01-15"), associated, ..ExportRequest::default() };
    assert_eq!(said(&system(request), &target("Patient/1")), "MC");
}

#[test]
fn at_the_systems_level_provenance_is_a_type_like_others() {
    let text = line("Provenance", "1", "", r#","target":[{"reference":"Observation/1"}]"#);
    assert_eq!(said(&system(ExportRequest::default()), &text), "SM");
}

#[test]
fn what_others_refer_to_is_a_candidate_only_where_the_operator_says_so() {
    let terms = WorkerSettings { adds_referenced: true, ..WorkerSettings::default() };
    let patients = || ExportRequest { level: Level::AllPatients, since: moment("2026-01-15"), ..ExportRequest::default() };
    let old = line("Organization", "1", "2020-01-01T00:00:00Z", "");
    assert_eq!(said(&selection(patients(), &terms, None), &old), "C");
    assert_eq!(said(&selection(patients(), &WorkerSettings::default(), None), &old), "");
    let listed = ExportRequest { types: Some([kind("Patient")].into()), ..patients() };
    assert_eq!(said(&selection(listed, &terms, None), &old), "-");
    assert_eq!(said(&selection(ExportRequest::default(), &terms, None), &old), "SM");
}

#[test]
fn what_earlier_exports_wrote_beside_resources_is_understood() {
    let all = system(ExportRequest::default());
    let bundle = |kind: &str, id: &str| {
        format!(r#"{{"resourceType":"Bundle",{id}"type":"{kind}","entry":[{{"request":{{"method":"DELETE","url":"Patient/1"}}}}]}}"#)
    };
    assert_eq!(said(&all, &bundle("transaction", "")), "1 deleted");
    assert_eq!(said(&all, &bundle("transaction", r#""id":"b","#)), "1 deleted");
    assert_eq!(said(&all, &bundle("collection", r#""id":"b","#)), "SM");
    assert_eq!(said(&all, &bundle("collection", "")), "no id");
    assert_eq!(said(&all, r#"{"resourceType":"OperationOutcome","issue":[]}"#), "-");
    assert_eq!(said(&all, r#"{"resourceType":"Patient"}"#), "no id");
}

#[test]
fn of_the_deletions_of_a_line_those_that_are_asked_for_are_told_apart() {
    let request = ExportRequest { level: Level::AllPatients, since: moment("2026-01-15"), ..ExportRequest::default() };
    let entries =
        |at: &str, url: &str| format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}},"response":{{"lastModified":"{at}"}}}}"#);
    let text = format!(
        r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{},{},{}]}}"#,
        entries("2026-01-15T00:00:00Z", "Patient/old"),
        entries("2026-01-16T00:00:00Z", "Patient/new"),
        entries("2026-01-16T00:00:00Z", "Observation/1"),
        entries("2026-02-02T00:00:00Z", "Patient/later"),
    );
    let selection = system(request);
    let mut outline = Outline::default();
    let LineVerdict::Deletions(deletions) = selection.judge(text.as_bytes(), &mut outline) else { panic!("no deletions") };
    let found: Vec<_> = selection.reported(&deletions).map(|(entry, _, facts)| (entry, facts.is_selected, facts.is_member)).collect();
    assert_eq!(found, [(0, false, true), (1, true, true), (2, true, false)]);
}

#[test]
fn the_first_reading_does_what_the_operator_says_of_the_lake() {
    let level = || ExportRequest { level: Level::AllPatients, types: Some([kind("Patient")].into()), ..ExportRequest::default() };
    let with_provenance = || ExportRequest { types: None, ..level() };
    let history =
        |associated: &[Associated]| ExportRequest { associated: associated.iter().copied().collect(), ..ExportRequest::default() };
    for (request, passes) in [
        (ExportRequest::default(), [Pass::Direct, Pass::Noting, Pass::Survey]),
        (level(), [Pass::Direct, Pass::Noting, Pass::Survey]),
        (with_provenance(), [Pass::Noting, Pass::Noting, Pass::Survey]),
        (history(&[Associated::History]), [Pass::Direct; 3]),
        (history(&[Associated::History, Associated::Deleted]), [Pass::Direct, Pass::Noting, Pass::Survey]),
        (history(&[Associated::History, Associated::RelevantProvenanceResources]), [Pass::Noting; 3]),
    ] {
        let found = [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many]
            .map(|lake_versions| pass(&request, &WorkerSettings { lake_versions, ..WorkerSettings::default() }));
        assert_eq!(found, passes, "{request:?}");
    }
}

#[test]
fn where_names_are_trusted_nothing_is_passed_over_that_decides() {
    let names = |request: &ExportRequest| {
        let types = types_to_read(request, &WorkerSettings::default())?;
        Some(types.iter().map(ResourceType::as_str).collect::<Vec<_>>())
    };
    let typed = || ExportRequest { types: Some([kind("Patient")].into()), ..ExportRequest::default() };
    assert_eq!(names(&ExportRequest::default()), None);
    assert_eq!(names(&typed()), Some(vec!["Bundle", "Patient"]));
    let associated = [Associated::LatestProvenanceResources].into();
    assert_eq!(names(&ExportRequest { associated, ..typed() }), Some(vec!["Bundle", "Patient", "Provenance"]));
    let provenance = Some([kind("Provenance")].into());
    assert_eq!(names(&ExportRequest { types: provenance, level: Level::AllPatients, ..typed() }), None, "targets may be of any type");
}
