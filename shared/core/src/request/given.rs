//! The parameters of one kick-off, by what they are.

use std::collections::BTreeMap;

use super::refusal::{Handling, shown};
use super::{Parameter, Refusal};
use crate::vocab::outcome::IssueCode;

/// Azure's parameters for de-identified exports all begin like this.
const ANONYMIZATION: &str = "_anonymizationconfig";

/// The values that were given, in order.
#[derive(Debug, Default)]
pub(super) struct RawParameters<'a>(BTreeMap<Parameter, Vec<&'a str>>);

impl<'a> RawParameters<'a> {
    /// Sorts them by parameter; what is none is left out or refused.
    pub(super) fn gather(parameters: &'a [(String, String)], handling: &mut Handling) -> Result<Self, Refusal> {
        let mut given = BTreeMap::<Parameter, Vec<&str>>::new();
        for (name, value) in parameters {
            let Some(parameter) = Parameter::named(name) else {
                handling.leave_out(unknown(name)?)?;
                continue;
            };
            let values = given.entry(parameter).or_default();
            if !values.is_empty() && !parameter.repeats() {
                return Err(Refusal::of(400, IssueCode::Invalid, name, format!("the parameter {name} may be given once only")));
            }
            values.push(value);
        }
        Ok(Self(given))
    }

    /// Whether it was given.
    pub(super) fn has(&self, parameter: Parameter) -> bool {
        self.0.contains_key(&parameter)
    }

    /// The value of a parameter that is given once.
    pub(super) fn one(&self, parameter: Parameter) -> Option<&'a str> {
        self.all(parameter).first().copied()
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, parameter: Parameter) -> &[&'a str] {
        self.0.get(&parameter).map(Vec::as_slice).unwrap_or_default()
    }

    /// The items of comma lists, repeats joined; at most `limit`.
    pub(super) fn items(&self, parameter: Parameter, limit: usize) -> Result<Vec<&'a str>, Refusal> {
        let items: Vec<_> = self.all(parameter).iter().flat_map(|value| value.split(',')).map(str::trim).take(limit + 1).collect();
        if items.len() > limit {
            let name = parameter.as_str();
            return Err(Refusal::of(400, IssueCode::TooCostly, name, format!("{name} lists more than {limit} items: send fewer")));
        }
        Ok(items)
    }
}

/// The refusal of a name that is no parameter. One that asks for less than identified data is never left out: the data
/// would go out identified.
fn unknown(name: &str) -> Result<Refusal, Refusal> {
    if name.trim().is_empty() {
        return Err(Refusal::of(400, IssueCode::Invalid, "query", "a parameter has no name: send them as name=value"));
    }
    let shown = shown(name);
    if name.to_ascii_lowercase().starts_with(ANONYMIZATION) {
        let text = format!(
            "{shown} is not supported: de-identified exports are asked for with _anonymizationConfig, and a configuration in the destination"
        );
        return Err(Refusal::of(400, IssueCode::NotSupported, &shown, text));
    }
    let known: Vec<_> = Parameter::ALL.into_iter().map(Parameter::as_str).collect();
    let text = format!("the parameter `{shown}` is not supported: this server knows {}", known.join(", "));
    Ok(Refusal::of(400, IssueCode::NotSupported, &shown, text))
}
