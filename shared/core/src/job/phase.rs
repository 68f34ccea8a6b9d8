//! Phases of a job.

/// The phase of a job: the kind of work that the tasks of the current round do. The finalize task derives the next phase
/// from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reads the lake.
    Read,
    /// Merges the version records and links of many tasks, so that the next phase reads few files.
    MergeVersionRecords,
    /// Determines the current version of each resource.
    ResolveVersions,
    /// Merges the links of many tasks.
    MergeLinks,
    /// Determines the resources that are exported because other resources refer to them.
    ResolveLinks,
    /// Merges the corrections, by the tasks whose lines they correct.
    MergeCorrections,
    /// Reads the lake again and applies the corrections.
    Reread,
    /// Sorts the resources of each bucket of patients roughly, so that the next phase reads each of them once.
    SortPatients,
    /// Groups resources by patient (`organizeOutputBy=Patient`).
    GroupByPatient,
    /// Merges fragments into output files.
    Merge,
    /// Reads the history of types from the FHIR server.
    ReadHistory,
    /// Stores what was fetched in the lake.
    Publish,
}

impl Phase {
    /// The list of phases.
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::MergeVersionRecords,
        Self::ResolveVersions,
        Self::MergeLinks,
        Self::ResolveLinks,
        Self::MergeCorrections,
        Self::Reread,
        Self::SortPatients,
        Self::GroupByPatient,
        Self::Merge,
        Self::ReadHistory,
        Self::Publish,
    ];

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::MergeVersionRecords => "merge-version-records",
            Self::ResolveVersions => "resolve-versions",
            Self::MergeLinks => "merge-links",
            Self::ResolveLinks => "resolve-links",
            Self::MergeCorrections => "merge-corrections",
            Self::Reread => "reread",
            Self::SortPatients => "sort-patients",
            Self::GroupByPatient => "group-by-patient",
            Self::Merge => "merge",
            Self::ReadHistory => "read-history",
            Self::Publish => "publish",
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}
