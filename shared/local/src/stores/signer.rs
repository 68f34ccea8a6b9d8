//! Keys that sign access tokens on one machine, in files that only their owner can access.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::stores::private::{create_new_private_file, create_private_folder, is_accessible_by_others};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA384, RsaKeyPair};
use headrace_core::access::{PublicKey, SigningAlgorithm};
use headrace_core::ports::TokenSigner;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use pem::{EncodeConfig, LineEnding, Pem};

/// Name of the store in errors.
const WHAT: &str = "the signing key";

/// PEM label of PKCS #8 (RFC 7468, section 10).
const PEM_TAG: &str = "PRIVATE KEY";

/// Reason why a signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file or its folder cannot be used.
    #[error("the key file `{path}` cannot be used")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// Other users can access the file.
    #[error("the key file `{0}` can be read or written by other users: generate a new key and delete this one, which may be compromised")]
    Accessible(PathBuf),
    /// The file contains no supported key.
    #[error(
        "the key file `{0}` contains no supported key: it must contain an RSA key of at least 2048 bits or a P-384 key, as PKCS #8 in PEM"
    )]
    NoKey(PathBuf),
    /// The random number generator failed.
    #[error("the key could not be generated: the random number generator failed")]
    NotGenerated,
}

/// A signer with a key from a file. Clones share the key.
#[derive(Clone)]
pub struct FileSigner(Arc<SigningKeyPair>);

/// A key pair and its public key, for one of the two signature algorithms.
enum SigningKeyPair {
    Rsa(RsaKeyPair, PublicKey),
    Ec(EcdsaKeyPair, PublicKey),
}

impl FileSigner {
    /// Reads the newest signing key in a folder. Generates an ES384 key if the folder has none.
    pub fn open_or_create(folder: &Path, now: Millis) -> Result<Self, KeyFileError> {
        match key_files(folder)?.pop() {
            Some(newest) => Self::open(&newest),
            None => Self::create(folder, SigningAlgorithm::Es384, now).and_then(|path| Self::open(&path)),
        }
    }

    /// Generates a signing key in a folder and returns the path of its file. A server uses it from its next start, as the newest key.
    pub fn create(folder: &Path, algorithm: SigningAlgorithm, now: Millis) -> Result<PathBuf, KeyFileError> {
        let pkcs8 = generate(algorithm).map_err(|_| KeyFileError::NotGenerated)?;
        let path = folder.join(format!("token-{:013}.pem", now.0));
        let unusable = |cause| KeyFileError::File { path: path.clone(), cause };
        create_private_folder(folder).map_err(unusable)?;
        let mut file = create_new_private_file(&path).map_err(unusable)?;
        let text = pem::encode_config(&Pem::new(PEM_TAG, pkcs8), EncodeConfig::new().set_line_ending(LineEnding::LF));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unusable)?;
        Ok(path)
    }

    /// Reads the signing key in a PEM file. On Unix, fails if anyone but the owner can access the file.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let unusable = |cause| KeyFileError::File { path: path.to_owned(), cause };
        let file = File::open(path).map_err(unusable)?;
        if is_accessible_by_others(&file.metadata().map_err(unusable)?) {
            return Err(KeyFileError::Accessible(path.to_owned()));
        }
        let text = io::read_to_string(file).map_err(unusable)?;
        let no_key = || KeyFileError::NoKey(path.to_owned());
        let pem = pem::parse(text).ok().filter(|pem| pem.tag() == PEM_TAG).ok_or_else(no_key)?;
        SigningKeyPair::from_pkcs8(pem.contents()).map(|pair| Self(Arc::new(pair))).ok_or_else(no_key)
    }
}

/// Returns the key files in a folder, newest last.
pub fn key_files(folder: &Path) -> Result<Vec<PathBuf>, KeyFileError> {
    let unusable = |cause| KeyFileError::File { path: folder.to_owned(), cause };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(error)),
    };
    let paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(unusable)?;
    let is_key = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("token-") && name.ends_with(".pem")
    };
    let mut keys: Vec<PathBuf> = paths.into_iter().filter(is_key).collect();
    keys.sort();
    Ok(keys)
}

/// Generates a key in PKCS #8.
fn generate(algorithm: SigningAlgorithm) -> Result<Vec<u8>, Unspecified> {
    match algorithm {
        SigningAlgorithm::Rs384 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa3072)?;
            let der: Pkcs8V1Der<'_> = pair.as_der()?;
            Ok(der.as_ref().to_vec())
        }
        SigningAlgorithm::Es384 => Ok(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?.to_pkcs8v1()?.as_ref().to_vec()),
    }
}

impl SigningKeyPair {
    /// Parses a P-384 or RSA key in PKCS #8.
    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8) {
            let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
            let public = PublicKey { algorithm: SigningAlgorithm::Es384, spki: spki.as_ref().to_vec() };
            return Some(Self::Ec(pair, public));
        }
        let pair = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        let public = PublicKey { algorithm: SigningAlgorithm::Rs384, spki: spki.as_ref().to_vec() };
        Some(Self::Rsa(pair, public))
    }

    /// Signs a message.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA384, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Ec(pair, _) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
        }
    }
}

impl TokenSigner for FileSigner {
    async fn key(&self) -> Result<PublicKey, StoreError> {
        match &*self.0 {
            SigningKeyPair::Rsa(_, public) | SigningKeyPair::Ec(_, public) => Ok(public.clone()),
        }
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.0.sign(message).map_err(|error| StoreError::NotApplied { store: WHAT, cause: error.into() })
    }
}

impl std::fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a signing key")
    }
}

#[cfg(test)]
mod tests;
