//! The CapabilityStatement of a FHIR server.

use std::collections::BTreeMap;

use headrace_fhir::definitions::ResourceType;
use serde::Deserialize;

/// The capabilities of a FHIR server, by type.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct OriginCapabilities(pub(super) BTreeMap<ResourceType, TypeCapability>);

/// The capabilities of a FHIR server for a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct TypeCapability {
    /// True if resources of the type can be searched.
    pub(super) can_search: bool,
    /// True if the server names the search parameter `_lastUpdated`.
    pub(super) names_last_updated: bool,
    /// True if the history of the type can be read.
    pub(super) has_history: bool,
}

/// The members of a CapabilityStatement that a synchronization needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementJson {
    resource_type: String,
    #[serde(default)]
    rest: Vec<RestJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RestJson {
    mode: Option<String>,
    #[serde(default)]
    resource: Vec<ResourceJson>,
    #[serde(default)]
    search_param: Vec<NameJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceJson {
    #[serde(rename = "type", default)]
    resource_type: String,
    #[serde(default)]
    interaction: Vec<CodeJson>,
    #[serde(default)]
    search_param: Vec<NameJson>,
}

#[derive(Deserialize)]
struct CodeJson {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct NameJson {
    #[serde(default)]
    name: String,
}

impl OriginCapabilities {
    /// Parses a CapabilityStatement. Returns the problem if it is not one. Types that FHIR does not define are left out.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let statement: StatementJson = serde_json::from_slice(body).map_err(|_| "it is not the JSON of a CapabilityStatement")?;
        if statement.resource_type != "CapabilityStatement" {
            return Err("it is not a CapabilityStatement");
        }
        let rest = statement.rest.into_iter().find(|rest| rest.mode.as_deref().is_none_or(|mode| mode == "server"));
        let rest = rest.ok_or("it describes no server")?;
        let is_last_updated = |parameter: &NameJson| parameter.name == "_lastUpdated";
        let all_have_it = rest.search_param.iter().any(is_last_updated);
        let types = rest.resource.iter().filter_map(|resource| {
            let kind = ResourceType::parse(&resource.resource_type)?;
            let can = |code: &str| resource.interaction.iter().any(|interaction| interaction.code == code);
            Some((
                kind,
                TypeCapability {
                    can_search: can("search-type"),
                    names_last_updated: all_have_it || resource.search_param.iter().any(is_last_updated),
                    has_history: can("history-type"),
                },
            ))
        });
        Ok(Self(types.collect()))
    }

    /// Returns the names of up to ten types that a CapabilityStatement has and FHIR does not define. They cannot be fetched.
    pub(super) fn undefined_types(body: &[u8]) -> Vec<String> {
        let Ok(statement) = serde_json::from_slice::<StatementJson>(body) else { return Vec::new() };
        let names = statement.rest.into_iter().flat_map(|rest| rest.resource).map(|resource| resource.resource_type);
        let is_name = |name: &String| (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        names.filter(|name| is_name(name) && ResourceType::parse(name).is_none()).take(10).collect()
    }

    /// Returns the capabilities for a type.
    pub(super) fn of_type(&self, kind: ResourceType) -> TypeCapability {
        self.0.get(&kind).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_interactions_and_parameters_are_read() {
        let text = r#"{"resourceType":"CapabilityStatement","rest":[{"mode":"client","resource":[{"type":"Group"}]},{"mode":"server","resource":[
            {"type":"Patient","interaction":[{"code":"read"},{"code":"search-type"},{"code":"history-type"}],"searchParam":[{"name":"_lastUpdated","type":"date"}]},
            {"type":"Binary","interaction":[{"code":"read"}]},{"type":"Dog","interaction":[{"code":"search-type"}]},{"type":"Basic","interaction":[{"code":"search-type"}]}]}]}"#;
        let capabilities = OriginCapabilities::parse(text.as_bytes()).unwrap();
        let names: Vec<_> = capabilities.0.keys().map(|kind| kind.as_str()).collect();
        assert_eq!(names, ["Basic", "Binary", "Patient"]);
        assert_eq!(OriginCapabilities::undefined_types(text.as_bytes()), ["Dog"]);
        let patient = TypeCapability { can_search: true, names_last_updated: true, has_history: true };
        assert_eq!(capabilities.of_type(ResourceType::PATIENT), patient);
        assert_eq!(capabilities.of_type(ResourceType::BASIC), TypeCapability { can_search: true, ..TypeCapability::default() });
        assert_eq!(capabilities.of_type(ResourceType::BUNDLE), TypeCapability::default());
    }

    #[test]
    fn a_parameter_of_the_whole_server_is_one_of_each_type() {
        let text =
            r#"{"resourceType":"CapabilityStatement","rest":[{"searchParam":[{"name":"_lastUpdated"}],"resource":[{"type":"Patient"}]}]}"#;
        let capabilities = OriginCapabilities::parse(text.as_bytes()).unwrap();
        assert!(capabilities.of_type(ResourceType::PATIENT).names_last_updated);
    }

    #[test]
    fn other_texts_are_rejected_with_the_problem() {
        for text in ["", "<html>", "{}", r#"{"resourceType":"Bundle"}"#, r#"{"resourceType":"CapabilityStatement"}"#] {
            assert!(OriginCapabilities::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
