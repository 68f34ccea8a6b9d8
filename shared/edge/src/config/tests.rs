use std::collections::BTreeMap;

use headrace_core::flow::work::run_task::LakeVersions;
use headrace_core::job::Limits;
use headrace_fhir::{Bases, FhirVersion};

use super::*;

struct Table(BTreeMap<&'static str, &'static str>);

impl Settings for Table {
    fn get(&self, variable: &'static str) -> Option<String> {
        self.0.get(variable).map(ToString::to_string).filter(|value| !value.is_empty())
    }
}

fn complete() -> BTreeMap<&'static str, &'static str> {
    [
        ("HEADRACE_TABLE", "t"),
        ("HEADRACE_QUEUE_URL", "q"),
        ("HEADRACE_DLQ_URL", "d"),
        ("HEADRACE_SOURCE_BUCKET", "lake-1"),
        ("HEADRACE_DESTINATION_BUCKET", "d"),
        ("HEADRACE_AUDIT_BUCKET", "a"),
    ]
    .into()
}

#[test]
fn what_is_missing_is_named() {
    for variable in complete().into_keys() {
        let mut table = complete();
        table.insert(variable, "");
        // The worker seals nothing, and the reaper reads no lake and puts nothing aside.
        let worker = WorkerConfig::read(&Table(table.clone())).err().map(|error| error.variable);
        let reaper = ReaperConfig::read(&Table(table)).err().map(|error| error.variable);
        assert_eq!(worker, Some(variable).filter(|variable| *variable != "HEADRACE_AUDIT_BUCKET"));
        assert_eq!(reaper, Some(variable).filter(|variable| !["HEADRACE_SOURCE_BUCKET", "HEADRACE_DLQ_URL"].contains(variable)));
    }
}

#[test]
fn what_cannot_be_read_is_named_with_what_would_be_right() {
    for (variable, value) in [
        ("HEADRACE_FILE_SIZE_MB", "big"),
        ("HEADRACE_FILE_SIZE_MB", "0"),
        ("HEADRACE_FILE_SIZE_MB", "1001"),
        ("HEADRACE_RETENTION_HOURS", "-1"),
        ("HEADRACE_BASE_URL", "fhir.example.org"),
        ("HEADRACE_BASE_URL", "ftp://x"),
        ("HEADRACE_BASE_URL", "https://"),
        ("HEADRACE_BASE_URL", "https://a b"),
        ("HEADRACE_BASE_URL", "https://user@host"),
        ("HEADRACE_BASE_URL", "https://host/?x"),
        ("HEADRACE_CONTAINERS", "ok-name,../etc"),
        ("HEADRACE_CONTAINERS", ","),
        ("HEADRACE_FHIR_VERSION", "4"),
        ("HEADRACE_FHIR_VERSION", "3.0.2"),
        ("HEADRACE_FORMATS", "daily"),
        ("HEADRACE_FORMATS", "daily=<timestamp>"),
        ("HEADRACE_FORMATS", "daily=../<id>"),
        ("HEADRACE_FORMATS", "da ily=<id>"),
        ("HEADRACE_FORMATS", "daily=<id>;daily=x/<id>"),
        ("HEADRACE_JOB_KEYS", "trial"),
        ("HEADRACE_JOB_KEYS", "trial=arn:aws:kms:eu-central-1:111122223333:alias/trial"),
        ("HEADRACE_CLIENT_BUCKETS", "Clinic"),
        ("HEADRACE_CLIENT_BUCKETS", "clinic,"),
        ("HEADRACE_CLIENT_BUCKETS", "clinic/prefix"),
        // The lake's.
        ("HEADRACE_CLIENT_BUCKETS", "clinic,lake-1"),
        ("HEADRACE_JOBS_PER_CALLER", "0"),
        ("HEADRACE_JOBS", "many"),
        ("HEADRACE_QUEUE_JOBS", "yes"),
    ] {
        let mut table = complete();
        table.insert(variable, value);
        let error = KickoffConfig::read(&Table(table)).unwrap_err();
        assert_eq!(error.variable, variable, "{value}");
        assert!(error.to_string().starts_with(variable), "{error}");
    }
    for (variable, value) in [
        ("HEADRACE_TRUST_LAKE_NAMES", "yes"),
        ("HEADRACE_TASK_TRIES", "0"),
        ("HEADRACE_LEASE_SECONDS", "1"),
        ("HEADRACE_LAKE_VERSIONS", "two"),
        ("HEADRACE_REFERENCED_RESOURCES", "1"),
        ("HEADRACE_GROUP_NEW_MEMBERS", "on"),
        ("HEADRACE_LAKE_BASES", "fhir.example.org"),
        ("HEADRACE_LAKE_BASES", "https://a.example,"),
        ("HEADRACE_JOBS", "-1"),
    ] {
        let mut table = complete();
        table.insert(variable, value);
        assert_eq!(WorkerConfig::read(&Table(table)).unwrap_err().variable, variable, "{value}");
    }
}

