//! The anonymization configuration file.

mod jsonc;
mod method;
mod rule;
mod similar;

use std::fmt;

use time::Date;

use super::error::{DeidConfigError, DeidConfigIssue, DeidRemark, DeidRemarkCode, DeidRemarkSeverity, Truncated};
use super::fhirpath::Selection;
use super::methods::ShiftedTimeZone;
use crate::definitions::{FhirVersion, ResourceType, TypeSet};
use crate::json::{JsonType, JsonValue};
use jsonc::to_plain_json;
use method::setting_text;
pub(super) use method::{GeneralizeSettings, Method, PerturbSettings, Replacement};
use rule::ParsedPath;
pub(super) use rule::{Rule, RuleTarget};
pub(super) use similar::closest_name;

/// The maximum size of a file, the same as for Azure's export.
pub(super) const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A parsed configuration file.
#[derive(Clone, Debug)]
pub(super) struct ParsedConfig {
    pub(super) version: FhirVersion,
    pub(super) processing_errors: ProcessingErrors,
    pub(super) rules: Vec<Rule>,
    /// The rule for addresses of resources in elements that no other rule applies to, if rules hide ids.
    pub(super) address_rule: Option<Rule>,
    /// The resource types for which rules hide the version ids.
    pub(super) types_without_versions: TypeSet,
    pub(super) parameters: Parameters,
    pub(super) remarks: Vec<DeidRemark>,
}

/// `processingErrors`: the handling of a resource that cannot be de-identified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ProcessingErrors {
    /// The job fails.
    #[default]
    Raise,
    /// The type of the resource is all that is written.
    Skip,
    /// The resource is left out and reported in an OperationOutcome. An extension of the format.
    Quarantine,
}

/// `parameters`.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Parameters {
    pub(super) date_shift_key: String,
    pub(super) date_shift_scope: DateShiftScope,
    pub(super) shifted_time_zone: ShiftedTimeZone,
    pub(super) fixed_offset_days: Option<i32>,
    pub(super) crypto_hash_key: String,
    pub(super) encrypt_key: String,
    pub(super) keeps_partial_ages: bool,
    pub(super) keeps_partial_dates: bool,
    pub(super) keeps_partial_zip_codes: bool,
    pub(super) restricted_zip_codes: Vec<String>,
    /// True if rules select nothing inside extensions. An extension of the format; false by default, like in Microsoft's tool.
    pub(super) skips_extensions: bool,
}

impl Parameters {
    /// Returns true if dates of different resources move by the same number of days: those of a patient, or of the whole export.
    pub(super) fn shifts_across_resources(&self) -> bool {
        self.fixed_offset_days.is_some() || self.date_shift_scope == DateShiftScope::Patient
    }
}

impl fmt::Debug for Parameters {
    /// Formats the parameters without their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").finish_non_exhaustive()
    }
}

/// `dateShiftScope`: the dates that move by the same number of days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DateShiftScope {
    /// The dates of a resource.
    #[default]
    Resource,
    /// The dates of a patient, so that the time between two events stays the same. An extension of the format.
    Patient,
}

const FILE_MEMBERS: [&str; 4] = ["fhirVersion", "processingErrors", "fhirPathRules", "parameters"];

const PARAMETER_NAMES: [&str; 13] = [
    "dateShiftKey",
    "dateShiftScope",
    "dateShiftTimeZone",
    "dateShiftFixedOffsetInDays",
    "cryptoHashKey",
    "encryptKey",
    "enablePartialAgesForRedact",
    "enablePartialDatesForRedact",
    "enablePartialZipCodesForRedact",
    "restrictedZipCodeTabulationAreas",
    "customSettings",
    "unnamedElements",
    "rulesInExtensions",
];

/// The parameter `unnamedElements`; also the path of its rule in messages.
const UNNAMED_ELEMENTS: &str = "unnamedElements";

impl ParsedConfig {
    /// Returns true if some rule shifts dates.
    pub(super) fn shifts_dates(&self) -> bool {
        self.uses(|method| matches!(method, Method::DateShift))
    }

