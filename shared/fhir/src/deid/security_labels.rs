//! The security labels in `meta.security` of a de-identified resource.

use std::ops::Range;

use crate::json::JsonValue;

/// A security label: the kind of change that de-identification made to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecurityLabel {
    Redacted,
    Abstracted,
    Hashed,
    Masked,
    Perturbed,
    Substituted,
    Generalized,
}

impl SecurityLabel {
    /// The labels in the order in which they are written.
    const ALL: [Self; 7] =
        [Self::Redacted, Self::Abstracted, Self::Hashed, Self::Masked, Self::Perturbed, Self::Substituted, Self::Generalized];

    /// Returns the code and the JSON of the coding. The code system itself spells `CRYTOHASH`; the last three codes are in no
    /// code system and are those of Microsoft's tool.
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

/// A set of security labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SecurityLabels(u8);

impl SecurityLabels {
    /// Creates a set with one label.
    pub(super) fn from_label(label: SecurityLabel) -> Self {
        let mut labels = Self::default();
        labels.add(label);
        labels
    }

    /// Adds a label.
    pub(super) fn add(&mut self, label: SecurityLabel) {
        self.0 |= 1 << label as u8;
    }

    /// Adds all labels of another set.
    pub(super) fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Returns true if the set contains the label.
    fn contains(self, label: SecurityLabel) -> bool {
        self.0 & (1 << label as u8) != 0
    }
}

/// Adds labels to the `meta.security` of a resource whose object in `out` is complete except for its closing brace.
///
/// * `meta`: the range of the resource's `meta` in `out`; a new one is appended if it has none.
/// * `has_members`: true if a comma must precede a new `meta`.
///
/// A label is not added if a coding of `meta.security` already has its code, in any code system.
pub(super) fn write_security_labels(labels: SecurityLabels, meta: Option<Range<usize>>, has_members: bool, out: &mut Vec<u8>) {
    if labels == SecurityLabels::default() {
        return;
    }
    let Some(range) = meta else {
        out.extend_from_slice(if has_members { b",\"meta\":{\"security\":[" } else { b"\"meta\":{\"security\":[" });
        out.extend_from_slice(missing_codings(labels, None).as_bytes());
        out.extend_from_slice(b"]}");
        return;
    };
    let text = out.get(range.clone()).and_then(|meta| std::str::from_utf8(meta).ok()).unwrap_or("{}");
    let security = JsonValue::from_valid(text).member("security");
    let mut codings = missing_codings(labels, security);
    if codings.is_empty() {
        return;
    }
    let insert_at = match security {
        // An empty `meta` is never kept, so a comma is needed.
        None => {
            codings = format!(",\"security\":[{codings}]");
            range.end - 1
        }
        Some(security) => {
            if security.items().next().is_some() {
                codings.insert(0, ',');
            }
            // The offset of the closing bracket: `security` borrows from `text`.
            range.start + (security.as_str().as_ptr() as usize - text.as_ptr() as usize) + security.as_str().len() - 1
        }
    };
    let (end, added) = (out.len(), codings.len());
    out.resize(end + added, 0);
    out.copy_within(insert_at..end, insert_at + added);
    if let Some(gap) = out.get_mut(insert_at..insert_at + added) {
        gap.copy_from_slice(codings.as_bytes());
    }
}

/// Returns the codings of the labels that `meta.security` does not contain, separated by commas.
fn missing_codings(labels: SecurityLabels, security: Option<JsonValue<'_>>) -> String {
    let is_present = |code: &str| {
        let mut codes = security.into_iter().flat_map(JsonValue::items).filter_map(|coding| coding.member("code")?.text());
        codes.any(|present| present.eq_ignore_ascii_case(code))
    };
    let mut codings = String::with_capacity(512);
    for (code, coding) in SecurityLabel::ALL.into_iter().filter(|label| labels.contains(*label)).map(SecurityLabel::coding) {
        if !is_present(code) {
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

    /// Creates a set of the labels `some`.
    fn labels(some: &[SecurityLabel]) -> SecurityLabels {
        let mut labels = SecurityLabels::default();
        some.iter().for_each(|label| labels.add(*label));
        labels
    }

    #[test]
    fn missing_labels_are_added_in_their_order() {
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
            let range = open.len()..open.len() + meta.len();
            write_security_labels(
                labels(&[SecurityLabel::Generalized, SecurityLabel::Redacted, SecurityLabel::Perturbed]),
                Some(range),
                true,
                &mut out,
            );
            assert_eq!(String::from_utf8(out).unwrap(), format!(r#"{open}{expected},"active":true"#));
        }
    }

    #[test]
    fn a_resource_without_meta_receives_one() {
        let mut out = br#"{"resourceType":"Patient""#.to_vec();
        write_security_labels(labels(&[SecurityLabel::Masked]), None, true, &mut out);
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
        let expected =
            format!(r#"{{"resourceType":"Patient","meta":{{"security":[{{"system":"{system}","code":"MASKED","display":"masked"}}]}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
