//! Keeps the tenants of a table apart: each has a lake of its own, and no lake is around these.

use std::collections::{BTreeSet, HashMap};

use super::folder_of;
use crate::add::input::list_objects;
use crate::add::tenant_record::recorded_tenant;
use crate::add::{AddError, Addition};
use crate::writing::{LakeLock, OWN_FOLDER, WriteError, check_without_lakes};

/// The most names of tenants in an error.
const MAX_NAMED: usize = 20;

impl Addition<'_> {
    /// Checks that the lakes of tenants go into a folder that is no lake itself, and that anything else goes into a lake without tenants.
    pub(super) fn check_tenants(&self, lake: &LakeLock, tenants: &BTreeSet<String>) -> Result<(), AddError> {
        if self.settings.tenant.is_some() || tenants.iter().all(String::is_empty) {
            return Ok(check_without_lakes(lake)?);
        }
        if tenants.contains("") {
            return Err(AddError::Refused(
                "the table has items of tenants and items without a tenant, whose lake would contain those of the tenants: add each tenant with \
                 --tenant NAME to a lake of its own, and the other items with --tenant ''"
                    .to_owned(),
            ));
        }
        match own_object(lake)? {
            Some(object) => Err(AddError::Refused(format!(
                "the lake has data of its own, such as `{object}`, and its exports would read that of the table's tenants, too: name another \
                 directory or prefix, where each tenant gets a lake of its own"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the folders of the lake whose tenant is not recorded yet, each with the tenant. Fails if a folder has data of another tenant:
    /// resources of both may have the same id.
    pub(super) fn unrecorded_tenants(&self, lake: &LakeLock, tenants: &BTreeSet<String>) -> Result<Vec<(String, String)>, AddError> {
        let is_one_lake = self.settings.tenant.is_some();
        let mut unrecorded = Vec::new();
        for tenant in tenants {
            let folder = folder_of(tenant, is_one_lake);
            match recorded_tenant(lake, &folder)? {
                None => unrecorded.push((folder, tenant.clone())),
                Some(recorded) if recorded == *tenant => {}
                Some(recorded) => return Err(mixed_tenants(&folder, &recorded, tenant)),
            }
        }
        Ok(unrecorded)
    }

    /// Checks that the table has the tenant that is asked for. The operator may say that it has no changes, with the time up to which the lake
    /// is complete.
    ///
    /// * `others`: the other tenants of the table.
    pub(super) fn check_tenant_exists(&self, others: &BTreeSet<String>) -> Result<(), AddError> {
        let Some(tenant) = self.settings.tenant.as_ref().filter(|_| !others.is_empty() && self.settings.complete_up_to.is_none()) else {
            return Ok(());
        };
        let names: Vec<String> = others.iter().take(MAX_NAMED).map(|name| format!("{name:?}")).collect();
        let more = if others.len() > MAX_NAMED { ", and others" } else { "" };
        Err(AddError::Refused(format!(
            "the table has no items of the tenant {tenant:?} of --tenant, but of {}{more}; if the tenant has no changes in this export, say so with \
             --complete-up-to",
            names.join(", ")
        )))
    }
}

/// Returns the error for data of a tenant that would be added to a folder with that of another one.
fn mixed_tenants(folder: &str, recorded: &str, added: &str) -> AddError {
    let data_of =
        |tenant: &str| if tenant.is_empty() { "data without a tenant".to_owned() } else { format!("data of the tenant {tenant:?}") };
    let place = folder.strip_suffix('/').map_or_else(|| "the lake".to_owned(), |folder| format!("the lake in the folder `{folder}`"));
    AddError::Refused(format!(
        "{place} has {}, and its exports would mix that with {}: name another directory or prefix",
        data_of(recorded),
        data_of(added)
    ))
}

/// Adds the name of a tenant, unless there are enough for an error.
pub(super) fn add_name(names: &mut BTreeSet<String>, tenant: &str) {
    if names.len() <= MAX_NAMED && !names.contains(tenant) {
        names.insert(tenant.to_owned());
    }
}

/// Returns the name of an object of a lake that is in none of the lakes directly inside it. `None` if there is none.
fn own_object(lake: &LakeLock) -> Result<Option<String>, AddError> {
    let mut lakes = HashMap::new();
    for object in list_objects(lake)? {
        let Some((folder, _)) = object.name.split_once('/') else { return Ok(Some(object.name)) };
        let is_lake = match lakes.get(folder) {
            Some(is_lake) => *is_lake,
            None => {
                let is_lake = is_lake(lake, folder)?;
                lakes.insert(folder.to_owned(), is_lake);
                is_lake
            }
        };
        if !is_lake {
            return Ok(Some(object.name));
        }
    }
    Ok(None)
}

/// Returns true if a folder of a lake is a lake.
fn is_lake(lake: &LakeLock, folder: &str) -> Result<bool, WriteError> {
    let Some(locked) = lake.bucket() else { return Ok(lake.root().join(folder).join(OWN_FOLDER).is_dir()) };
    let start = format!("{}{folder}/{OWN_FOLDER}/", locked.bucket.prefix());
    locked.bucket.has_key(&start).map_err(locked.failed(folder))
}
