//! Audit records as table rows: the readable part of an AuditEvent.

use headrace_core::audit::event::{ACTION_SYSTEM, CHAIN_EXTENSION, FILE_SYSTEM, JOB_SYSTEM};
use serde_json::Value;

/// Column titles of the table.
pub(super) const COLUMNS: [&str; 8] = ["RECORD", "TIME", "ACTOR", "ADDRESS", "ACTION", "OUTCOME", "EXPORT", "DETAILS"];

/// The readable content of an audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuditRow {
    pub(super) id: String,
    /// Number of the line in the chain. `None` for a record that is not sealed yet.
    sequence: Option<u64>,
    pub(super) recorded: String,
    pub(super) actor: String,
    address: String,
    pub(super) action: String,
    outcome: String,
    pub(super) job: Option<String>,
    pub(super) owner: Option<String>,
    details: Vec<String>,
}

/// Returns the text at a JSON pointer.
fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path)?.as_str().map(str::to_owned)
}

/// Returns the elements of the array at a JSON pointer, none if there is no array.
fn elements<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Returns true if the value at a JSON pointer is this text.
fn has_text(value: &Value, path: &str, text: &str) -> bool {
    value.pointer(path).and_then(Value::as_str) == Some(text)
}

impl AuditRow {
    /// Parses one line of an audit file. Returns `None` if it is not an audit record of this service.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(line).ok()?;
        let chain = elements(&event, "/extension").iter().find(|extension| has_text(extension, "/url", CHAIN_EXTENSION))?;
        let sequence = elements(chain, "/extension").iter().find(|link| has_text(link, "/url", "sequence"))?;
        Self::from_event(&event, Some(sequence.pointer("/valueDecimal")?.as_u64()?))
    }

    /// Parses the event of a record that is not sealed yet.
    pub(super) fn parse_unsealed(event: &str) -> Option<Self> {
        Self::from_event(&serde_json::from_str(event).ok()?, None)
    }

    /// Reads an event. Returns `None` if it is not one of this service.
    fn from_event(event: &Value, sequence: Option<u64>) -> Option<Self> {
        let action = elements(event, "/subtype").iter().find(|coding| has_text(coding, "/system", ACTION_SYSTEM))?;
        let mut record = Self {
            id: text(event, "/id")?,
            sequence,
            recorded: text(event, "/recorded")?,
            actor: text(event, "/agent/0/who/identifier/value").or_else(|| text(event, "/agent/0/who/display"))?,
            address: text(event, "/agent/0/network/address").unwrap_or_default(),
            action: text(action, "/code")?,
            outcome: format_outcome(event)?,
            job: None,
            owner: None,
            details: Vec::new(),
        };
        for entity in elements(event, "/entity") {
            record.add_entity(entity);
        }
        Some(record)
    }

    /// Adds the content of one AuditEvent.entity: the job, its owner, or details.
    fn add_entity(&mut self, entity: &Value) {
        let name = text(entity, "/what/identifier/value");
        if has_text(entity, "/what/identifier/system", JOB_SYSTEM) {
            self.job = name;
        } else if has_text(entity, "/what/identifier/system", FILE_SYSTEM) {
            self.details.extend(name);
        }
        for detail in elements(entity, "/detail") {
            match (text(detail, "/type"), text(detail, "/valueString")) {
                (Some(kind), Some(value)) if kind == "owner" => self.owner = Some(value),
                (Some(kind), Some(value)) => self.details.push(format!("{kind}={value}")),
                (None, _) | (_, None) => {}
            }
        }
    }

    /// Returns the cells of the columns in [`COLUMNS`].
    pub(super) fn cells(&self) -> [String; 8] {
        let owner = self.owner.iter().filter(|owner| **owner != self.actor).map(|owner| format!("owner={owner}"));
        let details: Vec<String> = owner.chain(self.details.iter().cloned()).collect();
        [
            self.sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string()),
            self.recorded.clone(),
            self.actor.clone(),
            self.address.clone(),
            self.action.clone(),
            self.outcome.clone(),
            self.job.clone().unwrap_or_default(),
            details.join(" "),
        ]
    }
}

