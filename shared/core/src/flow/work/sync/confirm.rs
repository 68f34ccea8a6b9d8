//! Asks the server for resources that its listing does not have.
//!
//! It is asked for each one, by a request for the resource. If there are many, it is asked for lists of ids, by searches. Not all servers
//! search lists: some take a list as one id, or ignore it. So each list begins and ends with an id that the server has, a witness. An answer
//! counts if it has both witnesses and nothing that was not asked for, and if a request for the first missing resource says that it is gone.

use std::collections::{BTreeSet, HashSet};

use headrace_fhir::definitions::ResourceType;

use crate::ports::{AllPorts, OriginPage, OriginRequest};

use super::super::heartbeat::send_heartbeat_if_due;
use super::listing::CHECKPOINT_INTERVAL;
use super::pages::{PageError, PageReader};
use super::paging::{FollowedLinks, first_page, follow, parse_page};
use super::queries::ids_search_query;
use super::verify::matched_id;

/// The largest number of candidates that are all asked for one by one. That is certain also if the server's index is damaged.
const SINGLE_CANDIDATES: usize = 200;

/// The largest length of a list of ids, in bytes. Some servers reject queries of more than 2,048 bytes.
const LIST_BYTES: usize = 1_500;

/// The largest number of ids of a list without the witnesses. With them it is the largest page that every server accepts.
const LIST_IDS: usize = 98;

/// The number of answers that do not count after which the server is asked for each id singly.
const USELESS_ANSWERS: u32 = 3;

/// The requests for resources that may have been deleted.
pub(super) struct Confirmation {
    kind: ResourceType,
    /// Two ids that the server has. `None` if it listed fewer, or if no lists are needed.
    witnesses: Option<[String; 2]>,
    /// The number of answers to searches that did not count.
    useless_answers: u32,
    /// The number of ids to ask for singly before the next search.
    single_requests: usize,
}

impl Confirmation {
    /// Creates the requests for this number of candidates of a type.
    pub(super) fn new(kind: ResourceType, witnesses: BTreeSet<String>, candidates: usize) -> Self {
        let witnesses = witnesses.into_iter().collect::<Vec<_>>().try_into().ok().filter(|_| candidates > SINGLE_CANDIDATES);
        Self { kind, witnesses, useless_answers: 0, single_requests: 0 }
    }

    /// Asks for candidates from index `asked`, until all are asked for or a checkpoint is due. Moves the index, and adds to `deleted` those
    /// of which the server says that they are gone.
    pub(super) async fn ask_some<W: AllPorts>(
        &mut self,
        pages: &mut PageReader<'_, '_, W>,
        candidates: &[String],
        asked: &mut usize,
        deleted: &mut Vec<String>,
    ) -> Result<(), PageError> {
        let until = pages.ports.now() + CHECKPOINT_INTERVAL;
        while pages.ports.now() < until {
            let batch = self.next_batch(candidates.get(*asked..).unwrap_or_default());
            if batch.is_empty() {
                break;
            }
            if pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
            if let [id] = batch {
                deleted.extend(is_gone(pages, self.kind, id).await?.then(|| id.clone()));
                self.single_requests = self.single_requests.saturating_sub(1);
                *asked += 1;
            } else if let Some(missing) = self.search(pages, batch).await? {
                deleted.extend(missing);
                *asked += batch.len();
            } else {
                self.useless_answers += 1;
                self.single_requests = batch.len();
            }
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        Ok(())
    }

    /// Returns the first ids of `rest` that are asked for in one request.
    fn next_batch<'c>(&self, rest: &'c [String]) -> &'c [String] {
        let is_single = self.single_requests > 0 || self.useless_answers >= USELESS_ANSWERS;
        let limit = if is_single { 1 } else { LIST_IDS };
        let count = match &self.witnesses {
            Some(witnesses) => {
                let mut bytes = witnesses.iter().map(|id| id.len() + 1).sum::<usize>();
                let fits = |id: &&String| {
                    bytes += id.len() + 1;
                    bytes <= LIST_BYTES
                };
                rest.iter().take(limit).take_while(fits).count()
            }
            None => rest.len().min(1),
        };
        rest.get(..count).unwrap_or_default()
    }

    /// Searches ids. Returns those that the server does not have. `None` if the answer does not count.
    async fn search<W: AllPorts>(&self, pages: &mut PageReader<'_, '_, W>, batch: &[String]) -> Result<Option<Vec<String>>, PageError> {
        let Some([one, other]) = &self.witnesses else { return Ok(None) };
        let mut list = vec![one.as_str()];
        list.extend(batch.iter().map(String::as_str));
        list.push(other);
        let found = match found_ids(pages, self.kind, &list).await {
            Ok(found) => found,
            Err(error @ (PageError::TimeUp | PageError::Attempt(_))) => return Err(error),
            Err(PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => return Ok(None),
        };
        if !found.contains(one) || !found.contains(other) {
            return Ok(None);
        }
        let missing: Vec<String> = batch.iter().filter(|id| !found.contains(*id)).cloned().collect();
        if let Some(id) = missing.first()
            && !is_gone(pages, self.kind, id).await?
        {
            return Ok(None);
        }
        Ok(Some(missing))
    }
}

