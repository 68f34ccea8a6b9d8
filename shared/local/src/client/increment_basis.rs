//! The parts of an export on which its increments depend. If one changes, an increment leaves out what no earlier export had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::cli::{ExportArgs, Source, non_empty};
use crate::stores::directory::GivenConfiguration;

/// The content of the anonymization configuration, which only the manifest of a server tells.
const CONFIGURATION: &str = "configuration";

/// Number of hexadecimal digits of a digest.
const DIGITS: usize = 16;

/// Digests of the parts of an export, by the options that set them. The parts themselves, such as the id of a patient, are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IncrementBasis(BTreeMap<String, String>);

impl IncrementBasis {
    /// Computes the digests of the parts of an export.
    ///
    /// * `configuration`: the anonymization configuration, if this machine de-identifies.
    pub(crate) fn new(args: &ExportArgs, source: &Source, configuration: Option<&GivenConfiguration>) -> Self {
        let options = &args.options;
        let mut basis = Self::default();
        basis.add("source", Some(&source_text(source)));
        basis.add("--level", Some(&options.path()));
        for (name, list) in
            [("--type", &options.types), ("--elements", &options.elements), ("--include-associated-data", &options.include_associated_data)]
        {
            basis.add(name, list.as_deref().map(|list| sorted(list.split(','))).as_deref());
        }
        let filters = sorted(options.type_filters.iter().map(String::as_str));
        basis.add("--type-filter", Some(filters.as_str()).filter(|filters| !filters.is_empty()));
        // Resources of no patient are left out. With `--lenient` an export is accepted that is rejected otherwise, and has the same resources.
        basis.add("--organize-by", options.organize_by.as_deref().map(|_| "patient"));
        basis.add("--anonymization-config", options.anonymization_config.as_deref().filter(|_| configuration.is_none()));
        if let Some(GivenConfiguration { text, keys, .. }) = configuration {
            basis.add_bytes("--anonymization-config", text);
            if let Some(keys) = keys {
                basis.add_bytes("--deid-keys", keys);
            }
        }
        if args.by_sync || matches!(source, Source::Directory(_)) {
            basis.add_settings(args);
        }
        basis
    }

    /// Adds the settings of the server in this process that decide which resources are exported.
    fn add_settings(&mut self, args: &ExportArgs) {
        let service = &args.service;
        for (name, is_set) in [
            ("--trust-object-names", service.trust_object_names),
            ("--include-referenced-resources", service.include_referenced_resources),
            ("--group-new-members", service.group_new_members),
            // Deletions have no effect. The other values give the same export.
            ("--lake-versions", service.lake_versions.as_deref() == Some("one")),
            // The time after which to export is that of an arrival. The other values decide only up to when the export is complete.
            ("--lake-watermark", service.watermark.lake_watermark.as_deref() == Some("arrival")),
        ] {
            self.add(name, is_set.then_some("true"));
        }
        self.add("--fhir-version", non_empty(&service.fhir_version));
        self.add("--source-base-urls", non_empty(&service.base_urls.source_base_urls));
    }

    /// Adds the content of the anonymization configuration, if the manifest of the export has its digest.
    pub(crate) fn with_configuration(mut self, digest: Option<&str>) -> Self {
        self.add(CONFIGURATION, digest);
        self
    }

    /// Adds the digest of a text, if there is one.
    fn add(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.add_bytes(name, text.as_bytes());
        }
    }

    /// Adds the digest of a part.
    fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        let digits = hex::encode(digest(&SHA256, bytes)).chars().take(DIGITS).collect();
        self.0.insert(name.to_owned(), digits);
    }

    /// Returns true if no part is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names of the parts that differ, as messages show them. A content that one of both does not know is not compared.
    pub(crate) fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differs = |name: &&String| {
            let (own, others) = (self.0.get(*name), other.0.get(*name));
            own != others && (*name != CONFIGURATION || (own.is_some() && others.is_some()))
        };
        names.into_iter().filter(differs).map(|name| shown(name)).collect()
    }

    /// Formats the parts, one a line.
    pub(crate) fn to_lines(&self) -> String {
        self.0.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect()
    }

    /// Parses the parts. Blank lines and comments are skipped. Returns `None` if another line is not a part.
    pub(crate) fn from_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let is_digest = |digest: &str| digest.len() == DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let part = |line: &str| {
            let (name, digest) = line.split_once(' ')?;
            let is_part = is_digest(digest) && name.bytes().all(|byte| byte.is_ascii_graphic());
            is_part.then(|| (name.to_owned(), digest.to_owned()))
        };
        lines.map(part).collect::<Option<_>>().map(Self)
    }
}