#[test]
fn the_defaults_are_azures() {
    let config = KickoffConfig::read(&Table(complete())).unwrap();
    assert_eq!(config.terms.limits, Limits::default());
    assert_eq!(config.terms.limits.file_bytes, 64_000_000);
    assert_eq!(config.terms.policy.containers, None);
}

#[test]
fn a_deployment_that_says_nothing_sets_no_limits_and_trusts_its_lake_to_be_one_systems() {
    let worker = WorkerConfig::read(&Table(complete())).unwrap().terms;
    assert_eq!((worker.lake_versions, worker.adds_referenced, worker.adds_new_members), (LakeVersions::Auto, false, false));
    assert_eq!((worker.bases, worker.quotas), (Bases::any(), Quotas::default()));
    let kickoff = KickoffConfig::read(&Table(complete())).unwrap().terms;
    assert_eq!((kickoff.policy.version, kickoff.quotas), (FhirVersion::R4, Quotas::default()));
    assert!(kickoff.policy.layouts.is_empty() && kickoff.policy.keys.is_empty());
    assert!(KickoffConfig::read(&Table(complete())).unwrap().client_buckets.is_empty());
}

#[test]
fn every_setting_is_read_from_its_variable() {
    let mut table = complete();
    table.extend([
        ("HEADRACE_FHIR_VERSION", "5.0.0"),
        ("HEADRACE_LAKE_VERSIONS", "many"),
        ("HEADRACE_REFERENCED_RESOURCES", "true"),
        ("HEADRACE_GROUP_NEW_MEMBERS", "true"),
        ("HEADRACE_LAKE_BASES", "https://a.example/fhir/, http://b.example"),
        ("HEADRACE_FORMATS", "daily=exports/<timestamp>-<id>/<resourcename>;flat=<id>"),
        ("HEADRACE_JOB_KEYS", "trial=arn:aws:kms:eu-central-1:111122223333:key/k-1"),
        ("HEADRACE_CLIENT_BUCKETS", "clinic.exports, clinic-7"),
        ("HEADRACE_JOBS_PER_CALLER", "3"),
        ("HEADRACE_JOBS", "40"),
        ("HEADRACE_QUEUE_JOBS", "true"),
    ]);
    let quotas = Quotas { per_caller: Some(3), global: Some(40), waits: true };
    let worker = WorkerConfig::read(&Table(table.clone())).unwrap().terms;
    assert_eq!((worker.lake_versions, worker.adds_referenced, worker.adds_new_members), (LakeVersions::Many, true, true));
    let bases = ["https://a.example/fhir", "http://b.example"].map(str::to_owned);
    assert_eq!((worker.bases, worker.quotas), (Bases::only(bases), quotas));
    assert_eq!(ReaperConfig::read(&Table(table.clone())).unwrap().quotas, quotas);
    let kickoff = KickoffConfig::read(&Table(table.clone())).unwrap().terms;
    assert_eq!((kickoff.policy.version, kickoff.quotas), (FhirVersion::R5, quotas));
    let folders: Vec<String> = kickoff.policy.layouts.values().map(|layout| layout.folder("T", "I")).collect();
    assert_eq!(folders, ["exports/T-I", "I"]);
    let keys = kickoff.policy.keys;
    assert_eq!(keys["trial"].arn, "arn:aws:kms:eu-central-1:111122223333:key/k-1");
    let buckets = KickoffConfig::read(&Table(table.clone())).unwrap().client_buckets;
    assert!(buckets.iter().eq(["clinic-7", "clinic.exports"]));
    let offer = MetadataConfig::read(&Table(table)).unwrap().offer;
    assert_eq!((offer.version, offer.adds_referenced, offer.adds_new_members), (FhirVersion::R5, true, true));
}
