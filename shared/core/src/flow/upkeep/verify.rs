//! Verifies sealed audit records: that the chain holds over all files, and that it ends where the job table says.

use std::collections::BTreeSet;

use crate::audit::verify::{ChainError, VerifiedChain, Verifier};
use crate::ports::{AuditFiles, AuditTrail};
use crate::vocab::error::StoreError;

/// The result of verifying intact files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntactFiles {
    /// The verified chain. `None` if there is no file, and none is missing.
    pub chain: Option<VerifiedChain>,
    /// The paths of other files beside the audit files.
    pub foreign_files: BTreeSet<String>,
}

/// Verifies all files, and their end if there is a job table. Sealing may continue meanwhile.
///
/// The outer error means that something could not be read, the inner one that the chain is broken.
pub async fn verify(files: &impl AuditFiles, trail: Option<&impl AuditTrail>) -> Result<Result<IntactFiles, ChainError>, StoreError> {
    let (mut verifier, mut verified) = (Verifier::default(), BTreeSet::new());
    loop {
        let expected = match trail {
            Some(trail) => Some((trail, trail.chain_state().await?)),
            None => None,
        };
        let listing = files.list().await?;
        for name in listing.files.difference(&verified) {
            if let Err(error) = verifier.verify_file(name, &files.read(name).await?) {
                return Ok(Err(error));
            }
        }
        verified = listing.files;
        if let Some((trail, state)) = expected
            && let Err(error) = verifier.verify_end(&state)
        {
            if trail.chain_state().await? == state {
                return Ok(Err(error));
            }
            // The head has moved since the state was read. The files written since are verified in another round.
            continue;
        }
        return Ok(Ok(IntactFiles { chain: verifier.into_verified(), foreign_files: listing.foreign_files }));
    }
}
