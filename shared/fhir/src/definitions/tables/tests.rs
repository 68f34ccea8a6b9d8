use std::collections::BTreeSet;

use super::*;

mod independent;

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

#[test]
fn the_compartment_of_r4_has_its_66_types() {
    assert_eq!(FhirVersion::R4.patient_compartment_types().iter().count(), 66);
    assert_eq!(FhirVersion::R4b.patient_compartment_types(), FhirVersion::R4.patient_compartment_types());
    assert_eq!(FhirVersion::R5.patient_compartment_types().iter().count(), 73);
}

#[test]
fn the_compartment_looks_where_its_definition_says() {
    let paths = |version: FhirVersion, name| version.patient_compartment(kind(name));
    assert_eq!(paths(FhirVersion::R4, "AllergyIntolerance"), Some(vec!["patient", "recorder", "asserter"]));
    assert_eq!(paths(FhirVersion::R4, "Appointment"), Some(vec!["participant[].actor"]));
    assert_eq!(paths(FhirVersion::R4, "Patient"), Some(vec!["link[].other"]));
    for outside in ["Device", "Location", "Medication", "Organization", "Practitioner", "Task"] {
        assert_eq!(paths(FhirVersion::R4, outside), None, "{outside}");
    }
    assert!(paths(FhirVersion::R5, "Task").is_some());
}

#[test]
fn a_parameter_is_what_its_definition_says() {
    let code = FhirVersion::R4.search_parameter(kind("Observation"), "code").unwrap();
    assert_eq!((code.kind, code.definition.as_str()), (ParameterKind::Token, "http://hl7.org/fhir/SearchParameter/clinical-code"));
    assert_eq!(code.paths, [TypedPath { path: "code", ends_in: "CodeableConcept", system: None }]);
    let status = FhirVersion::R4.search_parameter(kind("Observation"), "status").unwrap();
    assert_eq!(status.paths[0].system, Some("http://hl7.org/fhir/observation-status"));
    let both = FhirVersion::R4.search_parameter(kind("Observation"), "combo-code-value-quantity").unwrap();
    assert_eq!(both.paths.iter().map(|path| path.path).collect::<Vec<_>>(), ["", "component[]"]);
    assert_eq!(both.components.iter().map(|component| component.kind).collect::<Vec<_>>(), [ParameterKind::Token, ParameterKind::Quantity]);
    // Its value set draws on two systems.
    let intent = FhirVersion::R4.search_parameter(kind("Task"), "intent").unwrap();
    assert_eq!(intent.paths[0].system, None);
    let id = FhirVersion::R5.search_parameter(kind("Patient"), "_id").unwrap();
    assert_eq!((id.definition.as_str(), id.paths[0].path), ("http://hl7.org/fhir/SearchParameter/Resource-id", "id"));
    let deceased = FhirVersion::R4.search_parameter(kind("Patient"), "deceased").unwrap();
    assert_eq!(deceased.support, Support::Deceased);
    let subject = FhirVersion::R4.search_parameter(kind("Observation"), "subject").unwrap();
    assert_eq!(subject.targets, ["Device", "Group", "Location", "Patient"].map(kind));
    assert_eq!(FhirVersion::R4.search_parameter(kind("Observation"), "nothing"), None);
}

#[test]
fn elements_know_their_choices_and_whether_they_must_be_there() {
    let elements = FhirVersion::R4.elements(kind("Observation"));
    let mandatory: BTreeSet<_> = elements.iter().filter(|element| element.is_mandatory).map(|element| element.name).collect();
    assert_eq!(mandatory, BTreeSet::from(["code", "status"]));
    let value = elements.iter().find(|element| element.name == "value").unwrap();
    assert!(value.members.contains(&"valueQuantity") && value.members.contains(&"valueDateTime") && value.members.len() == 11);
    assert!(["id", "meta", "text", "contained"].iter().all(|name| elements.iter().any(|element| element.name == *name)));
}

