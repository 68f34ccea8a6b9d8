//! Decides between the events of a resource that have the same time.
//!
//! The server is asked for a resource that has not changed after the window: its present state is that at the end of the window. It may have
//! been deleted since the history was read, so what changed after the window is read once more. A resource that has changed after the window
//! may be decided by the numbers of its versions, which its own history has. What stays undecided is not claimed: the report counts it, and
//! the deletions of the type are unknown from there on.

use crate::ports::{AllPorts, OriginRequest};

use super::super::super::heartbeat::send_heartbeat_if_due;
use super::super::confirm::read_current;
use super::super::history_events::Events;
use super::super::pages::{PageError, PageReader};
use super::super::paging::{FollowedLinks, first_page, follow, parse_page};
use super::super::queries::history_query;
use super::super::split::whole_second;
use super::{HistoryReader, INSTANCE_PAGES, INSTANCES};

impl HistoryReader<'_> {
    /// Asks the server which of several events of the same time came last.
    pub(super) async fn decide<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        for id in self.events.undecided_ids() {
            self.record_if_due(pages).await?;
            let current = read_current(pages, self.fetch.resource_type, &id).await?;
            self.events.add_answer(&id, current.as_ref().map(|page| page.body.as_ref()))?;
            self.progress.answers += 1;
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        if self.events.has_gone_resources() {
            self.read_later_events(pages).await?;
        }
        self.number_versions(pages).await
    }

    /// Reads what the history of the type shows of the time after the window. A deletion that the server made before it was asked is there.
    async fn read_later_events<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        // The time of a deletion may have lost its fraction of a second.
        let (kind, since, page_size) = (self.fetch.resource_type, whole_second(self.window.to), self.fetch.page_size);
        let (mut page, _) = first_page(pages, |spelling| history_query(kind, since, page_size, spelling)).await?;
        let mut links = FollowedLinks::default();
        self.events.start_sequence();
        loop {
            if pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
            let parsed = parse_page(&page)?;
            self.events.add(&parsed)?;
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
            let Some(link) = parsed.next else { return Ok(()) };
            follow(&mut links, &link, INSTANCE_PAGES)?;
            page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
        }
    }

    /// Reads the histories of the resources that the numbers of all their versions may decide.
    async fn number_versions<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        for id in self.events.ids_to_number(self.progress.last_numbered.as_deref()) {
            if self.progress.instances >= INSTANCES {
                break;
            }
            self.record_if_due(pages).await?;
            // If the server does not show it, the resource stays undecided.
            self.read_instance(pages, &id, Events::is_settled).await?;
            self.progress.instances += 1;
            self.progress.last_numbered = Some(id);
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        Ok(())
    }
}
