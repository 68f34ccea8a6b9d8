//! `headrace deid report`: what a configuration removes, changes and keeps in the resources of a directory.
//!
//! The report is the evidence for a privacy officer. It names elements and numbers, and contains no value of a resource.

use std::collections::{BTreeMap, BTreeSet};

use headrace_core::job::task::Pin;
use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::{self, Segment};
use headrace_core::lake::reader::{LineReader, ReadRequest};
use headrace_core::lake::slices::encoding_from_name;
use headrace_core::ports::ResourceSource as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::config_digest::ConfigDigest;
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::plural::counted;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::deid::{DeidExplanation, DeidFailureScope};
use headrace_fhir::semantics::deletion::Deletions;
use serde_json::{Value, json};

use super::inputs::ExportRules;
use crate::commands::table::format_table;
use crate::stores::directory::DirectoryLake;

/// The inputs of a report, which it names.
pub(super) struct ReportInputs<'a> {
    pub(super) configuration: &'a str,
    pub(super) digest: &'a ConfigDigest,
    pub(super) transaction_time: Millis,
    /// The names of the keys that were not given, so that this run has made them.
    pub(super) derived_keys: Vec<&'static str>,
}

/// The effects of the rules on one element of one type.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    removed: u64,
    changed: u64,
    kept: u64,
}

/// An element under a rule. `None` stands for elements that no rule applies to, which come last.
type ElementKey = (Option<(usize, String)>, String);

/// The effect of a configuration on resources.
#[derive(Debug, Default)]
pub(super) struct DeidReport {
    /// The number of resources of each type.
    resources: BTreeMap<&'static str, u64>,
    elements: BTreeMap<ElementKey, Counts>,
    /// The number of resources for each reason why they cannot be de-identified, with what an export does to them.
    failures: BTreeMap<String, u64>,
    /// The number of deletions.
    deletions: u64,
    /// The number of deletions that an export can report with pseudonyms.
    hashed_deletions: u64,
    /// The number of lines that are not resources, and are not exported.
    rejected_lines: u64,
    /// The number of resources whose steps do not explain their output. It is always 0, unless this program has a fault.
    unexplained: u64,
}

impl DeidReport {
    /// Applies the rules to all resources below the directory, or to those of some types. No types means all.
    pub(super) async fn from_directory(
        lake: &DirectoryLake,
        rules: &ExportRules,
        types: &BTreeSet<ResourceType>,
    ) -> Result<Self, SourceError> {
        let mut report = Self::default();
        let mut after = None;
        loop {
            let page = lake.list(after.as_deref()).await?;
            for object in &page.objects {
                report.add_object(lake, &object.pin, rules, types).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(report);
            }
        }
    }

    /// Adds the resources of one file.
    async fn add_object(
        &mut self,
        lake: &DirectoryLake,
        pin: &Pin,
        rules: &ExportRules,
        types: &BTreeSet<ResourceType>,
    ) -> Result<(), SourceError> {
        let Some(encoding) = encoding_from_name(&pin.object) else { return Ok(()) };
        let request = ReadRequest { object: pin.object.clone(), encoding, range: 0..pin.size, size: pin.size, offset: 0 };
        let mut reader = LineReader::open(request, |range| lake.read(pin, range));
        while let Some(segment) = reader.next().await? {
            match segment {
                Segment::Lines { offset, bytes } => {
                    ndjson::lines(&bytes, offset).filter(|line| !line.is_blank()).for_each(|line| self.add_line(line.text, rules, types));
                }
                Segment::OverlongLine { .. } => self.rejected_lines += 1,
            }
        }
        Ok(())
    }

    /// Adds one line, as an export reads it.
    fn add_line(&mut self, line: &[u8], rules: &ExportRules, types: &BTreeSet<ResourceType>) {
        let is_reported = |kind: ResourceType| types.is_empty() || types.contains(&kind);
        match LakeLine::parse(line) {
            LakeLine::Outcome => {}
            LakeLine::Rejected(_) => self.rejected_lines += 1,
            LakeLine::Deletions(deletions) => self.add_deletions(&deletions, rules, is_reported),
            LakeLine::Resource(head, _) => {
                if is_reported(head.resource_type) {
                    self.add_resource(head.resource_type, line, rules);
                }
            }
        }
    }

    /// Adds the deletions of a line.
    fn add_deletions(&mut self, deletions: &Deletions<'_>, rules: &ExportRules, is_reported: impl Fn(ResourceType) -> bool) {
        for deletion in deletions.iter().filter(|deletion| is_reported(deletion.resource_type)) {
            self.deletions += 1;
            self.hashed_deletions += u64::from(rules.deidentifier.hashed_id(deletion.resource_type, &deletion.id).is_some());
        }
    }

    /// Adds a resource.
    fn add_resource(&mut self, kind: ResourceType, line: &[u8], rules: &ExportRules) {
        *self.resources.entry(kind.as_str()).or_default() += 1;
        let patient = rules.patient_of(line);
        match rules.deidentifier.explain(line, patient.as_deref()) {
            Ok(explanation) => self.add_explanation(&explanation),
            // The failure names the rule, the element and the reason, and no value.
            Err(failure) => {
                let effect = effect_on_export(rules, line, patient.as_deref());
                let reason = format!("{}; {effect}", without_indexes(&failure.to_string()));
                *self.failures.entry(reason).or_default() += 1;
            }
        }
    }

