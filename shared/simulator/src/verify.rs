//! The comparison of an export with its lake.

use std::collections::BTreeMap;

use headrace_core::job::Job;
use headrace_core::job::file::{FileName, OutputFile, OutputKind};

use crate::simulation::Deployment;

/// The differences between an export and its lake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exactness {
    /// The number of lines in the lake.
    pub lake_lines: u64,
    /// The number of output files.
    pub files: u64,
    /// The number of lines that are in no file.
    pub lost_lines: u64,
    /// The number of lines that are in a file although they are in another one, or earlier in the same, too.
    pub doubled_lines: u64,
    /// The number of lines in a file of another type.
    pub misplaced_lines: u64,
    /// The number of lines that are not from the lake, except those of the `error` file.
    pub foreign_lines: u64,
    /// The number of recorded files that do not exist or have another size.
    pub damaged_files: u64,
    /// The number of file numbers that are missing.
    pub missing_numbers: u64,
    /// The number of files in the folder of the job that are not recorded.
    pub leftover_files: u64,
}

impl Exactness {
    /// Returns true if the export is exact and its files have numbers without gaps.
    pub fn is_exact(&self) -> bool {
        *self == Self { lake_lines: self.lake_lines, files: self.files, ..Self::default() } && self.lake_lines > 0
    }
}

/// Compares the recorded files of a job with the lake.
pub fn verify(deployment: &Deployment, job: &Job, files: &[OutputFile]) -> Exactness {
    let lake = &deployment.lake;
    let count = usize::try_from(lake.line_count()).unwrap_or_default();
    let mut found = vec![false; count];
    let mut exactness = Exactness { lake_lines: count as u64, files: files.len() as u64, ..Exactness::default() };
    let mut last_numbers = BTreeMap::<OutputKind, (u64, u64)>::new();
    for file in files {
        let (count, highest) = last_numbers.entry(file.name.kind).or_default();
        (*count, *highest) = (*count + 1, (*highest).max(file.name.number.into()));
        let stored = deployment.destination.output_lines(&job.folder(), FileName::Output(file.name));
        let Some((_, lines)) = stored.filter(|(summary, _)| *summary == file.summary) else {
            exactness.damaged_files += 1;
            continue;
        };
        if file.name.kind != OutputKind::Error {
            exactness.foreign_lines += lines.others;
        }
        for number in lines.numbers.iter() {
            let is_misplaced = lake.type_of_line(*number).map(OutputKind::Output) != Some(file.name.kind);
            exactness.misplaced_lines += u64::from(is_misplaced);
            match usize::try_from(*number).ok().and_then(|index| found.get_mut(index)) {
                Some(is_found) => exactness.doubled_lines += u64::from(std::mem::replace(is_found, true)),
                None => exactness.foreign_lines += 1,
            }
        }
    }
    exactness.lost_lines = found.iter().filter(|is_found| !**is_found).count() as u64;
    exactness.missing_numbers = last_numbers.values().map(|(count, highest)| highest - count).sum();
    let recorded = files.len() as u64;
    exactness.leftover_files =
        (deployment.destination.paths(&job.folder()).len() as u64).saturating_sub(recorded - exactness.damaged_files);
    exactness
}
