//! How notes about many lines become findings about some: which version counts, what is deleted, what is exported
//! because of something else.

use crate::versions::correction::{Action, Correction};
use crate::versions::record::{Link, VersionFlags, VersionRecord, Why};

/// What an export adds to the lines that it selects by what they say themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Associations {
    /// Which Provenance.
    pub provenance: Option<Whose>,
    /// Whether resources outside the compartments are added that exported ones refer to.
    pub references: bool,
}

/// Whose Provenance is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of every resource in the compartments that the export is about.
    Members,
    /// That of every exported resource.
    Exported,
    /// Of every exported resource the one that was recorded last.
    ExportedLatest,
}

impl Associations {
    /// Whether any resource can bring another into the export.
    pub fn are_any(self) -> bool {
        self.provenance.is_some() || self.references
    }
}

/// What a range of resources has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// What is to be done.
    pub findings: Vec<Correction>,
    /// What remains of the links, turned round: they are to be looked at with the resource that they lead to.
    pub links: Vec<Link>,
}

/// Goes through the notes of a range of resources, and the links that come from them.
///
/// * Of several versions the newest counts: by time, then by version, then the one that stands further on in the lake.
/// * A deletion undoes every version that is not newer.
/// * `keeps_all`: every version is exported (`_history`); only what has none is reported as deleted.
pub fn of_versions(mut notes: Vec<VersionRecord>, mut links: Vec<Link>, associations: Associations, keeps_all: bool) -> Resolved {
    notes.sort_unstable();
    links.sort_unstable();
    let mut resolved = Resolved::default();
    let mut links = links.as_slice();
    for notes in notes.chunk_by(|one, next| one.key == next.key) {
        let newest = |is_deletion| notes.iter().rev().find(|note| note.facts.is_deletion == is_deletion);
        let deletion = newest(true);
        let counts = newest(false).filter(|version| deletion.is_none_or(|deletion| version.changed > deletion.changed));
        let selected = || notes.iter().filter(|note| note.facts.is_selected && !note.facts.is_deletion);
        if !keeps_all {
            let dropped = selected().filter(|note| Some(*note) != counts);
            resolved.findings.extend(dropped.map(|note| finding(note, Action::Drop)));
        }
        let is_exported = keeps_all && selected().next().is_some();
        let is_about_members = || notes.iter().any(|note| note.facts.is_member);
        if let Some(deletion) = deletion.filter(|deletion| counts.is_none() && !is_exported && deletion.facts.is_selected)
            && is_about_members()
        {
            let entry = u32::try_from(deletion.version).unwrap_or(u32::MAX);
            resolved.findings.push(finding(deletion, Action::Report(entry)));
        }
        if let (Some(counts), true) = (counts, associations.are_any()) {
            links = hand_on(counts, is_exported, links, &mut resolved.links);
        }
    }
    thin_out(&mut resolved.links, associations);
    resolved
}

fn finding(note: &VersionRecord, action: Action) -> Correction {
    Correction { task: note.task, place: note.place, action }
}

/// Of the links that are sorted like the notes, those that the counting version of a resource has; what is left of them.
fn hand_on<'l>(counts: &VersionRecord, is_exported: bool, links: &'l [Link], handed_on: &mut Vec<Link>) -> &'l [Link] {
    let own = links.partition_point(|link| link.at < counts.key)..links.partition_point(|link| link.at <= counts.key);
    let rest = links.get(own.end..).unwrap_or_default();
    let facts = VersionFlags { is_selected: counts.facts.is_selected || is_exported, ..counts.facts };
    if facts.is_selected || facts.is_member || facts.is_candidate {
        let why = Why::Standing(facts);
        handed_on.push(Link { at: counts.key, why, other: counts.key, task: counts.task, place: counts.place });
    }
    for link in links.get(own).unwrap_or_default() {
        let speaks = match link.why {
            Why::Standing(_) => false,
            Why::Reference => counts.facts.is_selected,
            Why::Provenance { .. } => counts.facts.is_candidate,
        };
        if speaks && (link.task, link.place) == (counts.task, counts.place) {
            handed_on.push(Link { at: link.other, other: link.at, ..*link });
        }
    }
    rest
}

/// Sorts links by the resource that they lead to, and leaves out those that change nothing: that one is referred to by
/// millions must not fill a worker's memory.
fn thin_out(links: &mut Vec<Link>, associations: Associations) {
    links.sort_unstable();
    links.dedup_by(|next, kept| match (next.why, kept.why) {
        _ if next.at != kept.at => false,
        (Why::Reference, Why::Reference) => true,
        // Sorted by `recorded`: the later one takes the place of the one before.
        (Why::Provenance { .. }, Why::Provenance { .. }) if associations.provenance == Some(Whose::ExportedLatest) => {
            *kept = *next;
            true
        }
        (Why::Standing(_) | Why::Reference | Why::Provenance { .. }, _) => false,
    });
}

/// Goes through the links that lead to a range of resources: what they bring into the export.
pub fn of_links(mut links: Vec<Link>, associations: Associations) -> Vec<Correction> {
    thin_out(&mut links, associations);
    let mut findings = Vec::new();
    for links in links.chunk_by(|one, next| one.at == next.at) {
        let standing = links.iter().find_map(|link| match link.why {
            Why::Standing(facts) => Some((link, facts)),
            Why::Reference | Why::Provenance { .. } => None,
        });
        let Some((own, facts)) = standing else { continue };
        for link in links {
            let added = match link.why {
                Why::Standing(_) => None,
                Why::Reference => (facts.is_candidate && associations.references).then_some(own),
                Why::Provenance { .. } => associations.provenance.filter(|whose| whose.include(facts)).map(|_| link),
            };
            findings.extend(added.map(|link| Correction { task: link.task, place: link.place, action: Action::Add }));
        }
    }
    findings
}

impl Whose {
    fn include(self, target: VersionFlags) -> bool {
        match self {
            Self::Members => target.is_member,
            Self::Exported | Self::ExportedLatest => target.is_selected,
        }
    }
}

#[cfg(test)]
mod tests;
