//! The parts that both engines share: keys, plans, and the application of a method to one value.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use super::addresses::is_address;
use super::config::{DateShiftScope, GeneralizeSettings, Method, ParsedConfig, ProcessingErrors, Replacement, Rule};
use super::element_tree::{ElementTree, MAX_DEPTH, NodeId};
use super::error::{DeidFailure, DeidFailureReason, DeidFailureScope, FailedRule};
use super::fhirpath::EvaluationClock;
use super::json_string::write_json_string;
use super::methods::{
    AgeLimit, DateShiftKey, GeneralizedValue, HashCache, Hasher, ShiftedDate, encrypt, generalize, perturb, redact, shift_date,
};
use super::plan::{IdTreatment, Plan, PlanCache};
use super::primitive::{JsonForm, PrimitiveContext, PrimitiveRole};
use super::security_labels::{SecurityLabel, SecurityLabels};
use crate::definitions::ResourceType;
use crate::json::JsonValue;
use crate::semantics::bundle_patients::BundlePatients;
use crate::semantics::compartment::PatientCompartment;
use crate::semantics::reference::BaseUrls;

/// A configuration with its keys and compiled plans; independent of any resource.
pub(super) struct DeidEngine {
    pub(super) config: Arc<ParsedConfig>,
    plans: Arc<PlanCache>,
    pub(super) clock: EvaluationClock,
    crypto_hasher: Hasher,
    crypto_hashes: Mutex<HashCache>,
    /// The source of noise. It is keyed, not random, so that a repeated slice gives the same bytes, and with lasting keys each export.
    noise_hasher: Hasher,
    /// The source of initialization vectors, which differ between exports.
    vector_hasher: Hasher,
    date_shift_key: DateShiftKey,
    age_limit: AgeLimit,
    encrypt_key: Vec<u8>,
    /// Finds the patients of resources in entries; `None` if dates do not move by patients.
    compartment: Option<PatientCompartment>,
}

impl fmt::Debug for DeidEngine {
    /// Formats the engine without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeidEngine").finish_non_exhaustive()
    }
}

/// The outcome of applying a method to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueOutcome {
    /// The value is unchanged.
    Kept,
    /// The value is removed.
    Removed,
    /// The value is replaced by [`ResourceContext::replacement`], which is JSON.
    Replaced,
}

/// The capacity for replacements. It suffices for hashes, dates and most references.
const REPLACEMENT_BYTES: usize = 128;

/// The state of de-identifying one resource.
pub(super) struct ResourceContext<'e> {
    pub(super) engine: &'e DeidEngine,
    /// The resource type. With the original id it determines the noise.
    type_name: &'static str,
    original_id: Cow<'e, str>,
    date_offset: DateOffset<'e>,
    /// The JSON of the last replaced value.
    pub(super) replacement: String,
    /// A buffer for a hash or a date before it is quoted.
    unquoted: String,
    /// The hashes of other resources. `None` while another thread uses them.
    hash_cache: Option<MutexGuard<'e, HashCache>>,
    pub(super) labels: SecurityLabels,
}

/// The id that determines the date offset, and the offset in days once it has been computed.
#[derive(Clone, Debug, Default)]
pub(super) struct DateOffset<'n> {
    id: Cow<'n, str>,
    days: Option<i64>,
}

