//! `GET [base]/_operations/export`: the caller's own exports, the newest first, as a Bundle of Tasks.

use headrace_core::access::Principal;
use headrace_core::flow::client::list::{LONGEST_PAGE, list};
use headrace_core::ports::{Clock, JobStore};
use headrace_core::request::{Level, Refusal};
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::ids::ListCursor;
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::reply::{FHIR_JSON, Reply};
use headrace_edge::{base, request};
use lambda_http::Request;
use serde_json::{Value, json};

use crate::task;

/// The path below the base.
const ROUTE: &str = "/_operations/export";

/// How many exports a page has if the client does not say.
const USUAL_PAGE: u16 = 20;

/// What a list needs, for the life of the process.
pub struct List<J, C> {
    jobs: J,
    clock: C,
    base: Option<String>,
}

/// Which part of the list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    count: u16,
    before: Option<ListCursor>,
}

impl<J: JobStore, C: Clock> List<J, C> {
    /// With these ports; `base` is the FHIR base, if it is not to be taken from each request.
    pub fn new(jobs: J, clock: C, base: Option<String>) -> Self {
        Self { jobs, clock, base }
    }

    /// Answers one request.
    pub async fn answer(&self, request: &Request, visitor: &Principal) -> Result<Reply, ExportError> {
        let wanted = wanted(&request::asked(request, Level::System)?.parameters)?;
        let base = base::base(request, ROUTE, self.base.as_deref())?;
        let page = list(&self.jobs, &self.clock, visitor, wanted.before.clone(), wanted.count).await?;
        let mut links = vec![link("self", &base, wanted.count, wanted.before.as_ref())];
        links.extend(page.next.as_ref().map(|next| link("next", &base, wanted.count, Some(next))));
        let entries: Vec<Value> = page.jobs.iter().map(task::entry).collect();
        let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset", "link": links });
        // FHIR knows no empty arrays.
        if let (Some(members), false) = (bundle.as_object_mut(), entries.is_empty()) {
            members.insert("entry".to_owned(), entries.into());
        }
        Ok(Reply::json(200, FHIR_JSON, bundle.to_string()))
    }
}

fn link(relation: &str, base: &str, count: u16, before: Option<&ListCursor>) -> Value {
    let page = before.map(|before| format!("&page={before}")).unwrap_or_default();
    json!({ "relation": relation, "url": format!("{base}{ROUTE}?_count={count}{page}") })
}

fn wanted(parameters: &[(String, String)]) -> Result<Wanted, Refusal> {
    let refuse = |code, name: &str, text: String| Err(Refusal::of(400, code, name, text));
    let (mut count, mut before) = (None, None);
    for (name, value) in parameters {
        let is_new = match name.as_str() {
            "_count" => match value.parse().ok().filter(|count| (1..=LONGEST_PAGE).contains(count)) {
                Some(number) => count.replace(number).is_none(),
                None => return refuse(IssueCode::Value, name, format!("_count is a whole number from 1 to {LONGEST_PAGE}")),
            },
            "page" => match ListCursor::parse(value) {
                Some(cursor) => before.replace(cursor).is_none(),
                None => return refuse(IssueCode::Value, name, "page is no link of this list: follow its link `next`".to_owned()),
            },
            _ => {
                return refuse(
                    IssueCode::NotSupported,
                    "query",
                    "the list of exports knows the parameters _count and page only".to_owned(),
                );
            }
        };
        if !is_new {
            return refuse(IssueCode::Invalid, name, format!("the parameter {name} may be given once only"));
        }
    }
    Ok(Wanted { count: count.unwrap_or(USUAL_PAGE), before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<Wanted, Refusal> {
        wanted(&parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn a_page_has_twenty_exports_or_as_many_as_asked_for() {
        assert_eq!(read(&[]).unwrap(), Wanted { count: 20, before: None });
        assert_eq!(read(&[("_count", "1")]).unwrap().count, 1);
        assert_eq!(read(&[("_count", "100")]).unwrap().count, 100);
        let page = format!("0199c1f3ac00{}", "a5".repeat(16));
        assert_eq!(read(&[("page", &page), ("_count", "7")]).unwrap().before.unwrap().to_string(), page);
    }

    #[test]
    fn what_the_list_does_not_know_is_refused_and_named() {
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
            let refusal = read(parameters).unwrap_err();
            assert_eq!((refusal.status, refusal.expression.as_deref()), (400, Some(expression)), "{parameters:?}");
        }
    }
}
