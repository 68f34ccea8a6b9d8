//! A FHIR server in memory that need not support bulk exports: searches and histories with the behavior of well-known servers.
//!
//! It is used in the same process by [`FakeOrigin`], and over HTTP by [`FhirServer::listen`]. What it does not do: other search parameters
//! than `_id`, `_lastUpdated`, `_sort`, `_count`, `_total` and `_summary=count`; more than the first page in another order than that of time;
//! includes; authentication beyond a fixed token.

mod http;
mod origin;
mod respond;
mod signature;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headrace_core::vocab::clock::Millis;

pub use http::HttpFhirServer;
pub use origin::FakeOrigin;
pub use signature::{ReceivedRequest, RequiredSignature};

/// The way in which a server pages the results of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// A search is a list of ids that is kept (HAPI). The versions are those of the moment at which a page is read.
    CachedIds,
    /// The position in the order of time is in the link, as text (Medplum, Microsoft).
    Cursor,
    /// The same, in a token with raw equals signs that the server compares literally (HealthLake).
    EqualsSigns,
    /// The number of results before the page, counted anew for each page (Aidbox).
    Offset,
}

/// The way in which a server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Totals {
    /// Exactly.
    Exact,
    /// By an estimate.
    Estimate,
    /// Not at all: the request is rejected.
    Rejected,
}

/// The way in which a server searches lists of ids, such as `_id=a,b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSearch {
    /// Each id of the list counts, as FHIR says.
    Lists,
    /// The last id of the list counts.
    LastId,
    /// The list counts as one id.
    OneId,
    /// The parameter is ignored.
    Ignored,
    /// The request is rejected.
    Rejected,
    /// Each id of the list counts, but the index is damaged: a search without a time finds only ids that end in 9.
    DamagedIndex,
}

/// Hostile conduct of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostileBehavior {
    /// The pages have no end, each with a new resource.
    EndlessPages,
    /// The pages have no end and nothing new.
    EndlessRepetition,
    /// A link leads to its own page.
    LoopingLink,
    /// A page has resources of another type.
    OtherType,
    /// A resource has an id with a path.
    ClimbingId,
    /// A link leads to another server.
    OtherServer,
    /// A page ends in the middle.
    CutPage,
    /// A page is not a Bundle.
    HtmlPage,
    /// The history of a resource has no end: each page is empty and leads to itself.
    LoopingHistory,
}

/// The form of the entries of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryForm {
    /// The form of FHIR.
    Usual,
    /// The methods are in lower case.
    LowerCase,
    /// Deletions have the status 410 and no request.
    Statuses,
    /// Deletions have neither a request nor a status.
    Unclear,
    /// The history states its total, and has no entries.
    TotalAlone,
    /// The times of deletions are cut off after the second.
    SecondsOfDeletions,
}

/// The order of the entries of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryOrder {
    /// The newest event comes first.
    NewestFirst,
    /// The newest time comes first, and of several events of the same time the oldest one.
    OldestOfTimeFirst,
    /// The oldest event comes first.
    OldestFirst,
}

