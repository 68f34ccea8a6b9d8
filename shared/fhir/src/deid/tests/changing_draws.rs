//! Shifts and noise that are drawn anew for each export.

use super::*;

const HASHED_ID: [&str; 2] = ["Resource.id", r#""method":"cryptoHash""#];
const SHIFT: [&str; 2] = ["Patient.birthDate", r#""method":"dateShift""#];
const NOISE: [&str; 2] = ["nodesByType('Quantity').value", r#""method":"perturb","span":2"#];

const HASH_KEY: &str = r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#;
const SHIFT_KEY: &str = r#""dateShiftKey":"k""#;
const BY_PATIENT: &str = r#""dateShiftScope":"patient""#;

#[test]
fn shifts_and_noise_are_drawn_anew_without_the_lasting_keys_that_determine_them() {
    let draws = |rules: &[[&str; 2]], parameters: &[&str]| {
        DeidConfig::parse(configuration(rules, &parameters.join(",")).as_bytes(), FhirVersion::R4).unwrap().changing_draws()
    };
    let missing = Some(ChangingDraws::MissingKeys);
    let shifted = [HASHED_ID, SHIFT];
    for (parameters, expected) in [
        (&[][..], missing),
        (&[HASH_KEY], None),
        (&[SHIFT_KEY], missing),
        (&[HASH_KEY, SHIFT_KEY], None),
        (&[BY_PATIENT], missing),
        (&[BY_PATIENT, HASH_KEY], None),
        (&[BY_PATIENT, SHIFT_KEY], None),
        (&[r#""dateShiftFixedOffsetInDays":3"#], None),
    ] {
        assert_eq!(draws(&shifted, parameters), expected, "{parameters:?}");
    }
    assert_eq!(draws(&[SHIFT], &[SHIFT_KEY]), None, "the id stays, and with it the shift");
    assert_eq!((draws(&[NOISE], &[]), draws(&[NOISE], &[HASH_KEY])), (missing, None), "any key determines the noise");
    assert_eq!(draws(&[HASHED_ID], &[]), None, "other pseudonyms tell nothing more");
}

#[test]
fn no_key_determines_the_shift_of_a_resource_whose_id_is_encrypted() {
    let encrypted_id = ["Resource.id", r#""method":"encrypt""#];
    let encrypted_name = ["Patient.name.family", r#""method":"encrypt""#];
    let draws = |rules: &[[&str; 2]], parameters: &str| {
        DeidConfig::parse(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap().changing_draws()
    };
    assert_eq!(draws(&[encrypted_id, SHIFT], SHIFT_KEY), Some(ChangingDraws::EncryptedIds));
    assert_eq!(draws(&[encrypted_id, SHIFT], &format!("{BY_PATIENT},{SHIFT_KEY}")), None);
    assert_eq!(draws(&[encrypted_name, SHIFT], SHIFT_KEY), None);
}
