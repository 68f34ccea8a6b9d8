//! Parameters with a single value.

use headrace_fhir::instant::Instant;

use super::error::Handling;
use super::folder_layout::JSON_FORMATS;
use super::raw::RawParameters;
use super::{ANONYMIZATION_FOLDER, AnonymizationConfig, ConfigName, EncryptionKey, ExportPolicy, FolderLayout, Parameter, RequestError};
use crate::vocab::clock::Millis;
use crate::vocab::config_name::parse_etag;
use crate::vocab::container::Container;
use crate::vocab::outcome::IssueCode;

/// Creates the error for an invalid value of this parameter, with status 400.
fn error(parameter: Parameter, code: IssueCode, text: String) -> RequestError {
    RequestError::new(400, code, parameter.as_str(), text)
}

/// Parses a parameter with an instant. `None` if the request does not have the parameter.
fn instant(raw: &RawParameters<'_>, parameter: Parameter) -> Result<Option<Instant>, RequestError> {
    let parse =
        |value| Instant::parse(value).map_err(|fault| error(parameter, IssueCode::Value, format!("{} is {fault}", parameter.as_str())));
    raw.value(parameter).map(parse).transpose()
}

/// Parses `_since`. A time in the future is rejected as a mistake, because no resource can match it.
pub(super) fn since(raw: &RawParameters<'_>, now: Millis) -> Result<Option<Instant>, RequestError> {
    let since = instant(raw, Parameter::Since)?;
    if since.is_some_and(|since| since > Instant::from_millis(now.0)) {
        return Err(error(Parameter::Since, IssueCode::Value, format!("_since is in the future: the time of this server is {now}")));
    }
    Ok(since)
}

/// Parses `_until`, which Azure calls `_till`. Rejects a time that is not later than `since`.
pub(super) fn until(raw: &RawParameters<'_>, since: Option<Instant>) -> Result<Option<Instant>, RequestError> {
    let (until, till) = (instant(raw, Parameter::Until)?, instant(raw, Parameter::Till)?);
    if until.is_some() && till.is_some() && until != till {
        let text = "_till is another name of _until, and their values differ: send one of them";
        return Err(error(Parameter::Till, IssueCode::Invalid, text.to_owned()));
    }
    let until = until.or(till);
    if until.is_some_and(|until| since.is_some_and(|since| until <= since)) {
        let text = "_until is not later than _since, so that no resource can match: send a later _until";
        return Err(error(Parameter::Until, IssueCode::Invalid, text.to_owned()));
    }
    Ok(until)
}

/// Parses a parameter that is `true` or `false`. The default is false.
pub(super) fn flag(raw: &RawParameters<'_>, parameter: Parameter) -> Result<bool, RequestError> {
    match raw.value(parameter) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(error(parameter, IssueCode::Value, format!("{} must be true or false", parameter.as_str()))),
    }
}

/// Parses `organizeOutputBy`. Returns true for Patient, the only supported type.
pub(super) fn is_organized_by_patient(raw: &RawParameters<'_>, handling: &mut Handling) -> Result<bool, RequestError> {
    match raw.value(Parameter::OrganizeOutputBy) {
        None => Ok(false),
        Some("Patient") => Ok(true),
        Some(_) => {
            let text = "organizeOutputBy supports Patient only; without it, each file holds one resource type";
            handling.ignore_or_reject(error(Parameter::OrganizeOutputBy, IssueCode::NotSupported, text.to_owned()))?;
            Ok(false)
        }
    }
}

/// Checks `_outputFormat`. Other formats are rejected even under lenient handling, because the client could not read the
/// files.
pub(super) fn check_output_format(raw: &RawParameters<'_>) -> Result<(), RequestError> {
    // A `+` that was not percent-encoded arrives as a space.
    match raw.value(Parameter::OutputFormat).map(|value| value.replace(' ', "+")).as_deref() {
        None | Some("application/fhir+ndjson" | "application/ndjson" | "ndjson") => Ok(()),
        Some(_) => {
            let text = "_outputFormat must be one of application/fhir+ndjson, application/ndjson and ndjson";
            Err(error(Parameter::OutputFormat, IssueCode::NotSupported, text.to_owned()))
        }
    }
}