/// Returns true if the server says that a resource is gone.
async fn is_gone<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, kind: ResourceType, id: &str) -> Result<bool, PageError> {
    Ok(read_current(pages, kind, id).await?.is_none())
}

/// Reads the current version of a resource. Returns `None` if the server says that the resource is gone.
pub(super) async fn read_current<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    id: &str,
) -> Result<Option<OriginPage>, PageError> {
    match pages.read(OriginRequest::Query(&format!("{kind}/{id}"))).await {
        Ok(page) => Ok(Some(page)),
        Err(PageError::Rejected(404 | 410, _)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns those ids of a list that the server finds. Fails if it finds others, too.
async fn found_ids<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    list: &[&str],
) -> Result<HashSet<String>, PageError> {
    let (mut page, _) = first_page(pages, |spelling| ids_search_query(kind, list, spelling)).await?;
    let (mut found, mut links) = (HashSet::new(), FollowedLinks::default());
    loop {
        let parsed = parse_page(&page)?;
        PageError::check_complete(&parsed)?;
        found.extend(parsed.entries.iter().filter_map(matched_id));
        if found.iter().any(|id| !list.contains(&id.as_str())) {
            return Err(PageError::Final("the server does not search ids".to_owned()));
        }
        let Some(link) = parsed.next else { return Ok(found) };
        follow(&mut links, &link, list.len())?;
        page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates requests with these witnesses.
    fn confirmation(witnesses: &[&str]) -> Confirmation {
        Confirmation::new(ResourceType::PATIENT, witnesses.iter().map(|id| (*id).to_owned()).collect(), 1_000_000)
    }

    #[test]
    fn a_search_has_no_more_ids_than_a_page_and_a_url_of_any_server() {
        assert_eq!(confirmation(&["a", "b"]).next_batch(&vec!["x".to_owned(); 1_000]).len(), 98);
        for length in [36, 64] {
            let (one, other) = ("a".repeat(length), "b".repeat(length));
            let count = confirmation(&[&one, &other]).next_batch(&vec!["x".repeat(length); 1_000]).len();
            let bytes = (count + 2) * (length + 1);
            assert!(bytes <= 1_500 && bytes + length + 1 > 1_500, "{count} ids of {length} bytes");
        }
    }

    #[test]
    fn ids_are_asked_for_singly_if_they_are_few_without_two_witnesses_or_after_useless_answers() {
        let ids = vec!["x".to_owned(); 10];
        assert_eq!((confirmation(&[]).next_batch(&ids).len(), confirmation(&["a"]).next_batch(&ids).len()), (1, 1));
        let few = Confirmation::new(ResourceType::PATIENT, ["a".to_owned(), "b".to_owned()].into(), 200);
        assert_eq!(few.next_batch(&ids).len(), 1);
        let mut confirmation = confirmation(&["a", "b"]);
        assert_eq!((confirmation.next_batch(&ids).len(), confirmation.next_batch(&[]).len()), (10, 0));
        confirmation.single_requests = 1;
        assert_eq!(confirmation.next_batch(&ids).len(), 1);
        (confirmation.single_requests, confirmation.useless_answers) = (0, 3);
        assert_eq!(confirmation.next_batch(&ids).len(), 1);
    }
}
