use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::job::{JobSettings, Quotas};
use headrace_core::vocab::lake_settings::{LakeVersions, LakeWatermark};
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::semantics::reference::BaseUrls;

use super::*;

struct Table(BTreeMap<Setting, &'static str>);

impl SettingSource for Table {
    fn get(&self, setting: Setting) -> Option<String> {
        self.0.get(&setting).map(ToString::to_string).filter(|value| !value.is_empty())
    }
}

fn complete() -> BTreeMap<Setting, &'static str> {
    [
        (Setting::Table, "t"),
        (Setting::QueueUrl, "q"),
        (Setting::DeadLetterQueueUrl, "d"),
        (Setting::SourceBucket, "lake-1"),
        (Setting::DestinationBucket, "d"),
        (Setting::AuditBucket, "a"),
    ]
    .into()
}

#[test]
fn an_error_names_the_missing_setting() {
    for setting in complete().into_keys() {
        let mut table = complete();
        table.insert(setting, "");
        // The worker seals no audit records. The reaper parks no messages.
        let worker = WorkerConfig::read(&Table(table.clone())).err().map(|error| error.setting);
        let reaper = ReaperConfig::read(&Table(table)).err().map(|error| error.setting);
        assert_eq!(worker, Some(setting).filter(|setting| *setting != Setting::AuditBucket));
        assert_eq!(reaper, Some(setting).filter(|setting| *setting != Setting::DeadLetterQueueUrl));
    }
}

#[test]
fn an_error_names_the_invalid_setting_and_a_valid_value() {
    for (setting, value) in [
        (Setting::FileSizeMb, "big"),
        (Setting::FileSizeMb, "0"),
        (Setting::FileSizeMb, "1001"),
        (Setting::RetentionHours, "-1"),
        (Setting::BaseUrl, "fhir.example.org"),
        (Setting::BaseUrl, "ftp://x"),
        (Setting::BaseUrl, "https://"),
        (Setting::BaseUrl, "https://a b"),
        (Setting::BaseUrl, "https://user@host"),
        (Setting::BaseUrl, "https://host/?x"),
        (Setting::BaseUrl, "https://host/../x"),
        (Setting::BaseUrl, "https://host/a/%2E./x"),
        (Setting::BaseUrl, "https://host/./x"),
        (Setting::Containers, "ok-name,../etc"),
        (Setting::Containers, ","),
        (Setting::FhirVersion, "4"),
        (Setting::FhirVersion, "3.0.2"),
        (Setting::FolderLayouts, "daily"),
        (Setting::AcceptRemarks, "everything"),
        (Setting::FolderLayouts, "daily=<timestamp>"),
        (Setting::FolderLayouts, "daily=../<id>"),
        (Setting::FolderLayouts, "da ily=<id>"),
        (Setting::FolderLayouts, "daily=<id>;daily=x/<id>"),
        (Setting::OutputKmsKeys, "trial"),
        (Setting::OutputKmsKeys, "trial=arn:aws:kms:eu-central-1:111122223333:alias/trial"),
        (Setting::ClientBuckets, "Clinic"),
        (Setting::ClientBuckets, "clinic,"),
        (Setting::ClientBuckets, "clinic/prefix"),
        // The lake's bucket.
        (Setting::ClientBuckets, "clinic,lake-1"),
        (Setting::MaxExportsPerClient, "0"),
        (Setting::MaxConcurrentExports, "many"),
        (Setting::QueueWhenFull, "yes"),
        (Setting::LakeWatermark, "P1Y"),
    ] {
        let mut table = complete();
        table.insert(setting, value);
        let error = KickoffConfig::read(&Table(table)).unwrap_err();
        assert_eq!(error.setting, setting, "{value}");
        assert!(error.to_string().starts_with(setting.as_str()), "{error}");
    }
    for (setting, value) in [
        (Setting::TrustObjectNames, "yes"),
        (Setting::TaskMaxAttempts, "0"),
        (Setting::LeaseSeconds, "1"),
        (Setting::LakeVersions, "two"),
        (Setting::LakeWatermark, "15"),
        (Setting::IncludeReferencedResources, "1"),
        (Setting::GroupNewMembers, "on"),
        (Setting::SourceBaseUrls, "fhir.example.org"),
        (Setting::SourceBaseUrls, "https://a.example,"),
        (Setting::MaxConcurrentExports, "-1"),
    ] {
        let mut table = complete();
        table.insert(setting, value);
        assert_eq!(WorkerConfig::read(&Table(table)).unwrap_err().setting, setting, "{value}");
    }
}

