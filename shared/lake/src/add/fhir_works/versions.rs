//! Decides which items of a table become resources and deletions.

use std::io::{self, Read};

use headrace_core::vocab::clock::Millis;

use super::item::{DocumentStatus, TableItem};
use crate::add::input::InputFile;
use crate::add::report::{Counts, InputPosition, LeftOutReason};
use crate::add::{AddSettings, TableVersions};
use crate::sorting::{GroupedRecord, RecordSorter, SortRecord, SortedRecords, read_array};

/// A version of a resource in a table. The versions of a resource sort from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ItemVersion {
    resource: u128,
    version: u64,
    /// The time at which the item was certainly written, in milliseconds since 1970.
    written_at: u64,
    file: u64,
    line: u64,
    status: DocumentStatus,
}

impl ItemVersion {
    /// Creates a record of an item.
    pub(super) fn new(resource: u128, item: &TableItem<'_>, file: usize, line: u64) -> Self {
        let changed = item.last_updated.and_then(Millis::from_instant).map_or(0, |changed| changed.0);
        // A deletion in a batch leaves the time of the lock as it was when the version was written.
        let written_at = item.written_at.max(changed);
        Self { resource, version: item.version, written_at, file: file as u64, line, status: item.status }
    }
}

impl SortRecord for ItemVersion {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.resource.to_be_bytes());
        for number in [self.version, self.written_at, self.file, self.line] {
            to.extend_from_slice(&number.to_be_bytes());
        }
        to.push(match self.status {
            DocumentStatus::Usable => 0,
            DocumentStatus::Pending => 1,
            DocumentStatus::Deleted => 2,
        });
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(resource) = read_array(from)?.map(u128::from_be_bytes) else { return Ok(None) };
        let mut number = || read_array(from)?.map(u64::from_be_bytes).ok_or(io::Error::from(io::ErrorKind::UnexpectedEof));
        let (version, written_at, file, line) = (number()?, number()?, number()?, number()?);
        let status = match read_array(from)? {
            Some([0]) => DocumentStatus::Usable,
            Some([1]) => DocumentStatus::Pending,
            Some(_) => DocumentStatus::Deleted,
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        Ok(Some(Self { resource, version, written_at, file, line, status }))
    }
}

/// The decision that an item becomes a resource or a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlacedDecision {
    file: u64,
    pub(super) decision: Decision,
}

/// The decision about a line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Decision {
    /// The number of the line, from 1.
    pub(super) line: u64,
    /// The time of the deletion in milliseconds since 1970. `None` for a resource.
    pub(super) deleted_at: Option<u64>,
}

impl SortRecord for PlacedDecision {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.file.to_be_bytes());
        to.extend_from_slice(&self.decision.line.to_be_bytes());
        to.push(u8::from(self.decision.deleted_at.is_some()));
        to.extend_from_slice(&self.decision.deleted_at.unwrap_or_default().to_be_bytes());
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(file) = read_array(from)?.map(u64::from_be_bytes) else { return Ok(None) };
        let (Some(line), Some([is_deletion]), Some(time)) = (read_array(from)?, read_array(from)?, read_array(from)?) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let deleted_at = (is_deletion == 1).then(|| u64::from_be_bytes(time));
        Ok(Some(Self { file, decision: Decision { line: u64::from_be_bytes(line), deleted_at } }))
    }
}

/// Decides for each item whether it becomes a resource, a deletion or nothing, and counts those that are left out.
pub(super) fn decide(
    sorters: Vec<RecordSorter<ItemVersion>>,
    files: &[(InputFile, Option<u64>)],
    settings: &AddSettings,
) -> io::Result<(SortedRecords<PlacedDecision>, Counts)> {
    let mut decisions = RecordSorter::new(&settings.rewrite.temp_folder, settings.rewrite.sort_bytes);
    let mut counts = Counts::default();
    let mut versions: Vec<ItemVersion> = Vec::new();
    let mut decide_resource = |versions: &[ItemVersion]| {
        let leave_out = |version: &ItemVersion, reason| {
            let file = usize::try_from(version.file).ok().and_then(|file| files.get(file)).map_or("", |(file, _)| file.name.as_str());
            counts.leave_out(reason, file, InputPosition::Line(version.line), String::new());
        };
        decide_versions(versions, settings.versions, leave_out).into_iter().try_for_each(|decision| decisions.push(decision))
    };
    for version in RecordSorter::finish(sorters)? {
        let version = version?;
        if versions.last().is_some_and(|last| last.resource != version.resource) {
            decide_resource(&versions)?;
            versions.clear();
        }
        versions.push(version);
    }
    decide_resource(&versions)?;
    Ok((RecordSorter::finish(vec![decisions])?, counts))
}

