//! Output destinations: the deployment's, and clients' own ones.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use headrace_aws::S3OutputStore;
use headrace_core::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::folder::Folder;
use headrace_core::ports::{FileAccess, FileRequest, FileWriter as _, OutputStore as _};
use headrace_core::request::EncryptionKey;
use headrace_core::vocab::error::StoreError;
use headrace_local::stores::directory::DirectoryOutputStore;
use headrace_tests::contracts::output_store::TestDestination;
use headrace_tests::contracts::{BoxError, CaseResult};
use headrace_tests::standins::s3::{Encryption, S3StandIn};

use super::{BUCKET, DirectoryPort, PREFIX, S3Port, s3};

/// Bucket that the operator allows as clients' own destination.
const CLIENTS: &str = "clients-bucket";

/// Store, and the client's setting if the destination belongs to a client.
pub(crate) struct DestinationFixture<T> {
    backend: T,
    client_setting: Option<String>,
}

fn s3_store(s3: &S3StandIn, bucket: &str) -> S3OutputStore {
    let allowed = ["missing-too", CLIENTS].map(str::to_owned);
    // The folders of the contract have several parts.
    S3OutputStore::new(&s3.client(), bucket, PREFIX).with_client_buckets(allowed.into()).with_files_per_part(3)
}

async fn s3_fixture(client_setting: Option<String>) -> Result<DestinationFixture<S3Port<S3OutputStore>>, BoxError> {
    let s3 = s3().await?;
    s3.create_bucket(CLIENTS).await?;
    s3.put(CLIENTS, "theirs", "not ours").await?;
    Ok(DestinationFixture { backend: S3Port { port: s3_store(&s3, BUCKET), s3 }, client_setting })
}

pub(crate) async fn s3_destination() -> Result<DestinationFixture<S3Port<S3OutputStore>>, BoxError> {
    s3_fixture(None).await
}

pub(crate) async fn s3_client_destination() -> Result<DestinationFixture<S3Port<S3OutputStore>>, BoxError> {
    s3_fixture(Some(format!("{CLIENTS}/a place/of its own"))).await
}

impl TestDestination for DestinationFixture<S3Port<S3OutputStore>> {
    type Store = S3OutputStore;

    fn store(&self) -> &S3OutputStore {
        &self.backend.port
    }

    fn client_setting(&self) -> Option<String> {
        self.client_setting.clone()
    }

    fn other_destination(&self) -> String {
        // A bucket without a prefix.
        CLIENTS.to_owned()
    }

    async fn download(&self, access: FileAccess) -> Result<Bytes, BoxError> {
        let FileAccess::Redirect(url) = access else { return Err("not a URL".into()) };
        let response = self.backend.s3.fetch_presigned(&url).await?;
        if response.status() == http::StatusCode::OK { Ok(response.into_body()) } else { Err(response.status().to_string().into()) }
    }

    async fn file_names(&self, folder: &Folder) -> Result<Vec<String>, BoxError> {
        let destination = folder.destination.clone().unwrap_or_else(|| format!("{BUCKET}/{PREFIX}"));
        let backend = format!("{destination}/exports/{}/", folder.path);
        let (bucket, prefix) = backend.split_once('/').ok_or("no bucket")?;
        let keys = self.backend.s3.keys(bucket, prefix).await?;
        Ok(keys.iter().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect())
    }

