//! Takes secrets out of requests before anything is written: keyed hashes in their place.
//!
//! A plain hash of a cookie can be guessed; an HMAC under a key of the installation cannot. The
//! key is a file with mode 0600, made at the first start.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use ja4_model::{Request, Text};
use sha2::Sha256;

use crate::config::RedactionConfig;

/// Headers whose value is always a secret.
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// Length of the key, bytes: the block of SHA-256 is 64, its strength 32.
const KEY_BYTES: usize = 32;

/// Why the key cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// Reading or making the file failed.
    #[error("redaction key {path:?} cannot be read or made, set redaction.key_file to a writable place")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is not a key.
    #[error(
        "redaction key {path:?} has {length} bytes, {KEY_BYTES} are needed: remove it to have a new one made (earlier hashes then no longer compare)"
    )]
    Length { path: PathBuf, length: usize },
    /// No randomness.
    #[error("no random bytes for the redaction key: {0}")]
    Random(getrandom::Error),
}

/// Replaces secrets by keyed hashes.
#[derive(Clone)]
pub(crate) struct Redactor {
    mac: Hmac<Sha256>,
    query_keys: Vec<Vec<u8>>,
    session_cookies: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor")
            .field("query_keys", &self.query_keys.len())
            .finish_non_exhaustive()
    }
}

impl Redactor {
    /// A redactor under `key` with the names of the configuration.
    pub(crate) fn configured(key: &[u8], section: &RedactionConfig) -> Self {
        Self::new(key, &section.query_keys, &section.session_cookies)
    }

    /// A redactor under `key`. `query_keys` and `session_cookies` are compared without case.
    pub(crate) fn new(key: &[u8], query_keys: &[String], session_cookies: &[String]) -> Self {
        let lower = |names: &[String]| {
            names
                .iter()
                .map(|name| name.to_ascii_lowercase().into_bytes())
                .collect()
        };
        Self {
            mac: Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
            query_keys: lower(query_keys),
            session_cookies: lower(session_cookies),
        }
    }

    /// Redacts the request in place; gives the hash of its session, 0 if it has none.
    pub(crate) fn redact(&self, request: &mut Request<'_>) -> u64 {
        let mut session = 0;
        for (name, value) in &mut request.headers {
            let name = name.as_bytes();
            if !SECRET_HEADERS
                .iter()
                .any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
            {
                continue;
            }
            if let Some(hash) = redacted_before(value.as_bytes()) {
                if session == 0 || name.eq_ignore_ascii_case(b"cookie") {
                    session = hash;
                }
                continue;
            }
            // The value stands for its session, so that a second of our processes finds the same one.
            let hash = self.hash(self.session_part(name, value.as_bytes()));
            if session == 0 || name.eq_ignore_ascii_case(b"cookie") {
                session = hash;
            }
            *value = shown(hash);
        }
        if let Some(query) = self.redact_query(request.query.as_bytes()) {
            request.query = query.into();
        }
        session
    }

    /// The part of a header that names the session: a configured cookie if there is one, else all of it.
    fn session_part<'v>(&self, name: &[u8], value: &'v [u8]) -> &'v [u8] {
        if !name.eq_ignore_ascii_case(b"cookie") {
            return value;
        }
        value
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii)
            .find(|pair| {
                let cookie = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
                self.session_cookies
                    .iter()
                    .any(|known| cookie.eq_ignore_ascii_case(known))
            })
            .unwrap_or(value)
    }

    /// The query with the values of secret keys replaced; nothing if there are none.
    fn redact_query(&self, query: &[u8]) -> Option<Vec<u8>> {
        if query.is_empty() || self.query_keys.is_empty() {
            return None;
        }
        let is_secret = |pair: &[u8]| {
            let (key, value) = split_pair(pair);
            !value.is_empty()
                && redacted_before(value).is_none()
                && self
                    .query_keys
                    .iter()
                    .any(|known| key.eq_ignore_ascii_case(known))
        };
        if !query.split(|byte| *byte == b'&').any(is_secret) {
            return None;
        }
        let mut out = Vec::with_capacity(query.len() + 32);
        for (idx, pair) in query.split(|byte| *byte == b'&').enumerate() {
            if idx > 0 {
                out.push(b'&');
            }
            if is_secret(pair) {
                let (key, value) = split_pair(pair);
                out.extend_from_slice(key);
                out.push(b'=');
                out.extend_from_slice(self.replacement(value).as_bytes());
            } else {
                out.extend_from_slice(pair);
            }
        }
        Some(out)
    }

    fn hash(&self, value: &[u8]) -> u64 {
        let mut mac = self.mac.clone();
        mac.update(value);
        let bytes = mac.finalize().into_bytes();
        let head: [u8; 8] = bytes[..8].try_into().expect("SHA-256 has 32 bytes");
        // 0 stands for "no session".
        u64::from_be_bytes(head).max(1)
    }

    fn replacement(&self, value: &[u8]) -> Text<'static> {
        shown(self.hash(value))
    }
}

