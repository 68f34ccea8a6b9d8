//! What `meta.security` says of a de-identified resource.

use crate::json::Json;

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
        out.extend_from_slice(if has_members { b",\"meta\":{\"security\":[" } else { b"\"meta\":{\"security\":[" });
        out.extend_from_slice(missing(labels, None).as_bytes());
        out.extend_from_slice(b"]}");
        return;
    };
    let text = out.get(range.clone()).and_then(|meta| std::str::from_utf8(meta).ok()).unwrap_or("{}");
    let security = Json::of_valid(text).member("security");
    let mut codings = missing(labels, security);
    if codings.is_empty() {
        return;
    }
    let at = match security {
        // What stays of `meta` is not empty.
        None => {
            codings = format!(",\"security\":[{codings}]");
            range.end - 1
        }
        Some(security) => {
            if security.items().next().is_some() {
                codings.insert(0, ',');
            }
            range.start + (security.as_str().as_ptr() as usize - text.as_ptr() as usize) + security.as_str().len() - 1
        }
    };
    let (end, more) = (out.len(), codings.len());
    out.resize(end + more, 0);
    out.copy_within(at..end, at + more);
    if let Some(place) = out.get_mut(at..at + more) {
        place.copy_from_slice(codings.as_bytes());
    }
}

/// The codings of the labels that `meta.security` lacks, one behind the other.
fn missing(labels: Labels, security: Option<Json<'_>>) -> String {
    let is_there = |code: &str| {
        let mut codes = security.into_iter().flat_map(Json::items).filter_map(|coding| coding.member("code")?.text());
        codes.any(|there| there.eq_ignore_ascii_case(code))
    };
    let mut codings = String::with_capacity(512);
    for (code, coding) in Label::ALL.into_iter().filter(|label| labels.contains(*label)).map(Label::coding) {
        if !is_there(code) {
            if !codings.is_empty() {
                codings.push(',');
            }
            codings.push_str(coding);
        }
    }
    codings
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
        let open = r#"{"resourceType":"Patient","meta":"#;
        let perturbed = r#"{"code":"PERTURBED","display":"exact value is replaced with another exact value"}"#;
        let generalized = r#"{"code":"GENERALIZED","display":"exact value is replaced with a general value"}"#;
        for (meta, expected) in [
            (
                r#"{"versionId":"1","security":[{"code":"redacted"},{"code":"R"}],"tag":[]}"#,
                format!(r#"{{"versionId":"1","security":[{{"code":"redacted"}},{{"code":"R"}},{perturbed},{generalized}],"tag":[]}}"#),
            ),
            (
                r#"{"security":[{"code":"REDACTED"}, {"code":"PERTURBED"}, {"code":"generalized"} ] }"#,
                r#"{"security":[{"code":"REDACTED"}, {"code":"PERTURBED"}, {"code":"generalized"} ] }"#.to_owned(),
            ),
        ] {
            let mut out = format!(r#"{open}{meta},"active":true"#).into_bytes();
            let place = open.len()..open.len() + meta.len();
            write_labels(labels(&[Label::Generalized, Label::Redacted, Label::Perturbed]), Some(place), true, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!(r#"{open}{expected},"active":true"#));
        }
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