/// Returns what messages call a part.
fn shown(name: &str) -> &str {
    match name {
        "source" => "SOURCE",
        CONFIGURATION => "the content of the anonymization configuration",
        option => option,
    }
}

/// Returns the text that identifies a source: the URL without slashes at its end, or the path of the directory without links.
fn source_text(source: &Source) -> String {
    match source {
        Source::Server(base) => base.trim_end_matches('/').to_owned(),
        Source::Directory(path) => canonical(path),
    }
}

/// Returns the path of a directory without links, or as it is if it cannot be read: then the export fails.
fn canonical(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Returns texts in an order of their own, each once: their order has no effect on an export.
fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(str::trim).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    /// Returns the parts of an export with these arguments.
    fn basis(arguments: &[&str]) -> IncrementBasis {
        let Command::Export(args) = Cli::try_parse_from(["headrace", "export"].iter().chain(arguments)).unwrap().command else {
            panic!("another command: {arguments:?}")
        };
        let source = Source::parse(args.source.as_deref().unwrap()).unwrap();
        IncrementBasis::new(&args, &source, None)
    }

    #[test]
    fn another_request_is_noticed_and_the_same_in_another_order_is_not() {
        let lines = ["lake", "out", "--type=Patient,Observation", "--type-filter=Patient?a=1", "--type-filter=Patient?b=2"];
        let basis_of = |arguments: &[&str]| basis(&[&lines[..], arguments].concat());
        let same =
            ["lake", "elsewhere", "--type-filter=Patient?b=2", "--type=Observation, Patient", "--type-filter=Patient?a=1", "--quiet"];
        assert_eq!(basis(&same).differences(&basis_of(&[])), Vec::<&str>::new());
        for (arguments, expected) in [
            (&["--level=patient:7"][..], &["--level"][..]),
            (&["--type-filter=Patient?c=3"], &["--type-filter"]),
            (&["--elements=id", "--include-associated-data=_deleted"], &["--elements", "--include-associated-data"]),
            (&["--anonymization-config=a.json"], &["--anonymization-config"]),
            (&["--include-referenced-resources", "--fhir-version=5.0.0"], &["--fhir-version", "--include-referenced-resources"]),
            (&["--organize-by=patient"], &["--organize-by"]),
            (&["--lake-versions=one"], &["--lake-versions"]),
            (&["--lake-watermark=arrival"], &["--lake-watermark"]),
            (&["--workers=3", "--lake-watermark=now", "--lake-versions=many", "--lenient", "--since=2026-01-01"], &[]),
        ] {
            assert_eq!(basis_of(arguments).differences(&basis_of(&[])), expected, "{arguments:?}");
            assert_eq!(basis_of(&[]).differences(&basis_of(arguments)), expected, "{arguments:?}");
        }
        assert_eq!(basis(&["https://h/r4", "out"]).differences(&basis(&["https://h/r4/", "out"])), Vec::<&str>::new());
        assert_eq!(basis(&["https://h/r4", "out"]).differences(&basis(&["https://h/r5", "out"])), ["SOURCE"]);
    }

    #[test]
    fn a_configuration_is_compared_once_both_exports_have_told_it() {
        let of = |digest| basis(&["https://h/r4", "out"]).with_configuration(digest);
        assert_eq!(of(Some("a")).differences(&of(Some("b"))), ["the content of the anonymization configuration"]);
        for (one, other) in [(Some("a"), Some("a")), (Some("a"), None), (None, Some("a"))] {
            assert_eq!(of(one).differences(&of(other)), Vec::<&str>::new());
        }
    }

    #[test]
    fn the_lines_have_no_text_of_the_request_and_are_read_again() {
        let basis = basis(&["https://h/r4", "out", "--level=patient:jane-doe", "--type-filter=Patient?name=jane"]);
        let lines = basis.to_lines();
        assert!(!lines.contains("jane") && lines.starts_with("--level "), "{lines}");
        assert_eq!(IncrementBasis::from_lines(format!("# comment\n\n{lines}").lines()), Some(basis));
        assert_eq!(IncrementBasis::from_lines("".lines()), Some(IncrementBasis::default()));
        for text in ["--level", "--level x", "2026-01-31T08:00:00Z"] {
            assert_eq!(IncrementBasis::from_lines(text.lines()), None, "{text}");
        }
    }
}
