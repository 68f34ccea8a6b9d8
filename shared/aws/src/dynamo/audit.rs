//! Audit records that are not sealed yet, and the state of the chain of sealed files.
//!
//! A record is an item, written in the transaction that it describes.

use std::collections::HashMap;

use headrace_core::audit::chain::{ChainState, PendingFile};
use headrace_core::audit::{AuditRecord, AuditRecordKey};
use headrace_core::ports::AuditTrail;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::DynamoJobStore;
use super::items::{self, AUDIT_PK, AUDIT_UNKNOWN_PK, Attributes};
use super::transact::{Update, Write, WriteOutcome};

impl DynamoJobStore {
    /// Reads the records of a partition with sort keys from `first` to `last`, up to `limit`.
    async fn audit_records(&self, partition: &str, (first, last): (String, String), limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let query = self
            .query()
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", items::text(partition))
            .expression_attribute_values(":first", items::text(first))
            .expression_attribute_values(":last", items::text(last))
            .consistent_read(true);
        self.query_all(query, limit, |item| Attributes(item).required_json("record")).await
    }
}

/// Returns an update of the chain state that applies only if the state is still as it was `seen`.
fn update_chain_state(seen: &ChainState) -> Update {
    let update = Update::new(items::audit_chain_key()).set("revision", items::number(seen.revision + 1));
    match seen.revision {
        0 => update.when("attribute_not_exists(pk)"),
        revision => update.when("revision = :seen").value(":seen", items::number(revision)),
    }
}

impl AuditTrail for DynamoJobStore {
    async fn add_record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(items::audit_item(record)?));
        put.send().await.map_err(|error| self.service.store_error(error))?;
        record.log();
        Ok(())
    }

    async fn unsealed(&self, until: Millis, limit: u16) -> Result<Vec<AuditRecord>, StoreError> {
        // A sort key without an id comes before all records of its time.
        let range = || (items::audit_sk(Millis(0), ""), items::audit_sk(until, ""));
        let mut records = self.audit_records(AUDIT_PK, range(), usize::from(limit)).await?;
        records.extend(self.audit_records(AUDIT_UNKNOWN_PK, range(), usize::from(limit)).await?);
        records.sort_by_cached_key(AuditRecord::key);
        records.truncate(usize::from(limit));
        Ok(records)
    }

    async fn records(&self, keys: &[AuditRecordKey]) -> Result<Vec<AuditRecord>, StoreError> {
        let mut records = HashMap::new();
        for (partition, of_unknown_callers) in [(AUDIT_PK, false), (AUDIT_UNKNOWN_PK, true)] {
            let keys = || keys.iter().filter(|key| key.is_of_unknown_caller() == of_unknown_callers);
            let (Some(first), Some(last)) = (keys().min(), keys().max()) else { continue };
            let sort_key = |key: &AuditRecordKey| items::audit_sk(key.at, &key.id);
            // One query reads the whole range. Few other records lie in it, because only late ones can.
            let found = self.audit_records(partition, (sort_key(first), sort_key(last)), usize::MAX).await?;
            records.extend(found.into_iter().map(|record| (record.key(), record)));
        }
        Ok(keys.iter().filter_map(|key| records.remove(key)).collect())
    }

    async fn chain_state(&self) -> Result<ChainState, StoreError> {
        let Some(item) = self.get_key(items::audit_chain_key()).await? else { return Ok(ChainState::default()) };
        let attributes = Attributes(&item);
        Ok(ChainState {
            revision: attributes.count("revision")?,
            head: attributes.optional_json("head")?,
            pending: attributes.optional_json("pending")?,
        })
    }

    async fn reserve_file(&self, seen: &ChainState, file: &PendingFile) -> Result<bool, StoreError> {
        let update = update_chain_state(seen).set("pending", items::json(file)?);
        Ok(self.update(update).await? == WriteOutcome::Applied)
    }

    async fn seal(&self, seen: &ChainState, file: &PendingFile) -> Result<bool, StoreError> {
        let state = update_chain_state(seen).set("head", items::json(&file.head_after)?).remove("pending");
        let deletes = file.records.iter().map(|key| Write::Delete(items::audit_key(key)));
        let writes: Vec<Write> = std::iter::once(Write::Update(state)).chain(deletes).collect();
        Ok(self.transact(&writes).await? == WriteOutcome::Applied)
    }
}
