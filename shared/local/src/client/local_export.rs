//! The export of a directory by a server in this process, as its user sees it: nobody has sent a request, and there is no server whose
//! settings somebody else decides.

use std::path::Path;
use std::time::UNIX_EPOCH;

use headrace_core::lake::watermark::WATERMARK_OBJECT;
use headrace_core::request::ConfigName;
use headrace_core::vocab::lake_settings::{LakeSettings, LakeWatermark};
use headrace_fhir::instant::Instant;
use walkdir::WalkDir;

use crate::client::bulk::ClientError;

/// Name of a configuration whose file has a name that no request may have.
const DEFAULT_CONFIG_NAME: &str = "config.json";

/// The parameters of a kick-off and the settings of a server, and the options that set them.
const OPTIONS: [(&str, &str); 11] = [
    ("_type", "--type"),
    ("_typeFilter", "--type-filter"),
    ("_elements", "--elements"),
    ("_since", "--since"),
    ("_until", "--until"),
    ("includeAssociatedData", "--include-associated-data"),
    ("organizeOutputBy", "--organize-by"),
    ("_outputFormat", "--output-format"),
    ("_container", "--container"),
    ("_anonymizationConfig", "--anonymization-config"),
    ("HEADRACE_LAKE_WATERMARK", "--lake-watermark"),
];

/// Phrases for a client that asks an operator, and those for a user who decides. Remarks about a configuration get a line each.
const PHRASES: [(&str, &str); 8] = [
    (" (--lake-watermark, on AWS LakeWatermark)", ""),
    (
        "this patient was not found",
        "this patient was not found: the lake has no Patient with the id of --level, or only one that is later than the watermark",
    ),
    (
        "this group was not found",
        "this group was not found: the lake has no Group with the id of --level, or only one that is later than the watermark",
    ),
    ("; correct it, or have the remarks accepted by name: ", "\nCorrect it, or accept the remarks: --accept-remarks "),
    (": error [", ":\n  error ["),
    ("; error [", "\n  error ["),
    (": warning [", ":\n  warning ["),
    ("; warning [", "\n  warning ["),
];

/// Returns a text of the server with the options of the command line in place of the parameters of a request.
pub(crate) fn in_command_words(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|letter| !is_part(letter)).unwrap_or(rest.len()));
        output += OPTIONS.iter().find(|(parameter, _)| *parameter == word).map_or(word, |(_, option)| *option);
        let (between, next) = after.split_at(after.find(is_part).unwrap_or(after.len()));
        output += between;
        rest = next;
    }
    PHRASES.iter().fold(output, |text, (phrase, replacement)| text.replace(phrase, replacement))
}

/// Returns the reason of a failure that the server in this process has given, without HTTP. `None` if the failure is another one.
pub(crate) fn reason_in_command_words(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Rejected { text, .. } => Some(in_command_words(text)),
        ClientError::ExportFailed { text, .. } => Some(format!("the export failed: {}", in_command_words(text))),
        ClientError::NotDownloaded { file, cause } => reason_in_command_words(cause).map(|reason| format!("`{file}`: {reason}")),
        ClientError::Http(_)
        | ClientError::Gone { .. }
        | ClientError::GaveUp { .. }
        | ClientError::OnlyPauses { .. }
        | ClientError::DownloadTooLong(_)
        | ClientError::WaitedTooLong { .. }
        | ClientError::Signature(_)
        | ClientError::Login(_)
        | ClientError::Url(_)
        | ClientError::NotConformant(_)
        | ClientError::TooMuch { .. }
        | ClientError::File { .. }
        | ClientError::Write { .. } => None,
    }
}

/// The server in this process.
pub(crate) struct OwnServer {
    /// Base URL.
    pub(crate) base: String,
    /// True if the user has named no container.
    pub(crate) chooses_container: bool,
}

impl OwnServer {
    /// Returns the request of a manifest without the base URL, because the server ends with the export, and without parameters that the user
    /// has not chosen. The server has removed what a de-identified export must not show.
    pub(crate) fn request_of_user(&self, request: &str) -> String {
        let request = request.strip_prefix(&self.base).unwrap_or(request).trim_start_matches('/');
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let is_own = |pair: &str| pair == "allowPartialManifests=true" || (self.chooses_container && pair.starts_with("_container="));
        let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !is_own(pair)).collect();
        if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
    }
}

/// Returns the name of a configuration in the request to the server in this process: that of its file, so that errors name it.
pub(crate) fn config_name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.filter(|name| ConfigName::parse(name).is_some()).unwrap_or(DEFAULT_CONFIG_NAME)
}

