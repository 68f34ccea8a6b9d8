//! Replays the fuzzing corpus, including past findings, in every test run and with any compiler.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/deid.rs"]
mod deid;
#[path = "../../../fuzz/checks/jwt_header.rs"]
mod jwt_header;
#[path = "../../../fuzz/checks/line.rs"]
mod line;
#[path = "../../../fuzz/checks/request.rs"]
mod request;
#[path = "../../../fuzz/checks/token_request.rs"]
mod token_request;
#[path = "../../../fuzz/checks/type_filter.rs"]
mod type_filter;

/// Runs the check of a target on every seed, on every prefix of it, and with each byte changed.
fn replay(target: &str, check: fn(&[u8])) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(folder)? {
        let seed = fs::read(entry?.path())?;
        check(&seed);
        for at in 0..seed.len() {
            check(seed.get(..at).unwrap_or_default());
            let mut changed = seed.clone();
            if let Some(byte) = changed.get_mut(at) {
                *byte = byte.wrapping_mul(31).wrapping_add(7);
            }
            check(&changed);
        }
        seeds += 1;
    }
    assert!(seeds > 4, "{target} has no corpus");
    Ok(())
}

#[test]
fn every_request_of_the_corpus_is_resolved_or_rejected() -> std::io::Result<()> {
    replay("request", request::check)
}

#[test]
fn every_query_of_the_corpus_is_compiled_or_rejected() -> std::io::Result<()> {
    replay("type_filter", type_filter::check)
}

#[test]
fn every_line_of_the_corpus_is_parsed_or_rejected() -> std::io::Result<()> {
    replay("line", line::check)
}

#[test]
fn every_configuration_and_resource_of_the_corpus_is_applied_or_rejected() -> std::io::Result<()> {
    replay("deid", deid::check)
}

// Holds: SEC-A5, SEC-A14
#[test]
fn every_token_request_of_the_corpus_is_parsed_or_rejected() -> std::io::Result<()> {
    replay("token_request", token_request::check)
}

// Holds: SEC-A6
#[test]
fn no_jwt_header_of_the_corpus_passes_as_signed() -> std::io::Result<()> {
    replay("jwt_header", jwt_header::check)
}
