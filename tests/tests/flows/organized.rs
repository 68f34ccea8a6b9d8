//! `organizeOutputBy=Patient`: files of blocks, a patient each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{
    Aws, Finished, MINUTE, ManualClock, OneMachine, Result, Script, Stage, Terms, Twist, World, count_ids_from, run,
};
use serde_json::Value;

/// The blocks of an export, by patient: their lines behind the header.
type Blocks = BTreeMap<String, Vec<String>>;

async fn kick_off<S: Stage>(world: &World<S>, path: &str) -> Result<String> {
    let answer = world.ask("GET", path).await?;
    let url = answer.header("content-location").ok_or_else(|| format!("{path} was answered with {answer:?}"))?;
    url.find("/_operations").and_then(|at| url.get(at..)).map(str::to_owned).ok_or_else(|| "no status URL".into())
}

/// Exports, and reads the blocks: each patient has one, and no file begins within one.
async fn export<S: Stage>(stage: &S, terms: Terms, path: &str) -> Result<(Finished, Blocks)> {
    let world = World::start(stage, &ManualClock::default(), terms);
    let status = kick_off(&world, path).await?;
    let finished = world.finish(&status).await?;
    let blocks = blocks(&finished)?;
    Ok((finished, blocks))
}

fn patient_of_header(line: &str) -> Result<Option<String>> {
    let resource: Value = serde_json::from_str(line)?;
    if resource.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Ok(None);
    }
    let reference =
        resource.pointer("/parameter/0/valueReference/reference").and_then(Value::as_str).ok_or("a header without reference")?;
    let patient = reference.strip_prefix("Patient/").ok_or("a header for something else than a patient")?;
    let exactly =
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/@"}}]}"#.replace('@', patient);
    if line == exactly { Ok(Some(patient.to_owned())) } else { Err(format!("{line} is no header").into()) }
}

fn blocks(finished: &Finished) -> Result<Blocks> {
    if finished.manifest.output_organized_by.as_deref() != Some("Patient") {
        return Err("the manifest does not say what the output is organized by".into());
    }
    let mut blocks = Blocks::new();
    for entry in &finished.manifest.output {
        if !entry.kind.is_empty() || !entry.name().starts_with("organized-") {
            return Err(format!("{entry:?} is no file of blocks").into());
        }
        let mut patient = None;
        for line in std::str::from_utf8(finished.files.get(entry.name()).ok_or("no file")?)?.lines() {
            if let Some(next) = patient_of_header(line)? {
                if blocks.insert(next.clone(), Vec::new()).is_some() {
                    return Err(format!("{next} has two blocks").into());
                }
                patient = Some(next);
            } else {
                let patient = patient.as_ref().ok_or_else(|| format!("{} begins within a block", entry.name()))?;
                blocks.get_mut(patient).ok_or("a line without a block")?.push(line.to_owned());
            }
        }
    }
    Ok(blocks)
}

/// What the error files say.
fn said(finished: &Finished) -> Result<Vec<String>> {
    let files = finished.manifest.error.iter().filter_map(|entry| finished.files.get(entry.name()));
    let lines = files.map(|file| Ok(std::str::from_utf8(file)?.lines().collect::<Vec<_>>())).collect::<Result<Vec<_>>>()?;
    let diagnostics = |line: &str| -> Result<String> {
        let outcome: Value = serde_json::from_str(line)?;
        let word = |path| outcome.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(format!("{}: {}", word("/issue/0/severity"), word("/issue/0/diagnostics")))
    };
    lines.concat().into_iter().map(diagnostics).collect()
}

const PATIENT_A: &str = r#"{"resourceType":"Patient","id":"a"}"#;
const PATIENT_B: &str = r#"{"resourceType":"Patient","id":"b","link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}"#;
const OF_A: &str = r#"{"resourceType":"Observation","id":"2","subject":{"reference":"Patient/a"}}"#;
const OF_BOTH: &str =
    r#"{"resourceType":"Observation","id":"1","subject":{"reference":"Patient/a"},"performer":[{"reference":"Patient/b"}]}"#;
const OF_C: &str = r#"{"resourceType":"Condition","id":"1","subject":{"reference":"Patient/c"}}"#;
const OF_A_FIRST: &str = r#"{"resourceType":"AllergyIntolerance","id":"1","patient":{"reference":"https://h/fhir/Patient/a"}}"#;
const OF_NOBODY: &str = r#"{"resourceType":"Practitioner","id":"d"}"#;

