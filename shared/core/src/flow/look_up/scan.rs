//! Lines of the lake, several objects at a time.

use std::pin::{Pin as StdPin, pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use headrace_fhir::{Deletions, Instant, Json, NotAResource, Outline, Resource, ResourceType, TypeSet, deletions};

use crate::cohort::LinePlace;
use crate::job::task::Pin;
use crate::lake::ndjson::{Piece, lines};
use crate::lake::reader::{Extent, LineReader};
use crate::lake::slices::encoding_of;
use crate::ports::ResourceSource;
use crate::vocab::error::{ExportError, SourceError};

use super::catalogue::Catalogue;

/// Objects read at a time. Each has up to 16 MiB in flight.
const READERS: usize = 4;

/// Asked between two blocks of lines; a worker gives a sign of life here.
pub trait Pulse: Send {
    /// Whether to go on.
    fn goes_on(&mut self) -> impl Future<Output = Result<bool, ExportError>> + Send;
}

/// What ends a look-up early.
#[derive(Debug)]
pub(in crate::flow) enum Stop {
    /// The time is up.
    Unfinished,
    /// The lake has no such group.
    NoSuchGroup,
    /// The lake has no such patient.
    NoSuchPatient,
    /// Who the export is about cannot be told, for this reason.
    Undecidable(String),
    /// A fault.
    Failed(ExportError),
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Self {
        Self::Failed(error)
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Failed(error.into())
    }
}

/// The lake as one look-up reads it.
pub(in crate::flow) struct Scan<'a, S, P> {
    pub(in crate::flow) source: &'a S,
    pub(in crate::flow) catalogue: &'a Catalogue,
    pub(in crate::flow) pulse: &'a mut P,
    /// Whatever is later does not count.
    pub(in crate::flow) at: Instant,
}

impl<S: ResourceSource, P: Pulse> Scan<'_, S, P> {
    /// Gives every line that may be of one of these types to `visit`, objects in any order, lines of an object in theirs.
    pub(super) async fn each_line(&mut self, kinds: TypeSet, visit: &mut (impl FnMut(LinePlace, &[u8]) + Send)) -> Result<(), Stop> {
        if !self.catalogue.is_complete_for(kinds) {
            let text = "the lake has more objects of these types than can be looked through; write fewer and larger ones";
            return Err(Stop::Undecidable(text.to_owned()));
        }
        let source = self.source;
        let objects = stream::iter(self.catalogue.holding(kinds));
        let mut blocks = pin!(objects.map(|(object, pin)| blocks_of(source, object, pin)).flatten_unordered(READERS));
        if !self.pulse.goes_on().await? {
            return Err(Stop::Unfinished);
        }
        while let Some(block) = blocks.next().await {
            let Block { object, offset, bytes } = block?;
            for line in lines(&bytes, offset).filter(|line| !line.is_blank()) {
                visit(LinePlace { object, offset: offset + line.start as u64 }, line.text);
            }
            if !self.pulse.goes_on().await? {
                return Err(Stop::Unfinished);
            }
        }
        Ok(())
    }
}

/// Whole lines of one object.
struct Block {
    object: u32,
    offset: u64,
    bytes: Bytes,
}

type Blocks<'a> = StdPin<Box<dyn Stream<Item = Result<Block, SourceError>> + Send + 'a>>;

fn blocks_of(source: &impl ResourceSource, object: u32, pin: Pin) -> Blocks<'_> {
    let Some(encoding) = encoding_of(&pin.object) else { return Box::pin(stream::empty()) };
    let extent = Extent { object: pin.object.clone(), encoding, range: 0..pin.size, size: pin.size, offset: 0 };
    let reader = LineReader::open(extent, move |range| source.read(&pin, range));
    Box::pin(stream::try_unfold(reader, move |mut reader| async move {
        loop {
            match reader.next().await? {
                Some(Piece::Block { offset, bytes }) => return Ok(Some((Block { object, offset, bytes }, reader))),
                // What is too long to be exported names nobody either.
                Some(Piece::Overlong { .. }) => {}
                None => return Ok(None),
            }
        }
    }))
}

/// A line that says something about resources.
pub(super) enum Told<'a> {
    /// It is one.
    Resource(Resource<'a>),
    /// These were deleted.
    Deletions(Deletions<'a>),
    /// It is no resource; the export itself reports it.
    Nothing,
}

/// Reads a whole line.
pub(super) fn told<'a>(line: &'a [u8], outline: &'a mut Outline) -> Told<'a> {
    match Resource::read(line, outline) {
        Ok(resource) if resource.head.kind.as_str() == "Bundle" => match deletions(resource.json()) {
            Some(deletions) => Told::Deletions(deletions),
            None => Told::Resource(resource),
        },
        Ok(resource) => Told::Resource(resource),
        // Bundles of deletions need none.
        Err(NotAResource::NoId) => {
            let deletions = std::str::from_utf8(line).ok().and_then(|text| deletions(Json::of_valid(text)));
            deletions.map_or(Told::Nothing, Told::Deletions)
        }
        Err(
            NotAResource::NotUtf8(_)
            | NotAResource::NotJson(_)
            | NotAResource::NotAnObject
            | NotAResource::Twice(_)
            | NotAResource::NoType
            | NotAResource::UnknownType,
        ) => Told::Nothing,
    }
}

/// These types and those that tell of deletions.
pub(super) fn with_deletions(kinds: impl IntoIterator<Item = ResourceType>) -> TypeSet {
    kinds.into_iter().chain(ResourceType::named("Bundle")).collect()
}
