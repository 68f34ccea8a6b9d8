//! Asymmetric signature algorithms. Symmetric ones are left out: a public key could be used to forge their signatures.

use jsonwebtoken::Algorithm as JwtAlgorithm;

/// A signature algorithm. `none` and symmetric algorithms do not exist here.
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
    /// The algorithms of identity providers: all of this type.
    pub const ALL: [Self; 8] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Es256, Self::Es384];

    /// The algorithms of SMART, with which clients and this service sign.
    pub const SMART: [Self; 2] = [Self::Rs384, Self::Es384];

    /// Returns the name of the algorithm in JOSE, such as `RS384`.
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

    /// Parses the name of an algorithm in JOSE. Returns `None` for a name that is not in `allowed`.
    pub fn parse(name: &str, allowed: &[Self]) -> Option<Self> {
        allowed.iter().copied().find(|algorithm| algorithm.as_str() == name)
    }

    /// Returns the elliptic curve of the keys. `None` for RSA keys.
    pub(super) fn curve(self) -> Option<&'static str> {
        match self {
            Self::Es256 => Some("P-256"),
            Self::Es384 => Some("P-384"),
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => None,
        }
    }

    /// Converts the algorithm to the type of the crate `jsonwebtoken`.
    pub(super) fn to_jsonwebtoken(self) -> JwtAlgorithm {
        match self {
            Self::Rs256 => JwtAlgorithm::RS256,
            Self::Rs384 => JwtAlgorithm::RS384,
            Self::Rs512 => JwtAlgorithm::RS512,
            Self::Ps256 => JwtAlgorithm::PS256,
            Self::Ps384 => JwtAlgorithm::PS384,
            Self::Ps512 => JwtAlgorithm::PS512,
            Self::Es256 => JwtAlgorithm::ES256,
            Self::Es384 => JwtAlgorithm::ES384,
        }
    }
}
