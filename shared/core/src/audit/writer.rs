//! Writes audit records as chained lines of NDJSON.

use bytes::Bytes;

use super::chain::{ChainHead, LineHash};
use super::event::AuditEvent;
use super::record::AuditRecord;

/// Serializes records as the lines that follow `head`, each with its line feed. Returns the lines and the chain's new head.
///
/// Fails if a record cannot be serialized as JSON, which does not happen.
pub fn write_lines(head: &ChainHead, records: &[AuditRecord]) -> Result<(Bytes, ChainHead), serde_json::Error> {
    let (mut text, mut head) = (Vec::new(), head.clone());
    for record in records {
        let line = serde_json::to_vec(&AuditEvent::new(record, &head))?;
        head = ChainHead { sequence: head.sequence + 1, hash: LineHash::digest(&line), ..head };
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    Ok((text.into(), head))
}
