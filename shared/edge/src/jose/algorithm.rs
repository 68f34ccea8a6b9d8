//! Algorithms of signatures, as far as they are asymmetric: none that a public key could be used to forge.

use jsonwebtoken::Algorithm as Checked;

/// How a token is signed. `none` and the symmetric ones cannot be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    /// All of them: what identity providers use.
    pub const ALL: [Self; 8] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Es256, Self::Es384];

    /// Those of SMART: what clients and this service itself sign with.
    pub const SMART: [Self; 2] = [Self::Rs384, Self::Es384];

    /// Its name in JOSE.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    /// The one of this name among `allowed`.
    pub fn named(name: &str, allowed: &[Self]) -> Option<Self> {
        allowed.iter().copied().find(|algorithm| algorithm.as_str() == name)
    }

    /// The curve that its keys are on; `None` where they are RSA keys.
    pub(super) fn curve(self) -> Option<&'static str> {
        match self {
            Self::Es256 => Some("P-256"),
            Self::Es384 => Some("P-384"),
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => None,
        }
    }

    pub(super) fn checked(self) -> Checked {
        match self {
            Self::Rs256 => Checked::RS256,
            Self::Rs384 => Checked::RS384,
            Self::Rs512 => Checked::RS512,
            Self::Ps256 => Checked::PS256,
            Self::Ps384 => Checked::PS384,
            Self::Ps512 => Checked::PS512,
            Self::Es256 => Checked::ES256,
            Self::Es384 => Checked::ES384,
        }
    }
}
