//! Finds times of events that stay as they are beside times that are shifted. The events of a visit are close to each other, so that
//! the difference between two of their times reveals by how many days one of them was shifted.

use std::collections::{HashSet, VecDeque};

use super::ConfigLinter;
use super::known_dates::{is_shift, list_elements};
use crate::definitions::ResourceType;
use crate::deid::config::{Method, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::plan::PathAutomaton;

/// Data types whose periods say how long a name or an address was in use. These are not events of a visit.
const ADMINISTRATIVE_TYPES: [&str; 5] = ["Address", "ContactPoint", "HumanName", "Identifier", "Reference"];

/// Elements of the type `date` that are not events of a visit: births, and the end of a vaccine's shelf life.
const OTHER_DATES: [&str; 3] = ["birthDate", "born", "expirationDate"];

/// The times of the events in one resource type.
#[derive(Default)]
struct EventTimes {
    /// True if some of the times are shifted.
    are_shifted: bool,
    /// Paths of the times that stay as they are.
    unchanged: Vec<String>,
}

/// Returns the remark about times of events that stay as they are beside shifted ones, in the types that belong to patients; none if
/// there are no such times.
pub(in crate::deid) fn true_date_remark(linter: &ConfigLinter<'_>) -> Option<DeidRemark> {
    let config = linter.config;
    if !config.shifts_dates() {
        return None;
    }
    // Where the condition of a rule is true, a date moves beside those for which it is false.
    let shifting = times_of_types(linter, |rule| matches!(rule.method, Method::DateShift))?;
    let keeping = times_of_types(linter, |rule| matches!(rule.method, Method::Keep))?;
    let types: Vec<_> =
        shifting.into_iter().zip(keeping).map(|(shifting, keeping)| EventTimes { unchanged: keeping.unchanged, ..shifting }).collect();
    let moves_across_types = config.parameters.shifts_across_resources();
    let are_shifted = types.iter().any(|times| times.are_shifted);
    let beside_shifted = types.iter().filter(|times| times.are_shifted || (moves_across_types && are_shifted));
    let unchanged: Vec<&str> = beside_shifted.flat_map(|times| times.unchanged.iter().map(String::as_str)).collect();
    if unchanged.is_empty() {
        return None;
    }
    let reason = format!(
        "{} stays as it is beside dates that are shifted; the difference between two dates of one visit reveals the shift, and with it \
         the true dates",
        list_elements(unchanged)
    );
    let remedy = "shift or redact them too; nodesByType('date'), nodesByType('dateTime') and nodesByType('instant') select all of them";
    Some(DeidRemark::in_file(DeidRemarkCode::TrueDate, DeidRemarkSeverity::Warning, reason, remedy))
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
    matches!(type_name, "dateTime" | "instant") || (type_name == "date" && !OTHER_DATES.contains(&element))
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
            match state.primitive {
                Some(primitive) if is_event_time(primitive.type_name, transition.element) => {
                    let rule = state.applied_rule.map(|applied| applied.index);
                    if rule.is_some_and(|index| is_shift(linter.config, index)) {
                        times.are_shifted = true;
                    } else if rule.and_then(|index| linter.config.rules.get(index)).is_none_or(|rule| matches!(rule.method, Method::Keep)) {
                        times.unchanged.push(path);
                    }
                }
                Some(_) => {}
                None if reached.insert(transition.next_state) => open.push_back((transition.next_state, path)),
                None => {}
            }
        }
    }
    times
}
