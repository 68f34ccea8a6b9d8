//! Contract of `ResourceSource`.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use headrace_core::job::task::Pin;
use headrace_core::lake::slices::encoding_from_name;
use headrace_core::ports::{METADATA_LIMIT_BYTES, MetadataObject, ResourceSource};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;

use super::{BoxError, CaseResult};

/// Empty lake under test, which a case can fill.
pub trait TestLake {
    /// Source that reads the lake.
    type Source: ResourceSource;

    /// Returns the source as an export uses it.
    fn source(&self) -> &Self::Source;

    /// Writes or replaces an object.
    fn put(&self, object: &str, bytes: Bytes) -> impl Future<Output = CaseResult>;

    /// Returns the time at which an object was written last.
    fn written_at(&self, object: &str) -> impl Future<Output = Result<Millis, BoxError>>;

    /// Removes an object.
    fn remove(&self, object: &str) -> impl Future<Output = CaseResult>;

    /// Returns a source whose lake does not exist, and the words that the error must contain: its location, and the setting if there is
    /// one.
    fn missing(&self) -> (Self::Source, Vec<String>);
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
                an_empty_lake_has_an_empty_listing,
                object_names_may_contain_special_characters,
                ranges_are_exact,
                a_changed_object_is_never_read_as_the_pinned_version,
                reading_a_removed_object_names_it,
                a_missing_lake_is_reported_with_a_remedy,
                the_arrival_of_an_object_is_the_time_of_its_last_write,
                metadata_is_read_by_name_and_may_be_absent,
                large_metadata_is_not_read,
                a_lake_inside_the_lake_is_reported_by_name,
            ]
        );
    };
}

/// Lists all NDJSON objects of the lake.
async fn list(lake: &impl TestLake) -> Result<Vec<Pin>, BoxError> {
    let (mut pins, mut after) = (Vec::new(), None);
    loop {
        let listing = lake.source().list(after.as_deref()).await?;
        pins.extend(listing.objects.into_iter().map(|listed| listed.pin).filter(|pin| encoding_from_name(&pin.object).is_some()));
        match listing.next {
            Some(next) => after = Some(next),
            None => return Ok(pins),
        }
    }
}

/// Returns the pin of an object as it is listed now. Fails if the object is not listed.
async fn pin(lake: &impl TestLake, object: &str) -> Result<Pin, BoxError> {
    let found = list(lake).await?.into_iter().find(|pin| pin.object == object);
    Ok(found.ok_or_else(|| format!("{object} is not listed"))?)
}

/// Reads a range of a pinned object.
async fn read(lake: &impl TestLake, pin: &Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
    let chunks: Vec<Bytes> = lake.source().read(pin, range).try_collect().await?;
    Ok(chunks.concat().into())
}

/// Generates bytes that differ at every position.
fn pattern(length: u32) -> Bytes {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
}

/// Checks a listing of more than one S3 page: in byte order of the names, without duplicates, with sizes.
pub async fn a_listing_of_many_objects_is_complete_and_in_order(lake: &impl TestLake) -> CaseResult {
    let mut names: Vec<String> = (0..1_050).map(|n| format!("Observation/{}/{n}.ndjson.gz", n % 7)).collect();
    names.extend(["Observation-1.ndjson".to_owned(), "Observation.ndjson".to_owned(), "a/b/c/type=Patient/x.ndjson.zst".to_owned()]);
    for (length, name) in names.iter().enumerate() {
        lake.put(name, Bytes::from(vec![b'x'; length % 5])).await?;
    }
    lake.put("README.md", Bytes::from_static(b"not NDJSON")).await?;
    let mut expected: Vec<(String, u64)> = names.into_iter().enumerate().map(|(length, name)| (name, length as u64 % 5)).collect();
    expected.sort();
    let listed: Vec<(String, u64)> = list(lake).await?.into_iter().map(|pin| (pin.object, pin.size)).collect();
    assert!(listed.is_sorted(), "not in order");
    assert_eq!(listed, expected);
    Ok(())
}

