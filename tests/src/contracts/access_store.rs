//! `AccessStore`: registrations. What tokens leave there is in the flows.

use headrace_core::access::{Client, ClientKeys, Scopes};
use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;

use super::Held;

/// Runs the suite: `access_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! access_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            access_store,
            $name,
            $open,
            [
                a_registration_is_read_back_whole,
                a_name_is_given_once,
                whoever_saw_an_older_registration_changes_nothing,
                clients_are_listed_by_name_page_by_page,
                a_forgotten_client_is_gone_and_its_name_free,
            ]
        );
    };
}

fn client(id: &str, at: u64) -> Client {
    let keys = ClientKeys::JwksUrl("https://lab.example/jwks.json".to_owned());
    let scopes = Scopes::of_text("system/Patient.rs system/Observation.rs?category=laboratory", Default::default()).0;
    Client {
        name: Some("The \"laboratory\"".to_owned()),
        groups: Some(["g-1".to_owned(), "g-2".to_owned()].into()),
        jobs: Some(3),
        ..Client::new(Caller(id.to_owned()), keys, scopes, Millis(at))
    }
}

/// And nobody else is found by its name.
pub async fn a_registration_is_read_back_whole(store: &impl AccessStore) -> Held {
    let lab = client("arn:aws:iam::1:role/Lab#x", 5);
    assert!(store.put_client(&lab, None).await?);
    assert_eq!(store.client(&lab.id).await?, Some(lab));
    assert_eq!(store.client(&Caller("arn:aws:iam::1:role/Lab".to_owned())).await?, None);
    Ok(())
}

/// The second registration changes nothing.
pub async fn a_name_is_given_once(store: &impl AccessStore) -> Held {
    let lab = client("lab", 5);
    assert!(store.put_client(&lab, None).await?);
    assert!(!store.put_client(&client("lab", 6), None).await?);
    assert_eq!(store.client(&lab.id).await?, Some(lab));
    Ok(())
}

/// Nor does whoever saw one that was never there.
pub async fn whoever_saw_an_older_registration_changes_nothing(store: &impl AccessStore) -> Held {
    store.put_client(&client("lab", 5), None).await?;
    let disabled = Client { is_disabled: true, changed_at: Millis(7), ..client("lab", 5) };
    assert!(store.put_client(&disabled, Some(Millis(5))).await?);
    assert!(!store.put_client(&Client { changed_at: Millis(8), ..client("lab", 5) }, Some(Millis(5))).await?);
    assert!(!store.remove_client(&disabled.id, Millis(5)).await?);
    assert_eq!(store.client(&disabled.id).await?, Some(disabled));
    assert!(!store.put_client(&client("nobody", 8), Some(Millis(5))).await?);
    assert_eq!(store.client(&Caller("nobody".to_owned())).await?, None);
    Ok(())
}

/// None twice, none left out, whatever the length of a page.
pub async fn clients_are_listed_by_name_page_by_page(store: &impl AccessStore) -> Held {
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

/// Forgetting it again says that somebody was faster.
pub async fn a_forgotten_client_is_gone_and_its_name_free(store: &impl AccessStore) -> Held {
    let lab = client("lab", 5);
    store.put_client(&lab, None).await?;
    assert!(store.remove_client(&lab.id, Millis(5)).await?);
    assert_eq!(store.client(&lab.id).await?, None);
    assert!(!store.remove_client(&lab.id, Millis(5)).await?);
    assert!(store.put_client(&client("lab", 9), None).await?);
    Ok(())
}
