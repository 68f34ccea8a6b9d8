//! Parameters with one value.

use headrace_fhir::Instant;

use super::given::RawParameters;
use super::place::JSON_FORMATS;
use super::refusal::Handling;
use super::{Container, JobKey, Layout, Parameter, Policy, Refusal};
use crate::job::anonymization::{self, Anonymization, ConfigName};
use crate::vocab::clock::Millis;
use crate::vocab::outcome::IssueCode;

fn refuse(parameter: Parameter, code: IssueCode, text: String) -> Refusal {
    Refusal::of(400, code, parameter.as_str(), text)
}

fn moment(given: &RawParameters<'_>, parameter: Parameter) -> Result<Option<Instant>, Refusal> {
    let read =
        |value| Instant::parse(value).map_err(|error| refuse(parameter, IssueCode::Value, format!("{} is {error}", parameter.as_str())));
    given.one(parameter).map(read).transpose()
}

/// `_since`. One that lies ahead can only be a mistake: nothing is changed later than now.
pub(super) fn since(given: &RawParameters<'_>, now: Millis) -> Result<Option<Instant>, Refusal> {
    let since = moment(given, Parameter::Since)?;
    if since.is_some_and(|since| since > Instant::from_millis(now.0)) {
        return Err(refuse(Parameter::Since, IssueCode::Value, format!("_since lies in the future: it is {now} here")));
    }
    Ok(since)
}

/// `_until`, or `_till` as Azure calls it.
pub(super) fn until(given: &RawParameters<'_>, since: Option<Instant>) -> Result<Option<Instant>, Refusal> {
    let (until, till) = (moment(given, Parameter::Until)?, moment(given, Parameter::Till)?);
    if until.is_some() && till.is_some() && until != till {
        let text = "_till is another name of _until, and the two differ: send one of them";
        return Err(refuse(Parameter::Till, IssueCode::Invalid, text.to_owned()));
    }
    let until = until.or(till);
    if until.is_some_and(|until| since.is_some_and(|since| until <= since)) {
        let text = "_until is not later than _since: nothing was changed after the one and before the other";
        return Err(refuse(Parameter::Until, IssueCode::Invalid, text.to_owned()));
    }
    Ok(until)
}

/// `true` or `false`; absent is false.
pub(super) fn flag(given: &RawParameters<'_>, parameter: Parameter) -> Result<bool, Refusal> {
    match given.one(parameter) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(refuse(parameter, IssueCode::Value, format!("{} is either true or false", parameter.as_str()))),
    }
}

/// `organizeOutputBy`: whether by Patient, which is the one type that is offered.
pub(super) fn is_organized(given: &RawParameters<'_>, handling: &mut Handling) -> Result<bool, Refusal> {
    match given.one(Parameter::OrganizeOutputBy) {
        None => Ok(false),
        Some("Patient") => Ok(true),
        Some(_) => {
            let text = "organizeOutputBy takes Patient only; without it files hold one resource type each";
            handling.leave_out(refuse(Parameter::OrganizeOutputBy, IssueCode::NotSupported, text.to_owned()))?;
            Ok(false)
        }
    }
}

/// `_outputFormat`. Another format is refused whatever the client prefers: it could not read the files.
pub(super) fn check_output_format(given: &RawParameters<'_>) -> Result<(), Refusal> {
    // A `+` that was not percent-encoded arrives as a blank.
    match given.one(Parameter::OutputFormat).map(|value| value.replace(' ', "+")).as_deref() {
        None | Some("application/fhir+ndjson" | "application/ndjson" | "ndjson") => Ok(()),
        Some(_) => {
            let text = "_outputFormat is one of application/fhir+ndjson, application/ndjson and ndjson";
            Err(refuse(Parameter::OutputFormat, IssueCode::NotSupported, text.to_owned()))
        }
    }
}

/// `_container`. Never left out: the files would lie where their owner does not look.
pub(super) fn container(given: &RawParameters<'_>, policy: &Policy) -> Result<Option<Container>, Refusal> {
    let Some(value) = given.one(Parameter::Container) else { return Ok(None) };
    let refuse = |code, text: &str| refuse(Parameter::Container, code, text.to_owned());
    if value == anonymization::FOLDER {
        return Err(refuse(IssueCode::Value, "_container is not anonymization: there lie the configurations of de-identified exports"));
    }
    let container =
        Container::parse(value).ok_or_else(|| refuse(IssueCode::Value, "_container is 3 to 63 characters of a-z, 0-9 and the hyphen"))?;
    if policy.containers.as_ref().is_some_and(|allowed| !allowed.contains(&container)) {
        return Err(refuse(IssueCode::Forbidden, "_container names a place that this server does not allow: ask its operator"));
    }
    Ok(Some(container))
}

