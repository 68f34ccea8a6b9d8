//! Checksums of files that a manifest states.

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA384, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: HashAlgorithm,
    value: Vec<u8>,
}

/// A hash algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HashAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl HashAlgorithm {
    /// Returns the implementation.
    fn implementation(self) -> &'static Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        }
    }
}

impl Checksum {
    /// Reads a checksum such as `sha256:` and 64 hexadecimal digits, or the digits alone. Base64 is read too. `None` if its algorithm
    /// is not one of SHA-2.
    pub(crate) fn from_json(value: &Value) -> Result<Option<Self>, &'static str> {
        let text = value.as_str().ok_or(" has a checksum that is not a string")?.trim();
        let (name, digits) = text.split_once([':', '=']).filter(|(name, _)| name.len() <= 10).unwrap_or(("sha256", text));
        let algorithm = match name.to_ascii_lowercase().replace('-', "").as_str() {
            "sha256" => HashAlgorithm::Sha256,
            "sha384" => HashAlgorithm::Sha384,
            "sha512" => HashAlgorithm::Sha512,
            _ => return Ok(None),
        };
        let digits = digits.trim_matches(':');
        let value = hex::decode(digits).ok().or_else(|| STANDARD.decode(digits).ok());
        let value = value.filter(|value| value.len() == algorithm.implementation().output_len());
        Ok(Some(Self { algorithm, value: value.ok_or(" has a checksum that is neither hexadecimal nor base64 of the right length")? }))
    }

    /// Starts to compute a checksum of this algorithm.
    pub(crate) fn context(&self) -> Context {
        Context::new(self.algorithm.implementation())
    }

    /// Returns true if the computed checksum is this one.
    pub(crate) fn matches(&self, context: Context) -> bool {
        context.finish().as_ref() == self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_read_in_the_usual_spellings() {
        let hex_digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        for text in [hex_digits.to_owned(), format!("sha256:{hex_digits}"), format!("SHA-256={hex_digits}"), format!("sha-256=:{base64}:")]
        {
            let checksum = Checksum::from_json(&text.clone().into()).unwrap().unwrap();
            let mut context = checksum.context();
            context.update(b"abc");
            assert!(checksum.matches(context), "{text}");
            assert!(!checksum.matches(checksum.context()), "{text}");
        }
        assert_eq!(Checksum::from_json(&"md5:900150983cd24fb0d6963f7d28e17f72".into()), Ok(None));
        for value in [Value::from(7), "sha256:".into(), "sha256:abcd".into(), "".into()] {
            assert!(Checksum::from_json(&value).is_err(), "{value}");
        }
    }
}
