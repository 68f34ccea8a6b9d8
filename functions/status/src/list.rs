//! `GET [base]/_operations/export`: lists the client's own exports, newest first, as a Bundle of Tasks.

use headrace_core::access::Principal;
use headrace_core::flow::client::list::{MAX_PAGE_SIZE, list};
use headrace_core::job::ExportError;
use headrace_core::ports::{Clock, JobStore};
use headrace_core::request::RequestError;
use headrace_core::vocab::ids::ListCursor;
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::reply::{FHIR_JSON, Reply};
use headrace_edge::{base_url, request};
use lambda_http::Request;
use serde_json::{Value, json};

use crate::task;

/// The path below the FHIR base URL.
const ROUTE: &str = "/_operations/export";

/// The page size if the client does not ask for one.
const DEFAULT_PAGE_SIZE: u16 = 20;

/// The handler that lists the exports of a client.
pub struct ListHandler<J, C> {
    jobs: J,
    clock: C,
    base: Option<String>,
}

/// The requested page of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PageRequest {
    count: u16,
    before: Option<ListCursor>,
}

impl<J: JobStore, C: Clock> ListHandler<J, C> {
    /// Creates the handler. `base` is the FHIR base URL; `None` derives it from each request.
    pub fn new(jobs: J, clock: C, base: Option<String>) -> Self {
        Self { jobs, clock, base }
    }

    /// Responds with one page of the client's own exports, newest first, as a Bundle of Tasks.
    pub async fn answer(&self, request: &Request, principal: &Principal) -> Result<Reply, ExportError> {
        let requested = parse_page_request(&request::parameters(request)?)?;
        let base = base_url::base_url(request, self.base.as_deref())?;
        let page = list(&self.jobs, &self.clock, principal, requested.before.clone(), requested.count).await?;
        let mut links = vec![link("self", &base, requested.count, requested.before.as_ref())];
        links.extend(page.next.as_ref().map(|next| link("next", &base, requested.count, Some(next))));
        let entries: Vec<Value> = page.jobs.iter().map(task::entry).collect();
        let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset", "link": links });
        // FHIR does not allow empty arrays.
        if let (Some(members), false) = (bundle.as_object_mut(), entries.is_empty()) {
            members.insert("entry".to_owned(), entries.into());
        }
        Ok(Reply::json(200, FHIR_JSON, bundle.to_string()))
    }
}

/// Creates a link of the Bundle to the page of `count` exports that were started before `before`. `None` links to the first page.
fn link(relation: &str, base: &str, count: u16, before: Option<&ListCursor>) -> Value {
    let page = before.map(|before| format!("&page={before}")).unwrap_or_default();
    json!({ "relation": relation, "url": format!("{base}{ROUTE}?_count={count}{page}") })
}

/// Parses `_count` and `page`. Rejects other parameters, and repeated ones.
fn parse_page_request(parameters: &[(String, String)]) -> Result<PageRequest, RequestError> {
    let reject = |code, name: &str, text: String| Err(RequestError::new(400, code, name, text));
    let (mut count, mut before) = (None, None);
    for (name, value) in parameters {
        let is_new = match name.as_str() {
            "_count" => match value.parse().ok().filter(|count| (1..=MAX_PAGE_SIZE).contains(count)) {
                Some(number) => count.replace(number).is_none(),
                None => return reject(IssueCode::Value, name, format!("_count is a whole number from 1 to {MAX_PAGE_SIZE}")),
            },
            "page" => match ListCursor::parse(value) {
                Some(cursor) => before.replace(cursor).is_none(),
                None => return reject(IssueCode::Value, name, "page is not a link of this list: follow its link `next`".to_owned()),
            },
            _ => {
                return reject(
                    IssueCode::NotSupported,
                    "query",
                    "the list of exports knows the parameters _count and page only".to_owned(),
                );
            }
        };
        if !is_new {
            return reject(IssueCode::Invalid, name, format!("the parameter {name} must not be repeated"));
        }
    }
    Ok(PageRequest { count: count.unwrap_or(DEFAULT_PAGE_SIZE), before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<PageRequest, RequestError> {
        parse_page_request(&parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn a_page_has_twenty_exports_or_the_requested_number() {
        assert_eq!(read(&[]).unwrap(), PageRequest { count: 20, before: None });
        assert_eq!(read(&[("_count", "1")]).unwrap().count, 1);
        assert_eq!(read(&[("_count", "100")]).unwrap().count, 100);
        let page = format!("0199c1f3ac00{}", "a5".repeat(16));
        assert_eq!(read(&[("page", &page), ("_count", "7")]).unwrap().before.unwrap().to_string(), page);
    }

    #[test]
    fn an_invalid_parameter_is_rejected_and_named() {
        for (parameters, expression) in [
            (&[("_count", "0")][..], "_count"),
            (&[("_count", "101")], "_count"),
            (&[("_count", "-1")], "_count"),
            (&[("_count", "")], "_count"),
            (&[("_count", "5"), ("_count", "5")], "_count"),
            (&[("page", "2")], "page"),
            (&[("page", "../../etc/passwd")], "page"),
            (&[("status", "completed")], "query"),
        ] {
            let error = read(parameters).unwrap_err();
            assert_eq!((error.status, error.expression.as_deref()), (400, Some(expression)), "{parameters:?}");
        }
    }
}
