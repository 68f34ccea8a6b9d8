use super::*;
use crate::cohort::PatientSetMember;
use crate::job::{ExportTime, OmittedSubjects, Planned, Watermark};
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::level::Level;

fn kind(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

fn job_id() -> JobId {
    JobId::from_random([7; 16])
}

/// Returns the selection of a job with the transaction time 2026-02-01.
fn selection(request: ExportRequest, lake: &LakeSettings, patient_set: Option<PatientSet>) -> Selection {
    selection_with(request, lake, patient_set, Watermark::Unstated)
}

/// Returns the selection of a job that was planned with this watermark at 2026-02-01.
fn selection_with(request: ExportRequest, lake: &LakeSettings, patient_set: Option<PatientSet>, watermark: Watermark) -> Selection {
    let planned = Planned {
        time: ExportTime::new(Millis(1_769_904_000_000), watermark),
        tasks: 1,
        source_bytes: 1,
        read_mode: ReadMode::Optimistic,
        patient_set: None,
        omitted: OmittedSubjects::default(),
        group_patients: 0,
    };
    let job = Job { planned: Some(planned), ..Job::accepted(job_id(), Caller("ann".into()), request, Millis(0)) };
    Selection::new(&job, lake, patient_set, None).unwrap()
}

/// Returns the flags of a line: `S`elected, `M`ember, `C`andidate, arrived `L`ate; or `-` if the line is skipped.
fn classified(selection: &Selection, line: &str) -> String {
    match selection.classify(line.as_bytes(), &mut MemberIndex::default(), None) {
        LineVerdict::Resource(matched) => {
            let flags = [
                (matched.flags.is_selected, 'S'),
                (matched.flags.is_member, 'M'),
                (matched.flags.is_candidate, 'C'),
                (matched.flags.arrived_late, 'L'),
                (matched.has_unreadable_time, 'U'),
            ];
            flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect()
        }
        LineVerdict::Skipped => "-".to_owned(),
        LineVerdict::AheadOfClock => "ahead".to_owned(),
        LineVerdict::Deletions(deletions) => format!("{} deleted", deletions.len()),
        LineVerdict::Rejected(reason) => reason,
    }
}

fn system(request: ExportRequest) -> Selection {
    selection(request, &LakeSettings::default(), None)
}

fn line(kind: &str, id: &str, changed: &str, members: &str) -> String {
    let meta = if changed.is_empty() { String::new() } else { format!(r#""meta":{{"lastUpdated":"{changed}"}},"#) };
    format!(r#"{{"resourceType":"{kind}",{meta}"id":"{id}"{members}}}"#)
}

fn about(subject: &str) -> String {
    line("Observation", "1", "2026-01-10T00:00:00Z", &format!(r#","subject":{{"reference":"{subject}"}}"#))
}

fn instant(text: &str) -> Option<Instant> {
    Some(Instant::parse(text).unwrap())
}

#[test]
fn changes_after_the_transaction_time_are_not_exported() {
    let all = system(ExportRequest::default());
    assert_eq!(classified(&all, &line("Patient", "1", "2026-02-01T00:00:00Z", "")), "SM");
    assert_eq!(classified(&all, &line("Patient", "1", "2026-02-01T00:00:00.001Z", "")), "-");
    assert_eq!(classified(&all, &line("Patient", "1", "", "")), "SM");
}

#[test]
fn changes_ahead_of_the_clock_are_distinguished_from_those_of_a_later_export() {
    // The clock is an hour after the transaction time.
    let clocked = |request| system(request).with_clock(Millis(1_769_907_600_000));
    let all = clocked(ExportRequest::default());
    assert_eq!(classified(&all, &line("Patient", "1", "2026-02-01T01:00:00Z", "")), "-");
    assert_eq!(classified(&all, &line("Patient", "1", "2026-02-01T01:00:00.001Z", "")), "ahead");
    assert_eq!(classified(&all, &line("Patient", "1", "2100-01-01", "")), "ahead");
    let observations = clocked(ExportRequest { types: Some([kind("Observation")].into()), ..ExportRequest::default() });
    assert_eq!(classified(&observations, &line("Patient", "1", "2100-01-01", "")), "-", "it was not requested");
    let until = clocked(ExportRequest { until: instant("2026-01-01"), ..ExportRequest::default() });
    assert_eq!(classified(&until, &line("Patient", "1", "2100-01-01", "")), "-", "it is not before _until");
}

#[test]
fn a_time_that_is_not_an_instant_is_distinguished_from_one_that_is_missing() {
    let all = system(ExportRequest::default());
    for (members, flags) in [
        (r#","meta":{"lastUpdated":"yesterday"}"#, "SMU"),
        (r#","meta":{"lastUpdated":7}"#, "SMU"),
        (r#","meta":{"last\u0055pdated":"2026-13-01"}"#, "SMU"),
        (r#","meta":{"lastUpdated":"2026-01-01T00:00:00+0000"}"#, "SM"),
        (r#","meta":{"versionId":"1"}"#, "SM"),
        (r#","text":{"div":"lastUpdated"}"#, "SM"),
        ("", "SM"),
    ] {
        assert_eq!(classified(&all, &line("Patient", "1", "", members)), flags, "{members}");
    }
    let observations = system(ExportRequest { types: Some([kind("Observation")].into()), ..ExportRequest::default() });
    assert_eq!(classified(&observations, &line("Patient", "1", "", r#","meta":{"lastUpdated":"x"}"#)), "-");
}

// Holds: P10, P13, P20, A7
#[test]
fn since_and_until_are_exclusive_and_do_not_apply_to_resources_without_a_time() {
    let between = system(ExportRequest { since: instant("2026-01-01"), until: instant("2026-01-20"), ..ExportRequest::default() });
    for (changed, expected) in [
        ("2026-01-01T00:00:00Z", "M"),
        ("2026-01-01T00:00:00.001Z", "SM"),
        ("2026-01-19T23:59:59.999Z", "SM"),
        ("2026-01-20T00:00:00Z", "M"),
        ("", "SM"),
        ("yesterday", "SMU"),
    ] {
        assert_eq!(classified(&between, &line("Patient", "1", changed, "")), expected, "{changed}");
    }
}

#[test]
fn filters_restrict_their_type_and_a_type_without_filter_is_exported_completely() {
    let request = ExportRequest {
        types: Some([kind("Patient"), kind("Observation")].into()),
        type_filters: vec!["Observation?status=final".into(), "Observation?status=amended".into()],
        ..ExportRequest::default()
    };
    let selection = system(request);
    let with = |status: &str| line("Observation", "1", "", &format!(r#","status":"{status}""#));
    assert_eq!(classified(&selection, &line("Patient", "1", "", "")), "SM");
    assert_eq!((classified(&selection, &with("final")), classified(&selection, &with("amended"))), ("SM".into(), "SM".into()));
    // It is still compared with other versions.
    assert_eq!(classified(&selection, &with("draft")), "M");
    assert_eq!(classified(&selection, &line("Condition", "1", "", "")), "-");
}

// Holds: SEC-A13
#[test]
fn scope_queries_restrict_every_way_into_the_export() {
    let scope_queries =
        ["Observation?status=final", "Observation?code=7", "Organization?name=a", "Provenance?_id=1"].map(str::to_owned).to_vec();
    let lake = LakeSettings { adds_referenced: true, ..LakeSettings::default() };
    let select = |request| selection(ExportRequest { scope_queries: scope_queries.clone(), ..request }, &lake, None);
    let observation =
        |status: &str| line("Observation", "1", "", &format!(r#","status":"{status}","subject":{{"reference":"Patient/1"}}"#));
    for level in [Level::System, Level::AllPatients] {
        let limited = select(ExportRequest { level, ..ExportRequest::default() });
        // It is still compared with other versions.
        assert_eq!((classified(&limited, &observation("final")), classified(&limited, &observation("draft"))), ("SM".into(), "M".into()));
        assert_eq!(classified(&limited, &line("Patient", "1", "", "")), "SM", "no scope query for this type");
    }
    // The client's own filter applies as well, and does not extend the scope.
    let filtered = select(ExportRequest { type_filters: vec!["Observation?status=draft".into()], ..ExportRequest::default() });
    assert_eq!((classified(&filtered, &observation("final")), classified(&filtered, &observation("draft"))), ("M".into(), "M".into()));

    let patients = select(ExportRequest { level: Level::AllPatients, ..ExportRequest::default() });
    let organization = |name: &str| line("Organization", "1", "", &format!(r#","name":"{name}""#));
    assert_eq!((classified(&patients, &organization("a")), classified(&patients, &organization("b"))), ("C".into(), String::new()));
    let provenance = |id: &str| line("Provenance", id, "", r#","target":[{"reference":"Observation/1"}]"#);
    assert_eq!((classified(&patients, &provenance("1")), classified(&patients, &provenance("2"))), ("C".into(), String::new()));
    let associated =
        select(ExportRequest { associated_data: [AssociatedData::RelevantProvenanceResources].into(), ..ExportRequest::default() });
    assert_eq!((classified(&associated, &provenance("1")), classified(&associated, &provenance("2"))), ("MC".into(), "M".into()));

    let members = patient_set(&[("Patient", "1", false)]);
    let group = ExportRequest { level: Level::Group("g".into()), scope_queries, ..ExportRequest::default() };
    let group = selection(group, &lake, members);
    assert_eq!((classified(&group, &observation("final")), classified(&group, &observation("draft"))), ("SM".into(), "M".into()));
}

#[test]
fn a_restricted_client_gets_nothing_by_another_spelling_of_a_resource() {
    let scope_queries = vec!["Observation?category:not=lab".to_owned()];
    let selection = system(ExportRequest { scope_queries, ..ExportRequest::default() });
    let lab = r#"[{"coding":[{"code":"lab"}]}]"#;
    let with = |members: &str| classified(&selection, &line("Observation", "a", "", members));
    for withheld in [
        format!(r#","category":{lab}"#),
        format!(r#","categ\u006fry":{lab}"#),
        r#","category":[{"c\u006fding":[{"c\u006fde":"lab"}]}]"#.to_owned(),
        r#","category":[{"coding":[{"code":"\u006cab"}]}]"#.to_owned(),
    ] {
        assert_eq!(with(&withheld), "M", "{withheld}");
    }
    // Parsers disagree about these: each is rejected, also if no filter looks at the member.
    for ambiguous in [
        format!(r#","category":[{{"coding":[{{"code":"vitals"}}]}}],"category":{lab}"#),
        format!(r#","category":{lab},"c\u0061tegory":[{{"coding":[{{"code":"vitals"}}]}}]"#),
        r#","category":[{"coding":[{"code":"vitals","code":"lab"}]}]"#.to_owned(),
        r#","note":[{"text":"one","text":"two"}]"#.to_owned(),
    ] {
        assert!(with(&ambiguous).contains("an object has the same member twice"), "{ambiguous}: {}", with(&ambiguous));
        let unfiltered = classified(&system(ExportRequest::default()), &line("Observation", "a", "", &ambiguous));
        assert!(unfiltered.contains("an object has the same member twice"), "{ambiguous}: {unfiltered}");
    }
    assert_eq!(with(r#","category":[{"coding":[{"code":"vitals"}]}]"#), "SM");
}

#[test]
fn a_deletion_of_a_type_with_a_scope_query_is_not_reported_but_still_compared() {
    let scope_queries = vec!["Observation?status=final".to_owned()];
    let selection = system(ExportRequest { scope_queries, since: instant("2026-01-15"), ..ExportRequest::default() });
    let entry = |url: &str| format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}}}}"#);
    let text = format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{}]}}"#, entry("Observation/1"), entry("Patient/1"));
    let mut member_index = MemberIndex::default();
    let LineVerdict::Deletions(deletions) = selection.classify(text.as_bytes(), &mut member_index, None) else { panic!("no deletions") };
    let found: Vec<_> =
        selection.flag_deletions(&deletions).map(|(entry, _, flags)| (entry, flags.is_deletion, flags.is_selected)).collect();
    assert_eq!(found, [(0, true, false), (1, true, true)]);
}

#[test]
fn at_patient_level_a_resource_in_no_compartment_is_not_selected() {
    let level = system(ExportRequest { level: Level::AllPatients, ..ExportRequest::default() });
    assert_eq!(classified(&level, &about("Patient/1")), "SM");
    assert_eq!(classified(&level, &about("Group/1")), "");
    assert_eq!(classified(&level, &line("Patient", "1", "", "")), "SM");
    assert_eq!(classified(&level, &line("Practitioner", "1", "", "")), "");
}

fn patient_set(members: &[(&str, &str, bool)]) -> Option<PatientSet> {
    let keys = ResourceKeyHasher::from_job(&job_id());
    let member = |(name, id, is_late_joiner): &(&str, &str, bool)| PatientSetMember {
        resource_type: kind(name),
        key: keys.key(kind(name), id.as_bytes()),
        is_late_joiner: *is_late_joiner,
    };
    Some(PatientSet::new(&job_id(), members.iter().map(member)))
}

// Holds: R7
#[test]
fn an_export_of_certain_patients_has_no_group_with_other_members() {
    let group = r#","member":[{"entity":{"reference":"Patient/1"}},{"entity":{"reference":"Patient/2"}}]"#;
    let group = line("Group", "g", "", group);
    let only = || patient_set(&[("Patient", "1", false)]);
    let select = |level, set| selection(ExportRequest { level, ..ExportRequest::default() }, &LakeSettings::default(), set);
    let one_patient = select(Level::OnePatient("1".into()), only());
    assert_eq!((classified(&one_patient, &group), classified(&one_patient, &about("Patient/1"))), (String::new(), "SM".into()));
    // The parameter `patient` limits an export in the same way.
    assert_eq!(classified(&select(Level::AllPatients, only()), &group), "");
    assert_eq!(classified(&select(Level::AllPatients, None), &group), "SM");
}

#[test]
fn at_group_level_the_group_its_members_and_their_compartments_are_selected() {
    let members = patient_set(&[("Patient", "1", false), ("Practitioner", "5", false), ("Group", "g", false)]);
    let level = selection(ExportRequest { level: Level::Group("g".into()), ..ExportRequest::default() }, &LakeSettings::default(), members);
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
        assert_eq!(classified(&level, &text), expected, "{text}");
    }
    let nobody = selection(ExportRequest { level: Level::Group("g".into()), ..ExportRequest::default() }, &LakeSettings::default(), None);
    assert_eq!(classified(&nobody, &about("Patient/1")), "", "an empty group has no patients, not all");
}

// Holds: P11
#[test]
fn data_of_late_joiners_is_exported_completely_if_the_operator_enables_it() {
    let request = ExportRequest { level: Level::Group("g".into()), since: instant("2026-01-15"), ..ExportRequest::default() };
    let members = || patient_set(&[("Patient", "old", false), ("Patient", "new", true)]);
    let lake = LakeSettings { adds_new_members: true, ..LakeSettings::default() };
    let (default, adding) = (selection(request.clone(), &LakeSettings::default(), members()), selection(request, &lake, members()));
    assert_eq!((classified(&default, &about("Patient/new")), classified(&adding, &about("Patient/new"))), ("M".into(), "SM".into()));
    assert_eq!(classified(&adding, &about("Patient/old")), "M");
}

#[test]
fn provenance_outside_the_compartments_is_a_candidate() {
    let target =
        |reference: &str| line("Provenance", "1", "2026-01-10T00:00:00Z", &format!(r#","target":[{{"reference":"{reference}"}}]"#));
    let level = |request| ExportRequest { level: Level::AllPatients, ..request };
    let patients = system(level(ExportRequest::default()));
    assert_eq!((classified(&patients, &target("Patient/1")), classified(&patients, &target("Observation/1"))), ("SM".into(), "C".into()));
    let old = system(level(ExportRequest { since: instant("2026-01-15"), ..ExportRequest::default() }));
    assert_eq!(classified(&old, &target("Observation/1")), "");
    let others = system(level(ExportRequest { types: Some([kind("Observation")].into()), ..ExportRequest::default() }));
    assert_eq!(classified(&others, &target("Patient/1")), "-");
    // As associated data it depends only on its targets, and not on its own time or on the requested types.
    let associated = [AssociatedData::LatestProvenanceResources].into();
    let request = ExportRequest {
        types: Some([kind("Observation")].into()),
        since: instant("2026-01-15"),
        associated_data: associated,
        ..ExportRequest::default()
    };
    assert_eq!(classified(&system(request), &target("Patient/1")), "MC");
}

#[test]
fn at_system_level_provenance_is_selected_like_other_types() {
    let text = line("Provenance", "1", "", r#","target":[{"reference":"Observation/1"}]"#);
    assert_eq!(classified(&system(ExportRequest::default()), &text), "SM");
}

#[test]
fn referenced_types_are_candidates_only_if_the_operator_enables_it() {
    let lake = LakeSettings { adds_referenced: true, ..LakeSettings::default() };
    let patients = || ExportRequest { level: Level::AllPatients, since: instant("2026-01-15"), ..ExportRequest::default() };
    let old = line("Organization", "1", "2020-01-01T00:00:00Z", "");
    assert_eq!(classified(&selection(patients(), &lake, None), &old), "C");
    assert_eq!(classified(&selection(patients(), &LakeSettings::default(), None), &old), "");
    let listed = ExportRequest { types: Some([kind("Patient")].into()), ..patients() };
    assert_eq!(classified(&selection(listed, &lake, None), &old), "-");
    assert_eq!(classified(&selection(ExportRequest::default(), &lake, None), &old), "SM");
}

#[test]
fn deletions_and_outcomes_in_files_of_earlier_exports_are_recognized() {
    let all = system(ExportRequest::default());
    let bundle = |kind: &str, id: &str| {
        format!(r#"{{"resourceType":"Bundle",{id}"type":"{kind}","entry":[{{"request":{{"method":"DELETE","url":"Patient/1"}}}}]}}"#)
    };
    assert_eq!(classified(&all, &bundle("transaction", "")), "1 deleted");
    assert_eq!(classified(&all, &bundle("transaction", r#""id":"b","#)), "1 deleted");
    assert_eq!(classified(&all, &bundle("collection", r#""id":"b","#)), "SM");
    assert_eq!(classified(&all, &bundle("collection", "")), "no id");
    assert_eq!(classified(&all, r#"{"resourceType":"OperationOutcome","issue":[]}"#), "-");
    assert_eq!(classified(&all, r#"{"resourceType":"Patient"}"#), "no id");
}

#[test]
fn deletions_have_the_flags_of_their_time_and_compartment() {
    let request = ExportRequest { level: Level::AllPatients, since: instant("2026-01-15"), ..ExportRequest::default() };
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
    let mut member_index = MemberIndex::default();
    let LineVerdict::Deletions(deletions) = selection.classify(text.as_bytes(), &mut member_index, None) else { panic!("no deletions") };
    let found: Vec<_> = selection.flag_deletions(&deletions).map(|(entry, _, flags)| (entry, flags.is_selected, flags.is_member)).collect();
    assert_eq!(found, [(0, false, true), (1, true, true), (2, true, false)]);
}

#[test]
fn the_read_mode_follows_request_and_lake_versions() {
    let level = || ExportRequest { level: Level::AllPatients, types: Some([kind("Patient")].into()), ..ExportRequest::default() };
    let with_provenance = || ExportRequest { types: None, ..level() };
    let history =
        |associated: &[AssociatedData]| ExportRequest { associated_data: associated.iter().copied().collect(), ..ExportRequest::default() };
    for (request, expected) in [
        (ExportRequest::default(), [ReadMode::SinglePass, ReadMode::Optimistic, ReadMode::TwoPass]),
        (level(), [ReadMode::SinglePass, ReadMode::Optimistic, ReadMode::TwoPass]),
        (with_provenance(), [ReadMode::Optimistic, ReadMode::Optimistic, ReadMode::TwoPass]),
        (history(&[AssociatedData::History]), [ReadMode::SinglePass; 3]),
        (history(&[AssociatedData::History, AssociatedData::Deleted]), [ReadMode::SinglePass, ReadMode::Optimistic, ReadMode::TwoPass]),
        (history(&[AssociatedData::History, AssociatedData::RelevantProvenanceResources]), [ReadMode::Optimistic; 3]),
    ] {
        let modes = [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many]
            .map(|versions| read_mode(&request, &LakeSettings { versions, ..LakeSettings::default() }));
        assert_eq!(modes, expected, "{request:?}");
    }
}

#[test]
fn the_types_to_read_include_types_that_decide_about_others() {
    let names = |request: &ExportRequest| {
        let types = types_to_read(request, &LakeSettings::default())?;
        Some(types.iter().map(ResourceType::as_str).collect::<Vec<_>>())
    };
    let typed = || ExportRequest { types: Some([kind("Patient")].into()), ..ExportRequest::default() };
    assert_eq!(names(&ExportRequest::default()), None);
    assert_eq!(names(&typed()), Some(vec!["Bundle", "Patient"]));
    let associated = [AssociatedData::LatestProvenanceResources].into();
    assert_eq!(names(&ExportRequest { associated_data: associated, ..typed() }), Some(vec!["Bundle", "Patient", "Provenance"]));
    let provenance = Some([kind("Provenance")].into());
    assert_eq!(names(&ExportRequest { types: provenance, level: Level::AllPatients, ..typed() }), None, "targets can be of any type");
}

#[test]
fn a_late_change_is_counted_or_exported_by_arrival_if_since_alone_excludes_it() {
    let request = || ExportRequest {
        types: Some([kind("Patient")].into()),
        type_filters: vec!["Patient?active=true".into()],
        since: Instant::parse("2026-01-15").ok(),
        until: Instant::parse("2026-01-31").ok(),
        ..ExportRequest::default()
    };
    let line = |kind: &str, at: &str, active: bool| {
        format!(r#"{{"resourceType":"{kind}","id":"a","active":{active},"meta":{{"lastUpdated":"{at}T00:00:00Z"}}}}"#)
    };
    let lines = [
        (line("Patient", "2026-01-10", true), "ML", "SM"),
        (line("Patient", "2026-01-15", true), "ML", "SM"),
        (line("Patient", "2026-01-10", false), "M", "M"),
        (line("Patient", "2026-01-20", true), "SM", "SM"),
        (line("Patient", "2026-01-31", true), "M", "M"),
        (line("Patient", "2026-02-02", true), "-", "-"),
        (line("Basic", "2026-01-10", true), "-", "-"),
    ];
    for (line, counted, included) in lines {
        for (watermark, expected) in [(Watermark::Unstated, counted), (Watermark::Arrival, included)] {
            let mut selection = selection_with(request(), &LakeSettings::default(), None, watermark);
            let before = classified(&selection, &line);
            assert!(!before.contains('L'), "an object that did not arrive after `_since` has nothing late: {line}");
            selection.set_new_object(true);
            assert_eq!(classified(&selection, &line), expected, "{watermark:?} {line}");
        }
    }
}

#[test]
fn a_late_deletion_is_counted_or_reported_by_arrival() {
    let text = r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/a"}}],"meta":{"lastUpdated":"2026-01-10T00:00:00Z"}}"#;
    for (watermark, expected) in
        [(Watermark::Unstated, (false, true)), (Watermark::Arrival, (true, false)), (Watermark::Now, (false, true))]
    {
        let request = ExportRequest { since: Instant::parse("2026-01-15").ok(), ..ExportRequest::default() };
        let mut selection = selection_with(request, &LakeSettings::default(), None, watermark);
        selection.set_new_object(true);
        let mut member_index = MemberIndex::default();
        let LineVerdict::Deletions(deletions) = selection.classify(text.as_bytes(), &mut member_index, None) else {
            panic!("no deletions")
        };
        let flags: Vec<_> = selection.flag_deletions(&deletions).map(|(.., flags)| (flags.is_selected, flags.arrived_late)).collect();
        assert_eq!(flags, [expected], "{watermark:?}");
    }
}
