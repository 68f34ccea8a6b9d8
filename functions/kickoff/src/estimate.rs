//! An estimate as a FHIR Parameters resource.

use headrace_core::flow::client::estimate::Estimate;
use headrace_core::job::Job;
use headrace_edge::reply::{FHIR_JSON, Reply};
use serde_json::{Value, json};

/// Creates the response to a request for an estimate.
pub(crate) fn estimate_reply(job: &Job, estimate: &Estimate) -> Reply {
    Reply::json(200, FHIR_JSON, parameters(job, estimate).to_string())
}

/// Returns an estimate as a Parameters resource. Numbers are decimals, because an integer of FHIR R4 ends at two billion.
fn parameters(job: &Job, estimate: &Estimate) -> Value {
    let volume = &estimate.volume;
    let mut parameters = vec![
        number("objects", volume.objects),
        number("compressedObjects", volume.compressed),
        number("skippedObjects", volume.skipped),
        number("bytesToRead", volume.source_bytes),
        number("outputFiles", estimate.output_files()),
        number("outputBytes", rounded(volume.output_bytes(), 0)),
        number("resources", rounded(estimate.output_kinds().map(|(_, kind)| kind.lines).sum(), 0)),
        number("tasks", estimate.tasks),
        number("seconds", rounded(estimate.seconds, 1)),
    ];
    parameters.extend(estimate.list_price.as_ref().map(|price| {
        let parts = [
            number("usd", price.usd),
            json!({ "name": "region", "valueString": price.region }),
            json!({ "name": "pricesRead", "valueDate": price.prices_read }),
            number("lambdaUsd", price.lambda_usd),
            number("dynamodbUsd", price.dynamodb_usd),
            number("s3Usd", price.s3_usd),
            number("sqsUsd", price.sqs_usd),
        ];
        json!({ "name": "listPrice", "part": parts })
    }));
    parameters.extend(estimate.output_kinds().map(|(kind, volume)| {
        let parts = [
            json!({ "name": "type", "valueString": kind.as_str() }),
            number("files", volume.files(estimate.file_bytes)),
            number("bytes", rounded(volume.bytes, 0)),
            number("resources", rounded(volume.lines, 0)),
        ];
        json!({ "name": "output", "part": parts })
    }));
    parameters.extend(remarks(job, estimate).map(|text| json!({ "name": "remark", "valueString": text })));
    json!({ "resourceType": "Parameters", "parameter": parameters })
}

/// Returns what the client should know about an estimate.
fn remarks(job: &Job, estimate: &Estimate) -> impl Iterator<Item = String> {
    let basis =
        if estimate.has_read_all { "the whole lake was read for this estimate" } else { "sizes are extrapolated from samples of the lake" };
    let remarks = [
        Some(basis),
        estimate.is_lower_bound.then_some("the lake has more objects than could be listed in time, so the export is larger"),
        estimate.ignores_patients.then_some("the patients of the export could not be resolved in time, so it may be smaller"),
        estimate.volume.reads_twice.then_some("the lake is read twice, because resources have several versions"),
        job.request.anonymization.is_some().then_some("de-identification is not part of this estimate"),
        estimate.list_price.is_some().then_some("the price is by list prices, and no bill"),
    ];
    let ignored = job.request.ignored.iter().map(|ignored| ignored.text.clone());
    remarks.into_iter().flatten().map(str::to_owned).chain(ignored.collect::<Vec<_>>())
}

/// Returns a parameter with a number.
fn number(name: &str, value: impl Into<Value>) -> Value {
    json!({ "name": name, "valueDecimal": value.into() })
}

/// Rounds to this many decimal places.
fn rounded(value: f64, places: i32) -> Value {
    let factor = 10_f64.powi(places);
    let rounded = (value * factor).round() / factor;
    // A whole number without a decimal point.
    if places == 0 { format!("{rounded:.0}").parse::<u64>().map_or(Value::Null, Value::from) } else { Value::from(rounded) }
}