/// Nothing in the texts is passed over.
#[test]
fn every_line_of_every_table_is_read() {
    for version in FhirVersion::ALL {
        for kind in version.types().iter() {
            let parameters = version.search_parameters(kind);
            let codes = version.lines(kind).filter_map(|(_, line)| line.strip_prefix('?')?.split(' ').next());
            assert!(parameters.iter().map(|parameter| parameter.code).eq(codes.collect::<BTreeSet<_>>()), "{version} {kind}");
            for parameter in &parameters {
                let is_empty = parameter.paths.is_empty();
                assert_eq!(is_empty, parameter.support == Support::NotCompiled, "{version} {kind} {}", parameter.code);
                assert_eq!(version.search_parameter(kind, parameter.code).as_ref(), Some(parameter));
            }
            let others = version.lines(kind).filter(|(_, line)| !line.starts_with(['?', '.', '@'])).count();
            assert_eq!(others, 0, "{version} {kind}");
        }
    }
}

/// What a search of this kind compares its values with (FHIR search, "Search Parameter Types").
fn comparable(kind: ParameterKind) -> &'static [&'static str] {
    match kind {
        ParameterKind::Token => {
            &["CodeableConcept", "Coding", "ContactPoint", "Identifier", "boolean", "canonical", "code", "id", "string", "uri"]
        }
        ParameterKind::String => &["Address", "HumanName", "markdown", "string"],
        ParameterKind::Reference => &["Reference", "canonical", "uri"],
        ParameterKind::Date => &["Period", "Timing", "date", "dateTime", "instant"],
        ParameterKind::Number => &["Range", "decimal", "integer", "unsignedInt"],
        ParameterKind::Quantity => &["Age", "Duration", "Money", "Quantity", "Range", "SampledData"],
        ParameterKind::Uri => &["canonical", "uri", "url"],
        ParameterKind::Composite | ParameterKind::Special => &[],
    }
}

#[test]
fn a_path_ends_in_what_its_parameter_is_compared_with() {
    for version in FhirVersion::ALL {
        let parameters = version.types().iter().flat_map(|kind| version.search_parameters(kind));
        for parameter in parameters.filter(|parameter| parameter.support != Support::Deceased) {
            let of_parts = parameter.components.iter().map(|part| (part.kind, &part.paths));
            let own = (parameter.kind != ParameterKind::Composite).then_some((parameter.kind, &parameter.paths));
            for (kind, paths) in of_parts.chain(own) {
                for path in paths {
                    assert!(comparable(kind).contains(&path.ends_in), "{version} {} {}", parameter.definition, path.path);
                    assert!(!path.path.is_empty() && (path.system.is_none() || path.ends_in == "code"));
                }
            }
            let is_composite = parameter.kind == ParameterKind::Composite && parameter.support == Support::Compiled;
            assert_eq!(is_composite, parameter.components.len() >= 2, "{version} {}", parameter.definition);
        }
    }
}

/// A parameter without its definition, written again as its line is.
fn line(version: FhirVersion, parameter: &SearchParameter) -> String {
    let paths = |paths: &[TypedPath]| {
        let one = |path: &TypedPath| {
            let at = if path.path.is_empty() { "." } else { path.path };
            format!("{at} {}{}", path.ends_in, path.system.map(|system| format!(" {system}")).unwrap_or_default())
        };
        paths.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let mut line = format!("{} {}", parameter.code, parameter.kind.as_str());
    line += match parameter.support {
        Support::Compiled => "",
        Support::Deceased => " !deceased",
        Support::NotCompiled => " !",
    };
    if !parameter.paths.is_empty() {
        line += &format!(" = {}", paths(&parameter.paths));
    }
    for part in &parameter.components {
        line += &format!(" & {} {} = {}", part.code, part.kind.as_str(), paths(&part.paths));
    }
    let others = version.types().iter().filter(|kind| !parameter.targets.contains(kind)).map(|kind| format!(" -{kind}"));
    match parameter.targets.len() {
        0 => line,
        few if few < 90 => line + " >" + &parameter.targets.iter().map(|kind| format!(" {kind}")).collect::<String>(),
        _ => line + " > *" + &others.collect::<String>(),
    }
}

#[test]
fn what_is_read_says_all_that_its_line_says() {
    for version in FhirVersion::ALL {
        for kind in version.types().iter() {
            for (_, text) in version.lines(kind).filter(|(section, _)| *section == kind.as_str()) {
                let Some(text) = text.strip_prefix('?') else { continue };
                let without_definition: Vec<_> = text.split(' ').filter(|word| !word.starts_with('@')).collect();
                let parameter = version.search_parameter(kind, without_definition[0]).unwrap();
                assert_eq!(line(version, &parameter), without_definition.join(" "), "{version} {kind}");
            }
        }
    }
}
