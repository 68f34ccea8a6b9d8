//! The format of resources in buckets.

use bytes::{Bytes, BytesMut};
use headrace_fhir::definitions::ResourceType;

/// The content of a frame. Roles sort in the order of lines within a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameRole {
    /// The Patient of the block.
    Patient,
    /// A resource in the patient's compartment.
    Member,
    /// A notice that a resource was omitted because it is in no patient's compartment.
    NoPatient,
    /// A notice that a resource was omitted because it has too many copies.
    TooManyCopies,
}

impl FrameRole {
    /// The list of all roles.
    pub const ALL: [Self; 4] = [Self::Patient, Self::Member, Self::NoPatient, Self::TooManyCopies];

    /// Returns the byte that stands for the role in a frame.
    fn to_byte(self) -> u8 {
        match self {
            Self::Patient => 0,
            Self::Member => 1,
            Self::NoPatient => 2,
            Self::TooManyCopies => 3,
        }
    }

    /// Returns the role that a byte stands for. `None` for any other byte.
    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.to_byte() == byte)
    }
}

/// A resource and the patient whose block it belongs to.
///
/// The format is: length of the rest (4 bytes, little-endian), role, length of the type name, type name, length of the
/// patient's id (4 bytes, little-endian), patient's id, line. Lengths are used instead of delimiters because ids and lines
/// can hold any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Content of the frame.
    pub role: FrameRole,
    /// Resource type.
    pub resource_type: ResourceType,
    /// Id of the patient.
    pub patient: &'a str,
    /// Line of the resource, without line feed.
    pub text: &'a [u8],
}

/// A file holds something other than frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not hold valid frames")]
pub struct MalformedFrame;

impl<'a> Frame<'a> {
    /// Serializes the frame, with its leading length.
    pub fn to_bytes(&self) -> Bytes {
        let name = self.resource_type.as_str().as_bytes();
        let length = 1 + 1 + name.len() + 4 + self.patient.len() + self.text.len();
        let mut bytes = BytesMut::with_capacity(4 + length);
        bytes.extend_from_slice(&encode_length(length));
        bytes.extend_from_slice(&[self.role.to_byte(), u8::try_from(name.len()).unwrap_or_default()]);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&encode_length(self.patient.len()));
        bytes.extend_from_slice(self.patient.as_bytes());
        bytes.extend_from_slice(self.text);
        bytes.freeze()
    }

    /// Parses a frame that is given without its leading length. Returns `None` if it is malformed.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let ([role, name_length], rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
        let (patient_length, rest) = rest.split_first_chunk()?;
        let (patient, text) = rest.split_at_checked(decode_length(*patient_length))?;
        let resource_type = ResourceType::parse(std::str::from_utf8(name).ok()?)?;
        Some(Self { role: FrameRole::from_byte(*role)?, resource_type, patient: std::str::from_utf8(patient).ok()?, text })
    }
}

/// Encodes a length. A line, and so an id in it, has at most 64 MiB, so 4 bytes suffice.
fn encode_length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Decodes a length of 4 bytes, little-endian.
fn decode_length(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

/// A decoder of the frames of a file that arrives in chunks.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// Start of a frame that continues in the next chunk.
    partial_frame: BytesMut,
}

impl FrameDecoder {
    /// Adds the next chunk and calls `visit` for each frame that it completes.
    pub fn push(&mut self, chunk: &[u8], visit: &mut impl FnMut(&Frame<'_>)) -> Result<(), MalformedFrame> {
        if self.partial_frame.is_empty() {
            let rest = visit_frames(chunk, visit)?;
            self.partial_frame.extend_from_slice(rest);
            return Ok(());
        }
        self.partial_frame.extend_from_slice(chunk);
        let rest = visit_frames(&self.partial_frame, visit)?.len();
        let visited = self.partial_frame.len() - rest;
        drop(self.partial_frame.split_to(visited));
        Ok(())
    }

    /// Returns true if no frame is incomplete, so that the file may end here.
    pub fn is_between_frames(&self) -> bool {
        self.partial_frame.is_empty()
    }
}

/// Calls `visit` for each complete frame and returns the remaining bytes.
fn visit_frames<'a>(mut bytes: &'a [u8], visit: &mut impl FnMut(&Frame<'_>)) -> Result<&'a [u8], MalformedFrame> {
    while let Some((frame, rest)) = bytes.split_first_chunk().and_then(|(length, rest)| rest.split_at_checked(decode_length(*length))) {
        visit(&Frame::parse(frame).ok_or(MalformedFrame)?);
        bytes = rest;
    }
    Ok(bytes)
}
