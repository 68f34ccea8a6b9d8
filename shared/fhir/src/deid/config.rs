//! The configuration file.

use std::fmt;

use time::Date;

use super::error::{DeidErrors, DeidFault, Short};
use super::fhirpath::one_step;
use super::jsonc::plain_json;
use super::method::{Method, scalar};
use super::rule::{Aim, Rule, Target};
use crate::FhirVersion;
use crate::json::{Json, Shape};

/// The largest file that is read: what Azure's export reads.
pub(super) const LIMIT_BYTES: usize = 1024 * 1024;

/// A file, read.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) version: FhirVersion,
    pub(super) on_error: OnError,
    pub(super) rules: Vec<Rule>,
    pub(super) parameters: Parameters,
    pub(super) warnings: Vec<DeidFault>,
}

/// `processingErrors`: what becomes of a resource that cannot be de-identified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnError {
    /// The job fails.
    #[default]
    Raise,
    /// Nothing of the resource is left but its type.
    Skip,
    /// The resource is left out, and an OperationOutcome says so. Ours.
    Quarantine,
}

/// `parameters`.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Parameters {
    pub(super) date_shift_key: String,
    pub(super) scope: Scope,
    pub(super) fixed_offset_days: Option<i32>,
    pub(super) crypto_hash_key: String,
    pub(super) encrypt_key: String,
    pub(super) partial_ages: bool,
    pub(super) partial_dates: bool,
    pub(super) partial_zip_codes: bool,
    pub(super) restricted_zip_codes: Vec<String>,
    /// Whether rules reach what lies in an extension. Ours; without it they do, as in the tool that the format comes from.
    pub(super) skips_extensions: bool,
}

impl fmt::Debug for Parameters {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").finish_non_exhaustive()
    }
}

/// `dateShiftScope`: what shares one shift of its dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// A resource.
    #[default]
    Resource,
    /// A patient, so that the time between two events of one patient stays what it is. Ours.
    Patient,
}

const MEMBERS: [&str; 4] = ["fhirVersion", "processingErrors", "fhirPathRules", "parameters"];

const PARAMETERS: [&str; 12] = [
    "dateShiftKey",
    "dateShiftScope",
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

/// The path that messages name for `unnamedElements: "drop"`.
const UNNAMED: &str = "unnamedElements";

impl Config {
    /// Reads a file for resources of `version`.
    pub(super) fn read(bytes: &[u8], version: FhirVersion) -> Result<Self, DeidErrors> {
        let whole = |reason: String| DeidErrors(vec![DeidFault::of_file(reason)]);
        if bytes.len() > LIMIT_BYTES {
            return Err(whole(format!("it has {} bytes; at most {LIMIT_BYTES} are read", bytes.len())));
        }
        let text = plain_json(bytes).map_err(whole)?;
        let file = Json::of_valid(&text);
        if file.shape() != Shape::Object {
            return Err(whole("it is no JSON object".to_owned()));
        }
        let mut reader = Reader { version, faults: Vec::new(), warnings: Vec::new() };
        reader.look_at_names("the file", file, &MEMBERS);
        reader.version(file);
        let on_error = reader.on_error(file);
        let mut rules = reader.rules(file);
        let parameters = set_member(file, "parameters").unwrap_or(Json::of_valid("{}"));
        let (parameters, drops_unnamed) = reader.parameters(parameters);
        if drops_unnamed {
            rules.push(Rule {
                number: rules.len() + 1,
                path: UNNAMED.to_owned(),
                method_name: "drop".to_owned(),
                kind: None,
                target: Target::Resource,
                select: one_step([]),
                method: Method::Drop,
            });
        }
        if !reader.faults.is_empty() {
            return Err(DeidErrors(reader.faults));
        }
        Ok(Self { version, on_error, rules, parameters, warnings: reader.warnings })
    }
}

/// A member whatever the case of its name: the tool that the format comes from reads it so.
fn member<'a>(object: Json<'a>, name: &str) -> Option<Json<'a>> {
    let ignoring_case = || object.members().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.member(name).or_else(ignoring_case)
}

