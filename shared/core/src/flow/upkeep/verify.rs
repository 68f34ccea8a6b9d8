//! Checks sealed records: whether the chain holds over all files, and whether it ends where the job table says.

use std::collections::BTreeSet;

use crate::audit::verify::{Broken, Followed, Verifier};
use crate::ports::{AuditFiles, AuditTrail};
use crate::vocab::error::StoreError;

/// Sound files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// What was followed; `None` if there is no file, and should be none.
    pub followed: Option<Followed>,
    /// What lies beside the audit files, by its path.
    pub strangers: BTreeSet<String>,
}

/// Follows all files, and looks where they end if there is a job table to say so. Sealing may go on meanwhile.
///
/// Fails if something could not be read; that the files are broken is an answer.
pub async fn verify(files: &impl AuditFiles, trail: Option<&impl AuditTrail>) -> Result<Result<Sound, Broken>, StoreError> {
    let (mut verifier, mut seen) = (Verifier::default(), BTreeSet::new());
    loop {
        let standing = match trail {
            Some(trail) => Some((trail, trail.standing().await?)),
            None => None,
        };
        let listing = files.list().await?;
        for name in listing.files.difference(&seen) {
            if let Err(broken) = verifier.file(name, &files.read(name).await?) {
                return Ok(Err(broken));
            }
        }
        seen = listing.files;
        if let Some((trail, standing)) = standing
            && let Err(broken) = verifier.must_end_at(&standing)
        {
            if trail.standing().await? == standing {
                return Ok(Err(broken));
            }
            // The head has moved since it was looked at: what was written behind it is followed too.
            continue;
        }
        return Ok(Ok(Sound { followed: verifier.followed(), strangers: listing.strangers }));
    }
}