    /// Returns true if the method of some rule is one of these.
    fn uses(&self, is_method: fn(&Method) -> bool) -> bool {
        self.rules.iter().any(|rule| is_method(&rule.method))
    }

    /// Returns the keys that rules use: `cryptoHashKey`, `dateShiftKey` and `encryptKey`. The text is empty for a key that is not given, and
    /// `None` takes the place of a key that no rule uses.
    pub(super) fn used_keys(&self) -> [Option<&str>; 3] {
        let Parameters { crypto_hash_key, date_shift_key, encrypt_key, fixed_offset_days, .. } = &self.parameters;
        [
            self.uses(|method| matches!(method, Method::CryptoHash)).then_some(crypto_hash_key),
            (self.shifts_dates() && fixed_offset_days.is_none()).then_some(date_shift_key),
            self.uses(|method| matches!(method, Method::Encrypt)).then_some(encrypt_key),
        ]
        .map(|key| key.map(String::as_str))
    }

    /// Returns the keys that later exports can use too, so that a reader can join them, in the order of [`Self::used_keys`]. One that is not
    /// given is empty, and so is one that no rule uses. If no rule hides ids, exports can be joined in any case: all keys that are given count.
    pub(super) fn lasting_keys(&self) -> [&str; 3] {
        let Parameters { crypto_hash_key, date_shift_key, encrypt_key, .. } = &self.parameters;
        match self.address_rule {
            Some(_) => self.used_keys().map(Option::unwrap_or_default),
            None => [crypto_hash_key, date_shift_key, encrypt_key],
        }
    }

    /// Returns true if there are [`Self::lasting_keys`].
    pub(super) fn has_lasting_keys(&self) -> bool {
        self.lasting_keys().iter().any(|key| !key.is_empty())
    }

    /// Parses a file for resources of `version`. Fails with all errors of the file.
    pub(super) fn parse(bytes: &[u8], version: FhirVersion) -> Result<Self, DeidConfigError> {
        let file_error = |reason: String| DeidConfigError(vec![DeidConfigIssue::in_file(reason)]);
        if bytes.len() > MAX_FILE_BYTES {
            return Err(file_error(format!("the file has {} bytes; the maximum is {MAX_FILE_BYTES}", bytes.len())));
        }
        let text = to_plain_json(bytes).map_err(file_error)?;
        let file = JsonValue::from_valid(&text);
        if file.json_type() != JsonType::Object {
            return Err(file_error("the file is not a JSON object".to_owned()));
        }
        let mut parser = ConfigParser { version, errors: Vec::new(), remarks: Vec::new() };
        parser.report_unknown_members("the file", file, &FILE_MEMBERS);
        parser.check_version(file);
        let processing_errors = parser.processing_errors(file);
        let mut rules = parser.rules(file);
        let parameters = non_null_member(file, "parameters").unwrap_or(JsonValue::from_valid("{}"));
        let (parameters, drops_unnamed_elements) = parser.parameters(parameters);
        // `unnamedElements: "drop"` is a last rule for whole resources.
        if drops_unnamed_elements {
            rules.push(Rule {
                number: rules.len() + 1,
                path: UNNAMED_ELEMENTS.to_owned(),
                method_name: "drop".to_owned(),
                resource_type: None,
                target: RuleTarget::Resource,
                selection: Selection::from_steps([]),
                method: Method::Drop,
                is_implied: true,
            });
        }
        if !parser.errors.is_empty() {
            return Err(DeidConfigError(parser.errors));
        }
        Ok(Self {
            version,
            processing_errors,
            rules,
            address_rule: None,
            types_without_versions: TypeSet::default(),
            parameters,
            remarks: parser.remarks,
        })
    }
}