/// Parses `_container`. It is never ignored, because the client would not find the files.
pub(super) fn container(raw: &RawParameters<'_>, policy: &ExportPolicy) -> Result<Option<Container>, RequestError> {
    let Some(value) = raw.value(Parameter::Container) else { return Ok(None) };
    let error = |code, text: &str| error(Parameter::Container, code, text.to_owned());
    if value == ANONYMIZATION_FOLDER {
        let text = "_container must not be anonymization: that folder holds the configurations of de-identified exports";
        return Err(error(IssueCode::Value, text));
    }
    let invalid = || error(IssueCode::Value, &format!("_container must be {}", Container::RULE));
    let container = Container::parse(value).ok_or_else(invalid)?;
    if policy.containers.as_ref().is_some_and(|allowed| !allowed.contains(&container)) {
        return Err(error(IssueCode::Forbidden, "this server does not allow this _container: ask its operator"));
    }
    Ok(Some(container))
}

/// Parses `_format`: one of the operator's layouts, as in Azure, or a name of FHIR JSON, which has no effect because all
/// responses are JSON.
pub(super) fn layout(raw: &RawParameters<'_>, policy: &ExportPolicy) -> Result<Option<FolderLayout>, RequestError> {
    let Some(value) = raw.value(Parameter::Format) else { return Ok(None) };
    if let Some(layout) = policy.layouts.get(value) {
        return Ok(Some(layout.clone()));
    }
    if JSON_FORMATS.contains(&value.replace(' ', "+").as_str()) {
        return Ok(None);
    }
    let names: Vec<_> = policy.layouts.keys().map(String::as_str).chain(JSON_FORMATS).collect();
    let text = format!("_format must be one of {}", names.join(", "));
    Err(error(Parameter::Format, IssueCode::NotSupported, text))
}

/// Parses `_encryptionKey`: one of the operator's keys. It is never ignored, because the files would be less protected than
/// requested.
pub(super) fn encryption_key(raw: &RawParameters<'_>, policy: &ExportPolicy) -> Result<Option<EncryptionKey>, RequestError> {
    let Some(value) = raw.value(Parameter::EncryptionKey) else { return Ok(None) };
    if let Some(key) = policy.keys.get(value) {
        return Ok(Some(key.clone()));
    }
    let names: Vec<_> = policy.keys.keys().map(String::as_str).collect();
    let text = if names.is_empty() {
        "this server offers no keys by name: remove _encryptionKey".to_owned()
    } else {
        format!("_encryptionKey must be one of {}", names.join(", "))
    };
    Err(error(Parameter::EncryptionKey, IssueCode::NotSupported, text))
}

/// Parses `_anonymizationConfig` and `_anonymizationConfigEtag`. They are never ignored, because data would be exported
/// without de-identification.
pub(super) fn anonymization(raw: &RawParameters<'_>) -> Result<Option<AnonymizationConfig>, RequestError> {
    let (name, etag) = (raw.value(Parameter::AnonymizationConfig), raw.value(Parameter::AnonymizationConfigEtag));
    let Some(name) = name else {
        let text = "_anonymizationConfigEtag is the entity tag of the file that _anonymizationConfig names: send both, or neither";
        let etag_alone = |_| error(Parameter::AnonymizationConfigEtag, IssueCode::Invalid, text.to_owned());
        return etag.map(etag_alone).map_or(Ok(None), Err);
    };
    let text = "_anonymizationConfig must be the path of a file below `anonymization` in the destination: letters, digits, spaces, -, _ \
                and ., with folders separated by slashes";
    let name = ConfigName::parse(name).ok_or_else(|| error(Parameter::AnonymizationConfig, IssueCode::Value, text.to_owned()))?;
    if !raw.has(Parameter::Container) {
        let text = "a de-identified export needs _container, so that its files are separate from identified ones";
        return Err(error(Parameter::Container, IssueCode::Required, text.to_owned()));
    }
    let text = "_anonymizationConfigEtag must be an entity tag as the storage returns it, with or without its quotes";
    let invalid_etag = || error(Parameter::AnonymizationConfigEtag, IssueCode::Value, text.to_owned());
    let etag = etag.map(|etag| parse_etag(etag).ok_or_else(invalid_etag)).transpose()?;
    Ok(Some(AnonymizationConfig::new(name, etag)))
}

/// Checks `_maxCount` and `_isParallel`. They have no effect, but mistakes are reported.
pub(super) fn check_azure_parameters(raw: &RawParameters<'_>) -> Result<(), RequestError> {
    flag(raw, Parameter::IsParallel)?;
    let is_count = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u64>().is_ok_and(|count| count > 0);
    if raw.value(Parameter::MaxCount).is_none_or(is_count) {
        return Ok(());
    }
    Err(error(Parameter::MaxCount, IssueCode::Value, "_maxCount must be a positive whole number".to_owned()))
}
