//! What each rule does to one resource, for people who try out a configuration.

use super::exact::Watch;
use super::rule::Rule;

/// A resource de-identified, and how.
///
/// Holds what the resource held: to be shown to whoever may see the resource, and never to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The steps in the order in which they were done.
    pub steps: Vec<DeidStep>,
    /// The resource as it is exported, in one line.
    pub after: Vec<u8>,
}

/// What a rule did to one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidStep {
    /// The number of the rule, counted from 1.
    pub rule: usize,
    /// The rule's path as the file has it.
    pub path: String,
    /// The rule's method as the file has it.
    pub method: String,
    /// The element: `Patient.name[0].family`.
    pub place: String,
    /// What stood there, in JSON.
    pub before: Option<String>,
    /// What stands there now, in JSON; `None` if nothing does.
    pub after: Option<String>,
}

/// Takes down what rules do.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<DeidStep>);

impl Watch for Notes {
    const WATCHES: bool = true;

    fn touched(&mut self, rule: &Rule, place: String, before: Option<&str>, after: Option<&str>) {
        self.0.push(DeidStep {
            rule: rule.number,
            path: rule.path.clone(),
            method: rule.method_name.clone(),
            place,
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        });
    }
}