/// Returns the settings for an export after `since` that the user has chosen. If each file of the lake is newer than that, the lake was made
/// or copied later, and no earlier export of it can have missed a change: then nobody needs to hear how many changes are older.
pub(crate) fn settings_of_copy(settings: LakeSettings, lake: &Path, since: Option<&str>) -> LakeSettings {
    let since = since.and_then(|since| Instant::parse(since).ok());
    let is_unstated = settings.watermark == LakeWatermark::Auto && lake.join(WATERMARK_OBJECT).symlink_metadata().is_err();
    match since {
        Some(since) if is_unstated && !has_older_file(lake, since) => LakeSettings { watermark: LakeWatermark::Now, ..settings },
        Some(_) | None => settings,
    }
}

/// Returns true if a file of the lake is older than a time. Entries that cannot be read are left to the export, which reports them.
fn has_older_file(lake: &Path, time: Instant) -> bool {
    let is_older = |entry: walkdir::DirEntry| {
        let modified = entry.metadata().ok().filter(std::fs::Metadata::is_file)?.modified().ok()?;
        let millis = modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis());
        u64::try_from(millis).ok().map(|millis| Instant::from_millis(millis) <= time)
    };
    let is_data = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().contains(".ndjson");
    WalkDir::new(lake).follow_links(true).into_iter().flatten().filter(is_data).any(|entry| is_older(entry).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn parameters_become_options_and_other_words_stay() {
        for (text, expected) in [
            ("_since is in the future", "--since is in the future"),
            ("`_until` is not later than _since: send a later _until", "`--until` is not later than --since: send a later --until"),
            ("_typeFilter: Patient?_id=_types", "--type-filter: Patient?_id=_types"),
            ("organizeOutputBy=Encounter, größer", "--organize-by=Encounter, größer"),
            ("or set HEADRACE_LAKE_WATERMARK to now", "or set --lake-watermark to now"),
            ("with --lake-watermark (HEADRACE_LAKE_WATERMARK, on AWS LakeWatermark): object", "with --lake-watermark: object"),
            ("", ""),
        ] {
            assert_eq!(in_command_words(text), expected);
        }
        let remarks = "not used, because of remarks about it: error [a] rule 1: x; did you mean `b`?; warning [c] y; correct it, or have the \
                       remarks accepted by name: a:1,c";
        let expected = "not used, because of remarks about it:\n  error [a] rule 1: x; did you mean `b`?\n  warning [c] y\n\
                        Correct it, or accept the remarks: --accept-remarks a:1,c";
        assert_eq!(in_command_words(remarks), expected);
    }

    #[test]
    fn a_reason_has_no_http() {
        let rejected =
            ClientError::Rejected { request: "the kick-off", status: StatusCode::BAD_REQUEST, text: "_since is in the future".to_owned() };
        assert_eq!(reason_in_command_words(&rejected).as_deref(), Some("--since is in the future"));
        let failed = ClientError::ExportFailed { status: StatusCode::INTERNAL_SERVER_ERROR, text: "it is corrupt".to_owned() };
        assert_eq!(reason_in_command_words(&failed).as_deref(), Some("the export failed: it is corrupt"));
        let unknown =
            ClientError::Rejected { request: "the kick-off", status: StatusCode::NOT_FOUND, text: "this group was not found".to_owned() };
        let reason = reason_in_command_words(&unknown).unwrap();
        assert!(reason.starts_with("this group was not found: the lake has no Group with the id of --level"), "{reason}");
        assert_eq!(reason_in_command_words(&ClientError::NotConformant("x".to_owned())), None);
    }

    #[test]
    fn a_request_has_what_the_user_has_chosen() {
        let server = |chooses_container| OwnServer { base: "http://127.0.0.1:7/fhir".to_owned(), chooses_container };
        for (request, chooses_container, expected) in [
            ("http://127.0.0.1:7/fhir/$export?allowPartialManifests=true", true, "$export"),
            ("http://127.0.0.1:7/fhir/Group/1/$export?_type=Patient&_container=x", true, "Group/1/$export?_type=Patient"),
            ("http://127.0.0.1:7/fhir/$export?_container=x&allowPartialManifests=true", false, "$export?_container=x"),
            ("http://127.0.0.1:7/fhir/$export", true, "$export"),
        ] {
            assert_eq!(server(chooses_container).request_of_user(request), expected);
        }
    }

    #[test]
    fn a_configuration_is_named_after_its_file_if_a_request_may_name_it() {
        for (path, expected) in [("a/my study.json", "my study.json"), ("a/größe.json", "config.json"), ("x.keys", "config.json")] {
            assert_eq!(config_name(Path::new(path)), expected);
        }
    }
}
