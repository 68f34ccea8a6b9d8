//! The record of the tenant of a table whose data a lake has, so that data of another tenant is not added to it.

use serde::Deserialize;

use super::AddError;
use crate::writing::{LakeLock, OWN_FOLDER};

/// The content of the record.
#[derive(Debug, Deserialize)]
struct TenantRecord {
    /// The name of the tenant. It is empty for items without a tenant.
    tenant: String,
}

/// Returns the name of the record of a folder of the lake, which is empty or ends in `/`.
pub(super) fn tenant_object(folder: &str) -> String {
    format!("{folder}{OWN_FOLDER}/tenant.json")
}

/// Returns the content of the record of a tenant.
pub(super) fn tenant_content(tenant: &str) -> String {
    format!("{}\n", serde_json::json!({ "tenant": tenant }))
}

/// Returns the tenant whose data a folder of the lake has. `None` if no addition has recorded it.
pub(super) fn recorded_tenant(lake: &LakeLock, folder: &str) -> Result<Option<String>, AddError> {
    let object = tenant_object(folder);
    let Some(content) = lake.read_object(&object)? else { return Ok(None) };
    match serde_json::from_slice::<TenantRecord>(&content) {
        Ok(record) => Ok(Some(record.tenant)),
        Err(_) => Err(AddError::Refused(format!(
            "the object `{object}` of the lake does not name its tenant, such as {{\"tenant\":\"t1\"}}: correct it, or remove it, and the \
             next addition of a table records its tenant"
        ))),
    }
}