/// Checks that an empty lake is not an error.
pub async fn an_empty_lake_has_an_empty_listing(lake: &impl TestLake) -> CaseResult {
    lake.source().check().await?;
    assert!(list(lake).await?.is_empty());
    Ok(())
}

/// Checks names with spaces, plus and percent signs, quotes and non-ASCII characters.
pub async fn object_names_may_contain_special_characters(lake: &impl TestLake) -> CaseResult {
    let names = ["a b", "a+b", "100%", "%41", "ß☃🦀", "x&y=z?", "it's \"#1\"", "a;b,c:d@e!$", "(1)[2]{3}", "~tilde~"];
    let names = names.map(|name| format!("Patient {name}/{name}.ndjson"));
    for name in &names {
        lake.put(name, Bytes::from(name.clone())).await?;
    }
    let pins = list(lake).await?;
    assert_eq!(pins.len(), names.len());
    for name in &names {
        let pin = pin(lake, name).await?;
        assert_eq!(read(lake, &pin, 0..pin.size).await?, name);
    }
    Ok(())
}

/// Checks that reading a range returns exactly its bytes: at the start and the end of the object, at the boundaries of requests and
/// buffers, and for empty ranges.
pub async fn ranges_are_exact(lake: &impl TestLake) -> CaseResult {
    const MIB: u64 = 1 << 20;
    let bytes = pattern(9 << 20);
    let size = bytes.len() as u64;
    lake.put("Patient.ndjson", bytes.clone()).await?;
    lake.put("empty.ndjson", Bytes::new()).await?;
    let whole = pin(lake, "Patient.ndjson").await?;
    assert_eq!(whole.size, size);
    for range in [0..size, 0..1, 1..2, MIB - 1..MIB + 1, 4 * MIB - 1..8 * MIB + 1, 4 * MIB..8 * MIB, size - 1..size, 0..0, 5..5, size..size]
    {
        let expected = bytes.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        assert!(read(lake, &whole, range.clone()).await? == expected, "{range:?}");
    }
    let empty = pin(lake, "empty.ndjson").await?;
    assert!(read(lake, &empty, 0..0).await?.is_empty());
    Ok(())
}

/// Fails unless reading reports that the object has changed.
async fn assert_changed(lake: &impl TestLake, pin: &Pin, range: Range<u64>) -> CaseResult {
    match read(lake, pin, range.clone()).await {
        Err(SourceError::Changed { object }) if object == pin.object => Ok(()),
        other => Err(format!("{range:?} of {} must be reported as changed, but the result is {other:?}", pin.object).into()),
    }
}

/// Checks changed objects of the same, a larger and a smaller size. An export must read the pinned version or fail.
pub async fn a_changed_object_is_never_read_as_the_pinned_version(lake: &impl TestLake) -> CaseResult {
    for length in [30, 40, 20] {
        lake.put("Patient.ndjson", Bytes::from(vec![b'a'; 30])).await?;
        let pinned = pin(lake, "Patient.ndjson").await?;
        assert_eq!(read(lake, &pinned, 0..30).await?.len(), 30);
        lake.put("Patient.ndjson", Bytes::from(vec![b'b'; length])).await?;
        for range in [0..30, 0..1, 29..30] {
            assert_changed(lake, &pinned, range).await?;
        }
        let anew = pin(lake, "Patient.ndjson").await?;
        assert_ne!(anew.etag, pinned.etag);
        assert_eq!(read(lake, &anew, 0..anew.size).await?, vec![b'b'; length]);
    }
    Ok(())
}

/// Checks that the error about a removed object contains its name.
pub async fn reading_a_removed_object_names_it(lake: &impl TestLake) -> CaseResult {
    lake.put("Patient/1 ß.ndjson", Bytes::from_static(b"{}\n")).await?;
    let pinned = pin(lake, "Patient/1 ß.ndjson").await?;
    lake.remove("Patient/1 ß.ndjson").await?;
    assert_changed(lake, &pinned, 0..3).await?;
    assert!(list(lake).await?.is_empty());
    Ok(())
}

