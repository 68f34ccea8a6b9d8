//! The store of audit records that are not sealed yet, and the store of sealed audit files.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::audit::chain::{AuditFileName, ChainState, PendingFile};
use crate::audit::{AuditRecord, AuditRecordKey};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

/// The store of audit records that are not sealed yet, and of the state of the audit chain.
pub trait AuditTrail: Send + Sync {
    /// Stores an audit record. Changes of a job's state are recorded by the job store instead, in the same transaction.
    fn add_record(&self, record: &AuditRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lists up to `limit` unsealed records that were made before `until`, oldest first.
    fn unsealed(&self, until: Millis, limit: u16) -> impl Future<Output = Result<Vec<AuditRecord>, StoreError>> + Send;

    /// Returns the records with these keys, in this order. Records that were sealed meanwhile are omitted.
    fn records(&self, keys: &[AuditRecordKey]) -> impl Future<Output = Result<Vec<AuditRecord>, StoreError>> + Send;

    /// Returns the state of the audit chain.
    fn chain_state(&self) -> impl Future<Output = Result<ChainState, StoreError>> + Send;

    /// Reserves the file that is to be written next. Returns false if another process has changed the state of the chain
    /// since it was `seen`.
    fn reserve_file(&self, seen: &ChainState, file: &PendingFile) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Seals the reserved file after it was written: advances the head of the chain and deletes the records of the file, in
    /// one transaction. Returns false if another process has changed the state of the chain since it was `seen`.
    fn seal(&self, seen: &ChainState, file: &PendingFile) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The result of writing an audit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditWrite {
    /// The file was written.
    Written,
    /// A file with this name already existed and was not changed. Contains its bytes.
    Exists(Bytes),
}

/// The store of sealed audit files. Files are never changed or deleted through this port.
pub trait AuditFiles: Send + Sync {
    /// Writes a new audit file, completely or not at all. An existing file is not changed.
    fn write(&self, name: &AuditFileName, bytes: Bytes) -> impl Future<Output = Result<AuditWrite, StoreError>> + Send;

    /// Lists all audit files, and the foreign files beside them.
    fn list(&self) -> impl Future<Output = Result<AuditFileListing, StoreError>> + Send;

    /// Reads a whole audit file.
    fn read(&self, name: &AuditFileName) -> impl Future<Output = Result<Bytes, StoreError>> + Send;
}

/// A listing of the store of audit files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuditFileListing {
    /// The audit files, sorted by day and number.
    pub files: BTreeSet<AuditFileName>,
    /// The paths of other files, which do not belong there.
    pub foreign_files: BTreeSet<String>,
}