#[test]
fn the_defaults_are_those_of_azure_api_for_fhir() {
    let config = KickoffConfig::read(&Table(complete())).unwrap();
    assert_eq!(config.export.job, JobSettings::default());
    assert_eq!(config.export.job.file_bytes, 64_000_000);
    assert_eq!(config.export.policy.containers, None);
}

#[test]
fn without_settings_there_are_no_limits_and_absolute_references_point_into_the_lake() {
    let worker = WorkerConfig::read(&Table(complete())).unwrap().worker;
    assert_eq!((worker.lake.versions, worker.lake.adds_referenced, worker.lake.adds_new_members), (LakeVersions::Auto, false, false));
    assert_eq!((worker.lake.bases, worker.quotas), (BaseUrls::any(), Quotas::default()));
    let kickoff = KickoffConfig::read(&Table(complete())).unwrap().export;
    assert_eq!((kickoff.policy.version, kickoff.quotas), (FhirVersion::R4, Quotas::default()));
    assert!(kickoff.policy.layouts.is_empty() && kickoff.policy.keys.is_empty());
    assert!(KickoffConfig::read(&Table(complete())).unwrap().client_buckets.is_empty());
}

#[test]
fn every_setting_is_read_from_its_variable() {
    let mut table = complete();
    table.extend([
        (Setting::FhirVersion, "5.0.0"),
        (Setting::LakeVersions, "many"),
        (Setting::LakeWatermark, "PT15M"),
        (Setting::WatermarkMaxAgeSeconds, "7200"),
        (Setting::IncludeReferencedResources, "true"),
        (Setting::GroupNewMembers, "true"),
        (Setting::SourceBaseUrls, "https://a.example/fhir/, http://b.example"),
        (Setting::FolderLayouts, "daily=exports/<timestamp>-<id>/<resourcename>;flat=<id>"),
        (Setting::OutputKmsKeys, "trial=arn:aws:kms:eu-central-1:111122223333:key/k-1"),
        (Setting::ClientBuckets, "clinic.exports, clinic-7"),
        (Setting::MaxExportsPerClient, "3"),
        (Setting::MaxConcurrentExports, "40"),
        (Setting::QueueWhenFull, "true"),
    ]);
    let quotas = Quotas { per_caller: Some(3), global: Some(40), queue_when_full: true };
    let worker = WorkerConfig::read(&Table(table.clone())).unwrap().worker;
    assert_eq!((worker.lake.versions, worker.lake.adds_referenced, worker.lake.adds_new_members), (LakeVersions::Many, true, true));
    let bases = ["https://a.example/fhir", "http://b.example"].map(str::to_owned);
    assert_eq!((worker.lake.bases, worker.quotas), (BaseUrls::only(bases), quotas));
    let watermark = LakeWatermark::Lag(Duration::from_secs(900));
    assert_eq!(worker.lake.watermark, watermark);
    assert_eq!(KickoffConfig::read(&Table(table.clone())).unwrap().export.watermark, watermark);
    let reaper = ReaperConfig::read(&Table(table.clone())).unwrap();
    assert_eq!(reaper.watermark, Some(WatermarkLimit { setting: watermark, max_age: Duration::from_secs(7_200) }));
    assert_eq!(ReaperConfig::read(&Table(complete())).unwrap().watermark, None);
    assert_eq!(reaper.export.quotas, quotas);
    let kickoff = KickoffConfig::read(&Table(table.clone())).unwrap().export;
    assert_eq!((kickoff.policy.version, kickoff.quotas), (FhirVersion::R5, quotas));
    let folders: Vec<String> = kickoff.policy.layouts.values().map(|layout| layout.to_path("T", "I")).collect();
    assert_eq!(folders, ["exports/T-I", "I"]);
    let keys = kickoff.policy.keys;
    assert_eq!(keys["trial"].arn, "arn:aws:kms:eu-central-1:111122223333:key/k-1");
    let buckets = KickoffConfig::read(&Table(table.clone())).unwrap().client_buckets;
    assert!(buckets.iter().eq(["clinic-7", "clinic.exports"]));
    let capabilities = MetadataConfig::read(&Table(table)).unwrap().capabilities;
    assert_eq!((capabilities.version, capabilities.adds_referenced, capabilities.adds_new_members), (FhirVersion::R5, true, true));
}

