//! The answers to requests.

use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;
use percent_encoding::percent_decode_str;

use super::{
    CachedSearch, FhirResponse, FhirServer, HistoryForm, HistoryOrder, HostileBehavior, IdSearch, Paging, State, StoredVersion, Totals,
};

/// Returns a rejection with an OperationOutcome.
fn rejection(status: u16, code: &str, text: &str) -> FhirResponse {
    let body = format!(r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","code":"{code}","diagnostics":"{text}"}}]}}"#);
    FhirResponse { status, headers: Vec::new(), body }
}

/// The parameters of a query, as they were sent.
struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(parameter, _)| *parameter == name).map(|(_, value)| *value)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        self.0.iter().filter(move |(parameter, _)| *parameter == name).map(|(_, value)| *value)
    }
}

/// Parses an instant in milliseconds.
fn millis(text: &str) -> Option<Millis> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(Millis(u64::try_from(Instant::parse(&decoded).ok()?.nanos() / 1_000_000).unwrap_or_default()))
}

impl FhirServer {
    /// Serves the request for a path and query below the base URL.
    pub fn respond(&self, target: &str) -> FhirResponse {
        let mut state = self.lock();
        state.requests += 1;
        state.queries.push(target.to_owned());
        let number = state.requests;
        if let Some(mut ongoing) = state.ongoing.take() {
            ongoing(&mut state.store, number);
            state.ongoing = Some(ongoing);
        }
        if state.behavior.busy_every.is_some_and(|every| number.is_multiple_of(every)) {
            let headers = vec![("x-ms-retry-after-ms", state.behavior.retry_after.as_millis().to_string())];
            return FhirResponse { headers, ..rejection(429, "throttled", "too many requests") };
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match path.trim_start_matches('/') {
            "metadata" => FhirResponse { status: 200, headers: Vec::new(), body: state.capability_statement() },
            "" => state.cached_page(&Query::parse(query)),
            path => match path.split_once('/') {
                None => state.search(path, query),
                Some((kind, "_history")) if state.behavior.has_history => state.history(kind, None, &Query::parse(query)),
                Some((kind, rest)) if state.behavior.has_history && state.behavior.has_instance_history && rest.ends_with("/_history") => {
                    state.history(kind, rest.strip_suffix("/_history"), &Query::parse(query))
                }
                Some((kind, id)) => state.read(kind, id),
            },
        }
    }
}

impl State {
    /// Returns the CapabilityStatement.
    fn capability_statement(&self) -> String {
        let time = if self.behavior.names_last_updated { r#","searchParam":[{"name":"_lastUpdated","type":"date"}]"# } else { "" };
        let history = if self.behavior.has_history { r#",{"code":"history-type"}"# } else { "" };
        let resource =
            |kind: &str| format!(r#"{{"type":"{kind}","interaction":[{{"code":"read"}},{{"code":"search-type"}}{history}]{time}}}"#);
        let listed = ["Observation", "Patient"].into_iter().filter(|kind| self.unlisted != Some(*kind));
        let types = listed.map(resource).collect::<Vec<_>>().join(",");
        format!(
            r#"{{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","rest":[{{"mode":"server","resource":[{types},{{"type":"Binary","interaction":[{{"code":"read"}}]}}]}}]}}"#
        )
    }

    /// Serves the request for a resource.
    fn read(&self, kind: &str, id: &str) -> FhirResponse {
        match self.store.current(kind).into_iter().find(|version| version.id == id).and_then(|version| version.text) {
            Some(body) => FhirResponse { status: 200, headers: Vec::new(), body },
            None if ["Observation", "Patient", "Binary"].contains(&kind) => {
                rejection(410, "deleted", "the resource was deleted, or has never been there")
            }
            None => rejection(404, "not-found", "unknown resource type"),
        }
    }

    /// Returns the base URL that links have.
    fn link_base(&self) -> &str {
        self.behavior.names_itself.as_deref().unwrap_or(&self.base)
    }

    /// Serves a search for resources of a type.
    fn search(&mut self, kind: &str, text: &str) -> FhirResponse {
        let query = Query::parse(text);
        let Some(kind) = ["Observation", "Patient"].into_iter().find(|known| *known == kind) else {
            return rejection(404, "not-supported", "unknown resource type");
        };
        if self.behavior.rejects_total && query.get("_total").is_some() {
            return rejection(400, "invalid", "the parameter _total is not supported");
        }
        if self.behavior.id_search == IdSearch::Rejected && query.get("_id").is_some() {
            return rejection(400, "invalid", "the parameter _id is not supported");
        }
        let count: usize = query.get("_count").and_then(|count| count.parse().ok()).unwrap_or(10);
        if self.behavior.rejects_count_above.is_some_and(|largest| count > largest) {
            return rejection(400, "invalid", "_count is too large");
        }
        let mut matches = self.matches(kind, &query);
        matches.truncate(self.behavior.caps_at.unwrap_or(usize::MAX));
        if query.get("_summary") == Some("count") {
            return self.total(matches.len());
        }
        let count = count.clamp(1, self.behavior.largest_page);
        match self.behavior.paging {
            Paging::CachedIds => {
                let ids = matches.into_iter().map(|version| version.id).collect();
                self.searches.push(CachedSearch { kind, ids, pages: 0 });
                let target = format!("_getpages={}&_getpagesoffset=0&_count={count}", self.searches.len() - 1);
                self.cached_page(&Query::parse(&target))
            }
            Paging::Cursor | Paging::EqualsSigns => {
                let raw = query.get("_cursor").map(|cursor| cursor.trim_end_matches('='));
                if self.behavior.paging == Paging::EqualsSigns && query.get("_cursor").is_some_and(|cursor| !cursor.ends_with("==")) {
                    return rejection(400, "invalid", "the token of the page is damaged");
                }
                let after = raw.and_then(|cursor| cursor.split_once('~')).and_then(|(at, id)| Some((at.parse().ok().map(Millis)?, id)));
                let rest = matches.into_iter().filter(|version| after.is_none_or(|(at, id)| (version.at, version.id.as_str()) > (at, id)));
                let mut page: Vec<_> = rest.take(count + 1).collect();
                let has_more = page.len() > count;
                page.truncate(count);
                let signs = if self.behavior.paging == Paging::EqualsSigns { "==" } else { "" };
                let next = page.last().filter(|_| has_more).map(|last| {
                    let others: Vec<&str> = text.split('&').filter(|pair| !pair.starts_with("_cursor=")).collect();
                    format!("{}/{kind}?{}&_cursor={}~{}{signs}", self.link_base(), others.join("&"), last.at.0, last.id)
                });
                self.page(kind, &page, next)
            }
            Paging::Offset => {
                let start = query.get("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(0);
                let has_more = matches.len() > start + count;
                let page: Vec<_> = matches.into_iter().skip(start).take(count).collect();
                let others: Vec<&str> = text.split('&').filter(|pair| !pair.starts_with("page=")).collect();
                let next = has_more.then(|| format!("{}/{kind}?{}&page={}", self.link_base(), others.join("&"), start + count));
                self.page(kind, &page, next)
            }
        }
    }

    /// Returns the current resources that match, in the order of the search.
    fn matches(&self, kind: &str, query: &Query<'_>) -> Vec<StoredVersion> {
        let mut matches = self.store.current(kind);
        if self.behavior.searches_by_time {
            for condition in query.all("_lastUpdated") {
                let (operator, time) = condition.split_at(2);
                let Some(time) = millis(time) else { return Vec::new() };
                matches.retain(|version| match operator {
                    "ge" => version.at >= time,
                    "lt" => version.at < time,
                    _ => false,
                });
            }
        }
        if self.behavior.id_search == IdSearch::DamagedIndex && query.get("_lastUpdated").is_none() {
            matches.retain(|version| version.id.ends_with('9'));
        }
        if let Some(list) = query.get("_id") {
            matches.retain(|version| match self.behavior.id_search {
                IdSearch::Lists | IdSearch::DamagedIndex => list.split(',').any(|id| id == version.id),
                IdSearch::LastId => list.rsplit(',').next() == Some(version.id.as_str()),
                IdSearch::OneId => list == version.id,
                IdSearch::Ignored | IdSearch::Rejected => true,
            });
        }
        let is_paged_by_time = matches!(self.behavior.paging, Paging::Cursor | Paging::EqualsSigns);
        if (self.behavior.sorts && query.get("_sort") == Some("_lastUpdated")) || is_paged_by_time {
            matches.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
        }
        match query.get("_sort").filter(|_| self.behavior.sorts) {
            Some("_id") => matches.sort_by(|one, other| one.id.cmp(&other.id)),
            Some("-_id") => matches.sort_by(|one, other| other.id.cmp(&one.id)),
            Some("-_lastUpdated") => matches.sort_by(|one, other| (other.at, &other.id).cmp(&(one.at, &one.id))),
            Some(_) | None => {}
        }
        matches
    }

    /// Serves a search for the number of results.
    fn total(&self, exact: usize) -> FhirResponse {
        let total = match self.behavior.totals {
            Totals::Exact => exact,
            Totals::Estimate => exact * 3 / 2 + 1,
            Totals::Rejected => return rejection(400, "not-supported", "_summary=count is not supported"),
        };
        let body = format!(r#"{{"resourceType":"Bundle","type":"searchset","total":{total}}}"#);
        FhirResponse { status: 200, headers: Vec::new(), body }
    }

    /// Returns a page of a search whose ids were kept.
    fn cached_page(&mut self, query: &Query<'_>) -> FhirResponse {
        let number = |name| query.get(name).and_then(|text: &str| text.parse::<usize>().ok());
        let (Some(index), Some(offset), Some(count)) = (number("_getpages"), number("_getpagesoffset"), number("_count")) else {
            return rejection(400, "invalid", "unknown request");
        };
        let (expires_after, expiring) = (self.behavior.expires_after, self.behavior.expiring_searches);
        let Some(search) = self.searches.get_mut(index) else { return rejection(410, "not-found", "HAPI-0417") };
        search.pages += 1;
        if expires_after.is_some_and(|pages| search.pages > pages) && index < expiring as usize {
            return rejection(410, "not-found", "HAPI-0417: search has expired");
        }
        let kind = search.kind;
        let ids: Vec<String> = search.ids.iter().skip(offset).take(count).cloned().collect();
        let has_more = search.ids.len() > offset + count;
        let current = self.store.current(kind);
        let page: Vec<_> = ids.iter().filter_map(|id| current.iter().find(|version| version.id == *id)).cloned().collect();
        let next = has_more.then(|| {
            format!("{}?_getpages={index}&_getpagesoffset={}&_count={count}&_bundletype=searchset", self.link_base(), offset + count)
        });
        self.page(kind, &page, next)
    }

    /// Serves a request for the history of a type, or of a resource: all versions since a moment.
    fn history(&mut self, kind: &str, id: Option<&str>, query: &Query<'_>) -> FhirResponse {
        let Some(kind) = ["Observation", "Patient"].into_iter().find(|known| *known == kind) else {
            return rejection(404, "not-supported", "unknown resource type");
        };
        if let Some(id) = id.filter(|_| self.behavior.hostile_behavior == Some(HostileBehavior::LoopingHistory)) {
            return self.bundle("history", &[], Some(format!("{}/{kind}/{id}/_history?page=0", self.link_base())));
        }
        if self.rejects_histories {
            return rejection(403, "forbidden", "histories are not for this client");
        }
        if query.get("page").is_some() && self.expiring_history_links > 0 {
            self.expiring_history_links -= 1;
            return rejection(410, "not-found", "the link has expired");
        }
        let since = query.get("_since").and_then(millis).unwrap_or(Millis(0));
        let until = query.get("_until").and_then(|text| text.parse().ok().map(Millis)).unwrap_or((self.now)());
        let start: usize = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(0);
        let count = query.get("_count").and_then(|count| count.parse().ok()).unwrap_or(10_usize).clamp(1, self.behavior.largest_page);
        let of_type = self.store.versions.iter().filter(|version| version.kind == kind && id.is_none_or(|id| version.id == id));
        let mut all: Vec<_> = of_type.filter(|version| version.at >= since && version.at <= until).cloned().collect();
        match self.behavior.history_order {
            HistoryOrder::NewestFirst => all.reverse(),
            HistoryOrder::OldestOfTimeFirst => all.sort_by_key(|version| std::cmp::Reverse(version.at)),
            HistoryOrder::OldestFirst => {}
        }
        let next = (all.len() > start + count).then(|| {
            format!(
                "{}/{kind}{}/_history?_since={since}&_count={count}&_until={}&page={}",
                self.link_base(),
                id.map(|id| format!("/{id}")).unwrap_or_default(),
                until.0,
                start + count
            )
        });
        if self.behavior.history_form == HistoryForm::TotalAlone && !all.is_empty() {
            let body = format!(r#"{{"resourceType":"Bundle","type":"history","total":{}}}"#, all.len());
            return FhirResponse { status: 200, headers: Vec::new(), body };
        }
        let page: Vec<_> = all.into_iter().skip(start).take(count).collect();
        self.bundle("history", &page, next)
    }

    /// Formats a page of a search, or spoils it.
    fn page(&mut self, kind: &'static str, page: &[StoredVersion], next: Option<String>) -> FhirResponse {
        let base = self.link_base().to_owned();
        self.made_up += 1;
        let number = self.made_up;
        let mut page = page.to_vec();
        let mut text = |text: String| page.push(StoredVersion { kind, id: "made-up".to_owned(), at: Millis(0), text: Some(text) });
        let made_up =
            |id: &str, kind: &str| format!(r#"{{"resourceType":"{kind}","id":"{id}","meta":{{"lastUpdated":"2026-01-01T00:00:01Z"}}}}"#);
        let next = match self.behavior.hostile_behavior {
            Some(HostileBehavior::EndlessPages) => {
                text(made_up(&format!("made-up-{number}"), kind));
                Some(format!("{base}/{kind}?_cursor=0~&x={number}"))
            }
            Some(HostileBehavior::EndlessRepetition) => Some(format!("{base}/{kind}?_cursor=0~&x={number}")),
            Some(HostileBehavior::LoopingLink) => Some(format!("{base}/{kind}?_cursor=0~&x=1")),
            Some(HostileBehavior::OtherType) => {
                text(made_up("x", "Account"));
                next
            }
            Some(HostileBehavior::ClimbingId) => {
                text(made_up("../../etc/passwd", kind));
                next
            }
            Some(HostileBehavior::OtherServer) => Some("http://169.254.169.254/latest/meta-data".to_owned()),
            Some(HostileBehavior::CutPage | HostileBehavior::HtmlPage | HostileBehavior::LoopingHistory) | None => next,
        };
        let mut response = self.bundle("searchset", &page, next);
        if let (Some((severity, words)), Some(entries)) = (self.behavior.message, response.body.strip_suffix("]}")) {
            let comma = if page.is_empty() { "" } else { "," };
            let issue = format!(r#"{{"severity":"{severity}","code":"incomplete","diagnostics":"{words}"}}"#);
            response.body = format!(r#"{entries}{comma}{{"resource":{{"resourceType":"OperationOutcome","issue":[{issue}]}}}}]}}"#);
        }
        match self.behavior.hostile_behavior {
            Some(HostileBehavior::CutPage) => response.body.truncate(response.body.len() / 2),
            Some(HostileBehavior::HtmlPage) => response.body = "<html>Sign in</html>".to_owned(),
            Some(_) | None => {}
        }
        response
    }

    /// Formats a Bundle.
    fn bundle(&self, kind: &str, page: &[StoredVersion], next: Option<String>) -> FhirResponse {
        let entries: Vec<String> = page.iter().map(|version| self.entry(kind, version)).collect();
        let next = next.map(|url| format!(r#","link":[{{"relation":"next","url":"{url}"}}]"#)).unwrap_or_default();
        let body = format!(r#"{{"resourceType":"Bundle","type":"{kind}"{next},"entry":[{}]}}"#, entries.join(","));
        FhirResponse { status: 200, headers: Vec::new(), body }
    }

    /// Formats an entry.
    fn entry(&self, bundle: &str, version: &StoredVersion) -> String {
        let (name, base, at) = (format!("{}/{}", version.kind, version.id), self.link_base(), version.at);
        match &version.text {
            None => {
                let (request, status, at) = match self.behavior.history_form {
                    HistoryForm::Usual | HistoryForm::TotalAlone => ("DELETE", "204", at),
                    HistoryForm::LowerCase => ("delete", "204", at),
                    HistoryForm::Statuses => ("", "410 Gone", at),
                    HistoryForm::Unclear => ("", "", at),
                    HistoryForm::SecondsOfDeletions => ("DELETE", "204", Millis(at.0 / 1_000 * 1_000)),
                };
                let request =
                    if request.is_empty() { String::new() } else { format!(r#","request":{{"method":"{request}","url":"{name}"}}"#) };
                let status = if status.is_empty() { String::new() } else { format!(r#""status":"{status}","#) };
                format!(r#"{{"fullUrl":"{base}/{name}"{request},"response":{{{status}"lastModified":"{at}"}}}}"#)
            }
            Some(text) if bundle == "history" => {
                format!(r#"{{"fullUrl":"{base}/{name}","resource":{text},"request":{{"method":"PUT","url":"{name}"}}}}"#)
            }
            Some(text) => {
                let text = if self.behavior.is_pretty { text.replace(",\"", ",\n  \"") } else { text.clone() };
                format!(r#"{{"fullUrl":"{base}/{name}","resource":{text},"search":{{"mode":"match"}}}}"#)
            }
        }
    }
}