/// A member that `null` takes away.
fn set_member<'a>(object: Json<'a>, name: &str) -> Option<Json<'a>> {
    member(object, name).filter(|value| value.shape() != Shape::Null)
}

struct Reader {
    version: FhirVersion,
    faults: Vec<DeidFault>,
    warnings: Vec<DeidFault>,
}

impl Reader {
    fn fault(&mut self, reason: impl Into<String>) {
        self.faults.push(DeidFault::of_file(reason));
    }

    fn warn(&mut self, reason: impl Into<String>) {
        self.warnings.push(DeidFault::of_file(reason));
    }

    fn look_at_names(&mut self, place: &str, object: Json<'_>, known: &[&str]) {
        for (name, _) in object.members() {
            if !known.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                let meant = known.iter().find(|known| known.starts_with(&*name) || name.starts_with(**known));
                let hint = meant.map(|meant| format!("; `{meant}` is read")).unwrap_or_default();
                self.warn(format!("the member `{}` of {place} is not known and does nothing{hint}", Short(&name)));
            }
        }
    }

    /// A setting as text; a fault where it is an object or an array.
    fn text(&mut self, object: Json<'_>, name: &str) -> Option<String> {
        let value = set_member(object, name)?;
        if let Shape::Object | Shape::Array = value.shape() {
            self.fault(format!("{name} is no string"));
            return None;
        }
        Some(value.scalar().into_owned())
    }

    /// A setting that is one of a few words, in small letters. What is `null` is none of them: an empty one.
    fn word(&mut self, object: Json<'_>, name: &str) -> Option<String> {
        member(object, name)?;
        Some(self.text(object, name).unwrap_or_default().to_ascii_lowercase())
    }

    fn flag(&mut self, object: Json<'_>, name: &str) -> Option<bool> {
        let flag = self.word(object, name)?.parse().ok();
        if flag.is_none() {
            self.fault(format!("{name} is neither true nor false"));
        }
        flag
    }

    fn version(&mut self, file: Json<'_>) {
        let named = self.text(file, "fhirVersion").unwrap_or_default();
        if named.is_empty() {
            return;
        }
        let found = FhirVersion::named(&named.to_ascii_uppercase());
        if found != Some(self.version) {
            let version = self.version;
            self.fault(format!(
                "fhirVersion `{}` is not that of the data, which is FHIR {version}; name that version or leave it out",
                Short(&named)
            ));
        }
    }

    fn on_error(&mut self, file: Json<'_>) -> OnError {
        match self.word(file, "processingErrors").as_deref() {
            None | Some("raise") => OnError::Raise,
            Some("skip") => OnError::Skip,
            Some("quarantine") => OnError::Quarantine,
            Some(_) => {
                self.fault("processingErrors is none of raise, skip and quarantine");
                OnError::Raise
            }
        }
    }

    fn rules(&mut self, file: Json<'_>) -> Vec<Rule> {
        let Some(list) = member(file, "fhirPathRules").filter(|list| list.shape() == Shape::Array) else {
            self.fault("fhirPathRules is missing: an array of rules, each with a path and a method");
            return Vec::new();
        };
        list.items().enumerate().filter_map(|(index, rule)| self.rule(index + 1, rule)).collect()
    }

    fn rule(&mut self, number: usize, rule: Json<'_>) -> Option<Rule> {
        let path = scalar(rule, "path").unwrap_or_default();
        let method_name = scalar(rule, "method").unwrap_or_default();
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        if path.is_empty() || method_name.is_empty() {
            faults.push("a rule needs a path and a method".to_owned());
        }
        let method = if method_name.is_empty() { Method::Unknown } else { Method::read(&method_name, rule, &mut faults, &mut warnings) };
        let aim = if path.is_empty() { None } else { Aim::read(&path).map_err(|error| faults.push(error.to_string())).ok() };
        if let Some(kind) = aim.as_ref().and_then(|aim| aim.kind.as_deref()) {
            let structures = self.version.structures();
            let is_type = structures.named(kind).is_some_and(|kind| structures.is_a(kind, "Resource"));
            if !is_type {
                let version = self.version;
                warnings.push(format!("FHIR {version} has no resource type {}; the rule matches nothing", Short(kind)));
            }
        }
        self.faults.extend(faults.into_iter().map(|reason| DeidFault::of_rule(number, &path, reason)));
        self.warnings.extend(warnings.into_iter().map(|reason| DeidFault::of_rule(number, &path, reason)));
        let Aim { kind, target, select } = aim?;
        Some(Rule { number, path, method_name, kind, target, select, method })
    }

    /// The parameters, and whether what no rule names is dropped.
    fn parameters(&mut self, object: Json<'_>) -> (Parameters, bool) {
        if object.shape() != Shape::Object {
            self.fault("parameters is no object");
        }
        self.look_at_names("parameters", object, &PARAMETERS);
        let mut text = |name| self.text(object, name).unwrap_or_default();
        let (date_shift_key, crypto_hash_key, encrypt_key) = (text("dateShiftKey"), text("cryptoHashKey"), text("encryptKey"));
        if !matches!(encrypt_key.len(), 0 | 16 | 24 | 32) {
            self.fault(format!("encryptKey has {} bytes; AES takes 16, 24 or 32", encrypt_key.len()));
        }
        let mut flag = |name| self.flag(object, name);
        let partial_ages = flag("enablePartialAgesForRedact").unwrap_or(false);
        let partial_dates = flag("enablePartialDatesForRedact").unwrap_or(false);
        let partial_zip_codes = flag("enablePartialZipCodesForRedact").unwrap_or(false);
        let skips_extensions = flag("rulesInExtensions") == Some(false);
        let parameters = Parameters {
            date_shift_key,
            scope: self.scope(object),
            fixed_offset_days: self.fixed_offset(object),
            crypto_hash_key,
            encrypt_key,
            partial_ages,
            partial_dates,
            partial_zip_codes,
            restricted_zip_codes: self.zip_codes(object),
            skips_extensions,
        };
        (parameters, self.drops_unnamed(object))
    }

    fn scope(&mut self, object: Json<'_>) -> Scope {
        match self.word(object, "dateShiftScope").as_deref() {
            None | Some("resource") => Scope::Resource,
            Some("patient") => Scope::Patient,
            Some("file" | "folder") => {
                self.warn("an export knows neither files nor folders; dateShiftScope file and folder shift by resource");
                Scope::Resource
            }
            Some(_) => {
                self.fault("dateShiftScope is none of resource, patient, file and folder");
                Scope::Resource
            }
        }
    }

    fn fixed_offset(&mut self, object: Json<'_>) -> Option<i32> {
        let days = self.text(object, "dateShiftFixedOffsetInDays").filter(|days| !days.is_empty())?;
        // Further than the calendar reaches is nowhere.
        let read = days.parse().ok().filter(|days: &i32| days.unsigned_abs() < Date::MAX.year().unsigned_abs() * 366);
        if read.is_none() {
            self.fault("dateShiftFixedOffsetInDays is no whole number of days");
        }
        read
    }

    fn zip_codes(&mut self, object: Json<'_>) -> Vec<String> {
        let Some(list) = set_member(object, "restrictedZipCodeTabulationAreas") else { return Vec::new() };
        let number = |code: Json<'_>| (code.shape() == Shape::Number).then(|| code.as_str().to_owned());
        let codes: Vec<_> = list.items().filter_map(|code| code.text().map(String::from).or_else(|| number(code))).collect();
        if list.shape() != Shape::Array || codes.len() != list.items().count() || codes.iter().any(String::is_empty) {
            self.fault("restrictedZipCodeTabulationAreas is no array of strings such as \"036\"");
        }
        codes
    }

    fn drops_unnamed(&mut self, object: Json<'_>) -> bool {
        match self.word(object, UNNAMED).as_deref() {
            None | Some("keep") => false,
            Some("drop") => true,
            Some(_) => {
                self.fault("unnamedElements is neither keep nor drop");
                false
            }
        }
    }
}
