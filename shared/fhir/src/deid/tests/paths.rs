//! The elements that paths select.

use super::*;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p","active":true,"name":[{"use":"official","family":"Ab","given":["X","Y"]},{"use":"nickname","given":["Z"],
    "period":{"start":"2020-01-02","end":"2021"}},{"family":"Cd","id":"n3"}],"telecom":[{"system":"phone","value":"1","rank":1},{"system":"email","value":"2","rank":3}],
    "birthDate":"2001-02-03","multipleBirthInteger":2,"extension":[{"url":"http://a","valueCode":"c"},{"url":"http://b","valueString":"s"}],
    "contact":[{"name":{"family":"K"},"gender":"male"}],"contained":[{"resourceType":"Organization","name":"O"}]}"#;

/// Returns the paths of the values that a rule's path selects.
fn selected(path: &str) -> Vec<String> {
    let deidentifier = deidentifier(&configuration(&[[path, r#""method":"keep""#]], ""));
    let explanation = deidentifier.explain(PATIENT.replace("\n    ", "").as_bytes(), None).unwrap();
    explanation.steps.into_iter().map(|step| step.element_path.trim_start_matches("Patient.").to_owned()).collect()
}

#[test]
fn each_path_selects_the_expected_elements() {
    for (path, places) in [
        ("Patient.name.family", &["name[0].family", "name[2].family"][..]),
        ("Patient.name[1].given | Patient.name.first().use", &["name[1].given[0]", "name[0].use"]),
        ("Patient.name.where(use = 'official').given", &["name[0].given[0]", "name[0].given[1]"]),
        ("Patient.name.where(use='official' or use='nickname').use", &["name[0].use", "name[1].use"]),
        ("Patient.name.where(use.exists().not()).family", &["name[2].family"]),
        ("Patient.name.where(use.empty() and family.exists()).family", &["name[2].family"]),
        ("Patient.name.where(id.exists()).family", &["name[2].family"]),
        ("Patient.name.where(given.count() > 1).use", &["name[0].use"]),
        ("Patient.name.where(given.count() = 1 xor use = 'official').use", &["name[0].use", "name[1].use"]),
        ("Patient.name.where(use != 'official').use", &["name[1].use"]),
        ("Patient.name.where(use in ('official' | 'old')).use", &["name[0].use"]),
        ("Patient.name.where(given contains 'Z').use", &["name[1].use"]),
        ("Patient.name.where(given.exists($this = 'Y')).use", &["name[0].use"]),
        ("Patient.name.where(given.all($this > 'W')).given.last()", &["name[1].given[0]"]),
        ("Patient.name.family.where($this.startsWith('A'))", &["name[0].family"]),
        ("Patient.name.family.where(endsWith('d') and length() = 2)", &["name[2].family"]),
        ("Patient.name.family.where($this.lower().contains('b'))", &["name[0].family"]),
        ("Patient.name.family.where(matches('^[A-B]'))", &["name[0].family"]),
        ("Patient.name.family.where($this.substring(1, 1) = 'd')", &["name[2].family"]),
        ("Patient.name.family.where($this.replace('A', 'x') = 'xb')", &["name[0].family"]),
        ("Patient.name.family.where($this.indexOf('b') = 1)", &["name[0].family"]),
        ("Patient.name.period.where(start >= @2020-01-01).start", &["name[1].period.start"]),
        ("Patient.name.period.where(start < @2020-01-02).start", &[]),
        // Whether 2021 is after one of its days is unknown, and unknown is not true.
        ("Patient.name.period.where(end > @2021-05-05).start", &[]),
        ("Patient.telecom.where(rank >= 2).value", &["telecom[1].value"]),
        ("Patient.telecom.where(rank + 1 = 2).value", &["telecom[0].value"]),
        ("Patient.telecom.where(rank mod 2 = 1 and system ~ 'EMAIL').value", &["telecom[1].value"]),
        ("Patient.telecom.where(value.toInteger() > 1).value", &["telecom[1].value"]),
        ("Patient.telecom.where(rank.toString() = '3').value", &["telecom[1].value"]),
        ("Patient.telecom.skip(1).value", &["telecom[1].value"]),
        ("Patient.telecom.take(1).value", &["telecom[0].value"]),
        ("Patient.telecom.tail().value", &["telecom[1].value"]),
        ("Patient.telecom.where($index = 0).value", &["telecom[0].value"]),
        ("Patient.telecom.select(value | rank).where($this = '1')", &["telecom[0].value"]),
        ("Patient.extension('http://b').value", &["extension[1].valueString"]),
        ("Patient.extension.where(url = 'http://a').value", &["extension[0].valueCode"]),
        ("Patient.extension.value as code", &["extension[0].valueCode"]),
        ("Patient.extension.value.ofType(string)", &["extension[1].valueString"]),
        ("Patient.extension.where(value is code).url", &["extension[0].url"]),
        ("Patient.multipleBirth as integer", &["multipleBirthInteger"]),
        ("(Patient.multipleBirth as boolean)", &[]),
        ("Patient.nodesByType('HumanName').family", &["name[0].family", "name[2].family", "contact[0].name.family"]),
        ("Patient.nodesByName('gender')", &["contact[0].gender"]),
        ("Patient.contact.nodesByType('HumanName').where(family = 'K')", &["contact[0].name.family"]),
        ("Patient.where(active = true).birthDate", &["birthDate"]),
        ("Patient.where(active).birthDate.where($this > @2000)", &["birthDate"]),
        ("Patient.iif(active, birthDate, id)", &["birthDate"]),
        ("Patient.where(name.exists(use = 'old') implies active.not()).id", &["id"]),
        ("Patient.contact.children().where($this is code)", &["contact[0].gender"]),
        ("Patient.name.given.union(Patient.name.family).where($this = 'Cd' or $this = 'X')", &["name[0].given[0]", "name[2].family"]),
        ("Patient.name.`given`[2]", &["name[1].given[0]"]),
        ("Patient.contact.descendants().where(hasValue())", &["contact[0].name.family", "contact[0].gender"]),
        ("Organization.name", &["contained[0].name"]),
        // The name of a type is a type filter everywhere in a path.
        ("Patient.contained.Organization.name", &["contained[0].name"]),
        ("Patient.contained.Patient.name", &[]),
        // Paths lead into contained resources, as in Microsoft's tool.
        ("Patient.contained.name", &["contained[0].name"]),
        ("Patient.descendants().where($this is Organization).name", &["contained[0].name"]),
        // Several items count as true.
        ("Patient.name.where(given).use", &["name[0].use", "name[1].use"]),
        ("Patient.name.where(given and use = 'official').use", &["name[0].use"]),
        // An element with members has no value. It equals an element with equal members.
        ("Patient.name.where(period != 'x').use", &["name[1].use"]),
        ("Patient.name.where(period = 'x' or given = 'Z').use", &["name[1].use"]),
        ("Patient.where(contact.name = contact.name).id", &["id"]),
        ("Patient.where(name[0] = name[1]).id", &[]),
        ("nodesByType(\"Organization\").name", &["contained[0].name"]),
        (
            " Patient .name",
            &[
                "name[0].use",
                "name[0].family",
                "name[0].given[0]",
                "name[0].given[1]",
                "name[1].use",
                "name[1].given[0]",
                "name[1].period.start",
                "name[1].period.end",
                "name[2].family",
                "name[2].id",
            ],
        ),
        ("Patient.name . family /* all */ // of all", &["name[0].family", "name[2].family"]),
    ] {
        let mut expected: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
        let mut found = selected(path);
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{path}");
    }
}
