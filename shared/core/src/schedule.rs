//! Schedules: stored kick-offs that the reaper starts at their times.

mod state;
mod timing;

use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;
use crate::vocab::ids::Caller;
use crate::vocab::level::Level;
use crate::vocab::schedule_key::ScheduleKey;

pub use state::{CompleteRun, MAX_KEPT, ScheduleFiring, ScheduleProblem, ScheduleRun, ScheduleState};
pub use timing::{InvalidTiming, Timing};

/// A schedule, as the job table stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The name and the id.
    pub key: ScheduleKey,
    /// The kick-off and its times.
    pub definition: ScheduleDefinition,
    /// The state, which commands and the reaper change.
    pub state: ScheduleState,
    /// The last complete run. The transaction that completes a job sets it.
    pub complete_run: Option<CompleteRun>,
    /// The number of changes of the definition and the state. Each change requires that no other was made since the schedule was read.
    pub revision: u64,
}

/// The kick-off of a schedule, and its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleDefinition {
    /// The client whose permissions apply when an export starts, and who owns it. `None` on a server without access control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Caller>,
    /// The times.
    pub timing: Timing,
    /// The level of the export.
    pub level: Level,
    /// The parameters of the kick-off, in order.
    pub parameters: Vec<(String, String)>,
    /// True if unsupported parameters are ignored instead of rejected.
    #[serde(default)]
    pub is_lenient: bool,
    /// True if a run exports what has changed since the last complete run.
    #[serde(default)]
    pub is_incremental: bool,
    /// The number of complete results that are kept. `None` keeps each until its retention ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// The time at which the schedule was added. Intervals count from it.
    pub created_at: Millis,
}

/// The name of the parameter that an incremental schedule sets.
const SINCE: &str = "_since";

impl Schedule {
    /// Returns the version: each change and each run makes another one.
    pub fn version(&self) -> String {
        format!("{}-{}", self.key.id, self.revision)
    }

    /// Returns the next time at which the schedule is due after `after`. `None` if there is none.
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        self.definition.timing.next_after(after, self.definition.created_at)
    }

    /// Returns the parameters of a kick-off now: those of the definition and, if the schedule is incremental and has a complete run,
    /// `_since`.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let mut parameters = self.definition.parameters.clone();
        parameters.extend(self.since().map(|since| (SINCE.to_owned(), since.instant())));
        parameters
    }

    /// Returns the time of the last complete run, if the next run exports what has changed since then.
    pub fn since(&self) -> Option<Millis> {
        self.base().map(|run| run.transaction_time)
    }

    /// Returns the last complete run, if it is the base of an increment.
    fn base(&self) -> Option<&CompleteRun> {
        let is_base = |run: &&CompleteRun| self.definition.is_incremental && !self.state.outdated.contains(&run.job);
        self.complete_run.as_ref().filter(is_base)
    }
}

impl ScheduleDefinition {
    /// Returns true if a run of both definitions exports the same, so that a run of one can be the base of an increment of the other.
    fn exports_same(&self, other: &Self) -> bool {
        let parameters = |definition: &Self| {
            let mut parameters = definition.parameters.clone();
            parameters.sort();
            parameters
        };
        self.client == other.client
            && self.level == other.level
            && self.is_lenient == other.is_lenient
            && parameters(self) == parameters(other)
    }
}

/// Returns the URL of a kick-off by GET, which the manifest shows as its request.
pub fn kick_off_url(base: &str, level: &Level, parameters: &[(String, String)]) -> String {
    let path = match level {
        Level::System => "/$export".to_owned(),
        Level::AllPatients => "/Patient/$export".to_owned(),
        Level::OnePatient(id) => format!("/Patient/{}/$export", percent_encode(id)),
        Level::Group(id) => format!("/Group/{}/$export", percent_encode(id)),
    };
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value))).collect();
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{base}{path}{separator}{}", query.join("&"))
}

/// Encodes every byte that is not unreserved in a URL (RFC 3986, section 2.3).
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
