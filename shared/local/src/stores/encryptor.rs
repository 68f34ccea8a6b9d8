//! How one machine seals jobs' secrets: under a key in a file for its owner alone, made when it is first needed. Whoever gets
//! hold of the job table without that file learns no secret.

use std::fs;
use std::io;
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use futures_util::future::BoxFuture;
use headrace_aws::Sealer;
use headrace_core::vocab::error::{BoxError, StoreError};
use headrace_core::vocab::ids::JobId;

use crate::stores::private::{is_accessible_by_others, write_atomically};

const WHAT: &str = "the key of jobs' secrets";

/// A key in a file.
#[derive(Clone, Debug)]
pub struct FileSecretEncryptor {
    path: PathBuf,
}

impl FileSecretEncryptor {
    /// The key in this file; it is looked for when it is needed.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn key(&self) -> Result<RandomizedNonceKey, StoreError> {
        let unusable = |cause: BoxError| StoreError::Misconfigured {
            remedy: format!(
                "the key file `{}` cannot be used: it has 32 bytes and belongs to the server's user alone",
                self.path.display()
            ),
            cause,
        };
        let read = || -> io::Result<Vec<u8>> {
            if is_accessible_by_others(&fs::metadata(&self.path)?) {
                return Err(io::Error::other("others may read it"));
            }
            fs::read(&self.path)
        };
        let bytes = match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make().or_else(|_| read()),
            read => read,
        };
        let bytes = bytes.map_err(|error| unusable(error.into()))?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|error| unusable(error.into()))
    }

    fn make(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(io::Error::other)?;
        write_atomically(&self.path, &bytes)?;
        Ok(bytes)
    }
}

impl Sealer for FileSecretEncryptor {
    fn seal<'a>(&'a self, job: &'a JobId, secret: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let seal = || {
            let mut text = secret.to_vec();
            let nonce = self.key()?.seal_in_place_append_tag(Aad::from(job.as_str()), &mut text);
            let nonce = nonce.map_err(|error| StoreError::NotApplied { what: WHAT, cause: error.into() })?;
            Ok([nonce.as_ref().as_slice(), &text].concat())
        };
        Box::pin(std::future::ready(seal()))
    }

    fn open<'a>(&'a self, job: &'a JobId, sealed: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let open = || {
            let other = || StoreError::Unreadable { what: WHAT, detail: "a secret that another key has sealed".to_owned() };
            let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(other)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| other())?;
            let mut text = text.to_vec();
            let opened = self.key()?.open_in_place(nonce, Aad::from(job.as_str()), &mut text).map_err(|_| other())?;
            Ok(opened.to_vec())
        };
        Box::pin(std::future::ready(open()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_opened_for_its_job_with_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = FileSecretEncryptor::new(folder.path().join("keys/secrets.key"));
        let (job, other) = (JobId::from_random([1; 16]), JobId::from_random([2; 16]));
        let sealed = sealer.seal(&job, b"the secret of a job").await.unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        let again = FileSecretEncryptor::new(folder.path().join("keys/secrets.key"));
        assert_eq!(again.open(&job, &sealed).await.unwrap(), b"the secret of a job");
        assert!(again.open(&other, &sealed).await.is_err());
        assert!(FileSecretEncryptor::new(folder.path().join("keys/other.key")).open(&job, &sealed).await.is_err());
        assert!(again.open(&job, &sealed[..4]).await.is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_key_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/secrets.key");
        let job = JobId::from_random([1; 16]);
        FileSecretEncryptor::new(&path).seal(&job, b"secret").await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(FileSecretEncryptor::new(&path).seal(&job, b"secret").await, Err(StoreError::Misconfigured { .. })));
    }
}
