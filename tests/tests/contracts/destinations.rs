//! Destinations: the deployment's, and those that clients have of their own.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use headrace_aws::S3PartStore;
use headrace_core::job::folder::Folder;
use headrace_core::output::file::{Content, FileName, FragmentName, OutputFileName, OutputKind, Part, Tail};
use headrace_core::ports::{Access, Draft as _, OutputStore as _};
use headrace_core::request::JobKey;
use headrace_core::vocab::error::StoreError;
use headrace_local::stores::directory::DirectoryParts;
use headrace_tests::contracts::part_store::Destination;
use headrace_tests::contracts::{BoxError, Held};
use headrace_tests::standins::s3::{Encryption, S3StandIn};

use super::{BUCKET, Directory, PREFIX, S3Place, s3};

/// A bucket that the operator has opened to clients.
const CLIENTS: &str = "clients-bucket";

/// A destination, and whose it is.
pub(crate) struct Handed<T> {
    place: T,
    own: Option<String>,
}

fn s3_store(s3: &S3StandIn, bucket: &str) -> S3PartStore {
    let open = ["nobodys-either", CLIENTS].map(str::to_owned);
    S3PartStore::new(&s3.client(), bucket, PREFIX).with_client_buckets(open.into())
}

async fn s3_handed(own: Option<String>) -> Result<Handed<S3Place<S3PartStore>>, BoxError> {
    let s3 = s3().await?;
    s3.create_bucket(CLIENTS).await?;
    s3.put(CLIENTS, "theirs", "not ours").await?;
    Ok(Handed { place: S3Place { port: s3_store(&s3, BUCKET), s3 }, own })
}

pub(crate) async fn s3_parts() -> Result<Handed<S3Place<S3PartStore>>, BoxError> {
    s3_handed(None).await
}

pub(crate) async fn s3_parts_of_a_client() -> Result<Handed<S3Place<S3PartStore>>, BoxError> {
    s3_handed(Some(format!("{CLIENTS}/a place/of its own"))).await
}

impl Destination for Handed<S3Place<S3PartStore>> {
    type Store = S3PartStore;

    fn store(&self) -> &S3PartStore {
        &self.place.port
    }

    fn own(&self) -> Option<String> {
        self.own.clone()
    }

    fn another(&self) -> String {
        // The whole bucket.
        CLIENTS.to_owned()
    }

    async fn fetch(&self, access: Access) -> Result<Bytes, BoxError> {
        let Access::Redirect(url) = access else { return Err("not a URL".into()) };
        let response = self.place.s3.fetch(&url).await?;
        if response.status() == http::StatusCode::OK { Ok(response.into_body()) } else { Err(response.status().to_string().into()) }
    }

    async fn names(&self, folder: &Folder) -> Result<Vec<String>, BoxError> {
        let destination = folder.destination.clone().unwrap_or_else(|| format!("{BUCKET}/{PREFIX}"));
        let place = format!("{destination}/{}/", folder.path);
        let (bucket, prefix) = place.split_once('/').ok_or("no bucket")?;
        let keys = self.place.s3.keys(bucket, prefix).await?;
        Ok(keys.iter().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect())
    }

    fn unusable(&self) -> Vec<(S3PartStore, Option<String>, Vec<String>)> {
        let store = |bucket| s3_store(&self.place.s3, bucket);
        let named = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let own = |own: &str, words: &[&str]| {
            let words: Vec<String> = named(words);
            (store(BUCKET), Some(own.to_owned()), [vec!["client's registration".to_owned()], words].concat())
        };
        vec![
            (store("nobodys"), None, named(&["HEADRACE_DESTINATION_BUCKET", "nobodys"])),
            own("nobodys-either/x", &["nobodys-either", "no such thing"]),
            // There, and not opened to clients.
            own(BUCKET, &[BUCKET, "HEADRACE_CLIENT_BUCKETS"]),
            own(&format!("{BUCKET}/x"), &[BUCKET, "HEADRACE_CLIENT_BUCKETS"]),
            own("", &["HEADRACE_CLIENT_BUCKETS"]),
            own(&format!("{CLIENTS}/a//b"), &[CLIENTS, "prefix"]),
            own(&format!("{CLIENTS}/../b"), &[CLIENTS, "prefix"]),
            own(&format!("{CLIENTS}/{}", "x".repeat(600)), &[CLIENTS, "prefix"]),
        ]
    }
}

fn directory_handed(own: Option<&str>) -> Result<Handed<Directory<DirectoryParts>>, BoxError> {
    let place = Directory::of(|root| DirectoryParts::open(root.join("state")).apart_from(root.join("lake")))?;
    std::fs::create_dir(place.root.path().join("lake"))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(place.root.path().join("lake"), place.root.path().join("link"))?;
    let own = own.map(|own| place.root.path().join(own).display().to_string());
    Ok(Handed { place, own })
}

pub(crate) async fn directory_parts() -> Result<Handed<Directory<DirectoryParts>>, BoxError> {
    directory_handed(None)
}

pub(crate) async fn directory_parts_of_a_client() -> Result<Handed<Directory<DirectoryParts>>, BoxError> {
    directory_handed(Some("clients/its own"))
}

impl Destination for Handed<Directory<DirectoryParts>> {
    type Store = DirectoryParts;

    fn store(&self) -> &DirectoryParts {
        &self.place.port
    }

    fn own(&self) -> Option<String> {
        self.own.clone()
    }