#[test]
fn events_go_to_a_bus_to_a_webhook_or_to_both() {
    let read = |settings: &[(Setting, &'static str)]| {
        let mut table = complete();
        table.extend(settings.iter().copied());
        ReaperConfig::read(&Table(table))
    };
    let (on, url, secret) =
        ((Setting::Events, "true"), (Setting::EventWebhookUrl, "https://a.example/x"), (Setting::EventWebhookSecret, "AQID"));
    let targets = |settings: &[(Setting, &'static str)]| read(settings).map(|config| (config.webhook.is_some(), config.event_bus));
    assert_eq!(targets(&[]), Ok((false, None)));
    assert_eq!(targets(&[on, (Setting::EventBusName, "exports")]), Ok((false, Some("exports".to_owned()))));
    assert_eq!(targets(&[on, url, secret]), Ok((true, None)));
    assert_eq!(targets(&[on, url]).unwrap_err().setting, Setting::EventWebhookSecret);
    let arn = "arn:aws:events:eu-central-1:111122223333:event-bus/team/exports";
    assert_eq!(targets(&[on, url, secret, (Setting::EventBusName, arn)]), Ok((true, Some(arn.to_owned()))));
    for bus in ["two words", "arn:aws:events:eu-central-1:111122223333:rule/x", "a:b"] {
        assert_eq!(targets(&[on, (Setting::EventBusName, bus)]).unwrap_err().setting, Setting::EventBusName, "{bus}");
    }
}

#[test]
fn a_destination_or_audit_files_that_exports_would_read_are_rejected() {
    let read = |settings: &[(Setting, &'static str)]| {
        let mut table = complete();
        table.extend([(Setting::SyncQueueUrl, "s"), (Setting::OriginUrl, "https://fhir.example.org/r4")]);
        table.extend(settings.iter().copied());
        let table = Table(table);
        let reaper = ReaperConfig::read(&table).err();
        let others = [KickoffConfig::read(&table).err(), WorkerConfig::read(&table).err(), SyncWorkerConfig::read(&table).err()];
        // Only the reaper knows where the audit files are.
        if reaper.as_ref().is_none_or(|error| error.setting == Setting::DestinationBucket) {
            assert!(others.iter().all(|other| *other == reaper), "{others:?}");
        }
        reaper.map(|error| (error.setting, error.problem))
    };
    let prefixes = |setting, source, own| [(Setting::SourcePrefix, source), (setting, own)];
    for (source, destination, is_rejected) in [
        ("", "", true),
        ("", "fhir/", true),
        ("lake/", "lake/", true),
        ("lake", "lake/", true),
        ("exports/lake/", "", true),
        ("lake/", "lake/_out/", false),
        ("", "_out/", false),
        ("lake/", "", false),
        ("lake/", "lake2/", false),
        ("lake/", "fhir/", false),
    ] {
        let in_lake = (Setting::DestinationBucket, "lake-1");
        let error = read(&[&prefixes(Setting::DestinationPrefix, source, destination)[..], &[in_lake]].concat());
        assert_eq!(error.is_some(), is_rejected, "{source} {destination} {error:?}");
        assert!(error.is_none_or(|(setting, problem)| setting == Setting::DestinationBucket && problem.contains("`lake-1`")));
        assert_eq!(read(&prefixes(Setting::DestinationPrefix, source, destination)), None, "another bucket");
    }
    for (source, audit, is_rejected) in [("", "", true), ("", "audit/", true), ("audit/", "audit/2026/", true), ("lake/", "", false)] {
        let in_lake = (Setting::AuditBucket, "lake-1");
        let error = read(&[&prefixes(Setting::AuditPrefix, source, audit)[..], &[in_lake]].concat());
        assert_eq!(error.map(|(setting, _)| setting), is_rejected.then_some(Setting::AuditBucket), "{source} {audit}");
    }
}
