//! The four secrets of the store: who a request speaks for.
//!
//! Each class of client has one random 256-bit token in a file of mode 0600 under `DATA/tokens/`, made at the first
//! start, or in a folder that somebody else fills. Only digests are kept in memory, and a token is compared by its digest, so the time of a comparison says
//! nothing about the token.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Who a client is; what each may do is in `access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The correlator: inserts what happened.
    Writer,
    /// The detector: reads everything, inserts what it made of it.
    Detector,
    /// The dashboard: reads everything, inserts what analysts do.
    Dashboard,
    /// Schema migrations and maintenance: everything the engine grants.
    Migrator,
}

impl Class {
    /// All classes, in the order of their files.
    pub const ALL: [Self; 4] = [Self::Writer, Self::Detector, Self::Dashboard, Self::Migrator];

    /// Name in files, user names and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Detector => "detector",
            Self::Dashboard => "dashboard",
            Self::Migrator => "migrator",
        }
    }
}

/// Why the tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read or made.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// `read` or `create`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("{path} has mode {mode:04o}; others may read the token: chmod 0600 {path}")]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too short to be a secret.
    #[error(
        "{path} holds {length} characters; a token has at least {MIN_TOKEN_CHARS}: delete the file to get a new one"
    )]
    Short {
        /// Which file.
        path: PathBuf,
        /// Characters without the line end.
        length: usize,
    },
}

/// 128 bits in base64: shorter ones are passwords that somebody typed.
const MIN_TOKEN_CHARS: usize = 22;

/// Bytes of a token that we make: 256 bits.
const TOKEN_BYTES: usize = 32;

/// What a request brought to say who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name of a class, when the client gave a user name.
    pub user: Option<String>,
    /// The token.
    pub token: String,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({})", self.user.as_deref().unwrap_or("-"))
    }
}

/// Digests of the four tokens.
pub struct Credentials {
    digests: [(Class, [u8; 32]); 4],
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(4 tokens)")
    }
}

impl Credentials {
    /// Reads the tokens, making those that are not there yet.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file and what to do.
    pub fn open(directory: &Path) -> Result<Self, CredentialsError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("create", directory))?;
        for class in Class::ALL {
            let path = directory.join(class.name());
            match create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create", &path)(error)),
            }
        }
        Self::read_with(directory, 0o077)
    }

    /// Reads the tokens of a folder that others fill; their group may read them too, because Kubernetes mounts Secrets that way.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file and what to do.
    pub fn read(directory: &Path) -> Result<Self, CredentialsError> {
        Self::read_with(directory, 0o007)
    }

    fn read_with(directory: &Path, forbidden: u32) -> Result<Self, CredentialsError> {
        let mut digests = Class::ALL.map(|class| (class, [0; 32]));
        for (class, digest) in &mut digests {
            *digest = read(&directory.join(class.name()), forbidden)?;
        }
        Ok(Self { digests })
    }

    /// The class whose token this is; a user name, where given, must be the class's.
    pub fn check(&self, claim: &Claim) -> Option<Class> {
        let digest: [u8; 32] = Sha256::digest(claim.token.as_bytes()).into();
        let (class, _) = self.digests.iter().find(|(_, known)| *known == digest)?;
        claim
            .user
            .as_deref()
            .is_none_or(|user| user == class.name())
            .then_some(*class)
    }
}

/// Writes a fresh token beside its place and links it there, so that nobody ever reads half a token.
fn create(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut secret = [0; TOKEN_BYTES];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(secret))?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CredentialsError {
    move |source| CredentialsError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Reads a token that nobody may read who is in `forbidden`.
fn read(path: &Path, forbidden: u32) -> Result<[u8; 32], CredentialsError> {
    let mode = fs::metadata(path)
        .map_err(failed("read", path))?
        .permissions()
        .mode()
        & 0o777;
    if mode & forbidden != 0 {
        return Err(CredentialsError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let token = fs::read_to_string(path).map_err(failed("read", path))?;
    let token = token.trim_end();
    if token.len() < MIN_TOKEN_CHARS {
        return Err(CredentialsError::Short {
            path: path.to_owned(),
            length: token.len(),
        });
    }
    Ok(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(user: Option<&str>, token: &str) -> Claim {
        Claim {
            user: user.map(str::to_owned),
            token: token.to_owned(),
        }
    }

    #[test]
    fn tokens_are_made_once_kept_and_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = directory.path().join("tokens");
        let credentials = Credentials::open(&tokens).unwrap();
        let writer = fs::read_to_string(tokens.join("writer")).unwrap();
        let reader = fs::read_to_string(tokens.join("dashboard")).unwrap();
        assert_ne!(writer, reader);
        assert_eq!(
            fs::metadata(tokens.join("writer")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (writer, reader) = (writer.trim_end(), reader.trim_end());
        assert_eq!(credentials.check(&claim(None, writer)), Some(Class::Writer));
        assert_eq!(
            credentials.check(&claim(Some("writer"), writer)),
            Some(Class::Writer)
        );
        assert_eq!(credentials.check(&claim(Some("migrator"), writer)), None);
        assert_eq!(credentials.check(&claim(None, "")), None);
        let again = Credentials::open(&tokens).unwrap();
        assert_eq!(again.check(&claim(None, reader)), Some(Class::Dashboard));
    }

    #[test]
    fn token_that_others_can_read_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        Credentials::open(directory.path()).unwrap();
        let path = directory.path().join("detector");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Credentials::open(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("chmod 0600") && error.contains("detector"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_others_fill_is_only_read_and_its_group_may_read_it_too() {
        let directory = tempfile::tempdir().unwrap();
        Credentials::open(directory.path()).unwrap();
        let path = directory.path().join("detector");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(Credentials::read(directory.path()).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(Credentials::read(directory.path()).is_err());
        fs::remove_file(&path).unwrap();
        let error = Credentials::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("detector"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn short_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Credentials::open(directory.path()).unwrap();
        fs::write(directory.path().join("detector"), "secret\n").unwrap();
        assert!(matches!(
            Credentials::open(directory.path()),
            Err(CredentialsError::Short { length: 6, .. })
        ));
    }
}
