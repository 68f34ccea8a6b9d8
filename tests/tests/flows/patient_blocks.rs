//! Exports with `organizeOutputBy=Patient`: files of blocks. Each block holds the data of one patient.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{
    AwsDeployment, CompletedExport, Crash, CrashRecorder, Deployment, DeploymentSettings, LocalDeployment, ManualClock, REAPER_INTERVAL,
    Result, ServiceProcess, run, set_next_job_number,
};
use serde_json::Value;

use super::faults::run_cases;

/// Lines of the blocks of an export without their headers, by patient id.
type BlockLines = BTreeMap<String, Vec<String>>;

/// Kicks off and returns the path of the status URL.
async fn kick_off<S: Deployment>(service: &ServiceProcess<S>, path: &str) -> Result<String> {
    let response = service.request("GET", path).await?;
    let url = response.header("content-location").ok_or_else(|| format!("{path} was answered with {response:?}"))?;
    url.find("/_operations").and_then(|at| url.get(at..)).map(str::to_owned).ok_or_else(|| "no status URL".into())
}

/// Exports and parses the blocks.
async fn export<S: Deployment>(deployment: &S, settings: DeploymentSettings, path: &str) -> Result<(CompletedExport, BlockLines)> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), settings);
    let status = kick_off(&service, path).await?;
    let completed = service.complete(&status).await?;
    let blocks = parse_blocks(&completed)?;
    Ok((completed, blocks))
}

/// Returns the patient id of a block header, or `None` if the line is not a header.
fn parse_header(line: &str) -> Result<Option<String>> {
    let resource: Value = serde_json::from_str(line)?;
    if resource.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Ok(None);
    }
    let reference =
        resource.pointer("/parameter/0/valueReference/reference").and_then(Value::as_str).ok_or("the header has no reference")?;
    let patient = reference.strip_prefix("Patient/").ok_or("the header does not refer to a patient")?;
    let expected =
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/@"}}]}"#.replace('@', patient);
    if line == expected { Ok(Some(patient.to_owned())) } else { Err(format!("{line} is not a valid header").into()) }
}

/// Parses the blocks of an export.
///
/// # Errors
///
/// If a patient has several blocks, or a file does not start with a header.
fn parse_blocks(completed: &CompletedExport) -> Result<BlockLines> {
    if completed.manifest.output_organized_by.as_deref() != Some("Patient") {
        return Err("the manifest does not say what the output is organized by".into());
    }
    let mut blocks = BlockLines::new();
    for entry in &completed.manifest.output {
        if !entry.resource_type.is_empty() || !entry.name().starts_with("organized-") {
            return Err(format!("{entry:?} is not a file of blocks").into());
        }
        let mut patient = None;
        for line in std::str::from_utf8(completed.files.get(entry.name()).ok_or("no file")?)?.lines() {
            if let Some(next) = parse_header(line)? {
                if blocks.insert(next.clone(), Vec::new()).is_some() {
                    return Err(format!("{next} has two blocks").into());
                }
                patient = Some(next);
            } else {
                let patient = patient.as_ref().ok_or_else(|| format!("{} starts within a block", entry.name()))?;
                blocks.get_mut(patient).ok_or("a line without a block")?.push(line.to_owned());
            }
        }
    }
    Ok(blocks)
}

/// Returns severity and diagnostics of every line of the error files.
fn reported_issues(completed: &CompletedExport) -> Result<Vec<String>> {
    let files = completed.manifest.error.iter().filter_map(|entry| completed.files.get(entry.name()));
    let lines = files.map(|file| Ok(std::str::from_utf8(file)?.lines().collect::<Vec<_>>())).collect::<Result<Vec<_>>>()?;
    let diagnostics = |line: &str| -> Result<String> {
        let outcome: Value = serde_json::from_str(line)?;
        let word = |path| outcome.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(format!("{}: {}", word("/issue/0/severity"), word("/issue/0/diagnostics")))
    };
    lines.concat().into_iter().map(diagnostics).collect()
}