/// `_format`: one of the operator's layouts, as in Azure, or FHIR's JSON, in which everything is answered anyway.
pub(super) fn layout(given: &RawParameters<'_>, policy: &Policy) -> Result<Option<Layout>, Refusal> {
    let Some(value) = given.one(Parameter::Format) else { return Ok(None) };
    if let Some(layout) = policy.layouts.get(value) {
        return Ok(Some(layout.clone()));
    }
    if JSON_FORMATS.contains(&value.replace(' ', "+").as_str()) {
        return Ok(None);
    }
    let names: Vec<_> = policy.layouts.keys().map(String::as_str).chain(JSON_FORMATS).collect();
    let text = format!("_format is one of {}", names.join(", "));
    Err(refuse(Parameter::Format, IssueCode::NotSupported, text))
}

/// `_encryptionKey`: one of the operator's keys. Never left out: the files would lie open to whom they were to be closed.
pub(super) fn encryption_key(given: &RawParameters<'_>, policy: &Policy) -> Result<Option<JobKey>, Refusal> {
    let Some(value) = given.one(Parameter::EncryptionKey) else { return Ok(None) };
    if let Some(key) = policy.keys.get(value) {
        return Ok(Some(key.clone()));
    }
    let names: Vec<_> = policy.keys.keys().map(String::as_str).collect();
    let text = if names.is_empty() {
        "this server offers no keys by name: leave _encryptionKey out".to_owned()
    } else {
        format!("_encryptionKey is one of {}", names.join(", "))
    };
    Err(refuse(Parameter::EncryptionKey, IssueCode::NotSupported, text))
}

/// `_anonymizationConfig` and `_anonymizationConfigEtag`. Never left out: data would go out identified.
pub(super) fn anonymization(given: &RawParameters<'_>) -> Result<Option<Anonymization>, Refusal> {
    let (named, tag) = (given.one(Parameter::AnonymizationConfig), given.one(Parameter::AnonymizationConfigEtag));
    let Some(named) = named else {
        let text = "_anonymizationConfigEtag says the state of the file that _anonymizationConfig names: send both, or neither";
        let alone = |_| refuse(Parameter::AnonymizationConfigEtag, IssueCode::Invalid, text.to_owned());
        return tag.map(alone).map_or(Ok(None), Err);
    };
    let text = "_anonymizationConfig is the path of a file below `anonymization` in the destination: letters, digits, blanks, -, _ and ., \
                its folders separated by slashes";
    let config = ConfigName::parse(named).ok_or_else(|| refuse(Parameter::AnonymizationConfig, IssueCode::Value, text.to_owned()))?;
    if !given.has(Parameter::Container) {
        let text = "a de-identified export needs _container, so that its files lie apart from identified ones";
        return Err(refuse(Parameter::Container, IssueCode::Required, text.to_owned()));
    }
    let text = "_anonymizationConfigEtag is an entity tag as the storage gives it, with or without its quotes";
    let etag = tag.map(|tag| read_etag(tag).ok_or_else(|| refuse(Parameter::AnonymizationConfigEtag, IssueCode::Value, text.to_owned())));
    Ok(Some(Anonymization { config, etag: etag.transpose()? }))
}

/// An entity tag in its quotes (RFC 9110, section 8.8.3). A weak one compares nothing.
fn read_etag(text: &str) -> Option<String> {
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    ((1..=128).contains(&bare.len()) && bare.bytes().all(is_plain)).then(|| format!("\"{bare}\""))
}

/// `_maxCount` and `_isParallel`: read, so that a mistake shows, and without effect.
pub(super) fn check_levers(given: &RawParameters<'_>) -> Result<(), Refusal> {
    flag(given, Parameter::IsParallel)?;
    let is_count = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u64>().is_ok_and(|count| count > 0);
    if given.one(Parameter::MaxCount).is_none_or(is_count) {
        return Ok(());
    }
    Err(refuse(Parameter::MaxCount, IssueCode::Value, "_maxCount is a positive whole number".to_owned()))
}