impl DateOffset<'_> {
    /// Returns the id of the patient or of the resource that determines the offset.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl DeidEngine {
    /// Creates an engine. Keys that the file leaves empty are derived from the job's key, each with its own label. The key of shifts and that of
    /// noise are derived from lasting keys instead, if there are any.
    pub(super) fn new(config: Arc<ParsedConfig>, plans: Arc<PlanCache>, job_key: &[u8; 32], clock: EvaluationClock) -> Self {
        let job_hasher = Hasher::new(job_key);
        let derive = |label: &str| job_hasher.hash_parts(&[b"headrace de-identification", label.as_bytes()]);
        let parameters = &config.parameters;
        let key_or_derived = |key: &str, label| if key.is_empty() { derive(label).to_vec() } else { key.as_bytes().to_vec() };
        let date_shift_key = match parameters.date_shift_key.as_str() {
            "" => hex::encode(lasting_key(&config, b"headrace de-identification shift").unwrap_or_else(|| derive("dateShiftKey"))),
            key => key.to_owned(),
        };
        let moves_by_patient = parameters.date_shift_scope == DateShiftScope::Patient && parameters.fixed_offset_days.is_none();
        let compartment = (moves_by_patient && config.shifts_dates()).then(|| PatientCompartment::new(config.version, BaseUrls::any()));
        let noise_key = lasting_key(&config, b"headrace de-identification noise").unwrap_or_else(|| derive("noise"));
        Self {
            compartment,
            crypto_hashes: Mutex::default(),
            crypto_hasher: Hasher::new(&key_or_derived(&parameters.crypto_hash_key, "cryptoHashKey")),
            noise_hasher: Hasher::new(&noise_key),
            vector_hasher: Hasher::new(&derive("noise")),
            date_shift_key: DateShiftKey::new(&date_shift_key),
            age_limit: AgeLimit::new(clock.today, parameters.fixed_offset_days),
            encrypt_key: key_or_derived(&parameters.encrypt_key, "encryptKey"),
            config,
            plans,
            clock,
        }
    }

    /// Sets the base URLs of the references to patients of the lake.
    pub(super) fn set_base_urls(&mut self, base_urls: BaseUrls) {
        if let Some(compartment) = &mut self.compartment {
            *compartment = PatientCompartment::new(self.config.version, base_urls);
        }
    }

    /// Returns true if dates move by patients, so that a resource in an entry, or an item that names another patient, can have another offset
    /// than the resource around it.
    pub(super) fn has_entry_offsets(&self) -> bool {
        self.compartment.is_some()
    }

    /// Returns the date offset of a resource by the patient that it names, or else by its own id: the same inside an entry of another
    /// resource and outside of it. Returns `None` if dates do not move by patients, and if the patient, or a resource without a patient,
    /// has no id: the resource then moves with the one around it.
    ///
    /// * `json` begins with the resource, before any rule has changed it.
    /// * `bundle_patients`: the Patients of the Bundle that contains the resource.
    pub(super) fn entry_offset(
        &self,
        resource_type: ResourceType,
        json: JsonValue<'_>,
        bundle_patients: &BundlePatients<'_>,
    ) -> Option<DateOffset<'static>> {
        let patient = self.compartment.as_ref()?.first_patient_of_nested(resource_type, json, bundle_patients);
        let own_id = || json.member("id").and_then(JsonValue::text).map(Cow::into_owned);
        let id = patient.or_else(own_id).filter(|id| !id.is_empty())?;
        Some(DateOffset { id: id.into(), days: None })
    }

    /// Returns the date offset of an item of a repeated element, such as a member of a Group, by the patient that it names. Returns `None` if
    /// dates do not move by patients, and if the item names no patient, or the one with the id `around`, by whom the dates around it move.
    ///
    /// * `item` begins with the item, before any rule has changed it.
    /// * `bundle_patients`: the Patients of the Bundle that contains the resource.
    pub(super) fn item_offset(
        &self,
        item: JsonValue<'_>,
        around: &str,
        bundle_patients: &BundlePatients<'_>,
    ) -> Option<DateOffset<'static>> {
        let id = self.compartment.as_ref()?.other_patient_of_item(item, around, bundle_patients, MAX_DEPTH)?;
        Some(DateOffset { id: id.into(), days: None })
    }

    /// Collects the Patients of a Bundle, to whom its entries can refer by full URLs. Returns `None` for any other type of resource, and
    /// if dates do not move by patients.
    ///
    /// `json` begins with the resource, before any rule has changed it.
    pub(super) fn bundle_patients<'a>(&self, resource_type: ResourceType, json: JsonValue<'a>) -> Option<BundlePatients<'a>> {
        (resource_type == ResourceType::BUNDLE && self.has_entry_offsets()).then(|| BundlePatients::from_bundle(json))
    }

    /// Returns the plan for a resource type, or `None` if the FHIR version does not define the type.
    pub(super) fn plan(&self, resource_type: ResourceType) -> Option<&Plan> {
        self.plans.get_or_compile(resource_type, &self.config)
    }

    /// Returns true if each id of a resource type is hashed.
    pub(super) fn hashes_ids(&self, resource_type: ResourceType) -> bool {
        self.plans.hashes_ids(resource_type, &self.config)
    }

    /// Returns true if the id of a resource alone decides what the rules do to it.
    pub(super) fn has_fixed_ids(&self, resource_type: ResourceType) -> bool {
        matches!(self.plans.id_treatment(resource_type, &self.config), Some(IdTreatment::Hashed | IdTreatment::Fixed))
    }

    /// Returns the rule at an index, counted from 0 in the order of the file.
    pub(super) fn rule(&self, index: usize) -> Option<&Rule> {
        self.config.rules.get(index)
    }

    /// Returns true if ids are hidden, also in addresses that no rule applies to.
    pub(super) fn hides_addresses(&self) -> bool {
        self.config.address_rule.is_some()
    }

    /// Returns a reference without its version, if rules hide the versions of resources of its type.
    fn without_hidden_version<'t>(&self, reference: &'t str) -> &'t str {
        // Few references have a version, and no id contains the character.
        let split = if reference.contains('_') { reference.rsplit_once("/_history/") } else { None };
        let Some((unversioned, _)) = split else { return reference };
        let resource_type = unversioned.rsplit('/').nth(1).and_then(ResourceType::parse);
        let is_hidden = resource_type.is_some_and(|resource_type| self.config.types_without_versions.contains(resource_type));
        if is_hidden { unversioned } else { reference }
    }

    /// Creates a failure whose scope follows the configuration's `processingErrors`.
    pub(super) fn failure(&self, rule: Option<&Rule>, element_path: String, reason: DeidFailureReason) -> DeidFailure {
        let is_rule_failure = matches!(reason, DeidFailureReason::Expression(_) | DeidFailureReason::NumberOutOfRange);
        let scope = match self.config.processing_errors {
            ProcessingErrors::Quarantine => DeidFailureScope::Resource,
            // Skip covers only a rule that fails for this resource's values. Invalid FHIR and invalid rules end the job.
            ProcessingErrors::Skip if is_rule_failure => DeidFailureScope::Resource,
            ProcessingErrors::Skip | ProcessingErrors::Raise => DeidFailureScope::Job,
        };
        let rule = rule.map(|rule| FailedRule { number: rule.number, method: rule.method_name.clone(), path: rule.path.clone() });
        DeidFailure { rule, element_path, reason, scope }
    }
}

