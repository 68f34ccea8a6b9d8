//! Scans the lines of several objects of the lake concurrently.

use std::pin::{Pin as StdPin, pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use headrace_fhir::definitions::{ResourceType, TypeSet};
use headrace_fhir::head::{InvalidResource, MemberIndex, Resource};
use headrace_fhir::instant::Instant;
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::deletion::{Deletions, parse_deletions};

use crate::cohort::ObjectPosition;
use crate::job::ExportError;
use crate::job::task::Pin;
use crate::lake::ndjson::{Segment, lines};
use crate::lake::reader::{LineReader, ReadRequest};
use crate::lake::slices::encoding_from_name;
use crate::ports::ResourceSource;
use crate::vocab::error::SourceError;

use super::catalogue::Catalogue;

/// The number of objects that are read concurrently. Each has up to 16 MiB in flight.
const CONCURRENT_READS: usize = 4;

/// A timer that is checked between two blocks of lines.
pub trait ScanTimer: Send {
    /// Returns true if the scan may continue. A worker's timer extends its lease here.
    fn has_time_left(&mut self) -> impl Future<Output = Result<bool, ExportError>> + Send;
}

/// A reason for which patients could not be resolved.
#[derive(Debug)]
pub(in crate::flow) enum ResolveError {
    /// The timer ended.
    TimedOut,
    /// The lake has no such group.
    NoSuchGroup,
    /// The lake has no such patient.
    NoSuchPatient,
    /// The patients cannot be determined, for this reason.
    Undecidable(String),
    /// The lake could not be read.
    Failed(ExportError),
}

impl From<ExportError> for ResolveError {
    fn from(error: ExportError) -> Self {
        Self::Failed(error)
    }
}

impl From<SourceError> for ResolveError {
    fn from(error: SourceError) -> Self {
        Self::Failed(error.into())
    }
}

/// The lake as of one time, for one resolution.
pub(in crate::flow) struct LakeScan<'a, S, T> {
    pub(in crate::flow) source: &'a S,
    pub(in crate::flow) catalogue: &'a Catalogue,
    pub(in crate::flow) timer: &'a mut T,
    /// The time after which versions and deletions do not count.
    pub(in crate::flow) at: Instant,
}

impl<S: ResourceSource, T: ScanTimer> LakeScan<'_, S, T> {
    /// Calls `visit` with every line that may be of one of these types. Objects come in any order, the lines of one object in theirs.
    pub(super) async fn for_each_line(
        &mut self,
        kinds: TypeSet,
        visit: &mut (impl FnMut(ObjectPosition, &[u8]) + Send),
    ) -> Result<(), ResolveError> {
        if !self.catalogue.is_complete_for(kinds) {
            let text = "the lake has more objects of these types than can be searched; write fewer and larger ones";
            return Err(ResolveError::Undecidable(text.to_owned()));
        }
        self.for_each_line_of(self.catalogue.objects_of(kinds), visit).await
    }

    /// Calls `visit` with every line of these objects. Objects come in any order, the lines of one object in theirs.
    pub(super) async fn for_each_line_of(
        &mut self,
        objects: Vec<(u32, Pin)>,
        visit: &mut (impl FnMut(ObjectPosition, &[u8]) + Send),
    ) -> Result<(), ResolveError> {
        let source = self.source;
        let objects = stream::iter(objects);
        let mut blocks = pin!(objects.map(|(object, pin)| read_blocks(source, object, pin)).flatten_unordered(CONCURRENT_READS));
        if !self.timer.has_time_left().await? {
            return Err(ResolveError::TimedOut);
        }
        while let Some(block) = blocks.next().await {
            let LineBlock { object, offset, bytes } = block?;
            for line in lines(&bytes, offset).filter(|line| !line.is_blank()) {
                visit(ObjectPosition { object, offset: offset + line.start as u64 }, line.text);
            }
            if !self.timer.has_time_left().await? {
                return Err(ResolveError::TimedOut);
            }
        }
        Ok(())
    }
}

/// Whole lines of one object.
struct LineBlock {
    object: u32,
    offset: u64,
    bytes: Bytes,
}

/// A stream of blocks of whole lines.
type LineBlocks<'a> = StdPin<Box<dyn Stream<Item = Result<LineBlock, SourceError>> + Send + 'a>>;

/// Reads an object as blocks of whole lines. Overlong lines are skipped, because a resource that cannot be exported names no members.
fn read_blocks(source: &impl ResourceSource, object: u32, pin: Pin) -> LineBlocks<'_> {
    let Some(encoding) = encoding_from_name(&pin.object) else { return Box::pin(stream::empty()) };
    let request = ReadRequest { object: pin.object.clone(), encoding, range: 0..pin.size, size: pin.size, offset: 0 };
    let reader = LineReader::open(request, move |range| source.read(&pin, range));
    Box::pin(stream::try_unfold(reader, move |mut reader| async move {
        loop {
            match reader.next().await? {
                Some(Segment::Lines { offset, bytes }) => return Ok(Some((LineBlock { object, offset, bytes }, reader))),
                Some(Segment::OverlongLine { .. }) => {}
                None => return Ok(None),
            }
        }
    }))
}

/// A parsed line of the lake.
pub(in crate::flow) enum ParsedLine<'a> {
    /// A resource.
    Resource(Resource<'a>),
    /// A Bundle of deletions.
    Deletions(Deletions<'a>),
    /// A line that is not a resource. The export itself reports it.
    Other,
}

/// Parses a line of the lake as a resource or a Bundle of deletions.
pub(in crate::flow) fn parse_line<'a>(line: &'a [u8], member_index: &'a mut MemberIndex) -> ParsedLine<'a> {
    match Resource::parse(line, member_index) {
        Ok(resource) if resource.head.resource_type == ResourceType::BUNDLE => match parse_deletions(resource.json()) {
            Some(deletions) => ParsedLine::Deletions(deletions),
            None => ParsedLine::Resource(resource),
        },
        Ok(resource) => ParsedLine::Resource(resource),
        // A Bundle of deletions needs no id.
        Err(InvalidResource::MissingId) => {
            let deletions = std::str::from_utf8(line).ok().and_then(|text| parse_deletions(JsonValue::from_valid(text)));
            deletions.map_or(ParsedLine::Other, ParsedLine::Deletions)
        }
        Err(
            InvalidResource::NotUtf8(_)
            | InvalidResource::NotJson(_)
            | InvalidResource::NotAnObject
            | InvalidResource::DuplicateMember(_)
            | InvalidResource::MissingType
            | InvalidResource::UnknownType,
        ) => ParsedLine::Other,
    }
}

/// Returns these types and Bundle: deletions are stored as Bundles.
pub(super) fn with_deletions(kinds: impl IntoIterator<Item = ResourceType>) -> TypeSet {
    kinds.into_iter().chain([ResourceType::BUNDLE]).collect()
}