/// Decides about the versions of one resource, from the oldest to the newest.
///
/// The highest committed version is the current one. If its status is `DELETED`, no version has replaced it, so the resource is deleted.
/// A version that a batch has replaced may still be `AVAILABLE`: the status alone does not tell which one is current.
fn decide_versions(
    versions: &[ItemVersion],
    added: TableVersions,
    mut leave_out: impl FnMut(&ItemVersion, LeftOutReason),
) -> Vec<PlacedDecision> {
    let place =
        |version: &ItemVersion, deleted_at| PlacedDecision { file: version.file, decision: Decision { line: version.line, deleted_at } };
    let mut decisions = Vec::new();
    // Several states of one version can be in an incremental export's files. The last one counts.
    let is_last_state =
        |(index, version): &(usize, &ItemVersion)| versions.get(index + 1).is_none_or(|next| next.version != version.version);
    let states: Vec<&ItemVersion> = versions.iter().enumerate().filter(is_last_state).map(|(_, version)| version).collect();
    let (pending, committed): (Vec<_>, Vec<_>) = states.into_iter().partition(|version| version.status == DocumentStatus::Pending);
    pending.into_iter().for_each(|version| leave_out(version, LeftOutReason::PendingVersion));
    let Some((current, older)) = committed.split_last() else { return decisions };
    let is_deleted = current.status == DocumentStatus::Deleted;
    match added {
        TableVersions::All => decisions.extend(committed.iter().map(|version| place(version, None))),
        TableVersions::Newest => {
            older.iter().for_each(|version| leave_out(version, LeftOutReason::OldVersion));
            decisions.extend((!is_deleted).then(|| place(current, None)));
        }
    }
    decisions.extend(is_deleted.then(|| place(current, Some(current.written_at))));
    decisions
}

impl GroupedRecord for PlacedDecision {
    const BYTES: usize = 25;

    fn group(&self) -> usize {
        usize::try_from(self.file).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decides about versions with these statuses, the first of which has the number 1. Returns the numbers of the versions that become
    /// resources, the number of the one that is a deletion, and how many are left out.
    fn decide_statuses(statuses: &[DocumentStatus], added: TableVersions) -> (Vec<u64>, Option<u64>, usize) {
        let versions: Vec<ItemVersion> = (1..)
            .zip(statuses)
            .map(|(version, status)| ItemVersion {
                resource: 7,
                version,
                written_at: 1_000 + version,
                file: 0,
                line: version,
                status: *status,
            })
            .collect();
        let mut left_out = 0;
        let decisions = decide_versions(&versions, added, |_, _| left_out += 1);
        let (deletions, resources): (Vec<_>, Vec<_>) = decisions.into_iter().partition(|placed| placed.decision.deleted_at.is_some());
        let deletion = deletions.first().map(|placed| placed.decision.line);
        (resources.into_iter().map(|placed| placed.decision.line).collect(), deletion, left_out)
    }

    #[test]
    fn the_highest_committed_version_is_current_or_deleted() {
        use DocumentStatus::{Deleted, Pending, Usable};
        for (statuses, newest, all) in [
            (&[Usable][..], (vec![1], None, 0), (vec![1], None, 0)),
            (&[Deleted, Deleted, Usable], (vec![3], None, 2), (vec![1, 2, 3], None, 0)),
            // A batch leaves the old version available.
            (&[Usable, Usable], (vec![2], None, 1), (vec![1, 2], None, 0)),
            // An update that is not committed yet.
            (&[Deleted, Usable, Pending], (vec![2], None, 2), (vec![1, 2], None, 1)),
            (&[Deleted, Deleted], (vec![], Some(2), 1), (vec![1, 2], Some(2), 0)),
            (&[Usable, Deleted], (vec![], Some(2), 1), (vec![1, 2], Some(2), 0)),
            (&[Pending], (vec![], None, 1), (vec![], None, 1)),
            (&[], (vec![], None, 0), (vec![], None, 0)),
        ] {
            assert_eq!(decide_statuses(statuses, TableVersions::Newest), newest, "{statuses:?}");
            assert_eq!(decide_statuses(statuses, TableVersions::All), all, "{statuses:?}");
        }
    }
}