    fn another(&self) -> String {
        self.place.root.path().join("clients/another").display().to_string()
    }

    async fn fetch(&self, access: Access) -> Result<Bytes, BoxError> {
        let Access::Local(path) = access else { return Err("not a file".into()) };
        Ok(std::fs::read(path)?.into())
    }

    async fn names(&self, folder: &Folder) -> Result<Vec<String>, BoxError> {
        let destination = folder.destination.as_ref().map_or_else(|| self.place.root.path().join("state"), PathBuf::from);
        let folder = destination.join(&folder.path);
        let (mut names, mut folders) = (Vec::new(), vec![folder.clone()]);
        while let Some(next) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&next) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(&folder)?.to_str().ok_or("not UTF-8")?.to_owned());
                }
            }
        }
        names.sort();
        Ok(names)
    }

    fn unusable(&self) -> Vec<(DirectoryParts, Option<String>, Vec<String>)> {
        let root = self.place.root.path();
        // A file stands where the folder should be.
        let path = root.join("file");
        drop(File::create(&path));
        let own = |path: &Path, words: &str| {
            let path = path.display().to_string();
            (self.place.port.clone(), Some(path.clone()), vec!["client's registration".to_owned(), path, words.to_owned()])
        };
        let mut unusable = vec![
            (DirectoryParts::open(&path), None, vec![path.display().to_string(), "--state".to_owned()]),
            own(&path, "cannot be written to"),
            own(Path::new("relative/path"), "absolute"),
            own(Path::new(""), "absolute"),
            own(&root.join("clients/../lake"), "absolute"),
            own(&root.join("lake"), "lake"),
            own(&root.join("lake/new/folder"), "lake"),
            // A container could be called `lake`.
            own(root, "lake"),
        ];
        if cfg!(unix) {
            unusable.push(own(&root.join("link/new"), "lake"));
        }
        unusable
    }
}

/// Neither the folder of a destination nor what lies in it is open to others.
#[cfg(unix)]
#[tokio::test]
async fn a_clients_own_directory_is_created_for_its_owner_alone() -> Held {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = directory_parts_of_a_client().await?;
    bed.store().check(bed.own().as_deref()).await?;
    for folder in ["clients", "clients/its own"] {
        let mode = std::fs::metadata(bed.place.root.path().join(folder))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    Ok(())
}

/// A directory encrypts nothing, and must not seem to.
#[tokio::test]
async fn what_is_to_be_encrypted_is_not_written_into_a_directory() -> Held {
    let bed = directory_parts().await?;
    let key = JobKey { name: "trial".to_owned(), arn: "arn".to_owned() };
    let folder = Folder { destination: None, path: "x".to_owned(), key: Some(key) };
    let kind = OutputKind::named("Patient").ok_or("no such kind")?;
    let tail = FragmentName { kind, task: 2, attempt: 1, step: 1 };
    match bed.store().draft(&folder, tail).await {
        Err(StoreError::Misconfigured { remedy, .. }) => assert!(remedy.contains("`trial`"), "{remedy}"),
        other => return Err(format!("it must be refused, and is {:?}", other.map(drop)).into()),
    }
    Ok(())
}

/// However the file comes to be: from memory, in pieces, by a copy.
#[tokio::test]
async fn whatever_is_written_under_a_key_is_encrypted_under_it() -> Held {
    const HELD: usize = 1 << 20;
    const IN_PIECES: usize = 80 << 20;
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/k-1";
    for own in [None, Some(format!("{CLIENTS}/own"))] {
        let bed = s3_handed(own).await?;
        let key = JobKey { name: "trial".to_owned(), arn: arn.to_owned() };
        let folder = Folder { destination: bed.own(), path: "x".to_owned(), key: Some(key) };
        let before = bed.place.s3.written().len();
        let kind = OutputKind::named("Patient").ok_or("no such kind")?;
        for (number, size) in [(1, HELD), (2, IN_PIECES)] {
            let (tail, part) = (FragmentName { kind, task: 2, attempt: 1, step: number }, OutputFileName { kind, number });
            let bytes = Bytes::from(vec![b'\n'; size]);
            let content = Content { bytes: size as u64, lines: size as u64, crc64: checksum(CrcAlgorithm::Crc64Nvme, &bytes) };
            for name in [FileName::Tail(tail), FileName::Anew(part)] {
                let mut draft = bed.store().draft(&folder, tail).await?;
                draft.write(bytes.clone()).await?;
                draft.settle(name, content).await?;
            }
            let adopted = OutputFileName { kind, number: number + 10 };
            let mut draft = bed.store().draft(&folder, tail).await?;
            draft.write(bytes.clone()).await?;
            draft.settle(FileName::Tail(tail), content).await?;
            bed.store().adopt(&folder, &Tail { name: tail, content }, adopted).await?;
            let access = bed.store().grant(&folder, &Part { name: adopted, content }).await?;
            assert!(bed.fetch(access).await? == bytes);
        }
        let written = bed.place.s3.written().split_off(before);
        let operations: BTreeSet<&str> = written.iter().map(|write| write.operation).collect();
        assert!(operations.into_iter().eq(["CopyObject", "CreateMultipartUpload", "PutObject"]));
        let under = Encryption { algorithm: "aws:kms".to_owned(), key: Some(arn.to_owned()), has_bucket_key: true };
        for write in written {
            assert_eq!(write.encryption.as_ref(), Some(&under), "{write:?}");
        }
    }
    Ok(())
}