    fn unusable(&self) -> Vec<(S3OutputStore, Option<String>, Vec<String>)> {
        let store = |bucket| s3_store(&self.backend.s3, bucket);
        let named = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let client_setting = |client_setting: &str, words: &[&str]| {
            let words: Vec<String> = named(words);
            (store(BUCKET), Some(client_setting.to_owned()), [vec!["client's registration".to_owned()], words].concat())
        };
        vec![
            (store("missing"), None, named(&["HEADRACE_DESTINATION_BUCKET", "missing"])),
            client_setting("missing-too/x", &["missing-too", "does not exist"]),
            // Existing, but not allowed for clients.
            client_setting(BUCKET, &[BUCKET, "HEADRACE_CLIENT_BUCKETS"]),
            client_setting(&format!("{BUCKET}/x"), &[BUCKET, "HEADRACE_CLIENT_BUCKETS"]),
            client_setting("", &["HEADRACE_CLIENT_BUCKETS"]),
            client_setting(&format!("{CLIENTS}/a//b"), &[CLIENTS, "prefix"]),
            client_setting(&format!("{CLIENTS}/../b"), &[CLIENTS, "prefix"]),
            client_setting(&format!("{CLIENTS}/{}", "x".repeat(600)), &[CLIENTS, "prefix"]),
        ]
    }
}

fn directory_fixture(client_setting: Option<&str>) -> Result<DestinationFixture<DirectoryPort<DirectoryOutputStore>>, BoxError> {
    let backend = DirectoryPort::new(|root| DirectoryOutputStore::open(root.join("state")).separate_from_lake(root.join("lake")))?;
    std::fs::create_dir(backend.root.path().join("lake"))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(backend.root.path().join("lake"), backend.root.path().join("link"))?;
    let client_setting = client_setting.map(|client_setting| backend.root.path().join(client_setting).display().to_string());
    Ok(DestinationFixture { backend, client_setting })
}

pub(crate) async fn directory_destination() -> Result<DestinationFixture<DirectoryPort<DirectoryOutputStore>>, BoxError> {
    directory_fixture(None)
}

pub(crate) async fn directory_client_destination() -> Result<DestinationFixture<DirectoryPort<DirectoryOutputStore>>, BoxError> {
    directory_fixture(Some("clients/its own"))
}

impl TestDestination for DestinationFixture<DirectoryPort<DirectoryOutputStore>> {
    type Store = DirectoryOutputStore;

    fn store(&self) -> &DirectoryOutputStore {
        &self.backend.port
    }

    fn client_setting(&self) -> Option<String> {
        self.client_setting.clone()
    }

    fn other_destination(&self) -> String {
        self.backend.root.path().join("clients/another").display().to_string()
    }

    async fn download(&self, access: FileAccess) -> Result<Bytes, BoxError> {
        let FileAccess::Local(path) = access else { return Err("not a file".into()) };
        Ok(std::fs::read(path)?.into())
    }

    async fn file_names(&self, folder: &Folder) -> Result<Vec<String>, BoxError> {
        let destination = folder.destination.as_ref().map_or_else(|| self.backend.root.path().join("state"), PathBuf::from);
        let folder = destination.join(&folder.path);
        let (mut file_names, mut folders) = (Vec::new(), vec![folder.clone()]);
        while let Some(next) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&next) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    file_names.push(path.strip_prefix(&folder)?.to_str().ok_or("not UTF-8")?.to_owned());
                }
            }
        }
        file_names.sort();
        Ok(file_names)
    }

    fn unusable(&self) -> Vec<(DirectoryOutputStore, Option<String>, Vec<String>)> {
        let root = self.backend.root.path();
        // A file is in place of the folder.
        let path = root.join("file");
        drop(File::create(&path));
        let client_setting = |path: &Path, words: &str| {
            let path = path.display().to_string();
            (self.backend.port.clone(), Some(path.clone()), vec!["client's registration".to_owned(), path, words.to_owned()])
        };
        let mut unusable = vec![
            (DirectoryOutputStore::open(&path), None, vec![path.display().to_string(), "--state".to_owned()]),
            client_setting(&path, "is not writable"),
            client_setting(Path::new("relative/path"), "absolute"),
            client_setting(Path::new(""), "absolute"),
            client_setting(&root.join("clients/../lake"), "absolute"),
            client_setting(&root.join("lake"), "lake"),
            client_setting(&root.join("lake/new/folder"), "lake"),
            // A container could have the name `lake`.
            client_setting(root, "lake"),
        ];
        if cfg!(unix) {
            unusable.push(client_setting(&root.join("link/new"), "lake"));
        }
        unusable
    }
}