/// Patient `a`.
const PATIENT_A: &str = r#"{"resourceType":"Patient","id":"a"}"#;
/// Patient `b`, which refers to patient `a`.
const PATIENT_B: &str = r#"{"resourceType":"Patient","id":"b","link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}"#;
/// Observation of patient `a`.
const OF_A: &str = r#"{"resourceType":"Observation","id":"2","subject":{"reference":"Patient/a"}}"#;
/// Observation of patients `a` and `b`.
const OF_BOTH: &str =
    r#"{"resourceType":"Observation","id":"1","subject":{"reference":"Patient/a"},"performer":[{"reference":"Patient/b"}]}"#;
/// Condition of patient `c`, who has no Patient resource.
const OF_C: &str = r#"{"resourceType":"Condition","id":"1","subject":{"reference":"Patient/c"}}"#;
/// AllergyIntolerance of patient `a`, which sorts first in the block.
const OF_A_FIRST: &str = r#"{"resourceType":"AllergyIntolerance","id":"1","patient":{"reference":"https://h/fhir/Patient/a"}}"#;
/// Practitioner, which belongs to no patient.
const WITHOUT_PATIENT: &str = r#"{"resourceType":"Practitioner","id":"d"}"#;

/// Returns a lake of patients, their resources, and resources of no patient.
fn small_lake() -> [(&'static str, String); 3] {
    [
        ("1.ndjson", [OF_A, PATIENT_B, OF_BOTH, ""].join("\n")),
        ("2.ndjson", [WITHOUT_PATIENT, OF_A_FIRST, PATIENT_A, "no resource", ""].join("\n")),
        ("3.ndjson", [OF_C, WITHOUT_PATIENT.replace("\"d\"", "\"e\"").as_str(), ""].join("\n")),
    ]
}

/// Creates an AWS deployment and a local deployment with this lake.
async fn deployments<L: AsRef<str>>(lake: &[(L, String)]) -> Result<(AwsDeployment, LocalDeployment)> {
    let files: Vec<_> = lake.iter().map(|(name, text)| (name.as_ref(), text.as_bytes())).collect();
    let aws = AwsDeployment::new().await?;
    for (name, bytes) in &files {
        aws.set_lake_object(name, Some(Bytes::copy_from_slice(bytes))).await?;
    }
    Ok((aws, LocalDeployment::with_files(&files).await?))
}

/// Builds expected blocks.
fn block_lines(blocks: &[(&str, &[&str])]) -> BlockLines {
    blocks.iter().map(|(patient, lines)| ((*patient).to_owned(), lines.iter().map(|line| (*line).to_owned()).collect())).collect()
}

// Holds: P80, F20, F22
#[test]
fn a_block_holds_the_patient_and_then_its_compartment_sorted_by_type() -> Result<()> {
    /// Exports the system and all patients, and checks blocks and reported issues.
    async fn check<S: Deployment>(deployment: &S) -> Result<()> {
        let everything: &[(&str, &[&str])] =
            &[("a", &[PATIENT_A, OF_A_FIRST, OF_A, OF_BOTH, PATIENT_B]), ("b", &[PATIENT_B, OF_BOTH]), ("c", &[OF_C])];
        for (level, left_out) in [("", 2), ("/Patient", 0)] {
            let (completed, blocks) =
                export(deployment, DeploymentSettings::default(), &format!("{level}/$export?organizeOutputBy=Patient")).await?;
            assert_eq!(blocks, block_lines(everything), "{level}");
            assert_eq!((completed.files.len(), completed.manifest.output.len()), (2, 1), "{level}");
            let issues = reported_issues(&completed)?;
            assert_eq!(issues.iter().filter(|text| text.starts_with("error: a line of the lake was left out")).count(), 1, "{issues:?}");
            let left_out_types: Vec<_> = issues.iter().filter(|text| text.starts_with("information: ")).collect();
            assert_eq!(left_out_types.len(), usize::from(left_out > 0), "{issues:?}");
            assert!(left_out_types.iter().all(|text| text.contains("2 Practitioner resources are left out")), "{issues:?}");
        }
        Ok(())
    }
    run(async || {
        let (aws, local) = deployments(&small_lake()).await?;
        check(&aws).await?;
        check(&local).await
    })
}

#[test]
fn a_provenance_is_in_the_block_of_a_single_patient_and_counted_as_left_out_of_others() -> Result<()> {
    const PROVENANCE: &str = r#"{"resourceType":"Provenance","id":"p","target":[{"reference":"Observation/2"}]}"#;
    run(async || {
        let mut lake = small_lake().to_vec();
        lake.push(("provenance.ndjson", format!("{PROVENANCE}\n")));
        let (_, deployment) = deployments(&lake).await?;
        let (completed, blocks) = export(&deployment, DeploymentSettings::default(), "/Patient/a/$export?organizeOutputBy=Patient").await?;
        assert_eq!(blocks, block_lines(&[("a", &[PATIENT_A, OF_A_FIRST, OF_A, OF_BOTH, PATIENT_B, PROVENANCE])]));
        let issues = reported_issues(&completed)?;
        assert!(issues.iter().all(|text| !text.contains("Provenance")), "{issues:?}");
        let (completed, blocks) = export(&deployment, DeploymentSettings::default(), "/Patient/$export?organizeOutputBy=Patient").await?;
        assert!(blocks.values().flatten().all(|line| !line.contains("Provenance")), "{blocks:?}");
        let issues = reported_issues(&completed)?;
        let left_out = issues.iter().filter(|text| text.contains("1 Provenance resource is left out, because only a target"));
        assert_eq!(left_out.count(), 1, "{issues:?}");
        Ok(())
    })
}

#[test]
fn filters_and_elements_apply_to_output_organized_by_patient() -> Result<()> {
    run(async || {
        let (_, deployment) = deployments(&small_lake()).await?;
        let (_, blocks) =
            export(&deployment, DeploymentSettings::default(), "/Patient/$export?organizeOutputBy=Patient&_type=Observation").await?;
        assert_eq!(blocks, block_lines(&[("a", &[OF_A, OF_BOTH]), ("b", &[OF_BOTH])]));
        // `_elements` removes the subject from the lines, but it still determines the block.
        let (_, blocks) = export(
            &deployment,
            DeploymentSettings::default(),
            "/$export?organizeOutputBy=Patient&_type=Observation&_elements=Observation.code",
        )
        .await?;
        assert_eq!(blocks.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(blocks.values().flatten().all(|line| !line.contains("performer") && line.contains("SUBSETTED")), "{blocks:?}");
        Ok(())
    })
}

#[test]
fn only_patients_of_the_exports_level_have_blocks() -> Result<()> {
    const GROUP: &str =
        r#"{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/a"}}]}"#;
    run(async || {
        let mut lake = small_lake().to_vec();
        lake.push(("groups.ndjson", format!("{GROUP}\n")));
        let (_, deployment) = deployments(&lake).await?;
        let (_, blocks) = export(&deployment, DeploymentSettings::default(), "/Group/g/$export?organizeOutputBy=Patient").await?;
        assert_eq!(blocks, block_lines(&[("a", &[PATIENT_A, OF_A_FIRST, GROUP, OF_A, OF_BOTH, PATIENT_B])]));
        let (_, blocks) = export(&deployment, DeploymentSettings::default(), "/Patient/b/$export?organizeOutputBy=Patient").await?;
        assert_eq!(blocks, block_lines(&[("b", &[PATIENT_B, OF_BOTH])]));
        Ok(())
    })
}

#[test]
fn an_empty_export_organized_by_patient_lists_no_files() -> Result<()> {
    run(async || {
        let (_, deployment) = deployments(&small_lake()).await?;
        let (completed, blocks) =
            export(&deployment, DeploymentSettings::default(), "/$export?organizeOutputBy=Patient&_type=Immunization").await?;
        assert!(blocks.is_empty() && completed.manifest.output.is_empty());
        Ok(())
    })
}

/// Expected lines of each patient's block.
type Expected = BTreeMap<String, BTreeSet<String>>;

/// Generates a lake from a seed, and its expected blocks.
fn random_lake(seed: u64) -> (Vec<(String, String)>, Expected) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or_default()
    };
    let patient_count = 1 + next(30);
    let (mut files, mut blocks) = (Vec::new(), Expected::new());
    for file in 0..1 + next(6) {
        let mut text = String::new();
        for n in 0..next(60) {
            let id = format!("{file}-{n}");
            let mut patients = BTreeSet::new();
            let mut random_patient = |patients: &mut BTreeSet<String>| {
                let patient = format!("p{}", next(patient_count));
                patients.insert(patient.clone());
                format!("{{\"reference\":\"Patient/{patient}\"}}")
            };
            let (one, other) = (random_patient(&mut patients), random_patient(&mut patients));
            let padding = "~".repeat(next(90));
            let line = match next(5) {
                0 => {
                    patients = [format!("q{id}")].into();
                    format!(r#"{{"resourceType":"Patient","id":"q{id}","x":"{padding}"}}"#)
                }
                1 => {
                    patients.clear();
                    format!(r#"{{"resourceType":"Location","id":"{id}","x":"{padding}"}}"#)
                }
                2 => format!(r#"{{"resourceType":"Observation","id":"{id}","subject":{one},"performer":[{other}],"x":"{padding}"}}"#),
                _ => format!(r#"{{"resourceType":"Account","id":"{id}","subject":[{one},{other},{one}],"x":"{padding}"}}"#),
            };
            for patient in patients {
                blocks.entry(patient).or_default().insert(line.clone());
            }
            text.push_str(&line);
            text.push('\n');
        }
        files.push((format!("{file}.ndjson"), text));
    }
    // The Patient resources of all references are in a file of their own.
    let mut text = String::new();
    for patient in 0..patient_count {
        let line = format!(r#"{{"resourceType":"Patient","id":"p{patient}"}}"#);
        blocks.entry(format!("p{patient}")).or_default().insert(line.clone());
        text.push_str(&line);
        text.push('\n');
    }
    files.push(("people.ndjson".to_owned(), text));
    (files, blocks)
}

/// Returns limits under which tasks share buckets, sort buffers overflow, several files are written, and fragments are merged.
fn small_limits(grouping_memory_bytes: u64, file_bytes: u64) -> DeploymentSettings {
    let mut settings = DeploymentSettings::with_file_bytes(file_bytes).with_merge_limit_bytes(2_000);
    settings.worker.grouping_memory_bytes = grouping_memory_bytes;
    settings
}

/// Checks the blocks of a generated lake, and the sizes of the files.
fn check_blocks(completed: &CompletedExport, blocks: &BlockLines, expected: &Expected, file_bytes: usize) -> Result<()> {
    assert!(blocks.keys().eq(expected.keys()));
    let type_of = |line: &String| line.split('"').nth(3).unwrap_or_default().to_owned();
    for ((patient, lines), expected_lines) in blocks.iter().zip(expected.values()) {
        assert_eq!(&lines.iter().cloned().collect::<BTreeSet<_>>(), expected_lines, "{patient}");
        assert_eq!(lines.len(), expected_lines.len(), "{patient} has a line twice");
        let (first, rest) = lines.split_first().ok_or("an empty block")?;
        assert!(first.starts_with(&format!(r#"{{"resourceType":"Patient","id":"{patient}""#)), "{patient}: {lines:?}");
        assert!(rest.iter().map(type_of).is_sorted(), "{patient}: {lines:?}");
    }
    // Every file except the last reaches the limit, and exceeds it by less than one block.
    let names = (1..=completed.manifest.output.len()).map(|number| format!("organized-{number}.ndjson"));
    let sizes = names.map(|name| completed.files.get(&name).map(Bytes::len)).collect::<Option<Vec<_>>>().ok_or("a number is missing")?;
    let largest = blocks.values().map(|lines| 200 + lines.iter().map(|line| line.len() + 1).sum::<usize>()).max().unwrap_or_default();
    assert!(sizes.iter().all(|size| *size < file_bytes + largest), "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size < file_bytes).count() <= 1, "{sizes:?}");
    Ok(())
}

// Holds: F21, F23
#[test]
fn every_resource_is_once_in_the_block_of_each_of_its_patients_under_any_limits() -> Result<()> {
    /// Exports a generated lake, checks the blocks, and returns the number of rounds.
    async fn check<S: Deployment>(deployment: &S, seed: u64, expected: &Expected) -> Result<u32> {
        let file_bytes = [900, 5_000, 100_000].into_iter().nth(usize::try_from(seed % 3)?).unwrap_or_default();
        let grouping_memory_bytes = [400, 3_000, 20_000, 1 << 20].into_iter().nth(usize::try_from(seed % 4)?).unwrap_or_default();
        let mut settings = small_limits(grouping_memory_bytes, file_bytes as u64);
        if seed.is_multiple_of(3) {
            // Resources are sorted roughly before they are grouped.
            settings.worker.max_unsorted_ranges = 0;
        }
        let (completed, blocks) = export(deployment, settings, "/$export?organizeOutputBy=Patient").await?;
        check_blocks(&completed, &blocks, expected, file_bytes)?;
        let url = &completed.manifest.output.first().ok_or("no file")?.url;
        let id = JobId::parse(url.rsplit('/').nth(1).unwrap_or_default())?;
        Ok(deployment.job_store().job(&id).await?.ok_or("no job")?.round)
    }
    run(async || {
        let mut rounds = BTreeSet::new();
        for seed in 1..=12 {
            let (lake, expected) = random_lake(seed);
            let (aws, local) = deployments(&lake).await?;
            rounds.insert(check(&local, seed, &expected).await?);
            if seed <= 4 {
                rounds.insert(check(&aws, seed, &expected).await?);
            }
        }
        // Round 1 resolves versions, then resources are sorted roughly, if necessary, and grouped by patient. The last round merges, if
        // necessary.
        assert!(rounds.is_superset(&[2, 3, 4].into()), "{rounds:?}");
        Ok(())
    })
}

#[test]
fn p7_blocks_stay_whole_when_every_worker_is_near_its_time_limit() -> Result<()> {
    run(async || {
        let (lake, expected) = random_lake(5);
        let (_, deployment) = deployments(&lake).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_limits(4_000, 3_000));
        let status = kick_off(&service, "/$export?organizeOutputBy=Patient").await?;
        while let Some(message) = service.receive().await? {
            // Tasks that read or group by patient have no time left when they start. Plan, resolve, merge and finalize tasks have.
            let number: Value = serde_json::from_str(message.body.as_deref().unwrap_or_default())?;
            let number = number.get("task").and_then(Value::as_u64).unwrap_or_default();
            let has_no_time = matches!(number, 2..1_000_000 | 2_000_000..3_000_000);
            service.deliver_until(message, if has_no_time { service.now() } else { Millis(u64::MAX) }).await?;
        }
        let completed = service.complete(&status).await?;
        check_blocks(&completed, &parse_blocks(&completed)?, &expected, 3_000)?;
        let count = |call| service.faults.call_names().iter().filter(|name| **name == call).count();
        assert!(count("tasks.update_task release") > 20, "{}", count("tasks.update_task release"));
        Ok(())
    })
}

/// Crashes at every port call that changes a store, as the tests of `crash.rs` do. A new process must complete the export.
#[test]
fn p1_to_p6_an_export_organized_by_patient_survives_a_crash_at_any_call() -> Result<()> {
    check_crashes(4, 1)
}

/// Crashes at one of eleven such calls, because each of the 64 buckets has a task of its own, and their calls are alike.
#[test]
fn p1_to_p6_an_export_that_sorts_patients_first_survives_a_crash_at_many_calls() -> Result<()> {
    check_crashes(0, 11)
}

/// Crashes at one of `stride` calls that change a store. `max_unsorted_ranges` is the setting of that name.
fn check_crashes(max_unsorted_ranges: u64, stride: usize) -> Result<()> {
    const PATH: &str = "/$export?organizeOutputBy=Patient";
    /// Returns limits under which every phase has several tasks.
    fn settings(max_unsorted_ranges: u64) -> DeploymentSettings {
        let mut settings = small_limits(600, 400).with_merge_limit_bytes(500);
        settings.worker.max_unsorted_ranges = max_unsorted_ranges;
        settings
    }
    /// Completes the export in a new process.
    async fn recover(deployment: &LocalDeployment, clock: &ManualClock, max_unsorted_ranges: u64) -> Result<CompletedExport> {
        let mut id = [0; 16];
        id[15] = 1;
        let status = format!("/_operations/export/{}", JobId::from_random(id));
        let service = ServiceProcess::start(deployment, clock, settings(max_unsorted_ranges));
        if service.request("GET", &status).await?.status == 404 {
            set_next_job_number(1);
            kick_off(&service, PATH).await?;
        }
        let completed = service.complete(&status).await?;
        service.reap_after(5 * REAPER_INTERVAL).await?;
        service.check_no_extra_files(&status, &completed).await?;
        Ok(completed)
    }
    /// Runs the export from the kick-off to the cleanup after completion.
    async fn run_lifecycle(service: &ServiceProcess<LocalDeployment>) -> Result<()> {
        kick_off(service, PATH).await?;
        service.deliver_all().await?;
        service.reap_after(3 * REAPER_INTERVAL).await?;
        Ok(())
    }
    /// Runs the export without a crash. Returns it and the crashes that its process could have had.
    async fn run_without_crash(ranges: u64) -> Result<(CompletedExport, Vec<Crash>)> {
        set_next_job_number(1);
        let ((_, deployment), clock) = (deployments(&small_lake()).await?, ManualClock::default());
        let service = ServiceProcess::start(&deployment, &clock, settings(ranges));
        let recorder = CrashRecorder::start(&service.faults, &deployment, &clock);
        run_lifecycle(&service).await?;
        let crashes = recorder.take()?;
        Ok((recover(&deployment, &clock, ranges).await?, crashes))
    }
    let (expected, crashes) = run(async || run_without_crash(max_unsorted_ranges).await)?;
    assert!(expected.manifest.output.len() > 1 && expected.manifest.error.len() == 1, "{:?}", expected.manifest);
    assert_eq!(reported_issues(&expected)?.len(), 2);
    assert!(crashes.len() > 20, "{} crashes", crashes.len());
    let crashes: Vec<&Crash> = crashes.iter().step_by(stride).collect();
    let failures = run_cases(crashes.len(), |index| {
        let Some(crash) = crashes.get(index) else { return Ok(()) };
        let completed = run(async || recover(&crash.deployment, &crash.clock, max_unsorted_ranges).await)
            .map_err(|error| format!("crashed after {:?}: {error}", crash.after))?;
        if completed.files == expected.files {
            Ok(())
        } else {
            Err(format!("crashed after {:?}: different files, {:?}", crash.after, completed.manifest).into())
        }
    })?;
    assert!(failures.is_empty(), "of {} crashes:\n{}", crashes.len(), failures.join("\n"));
    Ok(())
}
