//! Phases of a job.

/// The phase of a job: the kind of work that the tasks of the current round do. The finalize task derives the next phase
/// from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reads the lake.
    Read,
    /// Determines the current version of each resource.
    ResolveVersions,
    /// Determines the resources that are exported because other resources refer to them.
    ResolveLinks,
    /// Reads the lake again and applies the corrections.
    Reread,
    /// Groups resources by patient (`organizeOutputBy=Patient`).
    GroupByPatient,
    /// Merges fragments into output files.
    Merge,
}

impl Phase {
    /// The list of phases.
    pub const ALL: [Self; 6] = [Self::Read, Self::ResolveVersions, Self::ResolveLinks, Self::Reread, Self::GroupByPatient, Self::Merge];

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ResolveVersions => "resolve-versions",
            Self::ResolveLinks => "resolve-links",
            Self::Reread => "reread",
            Self::GroupByPatient => "group-by-patient",
            Self::Merge => "merge",
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}
