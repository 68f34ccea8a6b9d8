//! How a resource lies in a bucket.

use bytes::{Bytes, BytesMut};
use headrace_fhir::ResourceType;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The Patient whose block it is: it stands first.
    Patient,
    /// A resource in the patient's compartment.
    Other,
    /// Nothing but that a resource is in no patient's compartment.
    WithoutPatient,
    /// Nothing but that a resource is in the compartments of too many patients.
    OfTooMany,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Patient, Self::Other, Self::WithoutPatient, Self::OfTooMany];

    fn byte(self) -> u8 {
        match self {
            Self::Patient => 0,
            Self::Other => 1,
            Self::WithoutPatient => 2,
            Self::OfTooMany => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.byte() == byte)
    }
}

/// A resource and the patient into whose block it goes.
///
/// In a file: the length of what follows (4 bytes, the lowest first), the role, the length of the type's name and the
/// name, the length of the patient's id (4 bytes) and the id, the line. Lengths instead of marks: ids and lines may hold
/// whatever the lake holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub role: Role,
    /// The type of the resource.
    pub kind: ResourceType,
    /// The patient's id.
    pub patient: &'a str,
    /// The line, without a line end.
    pub text: &'a [u8],
}

/// A file of frames that holds something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds no frames")]
pub struct Malformed;

impl<'a> Frame<'a> {
    /// As it lies in a file.
    pub fn bytes(&self) -> Bytes {
        let name = self.kind.as_str().as_bytes();
        let length = 1 + 1 + name.len() + 4 + self.patient.len() + self.text.len();
        let mut bytes = BytesMut::with_capacity(4 + length);
        bytes.extend_from_slice(&count(length));
        bytes.extend_from_slice(&[self.role.byte(), u8::try_from(name.len()).unwrap_or_default()]);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&count(self.patient.len()));
        bytes.extend_from_slice(self.patient.as_bytes());
        bytes.extend_from_slice(self.text);
        bytes.freeze()
    }

    /// Reads a frame without the length before it.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let ([role, name_length], rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
        let (patient_length, rest) = rest.split_first_chunk()?;
        let (patient, text) = rest.split_at_checked(length(*patient_length))?;
        let kind = ResourceType::named(std::str::from_utf8(name).ok()?)?;
        Some(Self { role: Role::of(*role)?, kind, patient: std::str::from_utf8(patient).ok()?, text })
    }
}

/// A line is at most 64 MiB long, an id stands in one.
fn count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn length(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

/// Reads the frames of a file, wherever its bytes were cut.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The beginning of a frame whose end has not come yet.
    carry: BytesMut,
}

impl FrameDecoder {
    /// Takes the next bytes; gives every frame that they complete to `visit`.
    pub fn feed(&mut self, bytes: &[u8], visit: &mut impl FnMut(&Frame<'_>)) -> Result<(), Malformed> {
        if self.carry.is_empty() {
            let rest = unframe(bytes, visit)?;
            self.carry.extend_from_slice(rest);
            return Ok(());
        }
        self.carry.extend_from_slice(bytes);
        let rest = unframe(&self.carry, visit)?.len();
        let taken = self.carry.len() - rest;
        drop(self.carry.split_to(taken));
        Ok(())
    }

    /// Whether the file may end here.
    pub fn is_between_frames(&self) -> bool {
        self.carry.is_empty()
    }
}

/// Gives every whole frame to `visit`; what is left.
fn unframe<'a>(mut bytes: &'a [u8], visit: &mut impl FnMut(&Frame<'_>)) -> Result<&'a [u8], Malformed> {
    while let Some((frame, rest)) = bytes.split_first_chunk().and_then(|(frame_length, rest)| rest.split_at_checked(length(*frame_length)))
    {
        visit(&Frame::read(frame).ok_or(Malformed)?);
        bytes = rest;
    }
    Ok(bytes)
}