/// Creates the remark about an unknown setting: an error if a known setting has a similar name, because that one was probably
/// meant, otherwise a warning.
fn unknown_setting(reason: String, name: &str, known: &[&'static str]) -> DeidRemark {
    let is_prefix = |known: &&'static str| known.starts_with(name) || name.starts_with(*known);
    let similar = known.iter().copied().find(is_prefix).or_else(|| closest_name(name, &mut known.iter().copied()));
    let (severity, remedy) = match similar {
        Some(similar) => (DeidRemarkSeverity::Error, format!("did you mean `{similar}`?")),
        None => (DeidRemarkSeverity::Warning, "remove it".to_owned()),
    };
    DeidRemark::in_file(DeidRemarkCode::UnknownSetting, severity, reason, remedy)
}

/// Returns a member by its name, ignoring case like Microsoft's tool. An exact match is preferred.
fn member<'a>(object: JsonValue<'a>, name: &str) -> Option<JsonValue<'a>> {
    let ignoring_case = || object.members().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.member(name).or_else(ignoring_case)
}

/// Returns a member like [`member`], unless it is null.
fn non_null_member<'a>(object: JsonValue<'a>, name: &str) -> Option<JsonValue<'a>> {
    member(object, name).filter(|value| value.json_type() != JsonType::Null)
}

/// A parser that collects errors and remarks.
struct ConfigParser {
    version: FhirVersion,
    errors: Vec<DeidConfigIssue>,
    remarks: Vec<DeidRemark>,
}

impl ConfigParser {
    /// Adds an error outside the rules.
    fn add_error(&mut self, reason: impl Into<String>) {
        self.errors.push(DeidConfigIssue::in_file(reason));
    }

