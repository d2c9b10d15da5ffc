//! Tokens of sources: only their hashes are kept, and compared without a hint of where they differ.

use sha2::{Digest as _, Sha256};

use super::config::TokenSource;
use super::tls::{FileBytes, TlsError};

/// Shortest token, bytes: 128 bits as hexadecimal digits, or 192 as base64.
const MIN_TOKEN_BYTES: usize = 32;

/// Hashes of all tokens, in the order of the configuration.
#[derive(Clone)]
pub(crate) struct Tokens(Vec<[u8; 32]>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads the files' bytes.
    pub(crate) fn of(sources: &[TokenSource], bytes: &FileBytes, first: usize) -> Result<Self, TlsError> {
        let mut hashes = Vec::with_capacity(sources.len());
        for (idx, source) in sources.iter().enumerate() {
            let token = bytes.get(first + idx).trim_ascii();
            if token.len() < MIN_TOKEN_BYTES {
                return Err(TlsError::Content {
                    path: source.token_file.clone(),
                    what: "token",
                    reason: format!(
                        "it must have {MIN_TOKEN_BYTES} characters or more, such as `openssl rand -hex 32` gives"
                    ),
                });
            }
            hashes.push(Sha256::digest(token).into());
        }
        Ok(Self(hashes))
    }

    /// Index of the source that the token is of. Every hash is compared whole, whatever is found.
    pub(crate) fn find(&self, token: &[u8]) -> Option<usize> {
        let presented: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (idx, known) in self.0.iter().enumerate() {
            let difference = known.iter().zip(&presented).fold(0, |all, (a, b)| all | (a ^ b));
            if std::hint::black_box(difference) == 0 && found.is_none() {
                found = Some(idx);
            }
        }
        found
    }

    /// Hash of a source's token, to see that it was replaced.
    pub(crate) fn hash(&self, idx: usize) -> Option<&[u8; 32]> {
        self.0.get(idx)
    }
}
