//! Finds what remains of true times beside times that are shifted. The events of a visit are close to each other, so that the difference
//! between two of their times reveals by how many days one of them was shifted. Years of true times, and days of the week, limit the shift.

use std::collections::{HashSet, VecDeque};

use super::ConfigLinter;
use super::known_dates::{is_shift, list_elements};
use crate::definitions::ResourceType;
use crate::deid::config::{Method, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::plan::{PathAutomaton, State, Transition};

/// Data types whose periods say how long a name or an address was in use. These are not events of a visit.
const ADMINISTRATIVE_TYPES: [&str; 5] = ["Address", "ContactPoint", "HumanName", "Identifier", "Reference"];

/// The dates of births, which are not events of a visit.
const BIRTHS: [&str; 2] = ["birthDate", "born"];

/// The element of the type `date` that says when a product expires, which is no event of a visit.
const EXPIRATION: &str = "expirationDate";

/// Elements that say on which days of the week something happens.
const WEEKDAYS: [&str; 9] = ["dayOfWeek", "daysOfWeek", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A function that creates the remark about a list of elements.
type RemarkOfElements = fn(String) -> DeidRemark;

/// The times of the events in one resource type.
#[derive(Default)]
struct EventTimes {
    /// True if some of the times are shifted.
    are_shifted: bool,
    /// Paths of the times that stay as they are.
    unchanged: Vec<String>,
    /// Paths of the days of the week that stay as they are.
    weekdays: Vec<String>,
    /// Paths of the times that are redacted.
    redacted: Vec<String>,
}

impl EventTimes {
    /// Adds the time of an event.
    fn add(&mut self, linter: &ConfigLinter<'_>, state: &State, path: String) {
        let index = state.applied_rule.map(|applied| applied.index);
        if index.is_some_and(|index| is_shift(linter.config, index)) {
            self.are_shifted = true;
        } else if leaves_value(linter, state) {
            self.unchanged.push(path);
        } else if index.and_then(|index| linter.config.rules.get(index)).is_some_and(|rule| matches!(rule.method, Method::Redact)) {
            self.redacted.push(path);
        }
    }
}

/// Returns the remarks about what stays of true times beside shifted ones, in the types that belong to patients.
pub(in crate::deid) fn true_date_remarks(linter: &ConfigLinter<'_>) -> Vec<DeidRemark> {
    let types = if linter.config.shifts_dates() { all_event_times(linter).unwrap_or_default() } else { Vec::new() };
    let moves_across_types = linter.config.parameters.shifts_across_resources();
    let are_shifted = types.iter().any(|times| times.are_shifted);
    let beside_shifted: Vec<_> = types.iter().filter(|times| times.are_shifted || (moves_across_types && are_shifted)).collect();
    let paths =
        |of: fn(&EventTimes) -> &[String]| beside_shifted.iter().flat_map(|times| of(times)).map(String::as_str).collect::<Vec<_>>();
    let with_paths: [(Vec<&str>, RemarkOfElements); 3] = [
        (paths(|times| &times.unchanged), true_date_remark),
        (paths(|times| &times.weekdays), weekday_remark),
        (paths(|times| &times.redacted), year_remark),
    ];
    with_paths.into_iter().filter(|(paths, _)| !paths.is_empty()).map(|(paths, remark)| remark(list_elements(paths))).collect()
}

/// Creates the remark about times that stay as they are.
fn true_date_remark(elements: String) -> DeidRemark {
    let reason = elements
        + " stays as it is beside dates that are shifted; the difference between two dates of one visit reveals the shift, and with it the \
           true dates";
    let remedy = "shift or redact them too; nodesByType('date'), nodesByType('dateTime') and nodesByType('instant') select all of them";
    DeidRemark::in_file(DeidRemarkCode::TrueDate, DeidRemarkSeverity::Warning, reason, remedy)
}

/// Creates the remark about days of the week that stay as they are.
fn weekday_remark(elements: String) -> DeidRemark {
    let reason = elements + " stays as it is beside dates that are shifted; the day of the week reveals the remainder of the shift by 7";
    let remedy = "redact it; nodesByName('dayOfWeek') selects that of each Timing, nodesByName('daysOfWeek') that of each Availability";
    DeidRemark::in_file(DeidRemarkCode::RevealedShift, DeidRemarkSeverity::Warning, reason, remedy)
}

/// Creates the remark about times whose years stay as they are.
fn year_remark(elements: String) -> DeidRemark {
    let reason =
        elements + " keeps its year beside dates that are shifted; around the turn of a year, the year of the true date reveals the shift";
    let remedy = "remove enablePartialDatesForRedact, or redact all dates";
    DeidRemark::in_file(DeidRemarkCode::RevealedShift, DeidRemarkSeverity::Warning, reason, remedy)
}

/// Collects the times of events in each type that belongs to patients, each in the worst case.
fn all_event_times(linter: &ConfigLinter<'_>) -> Option<Vec<EventTimes>> {
    let parameters = &linter.config.parameters;
    // Where the condition of a rule is true, a date moves beside those for which it is false.
    let mut types = times_of_types(linter, |rule| matches!(rule.method, Method::DateShift))?;
    let keeping = times_of_types(linter, |rule| matches!(rule.method, Method::Keep))?;
    for (times, kept) in types.iter_mut().zip(keeping) {
        *times = EventTimes { are_shifted: times.are_shifted, redacted: Vec::new(), ..kept };
    }
    // The few years of one resource reveal little, those of all resources of a patient nearly everything.
    if parameters.keeps_partial_dates && parameters.shifts_across_resources() {
        let redacting = times_of_types(linter, |rule| matches!(rule.method, Method::Redact))?;
        for (times, redacting) in types.iter_mut().zip(redacting) {
            times.redacted = redacting.redacted;
        }
    }
    Some(types)
}

/// Collects the times of events in each type that belongs to patients, in the worst case of [`ConfigLinter::worst_case`].
fn times_of_types(linter: &ConfigLinter<'_>, is_risky: impl Fn(&Rule) -> bool) -> Option<Vec<EventTimes>> {
    let automata = linter.worst_case(is_risky)?;
    let (automaton, roots) = &*automata;
    let of_patients = linter.config.version.patient_compartment_types();
    let named = roots.iter().map(|(root, number)| (linter.type_name(*root), *number));
    let of_patients = named.filter(|(name, _)| ResourceType::parse(name).is_some_and(|kind| of_patients.contains(kind)));
    Some(of_patients.map(|(name, number)| event_times(linter, automaton, name, number)).collect())
}

/// Returns true if an element says when an event was.
fn is_event_time(type_name: &str, element: &str) -> bool {
    matches!(type_name, "dateTime" | "instant") || (type_name == "date" && element != EXPIRATION && !BIRTHS.contains(&element))
}

/// Returns true if an element is a date of birth that stays as it is, where all dates of a patient move together. The first visits of a
/// child are on the day of its birth.
fn is_birth_beside_visits(linter: &ConfigLinter<'_>, transition: &Transition, state: &State) -> bool {
    let moves_visits = linter.config.parameters.shifts_across_resources();
    let is_shifted = state.applied_rule.is_some_and(|applied| is_shift(linter.config, applied.index));
    moves_visits && transition.element == "birthDate" && !is_shifted && leaves_value(linter, state)
}

/// Returns true if an element says on which days of the week something happens, and stays as it is.
fn is_unchanged_weekday(linter: &ConfigLinter<'_>, automaton: &PathAutomaton, transition: &Transition, state: &State) -> bool {
    if !WEEKDAYS.contains(&transition.element) {
        return false;
    }
    // The day of a monthly appointment in R5 is a Coding.
    let code = || automaton.get(state.members.get("code")?.next_state);
    let value = if state.primitive.is_some() { Some(state) } else { code() };
    value.is_some_and(|value| leaves_value(linter, value))
}

/// Returns true if no rule changes a value that is not shifted.
fn leaves_value(linter: &ConfigLinter<'_>, state: &State) -> bool {
    let rule = state.applied_rule.and_then(|applied| linter.config.rules.get(applied.index));
    rule.is_none_or(|rule| matches!(rule.method, Method::Keep | Method::DateShift))
}

/// Collects the times of events in the resource type whose root has the state `root`. Extensions are left out.
fn event_times(linter: &ConfigLinter<'_>, automaton: &PathAutomaton, type_name: &str, root: u32) -> EventTimes {
    let mut times = EventTimes::default();
    let mut reached = HashSet::from([root]);
    // Breadth first: the first path to an element is a short one.
    let mut open = VecDeque::from([(root, type_name.to_owned())]);
    while let Some((number, parent)) = open.pop_front() {
        for transition in automaton.get(number).into_iter().flat_map(|state| state.members.iter()) {
            let is_administrative = ADMINISTRATIVE_TYPES.contains(&linter.type_name(transition.definition));
            if transition.is_resource || is_administrative || matches!(transition.element, "extension" | "modifierExtension") {
                continue;
            }
            let path = format!("{parent}.{}", transition.element);
            let Some(state) = automaton.get(transition.next_state) else { continue };
            if is_unchanged_weekday(linter, automaton, transition, state) {
                times.weekdays.push(path.clone());
            }
            match state.primitive {
                Some(primitive) if is_event_time(primitive.type_name, transition.element) => times.add(linter, state, path),
                Some(_) if is_birth_beside_visits(linter, transition, state) => times.unchanged.push(path),
                Some(_) => {}
                None if reached.insert(transition.next_state) => open.push_back((transition.next_state, path)),
                None => {}
            }
        }
    }
    times
}
