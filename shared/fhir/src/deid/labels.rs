//! What `meta.security` says of a de-identified resource.

use crate::json::{Json, Shape};

/// What was done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Redacted,
    Abstracted,
    Hashed,
    Masked,
    Perturbed,
    Substituted,
    Generalized,
}

impl Label {
    /// In the order in which they are written.
    const ALL: [Self; 7] =
        [Self::Redacted, Self::Abstracted, Self::Hashed, Self::Masked, Self::Perturbed, Self::Substituted, Self::Generalized];

    /// The code, and its coding. `CRYTOHASH` is spelled as the code system spells it; the last three are in no code system.
    fn coding(self) -> (&'static str, &'static str) {
        match self {
            Self::Redacted => ("REDACTED", coding!("REDACTED", "redacted")),
            Self::Abstracted => ("ABSTRED", coding!("ABSTRED", "abstracted")),
            Self::Hashed => ("CRYTOHASH", coding!("CRYTOHASH", "cryptographic hash function")),
            Self::Masked => ("MASKED", coding!("MASKED", "masked")),
            Self::Perturbed => ("PERTURBED", r#"{"code":"PERTURBED","display":"exact value is replaced with another exact value"}"#),
            Self::Substituted => ("SUBSTITUTED", r#"{"code":"SUBSTITUTED","display":"exact value is replaced with a predefined value"}"#),
            Self::Generalized => ("GENERALIZED", r#"{"code":"GENERALIZED","display":"exact value is replaced with a general value"}"#),
        }
    }
}

macro_rules! coding {
    ($code:literal, $display:literal) => {
        concat!(
            r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":""#,
            $code,
            r#"","display":""#,
            $display,
            r#""}"#
        )
    };
}
use coding;

/// A set of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(u8);

impl Labels {
    /// This one only.
    pub(super) fn of(label: Label) -> Self {
        let mut labels = Self::default();
        labels.add(label);
        labels
    }

    pub(super) fn add(&mut self, label: Label) {
        self.0 |= 1 << label as u8;
    }

    pub(super) fn add_all(&mut self, others: Self) {
        self.0 |= others.0;
    }

    fn contains(self, label: Label) -> bool {
        self.0 & (1 << label as u8) != 0
    }
}

/// Labels the resource whose object was begun in `out` and lacks its last brace. `meta` is where its `meta` stands in
/// `out`; `has_members` says whether a comma is due.
///
/// A label is written once: not where a coding of `meta.security` already has its code, of whatever system.
pub(super) fn write_labels(labels: Labels, meta: Option<std::ops::Range<usize>>, has_members: bool, out: &mut Vec<u8>) {
    if labels == Labels::default() {
        return;
    }
    let Some(range) = meta else {
        out.extend_from_slice(if has_members { b",\"meta\":" } else { b"\"meta\":" });
        out.extend_from_slice(labelled(labels, Json::of_valid("{}")).as_bytes());
        return;
    };
    let text = out.get(range.clone()).and_then(|meta| std::str::from_utf8(meta).ok()).unwrap_or("{}");
    let labelled = labelled(labels, Json::of_valid(text));
    // Labels are only ever added: what follows moves up.
    let (end, more) = (out.len(), labelled.len() - range.len());
    out.resize(end + more, 0);
    out.copy_within(range.end..end, range.end + more);
    if let Some(place) = out.get_mut(range.start..range.start + labelled.len()) {
        place.copy_from_slice(labelled.as_bytes());
    }
}

/// `meta` with its labels.
fn labelled(labels: Labels, meta: Json<'_>) -> String {
    let security = meta.member("security");
    let codes = || security.into_iter().flat_map(Json::items).filter_map(|coding| coding.member("code")?.text());
    let missing = Label::ALL.into_iter().filter(|label| labels.contains(*label)).map(Label::coding);
    let missing: Vec<&str> =
        missing.filter(|(code, _)| !codes().any(|there| there.eq_ignore_ascii_case(code))).map(|(_, coding)| coding).collect();
    let mut codings = missing.join(",");
    if codings.is_empty() {
        return meta.as_str().to_owned();
    }
    let mut written = String::with_capacity(meta.as_str().len() + codings.len() + 16);
    let mut before = '{';
    for (name, value) in meta.raw_members() {
        written.push(before);
        written.extend(["\"", name, "\":"]);
        before = ',';
        if name == "security" && value.shape() == Shape::Array {
            let open = value.as_str().strip_suffix(']').unwrap_or_default();
            let comma = if value.items().next().is_some() { "," } else { "" };
            written.extend([open, comma, &std::mem::take(&mut codings), "]"]);
        } else {
            written.push_str(value.as_str());
        }
    }
    if !codings.is_empty() {
        written.push(before);
        written.extend(["\"security\":[", &codings, "]"]);
    }
    written.push('}');
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(some: &[Label]) -> Labels {
        let mut labels = Labels::default();
        some.iter().for_each(|label| labels.add(*label));
        labels
    }

    #[test]
    fn labels_join_those_that_are_there_in_their_order() {
        let meta = Json::of_valid(r#"{"versionId":"1","security":[{"code":"redacted"},{"code":"R"}],"tag":[]}"#);
        let written = labelled(labels(&[Label::Generalized, Label::Redacted, Label::Perturbed]), meta);
        let perturbed = r#"{"code":"PERTURBED","display":"exact value is replaced with another exact value"}"#;
        let generalized = r#"{"code":"GENERALIZED","display":"exact value is replaced with a general value"}"#;
        let expected =
            format!(r#"{{"versionId":"1","security":[{{"code":"redacted"}},{{"code":"R"}},{perturbed},{generalized}],"tag":[]}}"#);
        assert_eq!(written, expected);
    }

    #[test]
    fn a_resource_without_meta_gets_one() {
        let mut out = br#"{"resourceType":"Patient""#.to_vec();
        write_labels(labels(&[Label::Masked]), None, true, &mut out);
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
        let expected =
            format!(r#"{{"resourceType":"Patient","meta":{{"security":[{{"system":"{system}","code":"MASKED","display":"masked"}}]}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
