use headrace_core::access::TokenKey;
use headrace_edge::jose::{CompactJws, VerifyingKey, key_id, to_pem};

use super::*;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn token_key(public: &PublicKey) -> TokenKey {
    TokenKey { kid: key_id(public), alg: public.algorithm.as_str().to_owned(), pem: to_pem(public), expires_at: Millis(0) }
}

// Holds: SEC-A11
#[tokio::test]
async fn a_signature_is_verified_by_its_public_key_and_no_other() -> Result {
    let folder = tempfile::tempdir()?;
    let mut keys = Vec::new();
    for (algorithm, name) in [(SigningAlgorithm::Es384, "ES384"), (SigningAlgorithm::Rs384, "RS384")] {
        let signer = FileSigner::open(&FileSigner::create(folder.path(), algorithm, Millis(name.len() as u64 + keys.len() as u64))?)?;
        let message = if name == "ES384" { "eyJhbGciOiJFUzM4NCJ9.e30" } else { "eyJhbGciOiJSUzM4NCJ9.e30" };
        let signature = base64(&signer.sign(message.as_bytes()).await?);
        let public = signer.key().await?;
        assert_eq!(public.algorithm, algorithm);
        keys.push((format!("{message}.{signature}"), VerifyingKey::from_token_key(&token_key(&public)).ok_or("no key")?));
    }
    for (signed, (token, _)) in keys.iter().enumerate() {
        for (checked, (_, key)) in keys.iter().enumerate() {
            assert_eq!(CompactJws::parse(token)?.is_signed_by(key), signed == checked);
        }
        let changed = token.replacen(".e30.", ".e31.", 1);
        assert!(!keys.iter().any(|(_, key)| CompactJws::parse(&changed).is_ok_and(|token| token.is_signed_by(key))));
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn the_newest_key_signs_and_the_first_is_generated() -> Result {
    let state = tempfile::tempdir()?;
    let folder = state.path().join("keys");
    assert_eq!(key_files(&folder)?, Vec::<PathBuf>::new());
    let first = FileSigner::open_or_create(&folder, Millis(1))?.key().await?;
    assert_eq!(FileSigner::open_or_create(&folder, Millis(2))?.key().await?, first);
    FileSigner::create(&folder, SigningAlgorithm::Es384, Millis(1_790_841_600_000))?;
    let second = FileSigner::open_or_create(&folder, Millis(3))?.key().await?;
    assert!(second != first && key_files(&folder)?.len() == 2);
    // A second key in the same millisecond does not overwrite the first.
    assert!(matches!(FileSigner::create(&folder, SigningAlgorithm::Es384, Millis(1)), Err(KeyFileError::File { .. })));
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_key_file_is_accessible_by_its_owner_only() -> Result {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let path = FileSigner::create(folder.path(), SigningAlgorithm::Es384, Millis(1))?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        assert!(matches!(FileSigner::open(&path), Err(KeyFileError::Accessible(_))), "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    for text in
        ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &fs::read_to_string(&path)?.replace("PRIVATE", "PUBLIC")]
    {
        fs::write(&path, text)?;
        assert!(matches!(FileSigner::open(&path), Err(KeyFileError::NoKey(_))), "{text}");
    }
    Ok(())
}
