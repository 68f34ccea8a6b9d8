//! The rules of the template, which stop a deployment whose parameters do not fit together.

use headrace_tests::flows::Result;
use serde_json::Value;

use crate::template::Template;

/// A parameter with its value.
type Parameter = (&'static str, &'static str);

/// Returns the names of the rules that these parameters break. Other parameters have their defaults.
fn broken_rules(parameters: &[Parameter]) -> Result<Vec<String>> {
    let rules = Template::read(parameters, &[])?.section("Rules")?;
    let is_broken = |rule: &Value| {
        let applies = rule.get("RuleCondition").is_none_or(|condition| condition == true);
        let holds = rule["Assertions"].as_array().is_some_and(|assertions| assertions.iter().all(|one| one["Assert"] == true));
        applies && !holds
    };
    let rules = rules.as_object().ok_or("the template has no rules")?;
    Ok(rules.iter().filter(|(_, rule)| is_broken(rule)).map(|(name, _)| name.clone()).collect())
}

#[test]
fn a_parameter_without_its_partner_stops_the_deployment_by_name() -> Result<()> {
    let key = "arn:aws:kms:eu-central-1:111122223333:key/k";
    let secret = ("OriginSecretArn", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x");
    let (origin, webhook) = (("OriginUrl", "https://fhir.example.org/r4"), ("EventWebhookUrl", "https://hooks.example.org/x"));
    let cases: [(Parameter, Parameter, &str); 3] = [
        (webhook, ("EventWebhookSecret", "AQID"), "WebhookHasSecret"),
        (("EventWebhookSecret", "AQID"), webhook, "WebhookSecretHasUrl"),
        (secret, origin, "SecretHasServer"),
    ];
    assert_eq!(broken_rules(&[])?, Vec::<String>::new());
    for (parameter, partner, rule) in cases {
        assert_eq!(broken_rules(&[parameter])?, [rule], "{parameter:?}");
        assert_eq!(broken_rules(&[parameter, partner])?, Vec::<String>::new(), "{parameter:?} {partner:?}");
    }
    assert_eq!(broken_rules(&[("OriginSecretKmsKeyArn", key)])?, ["OriginSecretKeyHasSecret"]);
    Ok(())
}

#[test]
fn a_destination_or_audit_files_in_the_lake_stop_the_deployment() -> Result<()> {
    let (lake, prefix) = (("SourceBucketName", "data"), ("SourcePrefix", "lake/"));
    for (parameters, rules) in [
        (&[lake, ("DestinationBucketName", "data")][..], &["ExportsAreApartFromLake"][..]),
        (&[lake, prefix, ("DestinationBucketName", "data"), ("DestinationPrefix", "lake/")], &["ExportsAreApartFromLake"]),
        (&[lake, prefix, ("DestinationBucketName", "data")], &[]),
        (&[lake, ("DestinationBucketName", "exports")], &[]),
        (&[lake, ("SourcePrefix", "audit/"), ("AuditBucketName", "data")], &["AuditIsApartFromLake"]),
        (&[lake, prefix, ("AuditBucketName", "data")], &[]),
    ] {
        assert_eq!(broken_rules(parameters)?, rules, "{parameters:?}");
    }
    Ok(())
}

#[test]
fn a_parameter_without_effect_stops_the_deployment_by_name() -> Result<()> {
    let (key, url) = ("arn:aws:kms:eu-central-1:111122223333:key/k", "https://idp.example");
    let (external, iam) = (("AccessMode", "external"), ("AccessMode", "iam"));
    let provider = [("Issuer", url), ("Audience", "x"), ("JwksUrl", url), ("ScopeClaim", "scp"), ("TokenUrl", url)];
    for parameter in provider {
        for mode in [&[][..], &[iam]] {
            assert_eq!(broken_rules(&[&[parameter], mode].concat())?, ["IdentityProviderIsUsed"], "{parameter:?} {mode:?}");
        }
    }
    assert_eq!(broken_rules(&[&provider[..], &[external]].concat())?, Vec::<String>::new());
    let origin = ("OriginUrl", "https://fhir.example.org/r4");
    let cases: [(Parameter, Parameter, &str); 6] = [
        (("OriginAliases", "http://internal/fhir"), origin, "SyncHasServer"),
        (("SyncTypes", "Patient"), origin, "SyncHasServer"),
        (("SyncSchedule", "PT6H"), origin, "SyncHasServer"),
        (("SyncIgnoreTotals", "true"), origin, "SyncHasServer"),
        (("SourceKmsKeyArn", key), ("SourceBucketName", "lake"), "SourceKeyHasBucket"),
        (("KeepDefaultEndpoint", "true"), ("BaseUrl", "https://fhir.example.org/bulk"), "KeptEndpointHasDomain"),
    ];
    for (parameter, partner, rule) in cases {
        assert_eq!(broken_rules(&[parameter])?, [rule], "{parameter:?}");
        assert_eq!(broken_rules(&[parameter, partner])?, Vec::<String>::new(), "{parameter:?} {partner:?}");
    }
    let cases: [(Parameter, Parameter, &str); 2] = [
        (("TokenKeyArn", key), iam, "TokenKeySignsTokens"),
        (("AuditObjectLock", "COMPLIANCE"), ("AuditBucketName", "own"), "AuditLockHasBucket"),
    ];
    for (parameter, without_effect, rule) in cases {
        assert_eq!(broken_rules(&[parameter])?, Vec::<String>::new(), "{parameter:?}");
        assert_eq!(broken_rules(&[parameter, without_effect])?, [rule], "{parameter:?} {without_effect:?}");
    }
    Ok(())
}