/// Checks the modes of the created folders.
#[cfg(unix)]
#[tokio::test]
async fn a_clients_own_directory_is_private() -> CaseResult {
    use std::os::unix::fs::PermissionsExt as _;
    let destination = directory_client_destination().await?;
    destination.store().check(destination.client_setting().as_deref()).await?;
    for folder in ["clients", "clients/its own"] {
        let mode = std::fs::metadata(destination.backend.root.path().join(folder))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    Ok(())
}

/// Checks that directories reject jobs with an encryption key, because they do not encrypt.
#[tokio::test]
async fn a_directory_rejects_files_that_must_be_encrypted() -> CaseResult {
    let destination = directory_destination().await?;
    let key = EncryptionKey { name: "trial".to_owned(), arn: "arn".to_owned() };
    let folder = Folder { destination: None, path: "x".to_owned(), encryption_key: Some(key) };
    let kind = OutputKind::parse("Patient").ok_or("no such kind")?;
    let fragment = FragmentName { kind, task: 2, attempt: 1, fencing_token: 1 };
    match destination.store().new_fragment(&folder, fragment).await {
        Err(StoreError::Misconfigured { remedy, .. }) => assert!(remedy.contains("`trial`"), "{remedy}"),
        other => return Err(format!("the writer must be refused, but the result is {:?}", other.map(drop)).into()),
    }
    Ok(())
}

/// Checks writes from memory, multipart uploads and copies.
#[tokio::test]
async fn every_write_of_a_job_with_a_key_is_encrypted_under_that_key() -> CaseResult {
    const BUFFERED_BYTES: usize = 1 << 20;
    const MULTIPART_BYTES: usize = 80 << 20;
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/k-1";
    for client_setting in [None, Some(format!("{CLIENTS}/own"))] {
        let destination = s3_fixture(client_setting).await?;
        let key = EncryptionKey { name: "trial".to_owned(), arn: arn.to_owned() };
        let folder = Folder { destination: destination.client_setting(), path: "x".to_owned(), encryption_key: Some(key) };
        let before = destination.backend.s3.writes().len();
        let kind = OutputKind::parse("Patient").ok_or("no such kind")?;
        for (number, size) in [(1, BUFFERED_BYTES), (2, MULTIPART_BYTES)] {
            let (fragment, output_file) =
                (FragmentName { kind, task: 2, attempt: 1, fencing_token: number }, OutputFileName { kind, number });
            let bytes = Bytes::from(vec![b'\n'; size]);
            let summary = FileSummary { bytes: size as u64, lines: size as u64, crc64: checksum(CrcAlgorithm::Crc64Nvme, &bytes) };
            for name in [FileName::Fragment(fragment), FileName::Overwrite(output_file)] {
                let mut writer = destination.store().new_fragment(&folder, fragment).await?;
                writer.write(bytes.clone()).await?;
                writer.commit(name, summary).await?;
            }
            let promoted = OutputFileName { kind, number: number + 10 };
            let mut writer = destination.store().new_fragment(&folder, fragment).await?;
            writer.write(bytes.clone()).await?;
            writer.commit(FileName::Fragment(fragment), summary).await?;
            destination.store().promote(&folder, &Fragment { name: fragment, summary }, promoted).await?;
            let access = destination.store().file_access(&folder, &OutputFile { name: promoted, summary }, FileRequest::Content).await?;
            assert!(destination.download(access).await? == bytes);
        }
        let written = destination.backend.s3.writes().split_off(before);
        let operations: BTreeSet<&str> = written.iter().map(|write| write.operation).collect();
        assert!(operations.into_iter().eq(["CopyObject", "CreateMultipartUpload", "PutObject"]));
        let expected = Encryption { algorithm: "aws:kms".to_owned(), key: Some(arn.to_owned()), has_bucket_key: true };
        for write in written {
            assert_eq!(write.encryption.as_ref(), Some(&expected), "{write:?}");
        }
    }
    Ok(())
}
