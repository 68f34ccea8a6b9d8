//! The raw parameters of a kick-off, grouped by parameter.

use std::collections::BTreeMap;

use super::error::{Handling, to_quotable};
use super::{Parameter, RequestError};
use crate::vocab::outcome::IssueCode;

/// The common prefix of Azure's parameters for de-identified exports, in lower case.
const ANONYMIZATION_PREFIX: &str = "_anonymizationconfig";

/// The values of each parameter, in the order of the request.
#[derive(Debug, Default)]
pub(super) struct RawParameters<'a>(BTreeMap<Parameter, Vec<&'a str>>);

impl<'a> RawParameters<'a> {
    /// Sorts values by parameter. Unknown parameters are ignored (lenient) or rejected.
    pub(super) fn new(parameters: &'a [(String, String)], handling: &mut Handling) -> Result<Self, RequestError> {
        let mut grouped = BTreeMap::<Parameter, Vec<&str>>::new();
        for (name, value) in parameters {
            let Some(parameter) = Parameter::parse(name) else {
                handling.ignore_or_reject(unknown_parameter(name)?)?;
                continue;
            };
            let values = grouped.entry(parameter).or_default();
            if !values.is_empty() && !parameter.is_repeatable() {
                return Err(RequestError::new(400, IssueCode::Invalid, name, format!("the parameter {name} must not be repeated")));
            }
            values.push(value);
        }
        Ok(Self(grouped))
    }

    /// Returns true if the request has the parameter.
    pub(super) fn has(&self, parameter: Parameter) -> bool {
        self.0.contains_key(&parameter)
    }

    /// Iterates over the parameters of the request, each once.
    pub(super) fn parameters(&self) -> impl Iterator<Item = Parameter> {
        self.0.keys().copied()
    }

    /// Returns the value of a parameter that must not be repeated. `None` if the request does not have it.
    pub(super) fn value(&self, parameter: Parameter) -> Option<&'a str> {
        self.values(parameter).first().copied()
    }

    /// Returns all values of a parameter, one for each time that the request has it.
    pub(super) fn values(&self, parameter: Parameter) -> &[&'a str] {
        self.0.get(&parameter).map(Vec::as_slice).unwrap_or_default()
    }

    /// Splits all values of a parameter at commas. Fails if there are more than `maximum` items.
    pub(super) fn items(&self, parameter: Parameter, maximum: usize) -> Result<Vec<&'a str>, RequestError> {
        let items: Vec<_> = self.values(parameter).iter().flat_map(|value| value.split(',')).map(str::trim).take(maximum + 1).collect();
        if items.len() > maximum {
            let name = parameter.as_str();
            return Err(RequestError::new(400, IssueCode::TooCostly, name, format!("{name} lists more than {maximum} items: send fewer")));
        }
        Ok(items)
    }
}

/// Returns the error for an unknown parameter, which lenient handling may ignore.
///
/// Fails if it must not be ignored: without a name, or if it requests de-identification, because then data would be exported
/// without de-identification.
fn unknown_parameter(name: &str) -> Result<RequestError, RequestError> {
    if name.trim().is_empty() {
        return Err(RequestError::new(400, IssueCode::Invalid, "query", "a parameter has no name: send parameters as name=value"));
    }
    let shown = to_quotable(name);
    if name.to_ascii_lowercase().starts_with(ANONYMIZATION_PREFIX) {
        let text = format!(
            "{shown} is not supported: request a de-identified export with _anonymizationConfig and a configuration file in the destination"
        );
        return Err(RequestError::new(400, IssueCode::NotSupported, &shown, text));
    }
    if let Some(meant) = Parameter::guess(name) {
        let text = format!("the parameter `{shown}` is not supported: did you mean `{}`?", meant.as_str());
        return Ok(RequestError::new(400, IssueCode::NotSupported, &shown, text));
    }
    let supported: Vec<_> = Parameter::ALL.into_iter().map(Parameter::as_str).collect();
    let text = format!("the parameter `{shown}` is not supported: this server supports {}", supported.join(", "));
    Ok(RequestError::new(400, IssueCode::NotSupported, &shown, text))
}