impl<'e> ResourceContext<'e> {
    /// Creates the context of a resource with its type, its id and the patient whose compartment contains it.
    pub(super) fn new(engine: &'e DeidEngine, type_name: &'static str, id: Cow<'e, str>, patient: Option<&'e str>) -> Self {
        let offset_id = match (engine.config.parameters.date_shift_scope, patient) {
            (DateShiftScope::Patient, Some(patient)) => Cow::Borrowed(patient),
            (DateShiftScope::Patient | DateShiftScope::Resource, _) => id.clone(),
        };
        Self {
            engine,
            type_name,
            original_id: id,
            date_offset: DateOffset { id: offset_id, days: None },
            replacement: String::with_capacity(REPLACEMENT_BYTES),
            unquoted: String::new(),
            hash_cache: engine.crypto_hashes.try_lock().ok(),
            labels: SecurityLabels::default(),
        }
    }

    /// Sets the resource's current id. With `dateShiftScope: "resource"` it determines the date offset from now on.
    pub(super) fn set_resource_id(&mut self, id: String) {
        self.date_offset = self.date_offset_for(id);
    }

    /// Returns the date offset that applies while the resource has this id.
    pub(super) fn date_offset_for(&self, id: String) -> DateOffset<'e> {
        match self.engine.config.parameters.date_shift_scope {
            DateShiftScope::Resource => DateOffset { id: id.into(), days: None },
            DateShiftScope::Patient => self.date_offset.clone(),
        }
    }

    /// Returns the current date offset.
    pub(super) fn date_offset(&self) -> &DateOffset<'e> {
        &self.date_offset
    }

    /// Exchanges the current date offset with `other`.
    pub(super) fn swap_date_offset(&mut self, other: &mut DateOffset<'e>) {
        std::mem::swap(&mut self.date_offset, other);
    }

    /// Returns the offset of dates in days, and computes it on first use.
    fn offset_days(&mut self) -> i64 {
        let engine = self.engine;
        let DateOffset { id, days } = &mut self.date_offset;
        match (engine.config.parameters.fixed_offset_days, *days) {
            (Some(fixed), _) => fixed.into(),
            (None, Some(known)) => known,
            (None, None) => *days.insert(engine.date_shift_key.offset_days(id)),
        }
    }

    /// Applies a method to a value and records the security label.
    ///
    /// * `text`: the value; a string without its quotes and escapes.
    /// * `element_path`: the path of the element, which makes noise differ between elements with equal values.
    /// * `element`: the element in its tree, for cases of `generalize` that use other elements.
    ///
    /// Fails if the method does not support the value.
    pub(super) fn apply_method(
        &mut self,
        method: &Method,
        primitive: PrimitiveContext,
        text: &str,
        element_path: &dyn fmt::Display,
        element: Option<(&ElementTree<'_>, NodeId)>,
    ) -> Result<ValueOutcome, DeidFailureReason> {
        // FHIR forbids leading and trailing whitespace. Where it occurs, it must not hide a date or a zip code from a method.
        let text = trim(text);
        let engine = self.engine;
        self.replacement.clear();
        let (outcome, label) = match method {
            Method::Keep => return Ok(ValueOutcome::Kept),
            Method::Drop => (ValueOutcome::Removed, SecurityLabel::Redacted),
            // FHIR forbids empty strings. They are removed without a label, since no information is lost.
            Method::Redact | Method::DateShift | Method::CryptoHash | Method::Encrypt if text.is_empty() => {
                return Ok(ValueOutcome::Removed);
            }
            // The id of a value can say anything about it, and these methods would leave it.
            Method::DateShift | Method::Perturb(_) | Method::Generalize(_) if primitive.role == PrimitiveRole::ElementId => {
                (ValueOutcome::Removed, SecurityLabel::Redacted)
            }
            Method::DateShift if !primitive.is_date() => return Ok(ValueOutcome::Kept),
            Method::DateShift => {
                let mut shifted = std::mem::take(&mut self.unquoted);
                shifted.clear();
                let outcome = match shift_date(text, self.offset_days(), engine.age_limit, &mut shifted) {
                    ShiftedDate::Appended => (self.write_replacement(Some(&shifted), text, primitive), SecurityLabel::Perturbed),
                    // Not even the year: it is that of the true date, which does not decide.
                    ShiftedDate::OverMaxAge => (ValueOutcome::Removed, SecurityLabel::Redacted),
                    ShiftedDate::NotPossible => self.redact(primitive, text),
                };
                self.unquoted = shifted;
                outcome
            }
            Method::Redact => self.redact(primitive, text),
            Method::CryptoHash => {
                self.write_hash(primitive, text);
                (ValueOutcome::Replaced, SecurityLabel::Hashed)
            }
            Method::Encrypt => {
                let iv = self.keyed_bytes(&engine.vector_hasher, text, element_path).first_chunk().copied().unwrap_or_default();
                let encrypted = encrypt(hash_input(primitive, text), &engine.encrypt_key, iv).ok_or(DeidFailureReason::UnknownMethod)?;
                write_json_string(&encrypted, &mut self.replacement);
                (ValueOutcome::Replaced, SecurityLabel::Masked)
            }
            Method::Perturb(_) if !primitive.is_number() => return Ok(ValueOutcome::Kept),
            Method::Perturb(settings) => {
                let bytes = self.keyed_bytes(&engine.noise_hasher, text, element_path);
                let noise = bytes.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
                self.replacement = perturb(primitive.type_name, text, settings, noise).ok_or(DeidFailureReason::NumberOutOfRange)?;
                (ValueOutcome::Replaced, SecurityLabel::Perturbed)
            }
            Method::Substitute(replacement) => {
                let new = match replacement {
                    Replacement::Empty => None,
                    Replacement::Text(new) => Some(new.as_str()),
                    Replacement::Object(_) => {
                        return Err(DeidFailureReason::ReplacementMismatch("it is an object, but the element has a single value"));
                    }
                };
                (self.write_replacement(new, text, primitive), SecurityLabel::Substituted)
            }
            Method::Generalize(settings) => (self.generalize(settings, primitive, text, element)?, SecurityLabel::Generalized),
            Method::Unknown => return Err(DeidFailureReason::UnknownMethod),
        };
        self.labels.add(label);
        Ok(outcome)
    }

    /// Hides the id in a value that no rule for it applies to, if ids are hidden and the value is a reference, the address of a resource, or an id
    /// in an extension. Records the security label.
    pub(super) fn apply_to_address(&mut self, primitive: PrimitiveContext, text: &str) -> ValueOutcome {
        let text = trim(text);
        let engine = self.engine;
        let is_id = primitive.type_name == "id" && !text.is_empty();
        let names_resource = (primitive.always_names_resource() && !text.is_empty()) || is_address(text);
        let rule = engine.config.address_rule.as_ref().filter(|_| names_resource);
        let Some(rule) = rule else { return ValueOutcome::Kept };
        if let Method::CryptoHash = rule.method {
            self.replacement.clear();
            self.write_text_hash(text, !is_id);
            self.labels.add(SecurityLabel::Hashed);
            ValueOutcome::Replaced
        } else {
            self.labels.add(SecurityLabel::Redacted);
            ValueOutcome::Removed
        }
    }

    /// Writes the JSON of a value's hash, or of a reference whose id is hashed.
    fn write_hash(&mut self, primitive: PrimitiveContext, text: &str) {
        let is_reference = matches!(primitive.role, PrimitiveRole::Reference | PrimitiveRole::BundleAddress);
        self.write_text_hash(hash_input(primitive, text), is_reference);
    }

    /// Writes the JSON of a text's hash, or of a reference whose id is hashed.
    fn write_text_hash(&mut self, text: &str, is_reference: bool) {
        let text = if is_reference { self.engine.without_hidden_version(text) } else { text };
        if let Some(json) = self.hash_cache.as_ref().and_then(|cache| cache.get(text, is_reference)) {
            self.replacement.push_str(json);
            return;
        }
        self.unquoted.clear();
        if is_reference {
            self.engine.crypto_hasher.write_reference_hash(text, &mut self.unquoted);
        } else {
            self.engine.crypto_hasher.write_hash(text, &mut self.unquoted);
        }
        write_json_string(&self.unquoted, &mut self.replacement);
        if let Some(cache) = &mut self.hash_cache {
            cache.insert(text, is_reference, &self.replacement);
        }
    }

    /// Redacts a value and writes the part of it that the configuration keeps.
    fn redact(&mut self, primitive: PrimitiveContext, text: &str) -> (ValueOutcome, SecurityLabel) {
        let (kept, label) = redact(primitive, text, &self.engine.config.parameters, self.engine.age_limit);
        (self.write_replacement(kept.as_deref(), text, primitive), label)
    }

    /// Generalizes a value and stores the new one in `replacement`.
    fn generalize(
        &mut self,
        settings: &GeneralizeSettings,
        primitive: PrimitiveContext,
        text: &str,
        element: Option<(&ElementTree<'_>, NodeId)>,
    ) -> Result<ValueOutcome, DeidFailureReason> {
        Ok(match generalize(primitive, text, settings, self.engine.clock, element)? {
            GeneralizedValue::Kept => ValueOutcome::Kept,
            GeneralizedValue::Removed => ValueOutcome::Removed,
            GeneralizedValue::Mapped(json) => {
                self.replacement = json;
                ValueOutcome::Replaced
            }
        })
    }

    /// Writes a new value as JSON: as a number or a boolean if the element's type has that form, otherwise as a string.
    fn write_replacement(&mut self, new: Option<&str>, old: &str, primitive: PrimitiveContext) -> ValueOutcome {
        let Some(new) = new else { return ValueOutcome::Removed };
        if new == old {
            return ValueOutcome::Kept;
        }
        let is_unquoted = match primitive.json_form() {
            JsonForm::String => false,
            JsonForm::Number => serde_json::from_str::<serde_json::Number>(new).is_ok(),
            JsonForm::Boolean => matches!(new, "true" | "false"),
        };
        if is_unquoted {
            self.replacement.push_str(new);
        } else {
            write_json_string(new, &mut self.replacement);
        }
        ValueOutcome::Replaced
    }

    /// Returns pseudo-random bytes that depend on the hasher's key, the resource, the element's path and its value only.
    fn keyed_bytes(&self, hasher: &Hasher, text: &str, element_path: &dyn fmt::Display) -> [u8; 32] {
        let path = element_path.to_string();
        hasher.hash_parts(&[self.type_name.as_bytes(), self.original_id.as_bytes(), path.as_bytes(), text.as_bytes()])
    }
}

/// Returns the key of noise or of shifts that is equal in each export, derived from the lasting keys; `None` without any.
///
/// The reader of several exports would average out noise and shifts that change with each export.
fn lasting_key(config: &ParsedConfig, label: &[u8]) -> Option<[u8; 32]> {
    let keys = config.lasting_keys().map(str::as_bytes);
    config.has_lasting_keys().then(|| Hasher::new(label).hash_parts(&keys))
}

/// Removes leading and trailing whitespace, which few texts have.
fn trim(text: &str) -> &str {
    let is_no_space = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    if is_no_space(text.as_bytes().first()) && is_no_space(text.as_bytes().last()) { text } else { text.trim() }
}

/// Returns the text that is hashed or encrypted. Microsoft's tool writes booleans with a capital letter, and so does this.
fn hash_input(primitive: PrimitiveContext, text: &str) -> &str {
    match (primitive.json_form(), text) {
        (JsonForm::Boolean, "true") => "True",
        (JsonForm::Boolean, "false") => "False",
        (JsonForm::String | JsonForm::Number | JsonForm::Boolean, _) => text,
    }
}