/// The behavior of a server.
#[derive(Clone, Debug)]
pub struct ServerBehavior {
    /// The paging.
    pub paging: Paging,
    /// The largest page.
    pub largest_page: usize,
    /// The totals.
    pub totals: Totals,
    /// The largest number of resources that a search shows, and counts. `None` if it shows and counts all.
    pub caps_at: Option<usize>,
    /// True if `_lastUpdated` can be searched.
    pub searches_by_time: bool,
    /// True if the CapabilityStatement names `_lastUpdated`.
    pub names_last_updated: bool,
    /// The search for lists of ids.
    pub id_search: IdSearch,
    /// True if `_sort` has an effect.
    pub sorts: bool,
    /// True if the history of types can be read.
    pub has_history: bool,
    /// True if the history of a resource can be read, too.
    pub has_instance_history: bool,
    /// The form of histories.
    pub history_form: HistoryForm,
    /// The order of histories.
    pub history_order: HistoryOrder,
    /// The number of pages after which the first searches expire (410).
    pub expires_after: Option<u32>,
    /// The number of searches that expire.
    pub expiring_searches: u32,
    /// Each request with a number that this divides is answered with 429 first.
    pub busy_every: Option<u64>,
    /// The pause that the server demands if it is busy.
    pub retry_after: Duration,
    /// The base URL in links, instead of the server's own.
    pub names_itself: Option<String>,
    /// The largest `_count` that is not rejected.
    pub rejects_count_above: Option<usize>,
    /// True if `_total` is rejected.
    pub rejects_total: bool,
    /// Hostile conduct.
    pub hostile_behavior: Option<HostileBehavior>,
    /// True if resources are formatted over several lines.
    pub is_pretty: bool,
    /// True if responses over HTTP begin with a byte order mark.
    pub has_byte_order_mark: bool,
    /// The severity and the words of an OperationOutcome that each page of a search has.
    pub message: Option<(&'static str, &'static str)>,
}

impl Default for ServerBehavior {
    fn default() -> Self {
        Self {
            paging: Paging::Cursor,
            largest_page: 1_000,
            totals: Totals::Exact,
            caps_at: None,
            searches_by_time: true,
            names_last_updated: true,
            id_search: IdSearch::Lists,
            sorts: true,
            has_history: false,
            has_instance_history: true,
            history_form: HistoryForm::Usual,
            history_order: HistoryOrder::NewestFirst,
            expires_after: None,
            expiring_searches: 0,
            busy_every: None,
            retry_after: Duration::from_millis(5),
            names_itself: None,
            rejects_count_above: None,
            rejects_total: false,
            hostile_behavior: None,
            is_pretty: false,
            has_byte_order_mark: false,
            message: None,
        }
    }
}

/// A version of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// The type.
    pub kind: &'static str,
    /// The logical id.
    pub id: String,
    /// The time of the change.
    pub at: Millis,
    /// The JSON text. `None` for a deletion.
    pub text: Option<String>,
}

/// A change that happens while the server is read. It is called before each request, with the number of the request.
type OngoingChange = Box<dyn FnMut(&mut Store, u64) + Send>;

/// The content of a server.
#[derive(Debug, Default)]
pub struct Store {
    /// All versions in the order of time.
    pub versions: Vec<StoredVersion>,
}

impl Store {
    /// Adds a version of a resource. Its value keeps a trailing zero, which a parser of numbers would drop.
    pub fn put(&mut self, kind: &'static str, id: &str, at: Millis) {
        let number = self.versions.iter().filter(|version| version.kind == kind && version.id == id).count() + 1;
        let text = format!(
            r#"{{"resourceType":"{kind}","id":"{id}","meta":{{"versionId":"{number}","lastUpdated":"{at}"}},"extension":[{{"url":"x","valueDecimal":{number}.10}}]}}"#
        );
        self.versions.push(StoredVersion { kind, id: id.to_owned(), at, text: Some(text) });
    }

    /// Deletes a resource.
    pub fn delete(&mut self, kind: &'static str, id: &str, at: Millis) {
        self.versions.push(StoredVersion { kind, id: id.to_owned(), at, text: None });
    }

    /// Returns the texts of the resources that existed just before a moment, by type and id.
    pub fn state_before(&self, moment: Millis) -> BTreeMap<(&'static str, String), String> {
        let mut state = BTreeMap::new();
        for version in self.versions.iter().filter(|version| version.at < moment) {
            let key = (version.kind, version.id.clone());
            match &version.text {
                Some(text) => drop(state.insert(key, text.clone())),
                None => drop(state.remove(&key)),
            }
        }
        state
    }

    /// Returns the current version of each resource of a type.
    fn current(&self, kind: &str) -> Vec<StoredVersion> {
        let mut newest = BTreeMap::new();
        for version in self.versions.iter().filter(|version| version.kind == kind) {
            newest.insert(version.id.as_str(), version);
        }
        newest.into_values().filter(|version| version.text.is_some()).cloned().collect()
    }
}

