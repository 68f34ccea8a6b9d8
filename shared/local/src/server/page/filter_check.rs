//! Checks a search query while it is typed, with the parser that exports use.

use headrace_core::ports::Clock as _;
use headrace_edge::reply::Reply;
use headrace_edge::system::SystemClock;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, split_queries};
use serde_json::json;

/// Returns a reply with the problem of the query in the parameter `query`, or `null` if it is valid. The parameter `version` is the FHIR
/// version.
pub(super) fn answer(parameters: &str) -> Reply {
    let value = |name: &str| {
        let pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value.replace('+', "%20"));
        value.map(|value| percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned()).unwrap_or_default()
    };
    let version = FhirVersion::parse(&value("version")).unwrap_or_default();
    let problem = problem(&value("query"), version);
    Reply::json(200, "application/json", json!({ "problem": problem }).to_string())
}

/// Returns what is wrong with a value of `_typeFilter`, or `None` if it is valid.
fn problem(text: &str, version: FhirVersion) -> Option<String> {
    let now = Instant::from_millis(SystemClock.now().0);
    split_queries(text).into_iter().find_map(|query| Query::parse(query, version, now).err()).map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;
    use serde_json::Value;

    use super::*;

    /// Returns the problem that is answered.
    fn problem_of(parameters: &str) -> Value {
        let Body::Text(body) = answer(parameters).into_response().into_body() else { panic!("no text") };
        serde_json::from_str::<Value>(&body).unwrap()["problem"].clone()
    }

    #[test]
    fn a_query_is_checked_by_the_parser_of_exports() {
        for valid in
            ["query=Observation%3Fcategory%3Dlaboratory&version=4.0.1", "version=5.0.0&query=Patient%3Fbirthdate%3Dge2000,Group%3Fname%3Dx"]
        {
            assert_eq!(problem_of(valid), Value::Null, "{valid}");
        }
        for (invalid, word) in [
            ("query=Observation%3Fcolor%3Dred", "color"),
            ("query=Observatio%3Fcategory%3Dx", "Observatio"),
            ("query=Patient%3Fbirthdate%3Dsoon", "birthdate"),
            ("query=category%3Dlaboratory", ""),
            ("query=Patient%3F_has%3AObservation%3Apatient%3Acode%3Dx", "_has"),
            ("", ""),
        ] {
            let problem = problem_of(invalid);
            assert!(problem.as_str().is_some_and(|text| text.contains(word)), "{invalid}: {problem}");
        }
        let version = |version| problem_of(&format!("query=Group%3Fname%3Dx&version={version}"));
        assert!(version("4.0.1").is_string() && version("5.0.0").is_null(), "Group has `name` in R5");
    }
}
