//! Contract of `AccessStore`: client registrations. Flow tests cover what token requests store.

use headrace_core::access::{Client, ClientKeys, FixedConfiguration, Scopes};
use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, RegistrationId};

use super::CaseResult;

/// Runs the suite: `access_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! access_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            access_store,
            $name,
            $open,
            [
                a_stored_registration_is_read_back_unchanged,
                a_client_id_can_be_registered_only_once,
                a_write_based_on_an_older_registration_changes_nothing,
                clients_are_listed_by_id_in_pages,
                a_removed_client_is_gone_and_its_id_can_be_reused,
            ]
        );
    };
}

/// Creates a registration with a value in most fields, registered at `at` milliseconds.
fn client(id: &str, at: u64) -> Client {
    let keys = ClientKeys::JwksUrl("https://lab.example/jwks.json".to_owned());
    let scopes = Scopes::parse("system/Patient.rs system/Observation.rs?category=laboratory", Default::default()).0;
    Client {
        name: Some("The \"laboratory\"".to_owned()),
        groups: Some(["g-1".to_owned(), "g-2".to_owned()].into()),
        registration_id: Some(RegistrationId("7".repeat(32))),
        key_changes: 2,
        anonymization_configs: Some(["a b/study.json", "other.json=x"].into_iter().filter_map(FixedConfiguration::parse).collect()),
        max_exports: Some(3),
        ..Client::new(Caller(id.to_owned()), keys, scopes, Millis(at))
    }
}

/// Checks that a stored registration is read back, and that a similar client id finds nothing.
pub async fn a_stored_registration_is_read_back_unchanged(store: &impl AccessStore) -> CaseResult {
    let lab = client("arn:aws:iam::1:role/Lab#x", 5);
    assert!(store.put_client(&lab, None).await?);
    assert_eq!(store.client(&lab.id).await?, Some(lab));
    assert_eq!(store.client(&Caller("arn:aws:iam::1:role/Lab".to_owned())).await?, None);
    Ok(())
}

/// Checks that a second registration is rejected and changes nothing.
pub async fn a_client_id_can_be_registered_only_once(store: &impl AccessStore) -> CaseResult {
    let lab = client("lab", 5);
    assert!(store.put_client(&lab, None).await?);
    assert!(!store.put_client(&client("lab", 6), None).await?);
    assert_eq!(store.client(&lab.id).await?, Some(lab));
    Ok(())
}

/// Checks that writes and removals fail unless they are based on the current registration.
pub async fn a_write_based_on_an_older_registration_changes_nothing(store: &impl AccessStore) -> CaseResult {
    store.put_client(&client("lab", 5), None).await?;
    let disabled = Client { is_disabled: true, changed_at: Millis(7), ..client("lab", 5) };
    assert!(store.put_client(&disabled, Some(Millis(5))).await?);
    assert!(!store.put_client(&Client { changed_at: Millis(8), ..client("lab", 5) }, Some(Millis(5))).await?);
    assert!(!store.remove_client(&disabled.id, Millis(5)).await?);
    assert_eq!(store.client(&disabled.id).await?, Some(disabled));
    assert!(!store.put_client(&client("unknown", 8), Some(Millis(5))).await?);
    assert_eq!(store.client(&Caller("unknown".to_owned())).await?, None);
    Ok(())
}

/// Checks that pages of any size list every client exactly once.
pub async fn clients_are_listed_by_id_in_pages(store: &impl AccessStore) -> CaseResult {
    let names = ["A", "a", "b#1", "b/2", "lab", "study-7", "zzz"];
    for name in names.iter().rev() {
        store.put_client(&client(name, 5), None).await?;
    }
    for limit in [1, 3, 7, 100] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store.clients(after.as_ref(), limit).await?;
            assert!(page.clients.len() <= usize::from(limit));
            listed.extend(page.clients.into_iter().map(|client| client.id.0));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, names, "{limit} a page");
    }
    Ok(())
}

/// Checks that a removed client cannot be removed again, and that its id can be registered again.
pub async fn a_removed_client_is_gone_and_its_id_can_be_reused(store: &impl AccessStore) -> CaseResult {
    let lab = client("lab", 5);
    store.put_client(&lab, None).await?;
    assert!(store.remove_client(&lab.id, Millis(5)).await?);
    assert_eq!(store.client(&lab.id).await?, None);
    assert!(!store.remove_client(&lab.id, Millis(5)).await?);
    assert!(store.put_client(&client("lab", 9), None).await?);
    Ok(())
}