/// A FHIR server in memory. Clones share its content.
#[derive(Clone)]
pub struct FhirServer(Arc<Mutex<State>>);

struct State {
    behavior: ServerBehavior,
    store: Store,
    now: Box<dyn Fn() -> Millis + Send>,
    ongoing: Option<OngoingChange>,
    /// The ids of kept searches.
    searches: Vec<CachedSearch>,
    requests: u64,
    queries: Vec<String>,
    base: String,
    made_up: u64,
    /// A type that the CapabilityStatement does not name.
    unlisted: Option<&'static str>,
    /// The number of links to a later page of a history that are yet to expire.
    expiring_history_links: u32,
    /// True if requests for histories are rejected.
    rejects_histories: bool,
    /// The value of `Authorization` that requests over HTTP must have.
    authorization: Option<String>,
    /// The signature that requests over HTTP must have.
    signature: Option<RequiredSignature>,
    /// The number of requests over HTTP whose signature was wrong, and what was wrong with the last one.
    wrong_signatures: (usize, String),
}

struct CachedSearch {
    kind: &'static str,
    ids: Vec<String>,
    pages: u32,
}

impl FhirServer {
    /// Creates a server with this behavior, and the time of this clock.
    pub fn new(behavior: ServerBehavior, now: impl Fn() -> Millis + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            behavior,
            store: Store::default(),
            now: Box::new(now),
            ongoing: None,
            searches: Vec::new(),
            requests: 0,
            queries: Vec::new(),
            base: "https://fhir.example.org/r4".to_owned(),
            made_up: 0,
            unlisted: None,
            expiring_history_links: 0,
            rejects_histories: false,
            authorization: None,
            signature: None,
            wrong_signatures: (0, String::new()),
        })))
    }

    /// Removes a type from the CapabilityStatement, or restores it.
    pub fn unlist(&self, kind: Option<&'static str>) {
        self.lock().unlisted = kind;
    }

    /// Runs `change` with the content of the server.
    pub fn with_store<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        change(&mut self.lock().store)
    }

    /// Lets this number of the next searches expire after some pages.
    pub fn expire_searches(&self, pages: u32, count: u32) {
        let mut state = self.lock();
        let searches = u32::try_from(state.searches.len()).unwrap_or(u32::MAX);
        (state.behavior.expires_after, state.behavior.expiring_searches) = (Some(pages), searches.saturating_add(count));
    }

    /// Lets this number of the next links to a later page of a history expire.
    pub fn expire_history_links(&self, count: u32) {
        self.lock().expiring_history_links = count;
    }

    /// Rejects requests for histories from now on, or no longer.
    pub fn reject_histories(&self, rejects_histories: bool) {
        self.lock().rejects_histories = rejects_histories;
    }

    /// Requires this value of `Authorization` of requests over HTTP.
    pub fn require_authorization(&self, value: &str) {
        self.lock().authorization = Some(value.to_owned());
    }

    /// Requires signed requests over HTTP.
    pub fn require_signature(&self, signature: RequiredSignature) {
        self.lock().signature = Some(signature);
    }

    /// Returns the number of requests over HTTP whose signature was wrong, and what was wrong with the last one.
    pub fn wrong_signatures(&self) -> (usize, String) {
        self.lock().wrong_signatures.clone()
    }

    /// Makes changes before each request from now on.
    pub fn change_while_read(&self, change: impl FnMut(&mut Store, u64) + Send + 'static) {
        self.lock().ongoing = Some(Box::new(change));
    }

    /// Ends the changes, all hostile behavior and the messages in pages.
    pub fn stop_changes(&self) {
        let mut state = self.lock();
        (state.ongoing, state.behavior.hostile_behavior, state.behavior.message) = (None, None, None);
    }

    /// Returns the paths and queries of all requests so far.
    pub fn queries(&self) -> Vec<String> {
        self.lock().queries.clone()
    }

    /// Locks the state.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FhirResponse {
    /// The HTTP status.
    pub status: u16,
    /// Header fields beside the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}