/// Formats the outcome code of an AuditEvent and its description.
fn format_outcome(event: &Value) -> Option<String> {
    let code = match event.pointer("/outcome")?.as_str()? {
        "0" => "succeeded",
        "4" => "rejected",
        _ => "failed",
    };
    Some(text(event, "/outcomeDesc").map_or_else(|| code.to_owned(), |detail| format!("{code} {detail}")))
}

#[cfg(test)]
mod tests {
    use headrace_core::access::{Actor, Agent, Origin};
    use headrace_core::audit::chain::{ChainHead, Day};
    use headrace_core::audit::writer::write_lines;
    use headrace_core::audit::{AuditAction, AuditOutcome, AuditRecord};
    use headrace_core::job::file::{FileSummary, OutputFile, OutputFileName};
    use headrace_core::vocab::clock::Millis;
    use headrace_core::vocab::ids::{Caller, JobId};
    use headrace_core::vocab::outcome::IssueCode;

    use super::*;

    const AT: Millis = Millis(1_769_846_400_001);

    /// Writes a record as a line of an audit file and returns the cells of its row.
    fn cells_of(record: &AuditRecord) -> [String; 8] {
        let (lines, _) = write_lines(&ChainHead::new(Day::from_millis(AT)), std::slice::from_ref(record)).unwrap();
        AuditRow::parse(lines.trim_ascii_end()).unwrap().cells()
    }

    #[test]
    fn a_row_shows_actor_action_time_address_and_outcome() {
        let (job, owner) = (JobId::from_random([1; 16]), Caller("lab".to_owned()));
        let output_file = OutputFile {
            name: OutputFileName::parse("Patient-1.ndjson").unwrap(),
            summary: FileSummary { bytes: 815, lines: 7, crc64: 0 },
        };
        let origin = Origin { address: Some("192.0.2.1".to_owned()), request_id: None, schedule: None };
        let lab = Agent { actor: Actor::Caller(owner.clone()), origin };
        let mut record = AuditRecord::new("x".to_owned(), AT, AuditAction::Download, lab.clone(), AuditOutcome::Succeeded);
        record.set_output_file((&job, &owner), &output_file);
        let expected =
            ["1", "2026-01-31T08:00:00.001Z", "lab", "192.0.2.1", "download", "succeeded", job.as_str(), "Patient-1.ndjson size-bytes=815"];
        assert_eq!(cells_of(&record), expected);

        let rejected =
            AuditRecord { issue: Some(IssueCode::NotFound), outcome: AuditOutcome::Rejected(404), file: None, size_bytes: None, ..record };
        assert_eq!(cells_of(&rejected)[5..], ["rejected 404 not-found", job.as_str(), ""]);
        let failed = AuditRecord {
            issue: Some(IssueCode::Timeout),
            ..AuditRecord::from_job_action(AT, AuditAction::Fail, Agent::service(), (&job, &owner))
        };
        assert_eq!(cells_of(&failed)[2..], ["Headrace", "", "fail", "failed timeout", job.as_str(), "owner=lab"]);
        let unknown = Agent { actor: Actor::Unknown, origin: Origin::default() };
        let token = AuditRecord::new("y".to_owned(), AT, AuditAction::Token, unknown, AuditOutcome::Rejected(401));
        assert_eq!(cells_of(&token)[2..], ["unknown", "", "token", "rejected 401", "", ""]);
    }

    #[test]
    fn a_line_that_is_not_an_audit_record_is_not_parsed() {
        for line in [&b"{}"[..], b"x", b"", br#"{"resourceType":"AuditEvent","recorded":"2026-01-31T08:00:00.001Z","outcome":"0"}"#] {
            assert_eq!(AuditRow::parse(line), None);
        }
    }
}
