use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::request::{EncryptionKey, FolderLayout};
use crate::vocab::container::Container;

#[test]
fn every_state_round_trips_through_text() {
    for state in JobState::ALL {
        assert_eq!(JobState::parse(state.as_str()), Some(state));
    }
}

#[test]
fn an_ended_job_is_never_reopened() {
    for from in JobState::ALL.into_iter().filter(|state| !state.is_open()) {
        for event in JobEvent::ALL {
            if let Ok(Transition::To(to)) = from.transition(event) {
                assert!(!to.is_open(), "{from:?} {event:?} {to:?}");
            }
        }
    }
}

#[test]
fn p10_a_cancelled_job_stays_cancelled() {
    for event in JobEvent::ALL {
        assert!(!matches!(JobState::Cancelled.transition(event), Ok(Transition::To(_))), "{event:?}");
    }
}

#[test]
fn every_open_job_can_be_cancelled_and_can_fail() {
    let open: Vec<JobState> = JobState::ALL.into_iter().filter(|state| state.is_open()).collect();
    assert_eq!(open, [JobState::Queued, JobState::Accepted, JobState::Running]);
    for from in open {
        assert_eq!(from.transition(JobEvent::CancelRequested), Ok(Transition::To(JobState::Cancelled)));
        assert_eq!(from.transition(JobEvent::Failed), Ok(Transition::To(JobState::Failed)));
    }
}

/// The state of a job in a store with compare-and-swap, with all earlier states.
struct Cell(Mutex<Vec<JobState>>);

impl Cell {
    fn read(&self) -> JobState {
        self.0.lock().unwrap().last().copied().unwrap_or(JobState::Accepted)
    }

    /// Sets the state to `to` if it is still `from`.
    fn swap(&self, from: JobState, to: JobState) -> bool {
        let mut states = self.0.lock().unwrap();
        let is_same = states.last() == Some(&from);
        if is_same {
            states.push(to);
        }
        is_same
    }
}

/// A process that applies an event in two steps, between which other processes can change the state: it reads the state, then
/// swaps it.
struct Contender {
    event: JobEvent,
    seen: Option<JobState>,
    outcome: Option<Result<Transition, IllegalTransition>>,
}

impl Contender {
    fn act(&mut self, cell: &Cell) {
        match self.seen.take() {
            None => self.seen = Some(cell.read()),
            Some(from) => match from.transition(self.event) {
                Ok(Transition::To(to)) if !cell.swap(from, to) => {}
                outcome => self.outcome = Some(outcome),
            },
        }
    }
}

fn any_event() -> impl Strategy<Value = JobEvent> {
    prop::sample::select(JobEvent::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_interleaving_reopens_a_job_or_completes_an_unplanned_one(
        begin in prop::sample::select(vec![JobState::Queued, JobState::Accepted]),
        events in prop::collection::vec(any_event(), 1..10), turns in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let cell = Cell(Mutex::new(vec![begin]));
        let mut contenders: Vec<Contender> = events.iter().map(|event| Contender { event: *event, seen: None, outcome: None }).collect();
        for turn in turns {
            let contender = turn.get_mut(&mut contenders);
            if contender.outcome.is_none() {
                contender.act(&cell);
            }
        }
        // Contenders that were interrupted continue alone and terminate.
        for contender in &mut contenders {
            let mut steps = 0;
            while contender.outcome.is_none() {
                contender.act(&cell);
                steps += 1;
                prop_assert!(steps <= 3);
            }
        }
        let states = cell.0.lock().unwrap().clone();
        let position = |state| states.iter().position(|other| *other == state);
        for (from, to) in states.iter().zip(states.iter().skip(1)) {
            prop_assert!(from.is_open() || !to.is_open(), "{states:?}");
            // A job gets its slot only by leaving the queue, and never returns to the queue.
            prop_assert!(from.has_slot() || !to.has_slot() || (*from, *to) == (JobState::Queued, JobState::Accepted), "{states:?}");
            prop_assert_ne!(*from, JobState::Cancelled);
            prop_assert_ne!(*from, JobState::Expired);
        }
        if position(JobState::Complete).is_some() {
            prop_assert!(position(JobState::Running) < position(JobState::Complete), "{states:?}");
        }
        // Every transition that a contender received happened exactly once.
        let applied = contenders.iter().filter(|contender| matches!(contender.outcome, Some(Ok(Transition::To(_))))).count();
        prop_assert_eq!(applied, states.len() - 1);
        if events.contains(&JobEvent::CancelRequested) {
            prop_assert!(matches!(states.last(), Some(JobState::Cancelled | JobState::Expired)), "{states:?}");
        }
    }
}

#[test]
fn the_transitions_are_those_of_the_documentation() {
    let mut legal = Vec::new();
    for from in JobState::ALL {
        for event in JobEvent::ALL {
            match from.transition(event) {
                Ok(Transition::To(to)) => legal.push(format!("{} {event:?} {}", from.as_str(), to.as_str())),
                Ok(Transition::AlreadyDone) => legal.push(format!("{} {event:?} already", from.as_str())),
                Err(error) => assert_eq!(error, IllegalTransition { from, event }),
            }
        }
    }
    let table = "queued Started accepted
queued Failed failed
queued CancelRequested cancelled
accepted Planned running
accepted Failed failed
accepted CancelRequested cancelled
running Completed complete
running Failed failed
running CancelRequested cancelled
complete CancelRequested cancelled
complete RetentionExpired expired
failed Failed already
failed CancelRequested cancelled
failed RetentionExpired expired
cancelled CancelRequested already
expired RetentionExpired already";
    assert_eq!(legal.join("\n"), table);
}

#[test]
fn a_jobs_folder_depends_only_on_its_record() {
    let id = JobId::from_random([7; 16]);
    let key = EncryptionKey { name: "trial".into(), arn: "arn:aws:kms:eu-central-1:111122223333:key/k-1".into() };
    let request = ExportRequest { container: Container::parse("nightly"), encryption_key: Some(key.clone()), ..ExportRequest::default() };
    let job = Job {
        destination: Some("clinic/out".into()),
        ..Job::accepted(id.clone(), Caller("ann".into()), request, Millis(1_769_846_400_000))
    };
    let path = format!("nightly/20260131T080000-{id}");
    assert_eq!(job.folder(), Folder { destination: Some("clinic/out".into()), path, encryption_key: Some(key) });
    let without_container = Job::accepted(id.clone(), Caller("ann".into()), ExportRequest::default(), Millis(1_769_846_400_000));
    assert_eq!(without_container.folder(), Folder { destination: None, path: format!("20260131T080000-{id}"), encryption_key: None });
    let request = ExportRequest { layout: FolderLayout::parse("monthly/<id>/<timestamp>"), ..ExportRequest::default() };
    let with_layout = Job { request, ..without_container };
    assert_eq!(with_layout.folder().path, format!("monthly/{id}/20260131T080000"));
}
