use super::*;

const V: FhirVersion = FhirVersion::R4;

fn scopes(text: &str) -> Scopes {
    let (scopes, refused) = Scopes::of_text(text, V);
    assert!(refused.is_empty(), "{refused:?}");
    scopes
}

fn granted(requested: &str, registered: &str) -> Option<String> {
    Scopes::granted(requested, &scopes(registered), V).map(|granted| granted.text)
}

#[test]
fn a_client_is_answered_in_the_syntax_in_which_it_asked() {
    assert_eq!(granted("system/Patient.read", "system/*.rs").as_deref(), Some("system/Patient.read"));
}
