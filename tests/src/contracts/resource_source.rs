//! `ResourceSource`.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use headrace_core::job::task::Pin;
use headrace_core::lake::slices::encoding_of;
use headrace_core::ports::ResourceSource;
use headrace_core::vocab::error::SourceError;

use super::{BoxError, Held};

/// An empty lake and a way to fill it.
pub trait LakeShore {
    /// The lake.
    type Source: ResourceSource;

    /// The lake as an export reads it.
    fn source(&self) -> &Self::Source;

    /// Writes an object, or replaces it by other bytes.
    fn put(&self, object: &str, bytes: Bytes) -> impl Future<Output = Held>;

    /// Removes an object.
    fn remove(&self, object: &str) -> impl Future<Output = Held>;

    /// A lake that is not there, and what the error must name: where it should be, and the setting if there is one.
    fn absent(&self) -> (Self::Source, Vec<String>);
}

/// Runs the suite: `resource_source_contract!(name, crate::open)`.
#[macro_export]
macro_rules! resource_source_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            resource_source,
            $name,
            $open,
            [
                a_listing_of_many_objects_is_complete_and_in_order,
                an_empty_lake_is_an_empty_listing,
                odd_names_are_names,
                ranges_are_exact,
                a_changed_object_is_never_read_as_what_was_pinned,
                a_removed_object_is_named,
                an_absent_lake_says_what_to_do,
            ]
        );
    };
}

/// All pages of the listing, without what is no NDJSON.
async fn list(shore: &impl LakeShore) -> Result<Vec<Pin>, BoxError> {
    let (mut pins, mut after) = (Vec::new(), None);
    loop {
        let listing = shore.source().list(after.as_deref()).await?;
        pins.extend(listing.objects.into_iter().filter(|pin| encoding_of(&pin.object).is_some()));
        match listing.next {
            Some(next) => after = Some(next),
            None => return Ok(pins),
        }
    }
}

async fn pin(shore: &impl LakeShore, object: &str) -> Result<Pin, BoxError> {
    let found = list(shore).await?.into_iter().find(|pin| pin.object == object);
    Ok(found.ok_or_else(|| format!("{object} is not listed"))?)
}

async fn read(shore: &impl LakeShore, pin: &Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
    let chunks: Vec<Bytes> = shore.source().read(pin, range).try_collect().await?;
    Ok(chunks.concat().into())
}

/// Bytes that differ wherever they are.
fn pattern(length: u32) -> Bytes {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
}

/// More than one page of S3, in the order of their names' bytes, each once, with its size.
pub async fn a_listing_of_many_objects_is_complete_and_in_order(shore: &impl LakeShore) -> Held {
    let mut names: Vec<String> = (0..1_050).map(|n| format!("Observation/{}/{n}.ndjson.gz", n % 7)).collect();
    names.extend(["Observation-1.ndjson".to_owned(), "Observation.ndjson".to_owned(), "a/b/c/type=Patient/x.ndjson.zst".to_owned()]);
    for (length, name) in names.iter().enumerate() {
        shore.put(name, Bytes::from(vec![b'x'; length % 5])).await?;
    }
    shore.put("README.md", Bytes::from_static(b"not for us")).await?;
    let mut expected: Vec<(String, u64)> = names.into_iter().enumerate().map(|(length, name)| (name, length as u64 % 5)).collect();
    expected.sort();
    let listed: Vec<(String, u64)> = list(shore).await?.into_iter().map(|pin| (pin.object, pin.size)).collect();
    assert!(listed.is_sorted(), "not in order");
    assert_eq!(listed, expected);
    Ok(())
}

/// Nothing to export is no error.
pub async fn an_empty_lake_is_an_empty_listing(shore: &impl LakeShore) -> Held {
    shore.source().check().await?;
    assert!(list(shore).await?.is_empty());
    Ok(())
}

