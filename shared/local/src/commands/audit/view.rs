//! Records as an auditor reads them: an AuditEvent is long, and says most of it in codes.

use headrace_core::audit::event::{CHAIN_EXTENSION, ACTION_SYSTEM, FILE, JOB};
use serde_json::Value;

/// Above the columns.
pub(super) const TITLES: [&str; 8] = ["RECORD", "WHEN", "WHO", "FROM", "WHAT", "OUTCOME", "EXPORT", "ABOUT"];

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    sequence: u64,
    pub(super) recorded: String,
    pub(super) who: String,
    from: String,
    action: String,
    outcome: String,
    pub(super) job: Option<String>,
    pub(super) owner: Option<String>,
    about: Vec<String>,
}

/// The text at this path.
fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path)?.as_str().map(str::to_owned)
}

/// The members of the array at this path.
fn all<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn is_of(value: &Value, path: &str, text: &str) -> bool {
    value.pointer(path).and_then(Value::as_str) == Some(text)
}

impl Record {
    /// Reads a line; `None` if it is no record of this service.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(line).ok()?;
        let chain = all(&event, "/extension").iter().find(|extension| is_of(extension, "/url", CHAIN_EXTENSION))?;
        let sequence = all(chain, "/extension").iter().find(|link| is_of(link, "/url", "sequence"))?;
        let action = all(&event, "/subtype").iter().find(|coding| is_of(coding, "/system", ACTION_SYSTEM))?;
        let mut record = Self {
            sequence: sequence.pointer("/valueDecimal")?.as_u64()?,
            recorded: text(&event, "/recorded")?,
            who: text(&event, "/agent/0/who/identifier/value").or_else(|| text(&event, "/agent/0/who/display"))?,
            from: text(&event, "/agent/0/network/address").unwrap_or_default(),
            action: text(action, "/code")?,
            outcome: outcome(&event)?,
            job: None,
            owner: None,
            about: Vec::new(),
        };
        for entity in all(&event, "/entity") {
            record.read_entity(entity);
        }
        Some(record)
    }

    fn read_entity(&mut self, entity: &Value) {
        let name = text(entity, "/what/identifier/value");
        if is_of(entity, "/what/identifier/system", JOB) {
            self.job = name;
        } else if is_of(entity, "/what/identifier/system", FILE) {
            self.about.extend(name);
        }
        for detail in all(entity, "/detail") {
            match (text(detail, "/type"), text(detail, "/valueString")) {
                (Some(kind), Some(value)) if kind == "owner" => self.owner = Some(value),
                (Some(kind), Some(value)) => self.about.push(format!("{kind}={value}")),
                (None, _) | (_, None) => {}
            }
        }
    }

    /// Its cells below [`TITLES`].
    pub(super) fn row(&self) -> [String; 8] {
        let owner = self.owner.iter().filter(|owner| **owner != self.who).map(|owner| format!("owner={owner}"));
        let about: Vec<String> = owner.chain(self.about.iter().cloned()).collect();
        [
            self.sequence.to_string(),
            self.recorded.clone(),
            self.who.clone(),
            self.from.clone(),
            self.action.clone(),
            self.outcome.clone(),
            self.job.clone().unwrap_or_default(),
            about.join(" "),
        ]
    }
}

/// In words: FHIR's code, and what was added to it.
fn outcome(event: &Value) -> Option<String> {
    let word = match event.pointer("/outcome")?.as_str()? {
        "0" => "done",
        "4" => "refused",
        _ => "failed",
    };
    Some(text(event, "/outcomeDesc").map_or_else(|| word.to_owned(), |detail| format!("{word} {detail}")))
}

#[cfg(test)]
mod tests {
    use headrace_core::access::{Agent, Origin, Who};
    use headrace_core::audit::chain::{Day, ChainHead};
    use headrace_core::audit::{AuditRecord, AuditAction, AuditOutcome};
    use headrace_core::output::file::{Content, OutputFileName, Part};
    use headrace_core::vocab::clock::Millis;
    use headrace_core::vocab::ids::{Caller, JobId};
    use headrace_core::vocab::outcome::IssueCode;

    use super::*;

    const AT: Millis = Millis(1_769_846_400_001);

    fn told(entry: &AuditRecord) -> [String; 8] {
        let (lines, _) = ChainHead::begin(Day::of(AT)).lines(std::slice::from_ref(entry)).unwrap();
        Record::read(lines.trim_ascii_end()).unwrap().row()
    }

    #[test]
    fn a_row_says_who_did_what_when_from_where_and_how_it_ended() {
        let (job, owner) = (JobId::from_random([1; 16]), Caller("lab".to_owned()));
        let part = Part { name: OutputFileName::parse("Patient-1.ndjson").unwrap(), content: Content { bytes: 815, lines: 7, crc64: 0 } };
        let origin = Origin { address: Some("192.0.2.1".to_owned()), request_id: None };
        let lab = Agent { who: Who::Caller(owner.clone()), origin };
        let mut entry = AuditRecord::new("x".to_owned(), AT, AuditAction::HandOut, lab.clone(), AuditOutcome::Succeeded);
        entry.set_output_file((&job, &owner), &part);
        let expected =
            ["1", "2026-01-31T08:00:00.001Z", "lab", "192.0.2.1", "hand-out", "done", job.as_str(), "Patient-1.ndjson size-bytes=815"];
        assert_eq!(told(&entry), expected);

        let refused =
            AuditRecord { issue: Some(IssueCode::NotFound), outcome: AuditOutcome::Rejected(404), file: None, size_bytes: None, ..entry };
        assert_eq!(told(&refused)[5..], ["refused 404 not-found", job.as_str(), ""]);
        let failed = AuditRecord { issue: Some(IssueCode::Timeout), ..AuditRecord::from_job_action(AT, AuditAction::Fail, Agent::service(), (&job, &owner)) };
        assert_eq!(told(&failed)[2..], ["Headrace", "", "fail", "failed timeout", job.as_str(), "owner=lab"]);
        let unknown = Agent { who: Who::Unknown, origin: Origin::default() };
        let token = AuditRecord::new("y".to_owned(), AT, AuditAction::Token, unknown, AuditOutcome::Rejected(401));
        assert_eq!(told(&token)[2..], ["unknown", "", "token", "refused 401", "", ""]);
    }

    #[test]
    fn what_is_no_record_is_not_shown_as_one() {
        for line in [&b"{}"[..], b"x", b"", br#"{"resourceType":"AuditEvent","recorded":"2026-01-31T08:00:00.001Z","outcome":"0"}"#] {
            assert_eq!(Record::read(line), None);
        }
    }
}