/// Checks that a listing says when each object was written last, to the second.
pub async fn the_arrival_of_an_object_is_the_time_of_its_last_write(lake: &impl TestLake) -> CaseResult {
    let mut expected = Vec::new();
    for name in ["Patient-1.ndjson", "Patient-2.ndjson"] {
        lake.put(name, Bytes::from_static(b"{}\n")).await?;
        expected.push((name.to_owned(), lake.written_at(name).await?.0 / 1_000));
    }
    let listing = lake.source().list(None).await?;
    let arrivals: Vec<(String, u64)> = listing.objects.into_iter().map(|listed| (listed.pin.object, listed.arrived.0 / 1_000)).collect();
    assert_eq!(arrivals, expected);
    Ok(())
}

/// Checks that metadata is read as it is stored, and that a missing object is not an error.
pub async fn metadata_is_read_by_name_and_may_be_absent(lake: &impl TestLake) -> CaseResult {
    let name = "_headrace/watermark.json";
    assert_eq!(lake.source().read_metadata(name).await?, None);
    lake.put("Patient.ndjson", Bytes::from_static(b"{}\n")).await?;
    assert_eq!(lake.source().read_metadata(name).await?, None);
    for content in [&b"{\"completeUpTo\":\"2026-11-29T10:00:00Z\"}"[..], b"", b"\xff\0garbage"] {
        lake.put(name, Bytes::from_static(content)).await?;
        let expected = MetadataObject { size: content.len() as u64, bytes: Bytes::from_static(content) };
        assert_eq!(lake.source().read_metadata(name).await?, Some(expected));
    }
    lake.remove(name).await?;
    assert_eq!(lake.source().read_metadata(name).await?, None);
    Ok(())
}

/// Checks that metadata is read up to the limit, and that of a larger object only the size is known.
pub async fn large_metadata_is_not_read(lake: &impl TestLake) -> CaseResult {
    for (size, read) in [(METADATA_LIMIT_BYTES, METADATA_LIMIT_BYTES), (METADATA_LIMIT_BYTES + 1, 0), (9 << 20, 0)] {
        lake.put("_headrace/watermark.json", pattern(u32::try_from(size)?)).await?;
        let object = lake.source().read_metadata("_headrace/watermark.json").await?.ok_or("the object is absent")?;
        assert_eq!((object.size, object.bytes.len() as u64), (size, read));
    }
    Ok(())
}

/// Checks that the objects of a lake around another one are not listed, and that folders that no export reads may have lakes.
pub async fn a_lake_inside_the_lake_is_reported_by_name(lake: &impl TestLake) -> CaseResult {
    lake.put("Patient.ndjson", Bytes::from_static(b"{}\n")).await?;
    for own in ["_headrace/watermark.json", "_old/t0/_headrace/watermark.json"] {
        lake.put(own, Bytes::from_static(b"{}")).await?;
        assert_eq!(lake.source().list(None).await?.objects.iter().filter(|listed| listed.pin.object == "Patient.ndjson").count(), 1);
    }
    lake.put("2026/t1/_headrace/watermark.json", Bytes::from_static(b"{}")).await?;
    match lake.source().list(None).await {
        Err(SourceError::Misconfigured { remedy, .. }) if remedy.contains("`2026/t1`") => Ok(()),
        other => Err(format!("the result must name the inner lake, but is {other:?}").into()),
    }
}

/// Checks the error of `check` and of `list`.
pub async fn a_missing_lake_is_reported_with_a_remedy(lake: &impl TestLake) -> CaseResult {
    let (source, named) = lake.missing();
    for error in [source.check().await.err(), source.list(None).await.err()] {
        match error {
            Some(SourceError::Misconfigured { remedy, .. }) => {
                for word in &named {
                    assert!(remedy.contains(word), "{remedy}");
                }
            }
            other => return Err(format!("the result must be `Misconfigured`, but is {other:?}").into()),
        }
    }
    Ok(())
}
