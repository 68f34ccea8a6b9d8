//! What is recorded for auditors and not yet sealed: an item each, in the transaction that does what it tells of; and where
//! sealing stands.

use std::collections::HashMap;

use headrace_core::audit::AuditEntry;
use headrace_core::audit::chain::{Claim, RecordName, Standing};
use headrace_core::ports::AuditTrail;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::DynamoJobStore;
use super::items::{self, AUDIT_PK, Attributes, Item};
use super::write::{Landed, Update, Write};

/// The embedded engine wants a limit; a page of DynamoDB ends at 1 MB anyway.
const PAGE: usize = 1_000;

impl DynamoJobStore {
    /// The records from this key to that one, page by page, until `limit` are found.
    async fn recorded(&self, from: String, to: String, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":pk", items::text(AUDIT_PK))
                .expression_attribute_values(":from", items::text(&from))
                .expression_attribute_values(":to", items::text(&to))
                .consistent_read(true)
                .limit(i32::try_from((limit - found.len()).min(PAGE)).unwrap_or(i32::MAX))
                .set_exclusive_start_key(after)
                .send()
                .await
                .map_err(|error| self.called.store_error(error))?;
            for item in page.items() {
                found.push(Attributes(item).required_json("entry")?);
            }
            after = page.last_evaluated_key;
            if after.is_none() || found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// Moves the head on, if it stands where it was seen.
    fn head_moves(seen: &Standing) -> Update {
        let update = Update::of(items::audit_head_key()).set("step", items::number(seen.step + 1));
        match seen.step {
            0 => update.when("attribute_not_exists(pk)"),
            step => update.when("step = :seen").value(":seen", items::number(step)),
        }
    }
}

impl AuditTrail for DynamoJobStore {
    async fn note(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(audit_item(entry)?));
        put.send().await.map_err(|error| self.called.store_error(error))?;
        entry.tell();
        Ok(())
    }

    async fn unsealed(&self, until: Millis, limit: u16) -> Result<Vec<AuditEntry>, StoreError> {
        // Before every record of that moment, and behind all earlier ones.
        self.recorded(items::audit_sk(Millis(0), ""), items::audit_sk(until, ""), usize::from(limit)).await
    }

    async fn records(&self, names: &[RecordName]) -> Result<Vec<AuditEntry>, StoreError> {
        let keys = || names.iter().map(|name| items::audit_sk(name.at, &name.id));
        let (Some(from), Some(to)) = (keys().min(), keys().max()) else { return Ok(Vec::new()) };
        // Between them lie others only that came late: they are few.
        let found = self.recorded(from, to, usize::MAX).await?;
        let mut found: HashMap<String, AuditEntry> = found.into_iter().map(|entry| (items::audit_sk(entry.at, &entry.id), entry)).collect();
        Ok(keys().filter_map(|key| found.remove(&key)).collect())
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        let Some(item) = self.get_key(items::audit_head_key()).await? else { return Ok(Standing::default()) };
        let attributes = Attributes(&item);
        Ok(Standing { step: attributes.count("step")?, head: attributes.optional_json("head")?, claim: attributes.optional_json("claim")? })
    }

    async fn claim(&self, seen: &Standing, claim: &Claim) -> Result<bool, StoreError> {
        let update = Self::head_moves(seen).set("claim", items::json(claim)?);
        Ok(self.update(update).await? == Landed::Yes)
    }

    async fn seal(&self, seen: &Standing, claim: &Claim) -> Result<bool, StoreError> {
        let head = Self::head_moves(seen).set("head", items::json(&claim.to)?).remove("claim");
        let sealed = claim.records.iter().map(|name| Write::Delete(items::audit_key(name)));
        let writes: Vec<Write> = std::iter::once(Write::Update(head)).chain(sealed).collect();
        Ok(self.transact(&writes).await? == Landed::Yes)
    }
}

/// A record as it is stored.
pub(super) fn audit_item(entry: &AuditEntry) -> Result<Item, StoreError> {
    let mut item = items::audit_key(&entry.name());
    item.insert("entry".to_owned(), items::json(entry)?);
    Ok(item)
}