fn shown(hash: u64) -> Text<'static> {
    Text::from(format!("hmac:{hash:016x}"))
}

/// The hash of a value that one of our processes has redacted before, on another node or in a recording.
fn redacted_before(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"hmac:")?;
    if digits.len() != 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[]),
    }
}

/// Reads the installation's key, or makes it at the first start.
///
/// # Errors
/// See [`KeyError`].
pub(crate) fn load_or_make_key(path: &Path) -> Result<Vec<u8>, KeyError> {
    let file_error = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    match std::fs::read(path) {
        Ok(key) if key.len() == KEY_BYTES => Ok(key),
        Ok(key) => Err(KeyError::Length {
            path: path.to_owned(),
            length: key.len(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = vec![0; KEY_BYTES];
            getrandom::fill(&mut key).map_err(KeyError::Random)?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(file_error)?;
            file.write_all(&key)
                .and_then(|()| file.sync_all())
                .map_err(file_error)?;
            Ok(key)
        }
        Err(source) => Err(file_error(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(&[7; 32], &["token".into(), "password".into()], &["SID".into()])
    }

    fn with_headers(headers: &[(&'static str, &'static str)]) -> Request<'static> {
        Request {
            headers: headers
                .iter()
                .map(|(name, value)| (Text::from(*name), Text::from(*value)))
                .collect(),
            ..Request::default()
        }
    }

    #[test]
    fn credentials_become_hashes_and_the_rest_stays() {
        let mut request = with_headers(&[
            ("Host", "a"),
            ("AUTHORIZATION", "Bearer x"),
            ("cookie", "sid=1; theme=dark"),
        ]);
        request.query = "q=1&Token=secret&password=&z=%20".into();
        assert_ne!(redactor().redact(&mut request), 0);
        let text = format!("{request:?}");
        for secret in ["Bearer", "dark", "secret"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(request.headers[0].1, "a");
        let query = request.query.to_str_lossy();
        assert!(
            query.starts_with("q=1&Token=hmac:") && query.ends_with("&password=&z=%20"),
            "{query}"
        );
    }

    #[test]
    fn a_session_is_its_cookie_whatever_else_is_sent() {
        let hash = |cookie| redactor().redact(&mut with_headers(&[("Cookie", cookie)]));
        assert_eq!(hash("a=1; sid=9"), hash("sid=9; b=2"));
        assert_ne!(hash("sid=9"), hash("sid=8"));
        assert_ne!(hash("a=1"), hash("a=2"));
        assert_eq!(redactor().redact(&mut with_headers(&[("Accept", "x")])), 0);
    }

    #[test]
    fn redacting_twice_changes_nothing() {
        let mut request = with_headers(&[("Cookie", "sid=1")]);
        request.query = "token=1".into();
        redactor().redact(&mut request);
        let once = request.clone();
        redactor().redact(&mut request);
        assert_eq!(request, once);
        // The session too, when the cookie has more than it.
        let mut request = with_headers(&[("Cookie", "theme=dark; sid=1")]);
        let session = redactor().redact(&mut request);
        assert_eq!(redactor().redact(&mut request), session);
    }

    #[test]
    fn the_key_is_made_once_and_only_for_its_owner() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = load_or_make_key(&path).unwrap();
        assert_eq!(load_or_make_key(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(
            load_or_make_key(&path)
                .unwrap_err()
                .to_string()
                .contains("remove it")
        );
    }
}
