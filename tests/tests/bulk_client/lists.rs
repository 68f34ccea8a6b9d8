//! The list of exports of a server that is busy, or whose list has no end.

use std::time::Duration;

use headrace_core::vocab::error::error_chain;
use headrace_local::client::bulk::{BulkClient, ClientLimits, ClientSettings, Credential};
use headrace_tests::flows::{Result, run};

use crate::exchange::PauseClock;
use crate::stub::{Answer, Routes, Stub, answer};

/// Path of the first page of the list.
const LIST: &str = "GET /fhir/_operations/export?_count=100";

/// Returns a page without exports, with a link to the next one.
fn page(next: &str) -> Answer {
    answer(200, format!(r#"{{"resourceType":"Bundle","entry":[],"link":[{{"relation":"next","url":"{{BASE}}/{next}"}}]}}"#))
}

/// Lists the exports of a server with these answers. Returns the error with its causes, and the pauses of the client.
async fn list(routes: Routes, limits: ClientLimits) -> Result<(String, Vec<Duration>, Stub)> {
    let (listener, origin) = Stub::bind().await?;
    let (stub, clock) = (Stub::start(listener, &origin, routes, &[("{BASE}", &origin)]), PauseClock::default());
    let (base, settings) = (format!("{origin}/fhir"), ClientSettings { limits, ..ClientSettings::default() });
    let client = BulkClient::new(&base, Credential::None, settings, clock.clone())?;
    let error = client.list_exports(&base, |_| true).await.err().ok_or("the list has an end")?;
    Ok((error_chain(&error), clock.pauses(), stub))
}

#[test]
fn a_list_without_end_is_read_up_to_a_number_of_pages() -> Result<()> {
    run(async || {
        let busy = answer(503, "").with("Retry-After", "7");
        let routes = Routes::from([
            (LIST.to_owned(), vec![busy, page("a")]),
            ("GET /a".to_owned(), vec![page("b")]),
            ("GET /b".to_owned(), vec![page("c")]),
            ("GET /c".to_owned(), vec![page("d")]),
        ]);
        let (error, pauses, stub) = list(routes, ClientLimits { pages: 3, ..ClientLimits::default() }).await?;
        assert!(error.contains("the number of pages of its list of exports") && error.contains("3 pages"), "{error}");
        assert_eq!(pauses, [Duration::from_secs(7)], "a busy server is asked again when it says");
        assert_eq!(stub.requests("GET", "/c").len(), 0);
        Ok(())
    })
}

#[test]
fn a_server_that_is_busy_for_longer_than_anybody_waits_for_a_list_is_asked_once() -> Result<()> {
    run(async || {
        let routes = Routes::from([(LIST.to_owned(), vec![answer(503, "").with("Retry-After", "120")])]);
        let (error, pauses, stub) = list(routes, ClientLimits::default()).await?;
        assert!(error.contains("until 2026-01-31T08:02:00.000Z") && error.contains("was rejected with 503"), "{error}");
        assert_eq!((pauses.len(), stub.all_requests().len()), (0, 1));
        Ok(())
    })
}
