//! `encrypt`: AES-CBC in base64, with the initialization vector before the ciphertext.

use aes::{Aes128, Aes192, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};

/// Encrypts a text. Returns `None` if the key's length is not one of AES.
pub(in crate::deid) fn encrypt(text: &str, key: &[u8], iv: [u8; 16]) -> Option<String> {
    let text = text.as_bytes();
    let ciphertext = match key.len() {
        16 => Encryptor::<Aes128>::new_from_slices(key, &iv).ok()?.encrypt_padded_vec::<Pkcs7>(text),
        24 => Encryptor::<Aes192>::new_from_slices(key, &iv).ok()?.encrypt_padded_vec::<Pkcs7>(text),
        _ => Encryptor::<Aes256>::new_from_slices(key, &iv).ok()?.encrypt_padded_vec::<Pkcs7>(text),
    };
    Some(STANDARD.encode([&iv[..], &ciphertext].concat()))
}