/// Blanks, plus and percent signs, quotes, other scripts.
pub async fn odd_names_are_names(shore: &impl LakeShore) -> Held {
    let names = ["a b", "a+b", "100%", "%41", "ß☃🦀", "x&y=z?", "it's \"#1\"", "a;b,c:d@e!$", "(1)[2]{3}", "~tilde~"];
    let names = names.map(|name| format!("Patient {name}/{name}.ndjson"));
    for name in &names {
        shore.put(name, Bytes::from(name.clone())).await?;
    }
    let pins = list(shore).await?;
    assert_eq!(pins.len(), names.len());
    for name in &names {
        let pin = pin(shore, name).await?;
        assert_eq!(read(shore, &pin, 0..pin.size).await?, name);
    }
    Ok(())
}

/// To the byte, also where requests and buffers end, and where there is nothing.
pub async fn ranges_are_exact(shore: &impl LakeShore) -> Held {
    const MIB: u64 = 1 << 20;
    let bytes = pattern(9 << 20);
    let size = bytes.len() as u64;
    shore.put("Patient.ndjson", bytes.clone()).await?;
    shore.put("empty.ndjson", Bytes::new()).await?;
    let whole = pin(shore, "Patient.ndjson").await?;
    assert_eq!(whole.size, size);
    for range in [0..size, 0..1, 1..2, MIB - 1..MIB + 1, 4 * MIB - 1..8 * MIB + 1, 4 * MIB..8 * MIB, size - 1..size, 0..0, 5..5, size..size]
    {
        let expected = bytes.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        assert!(read(shore, &whole, range.clone()).await? == expected, "{range:?}");
    }
    let empty = pin(shore, "empty.ndjson").await?;
    assert!(read(shore, &empty, 0..0).await?.is_empty());
    Ok(())
}

async fn must_be_changed(shore: &impl LakeShore, pin: &Pin, range: Range<u64>) -> Held {
    match read(shore, pin, range.clone()).await {
        Err(SourceError::Changed { object }) if object == pin.object => Ok(()),
        other => Err(format!("{range:?} of {} must be changed, and is {other:?}", pin.object).into()),
    }
}

/// Of the same length, longer or shorter: the export is a snapshot or it fails.
pub async fn a_changed_object_is_never_read_as_what_was_pinned(shore: &impl LakeShore) -> Held {
    for length in [30, 40, 20] {
        shore.put("Patient.ndjson", Bytes::from(vec![b'a'; 30])).await?;
        let pinned = pin(shore, "Patient.ndjson").await?;
        assert_eq!(read(shore, &pinned, 0..30).await?.len(), 30);
        shore.put("Patient.ndjson", Bytes::from(vec![b'b'; length])).await?;
        for range in [0..30, 0..1, 29..30] {
            must_be_changed(shore, &pinned, range).await?;
        }
        let anew = pin(shore, "Patient.ndjson").await?;
        assert_ne!(anew.etag, pinned.etag);
        assert_eq!(read(shore, &anew, 0..anew.size).await?, vec![b'b'; length]);
    }
    Ok(())
}

/// So that the client knows what happened to the lake.
pub async fn a_removed_object_is_named(shore: &impl LakeShore) -> Held {
    shore.put("Patient/1 ß.ndjson", Bytes::from_static(b"{}\n")).await?;
    let pinned = pin(shore, "Patient/1 ß.ndjson").await?;
    shore.remove("Patient/1 ß.ndjson").await?;
    must_be_changed(shore, &pinned, 0..3).await?;
    assert!(list(shore).await?.is_empty());
    Ok(())
}

/// Both at the start and in the plan.
pub async fn an_absent_lake_says_what_to_do(shore: &impl LakeShore) -> Held {
    let (source, named) = shore.absent();
    for error in [source.check().await.err(), source.list(None).await.err()] {
        match error {
            Some(SourceError::Misconfigured { remedy, .. }) => {
                for word in &named {
                    assert!(remedy.contains(word), "{remedy}");
                }
            }
            other => return Err(format!("it must be misconfigured, and is {other:?}").into()),
        }
    }
    Ok(())
}
