//! Contract of `LakeWriter`.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream;
use headrace_core::ports::{ByteStream, LakeWriter};
use headrace_core::vocab::error::SourceError;

use super::{BoxError, CaseResult};

/// The name of the object that is replaced under a condition.
const WATERMARK: &str = "_headrace/watermark.json";

/// Empty lake under test.
pub trait TestLakeWriter {
    /// Writer of the lake.
    type Writer: LakeWriter;

    /// Returns the writer.
    fn writer(&self) -> &Self::Writer;

    /// Returns the contents of all objects of the lake.
    fn objects(&self) -> impl Future<Output = Result<BTreeMap<String, Bytes>, BoxError>>;
}

/// Runs the suite: `lake_writer_contract!(name, crate::open)`.
#[macro_export]
macro_rules! lake_writer_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            lake_writer,
            $name,
            $open,
            [
                an_object_has_all_chunks_in_order,
                an_object_of_many_parts_is_complete,
                an_object_is_never_replaced,
                a_content_that_breaks_off_is_never_visible,
                metadata_is_replaced,
                metadata_is_replaced_only_if_it_is_as_expected,
                one_of_two_writers_replaces_metadata,
            ]
        );
    };
}

/// Returns a stream of these chunks.
fn content(chunks: Vec<Bytes>) -> ByteStream {
    Box::pin(stream::iter(chunks.into_iter().map(Ok)))
}

/// Returns a megabyte of this letter.
fn megabyte(letter: u8) -> Bytes {
    vec![letter; 1 << 20].into()
}

/// Checks that chunks are written one after the other.
pub async fn an_object_has_all_chunks_in_order(lake: &impl TestLakeWriter) -> CaseResult {
    lake.writer().put("Patient/1.ndjson", content(vec!["a\n".into(), "".into(), "b\n".into()])).await?;
    lake.writer().put("Patient/2.ndjson", content(Vec::new())).await?;
    let objects = lake.objects().await?;
    assert_eq!(objects.get("Patient/1.ndjson"), Some(&Bytes::from_static(b"a\nb\n")));
    assert_eq!(objects.get("Patient/2.ndjson"), Some(&Bytes::new()));
    Ok(())
}

/// Checks that objects longer than a part of an upload arrive whole, also if their length is a multiple of a part.
pub async fn an_object_of_many_parts_is_complete(lake: &impl TestLakeWriter) -> CaseResult {
    for megabytes in [16_u8, 32, 35] {
        let chunks: Vec<_> = (0..megabytes).map(megabyte).collect();
        let name = format!("Patient/{megabytes}.ndjson");
        lake.writer().put(&name, content(chunks.clone())).await?;
        assert!(lake.objects().await?.get(&name).is_some_and(|object| *object == chunks.concat()), "{megabytes} MiB");
    }
    Ok(())
}

/// Checks that an attempt which stores an object again leaves it as it is.
pub async fn an_object_is_never_replaced(lake: &impl TestLakeWriter) -> CaseResult {
    lake.writer().put("Patient/1.ndjson", content(vec!["a\n".into()])).await?;
    lake.writer().put("Patient/1.ndjson", content(vec!["b\n".into()])).await?;
    lake.writer().put("Patient/1.ndjson", content((0..17).map(megabyte).collect())).await?;
    assert_eq!(lake.objects().await?.get("Patient/1.ndjson"), Some(&Bytes::from_static(b"a\n")));
    Ok(())
}

/// Checks that a reader sees an object as a whole or not at all.
pub async fn a_content_that_breaks_off_is_never_visible(lake: &impl TestLakeWriter) -> CaseResult {
    for megabytes in [1, 17] {
        let chunks = (0..megabytes).map(|letter| Ok(megabyte(letter))).chain([Err(SourceError::Unavailable("gone".into()))]);
        let broken: ByteStream = Box::pin(stream::iter(chunks.collect::<Vec<_>>()));
        assert!(lake.writer().put("Patient/1.ndjson", broken).await.is_err());
    }
    assert_eq!(lake.objects().await?, BTreeMap::new());
    Ok(())
}

/// Checks that the report of a synchronization replaces the one before.
pub async fn metadata_is_replaced(lake: &impl TestLakeWriter) -> CaseResult {
    for text in ["{}", "[]"] {
        lake.writer().put_metadata("_headrace/sync.json", text.into()).await?;
        assert_eq!(lake.objects().await?.get("_headrace/sync.json"), Some(&Bytes::from(text)));
    }
    Ok(())
}

/// Checks that the watermark moves only from the one that was read.
pub async fn metadata_is_replaced_only_if_it_is_as_expected(lake: &impl TestLakeWriter) -> CaseResult {
    let writer = lake.writer();
    assert!(!writer.replace_metadata(WATERMARK, Some(b"x"), "1".into()).await?);
    assert!(writer.replace_metadata(WATERMARK, None, "1".into()).await?);
    assert!(!writer.replace_metadata(WATERMARK, None, "2".into()).await?);
    assert!(!writer.replace_metadata(WATERMARK, Some(b"2"), "3".into()).await?);
    assert!(writer.replace_metadata(WATERMARK, Some(b"1"), "2".into()).await?);
    assert_eq!(lake.objects().await?.get(WATERMARK), Some(&Bytes::from_static(b"2")));
    Ok(())
}

/// Checks that of two writers at the same moment one succeeds.
pub async fn one_of_two_writers_replaces_metadata(lake: &impl TestLakeWriter) -> CaseResult {
    let writer = lake.writer();
    for expected in [None, Some(b"0".as_slice())] {
        writer.put_metadata("_headrace/other.json", "{}".into()).await?;
        let contents = if expected.is_none() { ["0", "0"] } else { ["1", "2"] };
        let writes = contents.map(|text| writer.replace_metadata(WATERMARK, expected, text.into()));
        let replaced = futures_util::future::join_all(writes).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(replaced.iter().filter(|replaced| **replaced).count(), 1, "{expected:?}");
    }
    Ok(())
}
