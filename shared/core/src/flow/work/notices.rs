//! The notices about what an export has counted. Each is one line of the `error` file and one of the log, without ids.

use headrace_fhir::definitions::ResourceType;

use crate::job::{Job, ReadMode};
use crate::request::AssociatedData;
use crate::vocab::ids::JobId;
use crate::vocab::outcome::{Issue, IssueCode, OperationOutcome, Severity};
use crate::vocab::plural::counted;
use crate::vocab::setting::Setting;

/// A notice about a whole export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    severity: Severity,
    code: IssueCode,
    /// The parameter or element that it is about.
    about: &'static str,
    count: u64,
    text: String,
}

impl Notice {
    /// Returns the line of the `error` file.
    pub(super) fn outcome(&self) -> OperationOutcome {
        OperationOutcome::new(Issue::new(self.severity, self.code, self.text.clone()).about(self.about))
    }

    /// Writes the notice to the log.
    pub(super) fn log(&self, job: &JobId) {
        match self.severity {
            Severity::Information => tracing::info!(job.id = %job, count = self.count, "{}", self.text),
            Severity::Warning | Severity::Error => tracing::warn!(job.id = %job, count = self.count, "{}", self.text),
        }
    }
}

/// Returns the notices about what a job has counted. A count of 0 gives no notice.
pub(super) fn counted_notices(job: &Job) -> Vec<Notice> {
    let counts = job.counters.notices;
    let information = |about, count, text| Notice { severity: Severity::Information, code: IssueCode::Informational, about, count, text };
    let warning = |about, count, text| Notice { severity: Severity::Warning, code: IssueCode::Value, about, count, text };
    let all = [
        information("Group.member", absent_members(job), absent_members_text(absent_members(job))),
        information("_since", counts.arrived_late, late_arrivals_text(counts.arrived_late)),
        warning("Resource.meta.lastUpdated", counts.ahead_of_clock, ahead_of_clock_text(counts.ahead_of_clock)),
        warning("Resource.meta.lastUpdated", counts.unreadable_times, unreadable_times_text(counts.unreadable_times)),
    ];
    all.into_iter().filter(|notice| notice.count > 0).collect()
}

/// Returns the number of patients that the requested group names and the lake does not have. Returns 0 if that is unknown, because
/// Patient resources are not requested, or because their versions are not compared.
fn absent_members(job: &Job) -> u64 {
    let Some(planned) = job.planned else { return 0 };
    let is_requested = job.request.type_set().is_none_or(|types| types.contains(ResourceType::PATIENT));
    let repeats_versions = planned.read_mode == ReadMode::SinglePass && job.request.associated_data.contains(&AssociatedData::History);
    let is_known = is_requested && !repeats_versions;
    if is_known { planned.group_patients.saturating_sub(job.counters.notices.members_found) } else { 0 }
}

/// Describes how many members of the group are not in the lake.
fn absent_members_text(count: u64) -> String {
    let members = counted(count, "member of the group has", "members of the group have");
    format!("{members} no Patient resource in the lake; resources of other types that refer to them are exported")
}

/// Describes how many versions were left out because of their time, and what to do.
fn ahead_of_clock_text(count: u64) -> String {
    let versions = counted(count, "version of a resource was", "versions of resources were");
    let have = if count == 1 { "it has" } else { "they have" };
    format!(
        "{versions} left out, because {have} a `meta.lastUpdated` that is later than the clock of this server. An export after that time \
         has them. Check the clock of the system that writes them"
    )
}

/// Describes how many versions have a time that is not an instant, and what follows. Not each of them is exported: they are counted before
/// the versions of a resource are compared.
fn unreadable_times_text(count: u64) -> String {
    let versions = counted(count, "version of a resource in the lake has", "versions of resources in the lake have");
    format!(
        "{versions} a `meta.lastUpdated` that is not an instant such as 2026-01-31T08:00:00Z, so it counts as missing: `_since` and \
         `_until` do not exclude such a version, and every version with a time is newer"
    )
}

/// Describes how many changes were left out, and the settings that help.
fn late_arrivals_text(count: u64) -> String {
    let changes = counted(count, "change was", "changes were");
    let setting = Setting::LakeWatermark;
    format!(
        "{changes} left out, because `meta.lastUpdated` is not after `_since`, although their file came into the lake after it. That is right \
         if the lake was copied or rewritten since. If changes reach it late, say up to when it is complete with --lake-watermark ({setting}, \
         on AWS LakeWatermark): object, arrival, or a delay such as PT15M. If none is late, now ends this note"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::job::{ExportTime, NoticeCounts, OmittedSubjects, Planned, Watermark};
    use crate::request::ExportRequest;
    use crate::vocab::clock::Millis;
    use crate::vocab::ids::Caller;

    /// Returns a job that found `members_found` of four members.
    fn group_job(request: ExportRequest, read_mode: ReadMode, members_found: u64) -> Job {
        let planned = Planned {
            time: ExportTime::new(Millis(0), Watermark::Unstated),
            tasks: 1,
            source_bytes: 1,
            read_mode,
            patient_set: None,
            omitted: OmittedSubjects::default(),
            group_patients: 4,
        };
        let mut job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, Millis(0));
        job.planned = Some(planned);
        job.counters.notices.members_found = members_found;
        job
    }

    #[test]
    fn each_count_has_one_notice_with_its_severity_and_remedy() {
        let mut job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
        assert_eq!(counted_notices(&job), []);
        job.counters.notices = NoticeCounts { arrived_late: 1_200, ahead_of_clock: 1, unreadable_times: 2, members_found: 7 };
        let lines: Vec<String> = counted_notices(&job).iter().map(|notice| notice.outcome().to_string()).collect();
        let words: [&[&str]; 3] = [
            &[
                "1200 changes were left out",
                "\"information\"",
                "http._since",
                "LakeWatermark",
                "HEADRACE_LAKE_WATERMARK",
                "--lake-watermark",
            ],
            &[
                "1 version of a resource was left out, because it has",
                "\"warning\"",
                "\"expression\":[\"Resource.meta.lastUpdated\"]",
                "clock",
            ],
            &["2 versions of resources in the lake have", "\"warning\"", "not an instant", "counts as missing"],
        ];
        assert_eq!(lines.len(), words.len(), "{lines:?}");
        for (line, words) in lines.iter().zip(words) {
            for word in words {
                assert!(line.contains(word), "`{word}` is not in {line}");
            }
        }
    }

    #[test]
    fn members_who_are_not_in_the_lake_are_counted_if_that_is_known() {
        let absent = |request, mode, found| absent_members(&group_job(request, mode, found));
        let observations =
            ExportRequest { types: ResourceType::parse("Observation").map(|kind| [kind].into()), ..ExportRequest::default() };
        let history = ExportRequest { associated_data: BTreeSet::from([AssociatedData::History]), ..ExportRequest::default() };
        assert_eq!(absent(ExportRequest::default(), ReadMode::Optimistic, 3), 1);
        assert_eq!(absent(ExportRequest::default(), ReadMode::SinglePass, 4), 0);
        assert_eq!(absent(observations, ReadMode::Optimistic, 0), 0, "no Patient was read");
        assert_eq!(absent(history.clone(), ReadMode::SinglePass, 9), 0, "versions are not compared");
        assert_eq!(absent(history, ReadMode::Optimistic, 2), 2);
        let text = counted_notices(&group_job(ExportRequest::default(), ReadMode::Optimistic, 3));
        assert!(text.first().is_some_and(|notice| notice.text.starts_with("1 member of the group has no Patient resource")), "{text:?}");
    }
}
