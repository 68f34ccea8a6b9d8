use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::request::{Container, JobKey, Layout};

#[test]
fn every_state_survives_its_text() {
    for state in JobState::ALL {
        assert_eq!(JobState::named(state.as_str()), Some(state));
    }
}

#[test]
fn an_end_is_never_undone_into_work() {
    for from in JobState::ALL.into_iter().filter(|state| !state.is_open()) {
        for event in JobEvent::ALL {
            if let Ok(Step::To(to)) = from.after(event) {
                assert!(!to.is_open(), "{from:?} {event:?} {to:?}");
            }
        }
    }
}

#[test]
fn p10_a_cancelled_job_stays_cancelled_whatever_comes() {
    for event in JobEvent::ALL {
        assert!(!matches!(JobState::Cancelled.after(event), Ok(Step::To(_))), "{event:?}");
    }
}

#[test]
fn every_open_state_can_be_cancelled_and_given_up() {
    let open: Vec<JobState> = JobState::ALL.into_iter().filter(|state| state.is_open()).collect();
    assert_eq!(open, [JobState::Queued, JobState::Accepted, JobState::Running]);
    for from in open {
        assert_eq!(from.after(JobEvent::CancelAsked), Ok(Step::To(JobState::Cancelled)));
        assert_eq!(from.after(JobEvent::GivenUp), Ok(Step::To(JobState::Failed)));
    }
}

/// A job's state in a store that compares before it sets, and every state it has had.
struct Cell(Mutex<Vec<JobState>>);

impl Cell {
    fn read(&self) -> JobState {
        self.0.lock().unwrap().last().copied().unwrap_or(JobState::Accepted)
    }

    /// Sets `to` if the state is still `from`.
    fn swap(&self, from: JobState, to: JobState) -> bool {
        let mut states = self.0.lock().unwrap();
        let is_same = states.last() == Some(&from);
        if is_same {
            states.push(to);
        }
        is_same
    }
}

/// One who wants an event to happen: it reads, asks the table, and swaps; the world may move on between these.
struct Actor {
    event: JobEvent,
    read: Option<JobState>,
    outcome: Option<Result<Step, IllegalStep>>,
}

impl Actor {
    fn act(&mut self, cell: &Cell) {
        match self.read.take() {
            None => self.read = Some(cell.read()),
            Some(from) => match from.after(self.event) {
                Ok(Step::To(to)) if !cell.swap(from, to) => {}
                decided => self.outcome = Some(decided),
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
    fn no_interleaving_of_actors_reopens_a_job_or_completes_an_unplanned_one(
        begin in prop::sample::select(vec![JobState::Queued, JobState::Accepted]),
        events in prop::collection::vec(any_event(), 1..10), turns in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let cell = Cell(Mutex::new(vec![begin]));
        let mut actors: Vec<Actor> = events.iter().map(|event| Actor { event: *event, read: None, outcome: None }).collect();
        for turn in turns {
            let actor = turn.get_mut(&mut actors);
            if actor.outcome.is_none() {
                actor.act(&cell);
            }
        }
        // Whoever was stopped goes on alone, and comes to an end.
        for actor in &mut actors {
            let mut steps = 0;
            while actor.outcome.is_none() {
                actor.act(&cell);
                steps += 1;
                prop_assert!(steps <= 3);
            }
        }
        let states = cell.0.lock().unwrap().clone();
        let at = |state| states.iter().position(|passed| *passed == state);
        for (from, to) in states.iter().zip(states.iter().skip(1)) {
            prop_assert!(from.is_open() || !to.is_open(), "{states:?}");
            // Whoever works has had a turn, and nobody gives it back.
            prop_assert!(from.has_slot() || !to.has_slot() || (*from, *to) == (JobState::Queued, JobState::Accepted), "{states:?}");
            prop_assert_ne!(*from, JobState::Cancelled);
            prop_assert_ne!(*from, JobState::Expired);
        }
        if at(JobState::Complete).is_some() {
            prop_assert!(at(JobState::Running) < at(JobState::Complete), "{states:?}");
        }
        // Every step that an actor was told of happened exactly once.
        let told = actors.iter().filter(|actor| matches!(actor.outcome, Some(Ok(Step::To(_))))).count();
        prop_assert_eq!(told, states.len() - 1);
        if events.contains(&JobEvent::CancelAsked) {
            prop_assert!(matches!(states.last(), Some(JobState::Cancelled | JobState::Expired)), "{states:?}");
        }
    }
}

#[test]
fn the_table_is_the_one_that_the_documents_draw() {
    let mut legal = Vec::new();
    for from in JobState::ALL {
        for event in JobEvent::ALL {
            match from.after(event) {
                Ok(Step::To(to)) => legal.push(format!("{} {event:?} {}", from.as_str(), to.as_str())),
                Ok(Step::Already) => legal.push(format!("{} {event:?} already", from.as_str())),
                Err(refused) => assert_eq!(refused, IllegalStep { from, event }),
            }
        }
    }
    let table = "queued Admitted accepted
queued GivenUp failed
queued CancelAsked cancelled
accepted Planned running
accepted GivenUp failed
accepted CancelAsked cancelled
running Finished complete
running GivenUp failed
running CancelAsked cancelled
complete CancelAsked cancelled
complete RetentionOver expired
failed GivenUp already
failed CancelAsked cancelled
failed RetentionOver expired
cancelled CancelAsked already
expired RetentionOver already";
    assert_eq!(legal.join("\n"), table);
}

#[test]
fn a_jobs_folder_is_what_its_record_says_and_nothing_else() {
    let id = JobId::from_random([7; 16]);
    let key = JobKey { name: "trial".into(), arn: "arn:aws:kms:eu-central-1:111122223333:key/k-1".into() };
    let request = ExportRequest { container: Container::parse("nightly"), encryption_key: Some(key.clone()), ..ExportRequest::default() };
    let job = Job {
        destination: Some("clinic/out".into()),
        ..Job::accepted(id.clone(), Caller("ann".into()), request, Millis(1_769_846_400_000))
    };
    let path = format!("nightly/20260131T080000-{id}");
    assert_eq!(job.folder(), Folder { destination: Some("clinic/out".into()), path, key: Some(key) });
    let plain = Job::accepted(id.clone(), Caller("ann".into()), ExportRequest::default(), Millis(1_769_846_400_000));
    assert_eq!(plain.folder(), Folder { destination: None, path: format!("20260131T080000-{id}"), key: None });
    let request = ExportRequest { layout: Layout::parse("monthly/<id>/<timestamp>"), ..ExportRequest::default() };
    let laid_out = Job { request, ..plain };
    assert_eq!(laid_out.folder().path, format!("monthly/{id}/20260131T080000"));
}
