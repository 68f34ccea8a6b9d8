//! Methods at work: what happens to one value.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use time::Date;

use super::config::{Config, OnError, Scope};
use super::encrypt::encrypt;
use super::error::{DeidEnds, DeidFailure, DeidProblem, FailedRule};
use super::generalize::{Generalized, generalize};
use super::hash::Hasher;
use super::labels::{Label, Labels};
use super::leaf::{Form, Leaf, Role};
use super::method::{Generalize, Method, Replacement};
use super::perturb::perturb;
use super::plan::{Plan, Plans};
use super::redact::redact;
use super::rule::Rule;
use super::shift::{ShiftKey, shift};
use super::text::put_quoted;
use crate::ResourceType;

/// A configuration with its keys: all that a resource does not bring.
pub(super) struct Works {
    pub(super) config: Arc<Config>,
    plans: Arc<Plans>,
    pub(super) today: Date,
    hasher: Hasher,
    /// Decides noise and initialization vectors, so that the same slice gives the same bytes again.
    noise: Hasher,
    shift_key: ShiftKey,
    encrypt_key: Vec<u8>,
}

impl fmt::Debug for Works {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Works").finish_non_exhaustive()
    }
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// It goes.
    Goes,
    /// What [`Bench::written`] holds takes its place, in JSON.
    Becomes,
}

/// The state of work on one resource.
pub(super) struct Bench<'w> {
    pub(super) works: &'w Works,
    /// The type and the id of the resource, as it came: what decides noise.
    kind: &'static str,
    original_id: Cow<'w, str>,
    /// What decides by how much dates move, and how much that is once it was asked.
    shifted_by: Shift<'w>,
    /// Where a new value is written.
    pub(super) written: String,
    plain: String,
    pub(super) labels: Labels,
}

/// Whose dates move alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Shift<'n> {
    name: Cow<'n, str>,
    days: Option<i64>,
}

impl Works {
    /// Fills the keys that the file leaves empty from the job's own, each by a label of its own.
    pub(super) fn new(config: Arc<Config>, plans: Arc<Plans>, job_key: &[u8; 32], today: Date) -> Self {
        let job = Hasher::new(job_key);
        let derive = |label: &str| job.parts(&[b"headrace de-identification", label.as_bytes()]);
        let parameters = &config.parameters;
        let or_derived = |key: &str, label| if key.is_empty() { derive(label).to_vec() } else { key.as_bytes().to_vec() };
        let date_shift_key = match parameters.date_shift_key.as_str() {
            "" => hex::encode(derive("dateShiftKey")),
            key => key.to_owned(),
        };
        Self {
            hasher: Hasher::new(&or_derived(&parameters.crypto_hash_key, "cryptoHashKey")),
            noise: Hasher::new(&derive("noise")),
            shift_key: ShiftKey::new(&date_shift_key),
            encrypt_key: or_derived(&parameters.encrypt_key, "encryptKey"),
            config,
            plans,
            today,
        }
    }

    /// How resources of a type are treated; `None` of a type that the version has not.
    pub(super) fn plan(&self, kind: ResourceType) -> Option<&Plan> {
        self.plans.of(kind, &self.config)
    }

    /// The rule at this place in the file.
    pub(super) fn rule(&self, index: usize) -> Option<&Rule> {
        self.config.rules.get(index)
    }

    /// A failure of a resource, in the way that the configuration wants it.
    pub(super) fn failure(&self, rule: Option<&Rule>, place: String, why: DeidProblem) -> DeidFailure {
        let is_of_resource = matches!(why, DeidProblem::Expression(_) | DeidProblem::Number);
        let ends = match self.config.on_error {
            OnError::Quarantine => DeidEnds::Resource,
            // Only what a rule could not do is skipped: what is no FHIR, or no sound rule, is nothing to pass over.
            OnError::Skip if is_of_resource => DeidEnds::Resource,
            OnError::Skip | OnError::Raise => DeidEnds::Job,
        };
        let rule = rule.map(|rule| FailedRule { number: rule.number, method: rule.method_name.clone(), path: rule.path.clone() });
        DeidFailure { rule, place, why, ends }
    }
}

impl<'w> Bench<'w> {
    /// For a resource of this type and id, in the compartment of this patient.
    pub(super) fn new(works: &'w Works, kind: &'static str, id: Cow<'w, str>, patient: Option<&'w str>) -> Self {
        let name = match (works.config.parameters.scope, patient) {
            (Scope::Patient, Some(patient)) => Cow::Borrowed(patient),
            (Scope::Patient | Scope::Resource, _) => id.clone(),
        };
        let shifted_by = Shift { name, days: None };
        Self { works, kind, original_id: id, shifted_by, written: String::new(), plain: String::new(), labels: Labels::default() }
    }

    /// Says what the id is from now on: where dates move by resource, they move by that.
    pub(super) fn rename(&mut self, id: String) {
        self.shifted_by = self.shift_by(id);
    }