    /// Adds what the rules did to one resource.
    fn add_explanation(&mut self, explanation: &DeidExplanation) {
        self.unexplained += u64::from(!explanation.is_exact);
        for step in &explanation.steps {
            let rule = (step.rule_number, format!("{} `{}`", step.method, step.path));
            let counts = self.elements.entry((Some(rule), without_indexes(&step.element_path))).or_default();
            match (&step.before, &step.after) {
                (before, after) if before == after => counts.kept += 1,
                (_, None) => counts.removed += 1,
                (_, Some(_)) => counts.changed += 1,
            }
        }
        for path in &explanation.untouched {
            self.elements.entry((None, without_indexes(path))).or_default().kept += 1;
        }
    }

    /// Returns true if a resource cannot be de-identified, or if its steps do not explain its output.
    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty() || self.unexplained > 0
    }

    /// Returns the number of resources.
    fn resource_count(&self) -> u64 {
        self.resources.values().sum()
    }

    /// Formats the report as text.
    pub(super) fn to_text(&self, inputs: &ReportInputs<'_>) -> String {
        let mut text = inputs.to_text();
        text += &format!("resources      {} of {}\n\n", self.resource_count(), counted(self.resources.len() as u64, "type", "types"));
        let types = self.resources.iter().map(|(kind, count)| [(*kind).to_owned(), count.to_string()]);
        text += &format_table(&[["TYPE".to_owned(), "RESOURCES".to_owned()]].into_iter().chain(types).collect::<Vec<_>>());
        text += "\nEach number counts values. A value that a rule leaves as it was is kept.\n\n";
        let mut rows = vec![["RULE", "METHOD AND PATH", "ELEMENT", "REMOVED", "CHANGED", "KEPT"].map(str::to_owned)];
        for ((rule, element), Counts { removed, changed, kept }) in self.sorted() {
            let (number, rule) = rule.as_ref().map_or(("-".to_owned(), "(no rule)"), |(number, rule)| (number.to_string(), rule));
            rows.push([number, rule.to_owned(), element.clone(), removed.to_string(), changed.to_string(), kept.to_string()]);
        }
        text += &format_table(&rows);
        for (reason, count) in &self.failures {
            text += &format!("\n{} be de-identified: {reason}\n", counted(*count, "resource cannot", "resources cannot"));
        }
        if self.deletions > 0 {
            let deletions = counted(self.deletions, "deletion is", "deletions are");
            text += &format!(
                "\n{deletions} in the lake, which the numbers above leave out; exports of deletions can report {} of them with pseudonyms\n",
                self.hashed_deletions
            );
        }
        if self.rejected_lines > 0 {
            let lines =
                counted(self.rejected_lines, "line is not a resource and is not exported", "lines are not resources and are not exported");
            text += &format!("\n{lines}\n");
        }
        if self.unexplained > 0 {
            let resources = counted(self.unexplained, "resource", "resources");
            text += &format!("\nthe numbers do not explain the output of {resources}; report this fault\n");
        }
        text
    }

    /// Returns the report as JSON.
    pub(super) fn to_json(&self, inputs: &ReportInputs<'_>) -> Value {
        let ReportInputs { configuration, digest, transaction_time, derived_keys } = inputs;
        let element = |((rule, element), counts): (&ElementKey, &Counts)| {
            let Counts { removed, changed, kept } = counts;
            let (number, rule) = rule.as_ref().map(|(number, rule)| (*number, rule.as_str())).unzip();
            json!({ "rule": number, "methodAndPath": rule, "element": element, "removed": removed, "changed": changed, "kept": kept })
        };
        json!({
            "configuration": configuration,
            "sha256": digest.as_str(),
            "transactionTime": transaction_time.instant(),
            "derivedKeys": derived_keys,
            "resources": self.resources,
            "elements": self.sorted().map(element).collect::<Vec<_>>(),
            "failures": self.failures,
            "unexplained": self.unexplained,
            "deletions": self.deletions,
            "hashedDeletions": self.hashed_deletions,
            "rejectedLines": self.rejected_lines,
        })
    }

    /// Iterates over the elements in the order of the rules. Those without a rule come last.
    fn sorted(&self) -> impl Iterator<Item = (&ElementKey, &Counts)> {
        let with_rule = self.elements.iter().filter(|((rule, _), _)| rule.is_some());
        with_rule.chain(self.elements.iter().filter(|((rule, _), _)| rule.is_none()))
    }
}

impl ReportInputs<'_> {
    /// Formats the inputs as the first lines of a report.
    fn to_text(&self) -> String {
        let Self { configuration, digest, transaction_time, derived_keys } = self;
        let mut text = format!("configuration  {configuration}\nsha256         {digest}\ntime           {}\n", transaction_time.instant());
        if !derived_keys.is_empty() {
            let names = derived_keys.join(", ");
            text += &format!("not given      {names}: each export makes its own, so that its numbers may differ a little\n");
        }
        text
    }
}

/// Returns what an export does to a resource that cannot be de-identified.
fn effect_on_export(rules: &ExportRules, line: &[u8], patient: Option<&str>) -> &'static str {
    match rules.deidentifier.deidentify(line, patient, &mut Vec::new()).map_err(|failure| failure.scope) {
        Ok(_) => "an export keeps its type only, or leaves it out with --organize-by patient",
        Err(DeidFailureScope::Resource) => "an export leaves it out",
        Err(DeidFailureScope::Job) => "it ends the export",
    }
}

/// Returns a path without indexes: `Patient.name.family` for `Patient.name[0].family`.
fn without_indexes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        let index = after.split_once(']').filter(|(index, _)| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()));
        plain.push_str(before);
        match index {
            Some((_, after)) => rest = after,
            None => {
                plain.push('[');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_removed_from_paths() {
        assert_eq!(without_indexes("Patient.name[0].given[12]"), "Patient.name.given");
        assert_eq!(
            without_indexes("rule 1 (redact `Patient.name[x]`) at Patient.name[3]: [why"),
            "rule 1 (redact `Patient.name[x]`) at Patient.name: [why"
        );
    }
}