fn small_lake() -> [(&'static str, String); 3] {
    [
        ("1.ndjson", [OF_A, PATIENT_B, OF_BOTH, ""].join("\n")),
        ("2.ndjson", [OF_NOBODY, OF_A_FIRST, PATIENT_A, "no resource", ""].join("\n")),
        ("3.ndjson", [OF_C, OF_NOBODY.replace("\"d\"", "\"e\"").as_str(), ""].join("\n")),
    ]
}

async fn stages<L: AsRef<str>>(lake: &[(L, String)]) -> Result<(Aws, OneMachine)> {
    let files: Vec<_> = lake.iter().map(|(name, text)| (name.as_ref(), text.as_bytes())).collect();
    let aws = Aws::empty().await?;
    for (name, bytes) in &files {
        aws.change_lake(name, Some(Bytes::copy_from_slice(bytes))).await?;
    }
    Ok((aws, OneMachine::with(&files).await?))
}

fn of(blocks: &[(&str, &[&str])]) -> Blocks {
    blocks.iter().map(|(patient, lines)| ((*patient).to_owned(), lines.iter().map(|line| (*line).to_owned()).collect())).collect()
}

// Holds: P80, F20, F22
#[test]
fn a_block_is_the_patient_and_then_its_compartment_by_type_and_arrival() -> Result<()> {
    async fn check<S: Stage>(stage: &S) -> Result<()> {
        let everything: &[(&str, &[&str])] =
            &[("a", &[PATIENT_A, OF_A_FIRST, OF_A, OF_BOTH, PATIENT_B]), ("b", &[PATIENT_B, OF_BOTH]), ("c", &[OF_C])];
        for (level, left_out) in [("", 2), ("/Patient", 0)] {
            let (finished, blocks) = export(stage, Terms::default(), &format!("{level}/$export?organizeOutputBy=Patient")).await?;
            assert_eq!(blocks, of(everything), "{level}");
            assert_eq!((finished.files.len(), finished.manifest.output.len()), (2, 1), "{level}");
            let said = said(&finished)?;
            assert_eq!(said.iter().filter(|text| text.starts_with("error: a line of the lake was left out")).count(), 1, "{said:?}");
            let told: Vec<_> = said.iter().filter(|text| text.starts_with("information: ")).collect();
            assert_eq!(told.len(), usize::from(left_out > 0), "{said:?}");
            assert!(told.iter().all(|text| text.contains("2 Practitioner resources are left out")), "{said:?}");
        }
        Ok(())
    }
    run(async || {
        let (aws, one_machine) = stages(&small_lake()).await?;
        check(&aws).await?;
        check(&one_machine).await
    })
}

#[test]
fn filters_and_elements_count_for_organized_output_too() -> Result<()> {
    run(async || {
        let (_, stage) = stages(&small_lake()).await?;
        let (_, blocks) = export(&stage, Terms::default(), "/Patient/$export?organizeOutputBy=Patient&_type=Observation").await?;
        assert_eq!(blocks, of(&[("a", &[OF_A, OF_BOTH]), ("b", &[OF_BOTH])]));
        // The subject is gone from the lines; that it stood there still counts.
        let (_, blocks) =
            export(&stage, Terms::default(), "/$export?organizeOutputBy=Patient&_type=Observation&_elements=Observation.code").await?;
        assert_eq!(blocks.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(blocks.values().flatten().all(|line| !line.contains("performer") && line.contains("SUBSETTED")), "{blocks:?}");
        Ok(())
    })
}

#[test]
fn only_those_whom_the_export_is_about_have_blocks() -> Result<()> {
    const GROUP: &str =
        r#"{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/a"}}]}"#;
    run(async || {
        let mut lake = small_lake().to_vec();
        lake.push(("groups.ndjson", format!("{GROUP}\n")));
        let (_, stage) = stages(&lake).await?;
        let (_, blocks) = export(&stage, Terms::default(), "/Group/g/$export?organizeOutputBy=Patient").await?;
        assert_eq!(blocks, of(&[("a", &[PATIENT_A, OF_A_FIRST, GROUP, OF_A, OF_BOTH, PATIENT_B])]));
        let (_, blocks) = export(&stage, Terms::default(), "/Patient/b/$export?organizeOutputBy=Patient").await?;
        assert_eq!(blocks, of(&[("b", &[PATIENT_B, OF_BOTH])]));
        Ok(())
    })
}

#[test]
fn an_organized_export_of_nothing_lists_nothing() -> Result<()> {
    run(async || {
        let (_, stage) = stages(&small_lake()).await?;
        let (finished, blocks) = export(&stage, Terms::default(), "/$export?organizeOutputBy=Patient&_type=Immunization").await?;
        assert!(blocks.is_empty() && finished.manifest.output.is_empty());
        Ok(())
    })
}

/// The lines of each patient's block.
type Expected = BTreeMap<String, BTreeSet<String>>;

/// A lake of which each pair of resource and patient is known, from a seed.
fn random_lake(seed: u64) -> (Vec<(String, String)>, Expected) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or_default()
    };
    let people = 1 + next(30);
    let (mut files, mut blocks) = (Vec::new(), Expected::new());
    for file in 0..1 + next(6) {
        let mut text = String::new();
        for n in 0..next(60) {
            let id = format!("{file}-{n}");
            let mut patients = BTreeSet::new();
            let mut somebody = |patients: &mut BTreeSet<String>| {
                let patient = format!("p{}", next(people));
                patients.insert(patient.clone());
                format!("{{\"reference\":\"Patient/{patient}\"}}")
            };
            let (one, other) = (somebody(&mut patients), somebody(&mut patients));
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
    // Each person has a Patient, in a file of its own.
    let mut text = String::new();
    for patient in 0..people {
        let line = format!(r#"{{"resourceType":"Patient","id":"p{patient}"}}"#);
        blocks.entry(format!("p{patient}")).or_default().insert(line.clone());
        text.push_str(&line);
        text.push('\n');
    }
    files.push(("people.ndjson".to_owned(), text));
    (files, blocks)
}

/// Bounds under which buckets are shared among tasks, shelves are too small, files roll and tails are gathered.
fn tiny(organize_bytes: u64, file_bytes: u64) -> Terms {
    let mut terms = Terms::file_bytes(file_bytes).join_limit_bytes(2_000);
    terms.work.organize_bytes = organize_bytes;
    terms
}

fn check_random(finished: &Finished, blocks: &Blocks, expected: &Expected, file_bytes: usize) -> Result<()> {
    assert!(blocks.keys().eq(expected.keys()));
    let kind_of = |line: &String| line.split('"').nth(3).unwrap_or_default().to_owned();
    for ((patient, lines), wanted) in blocks.iter().zip(expected.values()) {
        assert_eq!(&lines.iter().cloned().collect::<BTreeSet<_>>(), wanted, "{patient}");
        assert_eq!(lines.len(), wanted.len(), "{patient} has a line twice");
        let (first, rest) = lines.split_first().ok_or("an empty block")?;
        assert!(first.starts_with(&format!(r#"{{"resourceType":"Patient","id":"{patient}""#)), "{patient}: {lines:?}");
        assert!(rest.iter().map(kind_of).is_sorted(), "{patient}: {lines:?}");
    }
    // Files are full but for the last, and no fuller than by one block.
    let names = (1..=finished.manifest.output.len()).map(|number| format!("organized-{number}.ndjson"));
    let sizes = names.map(|name| finished.files.get(&name).map(Bytes::len)).collect::<Option<Vec<_>>>().ok_or("a number is missing")?;
    let largest = blocks.values().map(|lines| 200 + lines.iter().map(|line| line.len() + 1).sum::<usize>()).max().unwrap_or_default();
    assert!(sizes.iter().all(|size| *size < file_bytes + largest), "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size < file_bytes).count() <= 1, "{sizes:?}");
    Ok(())
}

// Holds: F21, F23
#[test]
fn every_resource_stands_once_in_the_block_of_each_of_its_patients_whatever_the_bounds() -> Result<()> {
    async fn check<S: Stage>(stage: &S, seed: u64, expected: &Expected) -> Result<u32> {
        let file_bytes = [900, 5_000, 100_000].into_iter().nth(usize::try_from(seed % 3)?).unwrap_or_default();
        let organize_bytes = [400, 3_000, 20_000, 1 << 20].into_iter().nth(usize::try_from(seed % 4)?).unwrap_or_default();
        let (finished, blocks) = export(stage, tiny(organize_bytes, file_bytes as u64), "/$export?organizeOutputBy=Patient").await?;
        check_random(&finished, &blocks, expected, file_bytes)?;
        let url = &finished.manifest.output.first().ok_or("no file")?.url;
        let id = JobId::parse(url.rsplit('/').nth(1).unwrap_or_default())?;
        Ok(stage.jobs().job(&id).await?.ok_or("no job")?.round)
    }
    run(async || {
        let mut rounds = BTreeSet::new();
        for seed in 1..=12 {
            let (lake, expected) = random_lake(seed);
            let (aws, one_machine) = stages(&lake).await?;
            rounds.insert(check(&one_machine, seed, &expected).await?);
            if seed <= 4 {
                rounds.insert(check(&aws, seed, &expected).await?);
            }
        }
        // Notes are resolved in the first, buckets organized in the second, and blocks gathered in the third, if they are.
        assert!(rounds.contains(&2) && rounds.contains(&3), "{rounds:?}");
        Ok(())
    })
}

#[test]
fn p7_blocks_stay_whole_when_every_worker_is_about_to_be_stopped() -> Result<()> {
    run(async || {
        let (lake, expected) = random_lake(5);
        let (_, stage) = stages(&lake).await?;
        let world = World::start(&stage, &ManualClock::default(), tiny(4_000, 3_000));
        let status = kick_off(&world, "/$export?organizeOutputBy=Patient").await?;
        while let Some(message) = world.receive().await? {
            // The plan and the finish get their time, and so do those who resolve and gather.
            let number: Value = serde_json::from_str(message.body.as_deref().unwrap_or_default())?;
            let number = number.get("task").and_then(Value::as_u64).unwrap_or_default();
            let is_hurried = matches!(number, 2..1_000_000 | 2_000_000..3_000_000);
            world.deliver_until(message, if is_hurried { world.now() } else { Millis(u64::MAX) }).await?;
        }
        let finished = world.finish(&status).await?;
        check_random(&finished, &blocks(&finished)?, &expected, 3_000)?;
        let count = |wanted| world.script.names().iter().filter(|name| **name == wanted).count();
        assert!(count("tasks.record release") > 20, "{}", count("tasks.record release"));
        Ok(())
    })
}

/// As `crash.rs` has it: the process is stopped at every single call of a port, and the next one ends the export all the
/// same.
#[test]
fn p1_to_p6_an_organized_export_survives_a_stop_at_any_call() -> Result<()> {
    const PATH: &str = "/$export?organizeOutputBy=Patient";
    fn terms() -> Terms {
        tiny(600, 400).join_limit_bytes(500)
    }
    async fn take_up(stage: &OneMachine, clock: &ManualClock) -> Result<Finished> {
        let mut id = [0; 16];
        id[15] = 1;
        let status = format!("/_operations/export/{}", JobId::from_random(id));
        let world = World::start(stage, clock, terms());
        if world.ask("GET", &status).await?.status == 404 {
            count_ids_from(1);
            kick_off(&world, PATH).await?;
        }
        let finished = world.finish(&status).await?;
        world.reap_after(5 * MINUTE).await?;
        world.nothing_lies_beside(&status, &finished).await?;
        Ok(finished)
    }
    async fn live(world: &World<OneMachine>) -> Result<()> {
        kick_off(world, PATH).await?;
        world.drain().await?;
        world.reap_after(3 * MINUTE).await?;
        Ok(())
    }
    async fn stopped(number: usize, twist: Twist) -> Result<(Vec<&'static str>, Finished)> {
        count_ids_from(1);
        let ((_, stage), clock) = (stages(&small_lake()).await?, ManualClock::default());
        let script = Script::at(number, twist);
        let world = World::scripted(&stage, &clock, terms(), script.clone());
        script.while_alive(live(&world)).await.transpose()?;
        drop(world);
        Ok((script.names(), take_up(&stage, &clock).await?))
    }
    let (names, expected) = run(async || stopped(usize::MAX, Twist::Pass).await)?;
    assert!(expected.manifest.output.len() > 1 && expected.manifest.error.len() == 1, "{:?}", expected.manifest);
    assert_eq!(said(&expected)?.len(), 2);
    println!("to be stopped at each of {} calls", names.len());
    let next = AtomicUsize::new(1);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(name) = names.get(number - 1) else { return Ok(()) };
            let (_, finished) = run(async || stopped(number, Twist::StopAfter).await)
                .map_err(|error| format!("stopped after call {number}, {name}: {error}"))?;
            if finished.files != expected.files {
                return Err(format!("stopped after call {number}, {name}: other files, {:?}", finished.manifest).into());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