    /// By how much dates move once the resource has this id.
    pub(super) fn shift_by(&self, id: String) -> Shift<'w> {
        match self.works.config.parameters.scope {
            Scope::Resource => Shift { name: id.into(), days: None },
            Scope::Patient => self.shifted_by.clone(),
        }
    }

    /// Lets another name decide by how much dates move, until the next call.
    pub(super) fn swap_shift(&mut self, other: &mut Shift<'w>) {
        std::mem::swap(&mut self.shifted_by, other);
    }

    fn days(&mut self) -> i64 {
        let works = self.works;
        let Shift { name, days } = &mut self.shifted_by;
        match (works.config.parameters.fixed_offset_days, *days) {
            (Some(fixed), _) => fixed.into(),
            (None, Some(known)) => known,
            (None, None) => *days.insert(works.shift_key.days(name)),
        }
    }

    /// What the method makes of a value. `place` is the way there.
    pub(super) fn treat(&mut self, method: &Method, leaf: Leaf, text: &str, place: &dyn fmt::Display) -> Result<Fate, DeidProblem> {
        // FHIR lets no text begin or end with blanks; where one does, they must not hide what it is.
        let text = text.trim();
        let works = self.works;
        self.written.clear();
        let (fate, label) = match method {
            Method::Keep => return Ok(Fate::Stays),
            Method::Drop => (Fate::Goes, Label::Redacted),
            // FHIR knows no empty texts. One goes, and no label tells of it.
            Method::Redact | Method::DateShift | Method::CryptoHash | Method::Encrypt if text.is_empty() => return Ok(Fate::Goes),
            Method::DateShift if !leaf.is_date() => return Ok(Fate::Stays),
            Method::DateShift => match shift(text, self.days(), works.today) {
                Some(moved) => (self.put(Some(&moved), text, leaf), Label::Perturbed),
                None => self.redact(leaf, text),
            },
            Method::Redact => self.redact(leaf, text),
            Method::CryptoHash => {
                self.plain.clear();
                match leaf.role {
                    Role::Reference => works.hasher.hash_reference(text, &mut self.plain),
                    Role::Date | Role::DateTime | Role::Age | Role::PostalCode | Role::Other => {
                        works.hasher.hash(secret(leaf, text), &mut self.plain);
                    }
                }
                put_quoted(&self.plain, &mut self.written);
                (Fate::Becomes, Label::Hashed)
            }
            Method::Encrypt => {
                let iv = self.chance(text, place).first_chunk().copied().unwrap_or_default();
                let encrypted = encrypt(secret(leaf, text), &works.encrypt_key, iv).ok_or(DeidProblem::Method)?;
                put_quoted(&encrypted, &mut self.written);
                (Fate::Becomes, Label::Masked)
            }
            Method::Perturb(_) if !leaf.is_number() => return Ok(Fate::Stays),
            Method::Perturb(how) => {
                let chance = self.chance(text, place).first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
                self.written = perturb(leaf.type_name, text, how, chance).ok_or(DeidProblem::Number)?;
                (Fate::Becomes, Label::Perturbed)
            }
            Method::Substitute(replacement) => {
                let new = match replacement {
                    Replacement::Nothing => None,
                    Replacement::Text(new) => Some(new.as_str()),
                    Replacement::Object(_) => return Err(DeidProblem::Replacement("it is an object, the element holds one value")),
                };
                (self.put(new, text, leaf), Label::Substituted)
            }
            Method::Generalize(how) => (self.generalize(how, leaf, text)?, Label::Generalized),
            Method::Unknown => return Err(DeidProblem::Method),
        };
        self.labels.add(label);
        Ok(fate)
    }

    fn redact(&mut self, leaf: Leaf, text: &str) -> (Fate, Label) {
        let (left, label) = redact(leaf, text, &self.works.config.parameters, self.works.today);
        (self.put(left.as_deref(), text, leaf), label)
    }

    fn generalize(&mut self, how: &Generalize, leaf: Leaf, text: &str) -> Result<Fate, DeidProblem> {
        Ok(match generalize(leaf, text, how, self.works.today).map_err(DeidProblem::unanswered)? {
            Generalized::Kept => Fate::Stays,
            Generalized::Removed => Fate::Goes,
            Generalized::Mapped(json) => {
                self.written = json;
                Fate::Becomes
            }
        })
    }

    /// Writes what takes the place of a value: as a number or a boolean where the element has such.
    fn put(&mut self, new: Option<&str>, old: &str, leaf: Leaf) -> Fate {
        let Some(new) = new else { return Fate::Goes };
        if new == old {
            return Fate::Stays;
        }
        let is_plain = match leaf.form() {
            Form::Text => false,
            Form::Number => serde_json::from_str::<serde_json::Number>(new).is_ok(),
            Form::Bool => matches!(new, "true" | "false"),
        };
        if is_plain {
            self.written.push_str(new);
        } else {
            put_quoted(new, &mut self.written);
        }
        Fate::Becomes
    }

    /// Chance that is the same again for the same value in the same place of the same resource, and only there.
    fn chance(&self, text: &str, place: &dyn fmt::Display) -> [u8; 32] {
        let place = place.to_string();
        self.works.noise.parts(&[self.kind.as_bytes(), self.original_id.as_bytes(), place.as_bytes(), text.as_bytes()])
    }
}

/// What is hashed and encrypted of a value. The tool that the format comes from writes booleans with a capital.
fn secret(leaf: Leaf, text: &str) -> &str {
    match (leaf.form(), text) {
        (Form::Bool, "true") => "True",
        (Form::Bool, "false") => "False",
        (Form::Text | Form::Number | Form::Bool, _) => text,
    }
}