    /// Reports members with unknown names and suggests similar ones. `parent` names the object in messages.
    fn report_unknown_members(&mut self, parent: &str, object: JsonValue<'_>, known: &[&'static str]) {
        for (name, _) in object.members() {
            if !known.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                let reason = format!("the member `{}` of {parent} is unknown and ignored", Truncated(&name));
                self.remarks.push(unknown_setting(reason, &name, known));
            }
        }
    }

    /// Returns a setting as text, or `None` if it is missing or null. An object or an array is an error.
    fn text(&mut self, object: JsonValue<'_>, name: &str) -> Option<String> {
        let value = non_null_member(object, name)?;
        if let JsonType::Object | JsonType::Array = value.json_type() {
            self.add_error(format!("{name} must be a string"));
            return None;
        }
        Some(value.primitive_text().into_owned())
    }

    /// Returns a setting with a fixed set of values, in lower case. Null counts as an empty string, which is not in the set.
    fn keyword(&mut self, object: JsonValue<'_>, name: &str) -> Option<String> {
        member(object, name)?;
        Some(self.text(object, name).unwrap_or_default().to_ascii_lowercase())
    }

    /// Returns a boolean setting. Any other value is an error.
    fn boolean(&mut self, object: JsonValue<'_>, name: &str) -> Option<bool> {
        let value = self.keyword(object, name)?.parse().ok();
        if value.is_none() {
            self.add_error(format!("{name} must be true or false"));
        }
        value
    }

    /// Checks that `fhirVersion`, if present, is the version of the data.
    fn check_version(&mut self, file: JsonValue<'_>) {
        let name = self.text(file, "fhirVersion").unwrap_or_default();
        if name.is_empty() {
            return;
        }
        let version = self.version;
        if FhirVersion::parse(&name.to_ascii_uppercase()) != Some(version) {
            self.add_error(format!(
                "fhirVersion `{}` is not the version of the data, which is FHIR {version}; change it or leave it out",
                Truncated(&name)
            ));
        }
    }

    /// Parses `processingErrors`.
    fn processing_errors(&mut self, file: JsonValue<'_>) -> ProcessingErrors {
        match self.keyword(file, "processingErrors").as_deref() {
            None | Some("raise") => ProcessingErrors::Raise,
            Some("skip") => ProcessingErrors::Skip,
            Some("quarantine") => ProcessingErrors::Quarantine,
            Some(_) => {
                self.add_error("processingErrors must be raise, skip or quarantine");
                ProcessingErrors::Raise
            }
        }
    }

    /// Parses `fhirPathRules`. Rules with errors are left out.
    fn rules(&mut self, file: JsonValue<'_>) -> Vec<Rule> {
        let Some(list) = member(file, "fhirPathRules").filter(|list| list.json_type() == JsonType::Array) else {
            self.add_error("fhirPathRules must be an array of rules, each with a path and a method");
            return Vec::new();
        };
        list.items().enumerate().filter_map(|(index, rule)| self.rule(index + 1, rule)).collect()
    }

    /// Parses a rule, or records its errors.
    fn rule(&mut self, number: usize, rule: JsonValue<'_>) -> Option<Rule> {
        let path = setting_text(rule, "path").unwrap_or_default();
        let method_name = setting_text(rule, "method").unwrap_or_default();
        let (mut errors, mut remarks) = (Vec::new(), Vec::new());
        if path.is_empty() || method_name.is_empty() {
            errors.push("a rule needs a path and a method".to_owned());
        }
        let method = if method_name.is_empty() { Method::Unknown } else { Method::parse(&method_name, rule, &mut errors, &mut remarks) };
        let parsed_path =
            if path.is_empty() { None } else { ParsedPath::parse(&path).map_err(|error| errors.push(error.to_string())).ok() };
        if let Some(type_name) = parsed_path.as_ref().and_then(|parsed| parsed.resource_type.as_deref()) {
            let type_definitions = self.version.type_definitions();
            let is_resource_type =
                type_definitions.by_name(type_name).is_some_and(|definition| type_definitions.is_a(definition, "Resource"));
            if !is_resource_type {
                let version = self.version;
                let names = || version.types().iter().map(ResourceType::as_str);
                let remedy = match closest_name(type_name, &mut names()) {
                    Some(similar) => format!("did you mean `{similar}`?"),
                    None => "begin the path with a resource type, or with Resource for all types".to_owned(),
                };
                let reason = format!("FHIR {version} has no resource type {}; the rule selects nothing", Truncated(type_name));
                remarks.push(DeidRemark::in_file(DeidRemarkCode::SelectsNothing, DeidRemarkSeverity::Error, reason, remedy));
            }
        }
        self.errors.extend(errors.into_iter().map(|reason| DeidConfigIssue::in_rule(number, &path, reason)));
        self.remarks.extend(remarks.into_iter().map(|remark: DeidRemark| remark.of_rule(number, &path)));
        let ParsedPath { resource_type, target, selection } = parsed_path?;
        Some(Rule { number, path, method_name, resource_type, target, selection, method, is_implied: false })
    }

    /// Parses `parameters`. Returns true with them if elements that no rule selects are dropped.
    fn parameters(&mut self, object: JsonValue<'_>) -> (Parameters, bool) {
        if object.json_type() != JsonType::Object {
            self.add_error("parameters must be an object");
        }
        self.report_unknown_members("parameters", object, &PARAMETER_NAMES);
        let mut text = |name| self.text(object, name).unwrap_or_default();
        let (date_shift_key, crypto_hash_key, encrypt_key) = (text("dateShiftKey"), text("cryptoHashKey"), text("encryptKey"));
        if !matches!(encrypt_key.len(), 0 | 16 | 24 | 32) {
            self.add_error(format!("encryptKey has {} bytes; an AES key has 16, 24 or 32", encrypt_key.len()));
        }
        let mut boolean = |name| self.boolean(object, name);
        let keeps_partial_ages = boolean("enablePartialAgesForRedact").unwrap_or(false);
        let keeps_partial_dates = boolean("enablePartialDatesForRedact").unwrap_or(false);
        let keeps_partial_zip_codes = boolean("enablePartialZipCodesForRedact").unwrap_or(false);
        let skips_extensions = boolean("rulesInExtensions") == Some(false);
        let date_shift_scope = self.date_shift_scope(object);
        let parameters = Parameters {
            date_shift_key,
            date_shift_scope,
            shifted_time_zone: self.shifted_time_zone(object, date_shift_scope),
            fixed_offset_days: self.fixed_offset_days(object),
            crypto_hash_key,
            encrypt_key,
            keeps_partial_ages,
            keeps_partial_dates,
            keeps_partial_zip_codes,
            restricted_zip_codes: self.restricted_zip_codes(object),
            skips_extensions,
        };
        (parameters, self.drops_unnamed_elements(object))
    }

    /// Parses `dateShiftScope`.
    fn date_shift_scope(&mut self, object: JsonValue<'_>) -> DateShiftScope {
        match self.keyword(object, "dateShiftScope").as_deref() {
            None | Some("resource") => DateShiftScope::Resource,
            Some("patient") => DateShiftScope::Patient,
            Some("file" | "folder") => {
                self.remarks.push(DeidRemark::in_file(
                    DeidRemarkCode::Setting,
                    DeidRemarkSeverity::Warning,
                    "an export has no input files or folders; dateShiftScope file and folder shift by resource",
                    "use the scope resource or patient",
                ));
                DateShiftScope::Resource
            }
            Some(_) => {
                self.add_error("dateShiftScope must be resource, patient, file or folder");
                DateShiftScope::Resource
            }
        }
    }

    /// Parses `dateShiftTimeZone`. Without it, time zones stay as they are unless dates move by patients, which is an extension of the
    /// format.
    fn shifted_time_zone(&mut self, object: JsonValue<'_>, scope: DateShiftScope) -> ShiftedTimeZone {
        match (self.keyword(object, "dateShiftTimeZone").as_deref(), scope) {
            (None, DateShiftScope::Resource) | (Some("keep"), _) => ShiftedTimeZone::Kept,
            (None, DateShiftScope::Patient) | (Some("utc"), _) => ShiftedTimeZone::Utc,
            (Some(_), _) => {
                self.add_error("dateShiftTimeZone must be utc or keep");
                ShiftedTimeZone::Utc
            }
        }
    }

    /// Parses `dateShiftFixedOffsetInDays`.
    fn fixed_offset_days(&mut self, object: JsonValue<'_>) -> Option<i32> {
        let text = self.text(object, "dateShiftFixedOffsetInDays").filter(|text| !text.is_empty())?;
        // A larger offset would move every date out of the calendar.
        let days = text.parse().ok().filter(|days: &i32| days.unsigned_abs() < Date::MAX.year().unsigned_abs() * 366);
        if days.is_none() {
            self.add_error("dateShiftFixedOffsetInDays must be a whole number of days");
        }
        days
    }

    /// Parses `restrictedZipCodeTabulationAreas`: strings, or numbers like in Microsoft's tool.
    fn restricted_zip_codes(&mut self, object: JsonValue<'_>) -> Vec<String> {
        let Some(list) = non_null_member(object, "restrictedZipCodeTabulationAreas") else { return Vec::new() };
        let number = |code: JsonValue<'_>| (code.json_type() == JsonType::Number).then(|| code.as_str().to_owned());
        let codes: Vec<_> = list.items().filter_map(|code| code.text().map(String::from).or_else(|| number(code))).collect();
        if list.json_type() != JsonType::Array || codes.len() != list.items().count() || codes.iter().any(String::is_empty) {
            self.add_error("restrictedZipCodeTabulationAreas must be an array of strings such as \"036\"");
        }
        let is_prefix = |code: &String| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
        if !codes.iter().all(is_prefix) {
            let reason = "restrictedZipCodeTabulationAreas contains an area that no zip code begins with: areas have three digits";
            let remedy = "write the first three digits of zip codes as strings, such as \"036\"";
            self.remarks.push(DeidRemark::in_file(DeidRemarkCode::Setting, DeidRemarkSeverity::Error, reason, remedy));
        }
        codes
    }

    /// Returns true if `unnamedElements` is `drop`.
    fn drops_unnamed_elements(&mut self, object: JsonValue<'_>) -> bool {
        match self.keyword(object, UNNAMED_ELEMENTS).as_deref() {
            None | Some("keep") => false,
            Some("drop") => true,
            Some(_) => {
                self.add_error("unnamedElements must be keep or drop");
                false
            }
        }
    }
}
