//! Finds dates that a reader can know and that move together with dates that the reader must not know.
//!
//! A reader of an increment knows roughly when each of its resources was written: between two exports. And some dates are public, or are
//! always on certain days, such as the beginning of a year. If such a date is shifted together with others, it reveals the shift, and with it
//! every date of the patient.

mod elements;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use crate::definitions::{ResourceType, TypeKind};
use crate::deid::config::{Method, ParsedConfig, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::methods::ShiftedTimeZone;
use crate::deid::plan::{PathAutomaton, State, Transition};
use crate::deid::published_types::PUBLISHED;
use crate::deid::tools::ConfigLinter;
use elements::known_path;

/// The largest number of elements that a remark names.
const MAX_ELEMENTS_NAMED: usize = 6;

/// The dates of one resource type.
#[derive(Default)]
struct TypeDates {
    /// True for a type of definitions, products, catalogues or studies: a reader knows all of its dates.
    is_published: bool,
    /// Paths of known dates that are shifted, with the index of the rule that shifts them.
    shifted_known: BTreeSet<(usize, String)>,
    /// True if some other date is shifted.
    shifts_others: bool,
    /// True if some dateTime or instant is shifted.
    shifts_times: bool,
}

/// Returns a remark for each rule that shifts known dates together with others, and one if shifted times keep their time zones.
pub(in crate::deid) fn known_date_remarks(linter: &ConfigLinter<'_>) -> Vec<DeidRemark> {
    let config = linter.config;
    // A rule with a condition that redacts a date leaves it to the rules that shift dates in some resources.
    let automata = config.shifts_dates().then(|| linter.worst_case(|rule| matches!(rule.method, Method::DateShift))).flatten();
    let Some(automata) = automata else { return Vec::new() };
    let (automaton, roots) = &*automata;
    let types: Vec<TypeDates> =
        roots.iter().map(|(root, number)| type_dates(linter, automaton, linter.type_name(*root), *number)).collect();
    let moves_across_types = config.parameters.shifts_across_resources();
    let shifts_anywhere = types.iter().any(|dates| dates.shifts_others);
    let mut moved = BTreeMap::<usize, Vec<String>>::new();
    // The offset is a sum modulo 101. Those of two published resources reveal that of each known id, also if each resource moves by itself.
    let reveals = |dates: &&TypeDates| dates.shifts_others || ((moves_across_types || dates.is_published) && shifts_anywhere);
    for dates in types.iter().filter(reveals) {
        for (index, path) in &dates.shifted_known {
            moved.entry(*index).or_default().push(path.clone());
        }
    }
    let mut remarks: Vec<_> = moved.into_iter().filter_map(|(index, paths)| Some(remark(config.rules.get(index)?, &paths))).collect();
    if config.parameters.shifted_time_zone == ShiftedTimeZone::Kept && types.iter().any(|dates| dates.shifts_times) {
        remarks.push(time_zone_remark());
    }
    remarks
}

/// An element that can contain dates.
struct Owner {
    /// The data type or the resource type, with the path from there if the element is defined in place.
    path: String,
    /// True if the path begins with a data type.
    is_data_type: bool,
}

impl Owner {
    /// Creates the owner for the members of a member.
    fn for_member(&self, linter: &ConfigLinter<'_>, transition: &Transition) -> Self {
        // Every resource has it. A value that is a Meta is not the one of a resource.
        if transition.element == "meta" && !self.is_data_type && !self.path.contains('.') {
            return Self { path: "Resource.meta".to_owned(), is_data_type: false };
        }
        match linter.resolver.loaded_type(transition.definition) {
            Some(loaded) if loaded.kind != TypeKind::Backbone => Self { path: loaded.name.to_owned(), is_data_type: true },
            Some(_) | None => Self { path: format!("{}.{}", self.path, transition.element), is_data_type: self.is_data_type },
        }
    }
}

/// Collects the dates of the resource type whose root has the state `root`.
fn type_dates(linter: &ConfigLinter<'_>, automaton: &PathAutomaton, type_name: &str, root: u32) -> TypeDates {
    let is_published = ResourceType::parse(type_name).is_some_and(|kind| PUBLISHED.contains(kind));
    let mut dates = TypeDates { is_published, ..TypeDates::default() };
    // Elements with equal rules share a state. Breadth first, the members of the resource itself give their states a name.
    let mut reached = HashSet::from([root]);
    let mut open = VecDeque::from([(root, Owner { path: type_name.to_owned(), is_data_type: false })]);
    while let Some((number, owner)) = open.pop_front() {
        for transition in automaton.get(number).into_iter().flat_map(|state| state.members.iter()) {
            // Every type has the dates of extensions. They alone do not make a type one with shifted dates.
            if transition.is_resource || matches!(transition.element, "extension" | "modifierExtension") {
                continue;
            }
            let Some(state) = automaton.get(transition.next_state) else { continue };
            let known = known_path(&owner.path, owner.is_data_type, transition.element);
            let shifted = shifted_dates(linter.config, automaton, state, known.is_some());
            dates.shifts_times |= shifted.iter().any(|(_, type_name)| *type_name != "date");
            match known {
                Some(path) => dates.shifted_known.extend(shifted.iter().map(|(index, _)| (*index, path.clone()))),
                None if is_date(state) && is_published => {
                    let by_type = shifted.iter().map(|(index, date)| (*index, format!("{type_name}.nodesByType('{date}')")));
                    dates.shifted_known.extend(by_type);
                }
                None if is_date(state) => dates.shifts_others |= !shifted.is_empty(),
                None if reached.insert(transition.next_state) => {
                    open.push_back((transition.next_state, owner.for_member(linter, transition)));
                }
                None => {}
            }
        }
    }
    dates
}

/// Returns the rules that shift an element, each with the type of the date: the element itself, and with `with_members` the dates in it,
/// such as those of a Period.
fn shifted_dates(config: &ParsedConfig, automaton: &PathAutomaton, state: &State, with_members: bool) -> Vec<(usize, &'static str)> {
    let members = state.members.iter().filter(|_| with_members).filter_map(|member| automaton.get(member.next_state));
    let dates = std::iter::once(state).chain(members).filter(|state| is_date(state));
    let ruled = dates.filter_map(|state| Some((state.applied_rule?.index, state.primitive?.type_name)));
    ruled.filter(|(index, _)| is_shift(config, *index)).collect()
}

/// Returns true for the state of a date, a dateTime or an instant.
fn is_date(state: &State) -> bool {
    state.primitive.is_some_and(|primitive| primitive.is_date())
}

/// Returns true if the rule with this index shifts dates.
pub(super) fn is_shift(config: &ParsedConfig, index: usize) -> bool {
    config.rules.get(index).is_some_and(|rule| matches!(rule.method, Method::DateShift))
}

/// Lists elements for a remark.
pub(super) fn list_elements(mut paths: Vec<&str>) -> String {
    // Elements of all types come first, so that they are always named.
    paths.sort_unstable_by_key(|path| (!path.starts_with("Resource."), *path));
    paths.dedup();
    let more = paths.len().saturating_sub(MAX_ELEMENTS_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", paths.iter().take(MAX_ELEMENTS_NAMED).copied().collect::<Vec<_>>().join(", "))
}

/// Creates the remark about known dates that a rule shifts.
fn remark(rule: &Rule, paths: &[String]) -> DeidRemark {
    let reason = format!(
        "{} moves together with the other dates; anyone who knows roughly when a resource was written, or on which days such dates are, can \
         compute the shift, and with it the true dates",
        list_elements(paths.iter().map(String::as_str).collect())
    );
    let remedy =
        "redact these elements by rules before those that shift dates; docs/de-identification.md lists all of them, and has such rules";
    DeidRemark::in_file(DeidRemarkCode::KnownDate, DeidRemarkSeverity::Warning, reason, remedy).of_rule(rule.number, &rule.path)
}

/// Creates the remark about shifted times that keep the offsets of their time zones.
fn time_zone_remark() -> DeidRemark {
    let reason = "a shifted time keeps the offset of its time zone, such as +01:00, which is that of the true date; where clocks change twice a \
                  year, it reveals the shift";
    let remedy = "set the parameter dateShiftTimeZone to utc";
    DeidRemark::in_file(DeidRemarkCode::RevealedShift, DeidRemarkSeverity::Warning, reason, remedy)
}
