//! The one-time link of the local administrator: 256 random bits, used once, gone after 15 minutes.
//!
//! Only its hash is kept, in `DATA/login-link`; whoever removes that file may log in, so that two requests with the same
//! link cannot both. The link itself goes into a file that only this user may read, or to the terminal.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::auth::{constant_time_eq, random_hex, token_hash};
use crate::config::DashboardConfig;
use crate::window::now_s;

/// How long a link can be used, seconds.
pub(crate) const LIFETIME_S: i64 = 15 * 60;

/// Name of the local administrator.
pub(crate) const LOCAL_ADMIN: &str = "admin";

/// Longest file of a hash: 64 digits and a time.
const MAX_FILE_BYTES: u64 = 256;

fn hash_file(data: &Path) -> PathBuf {
    data.join("login-link")
}

/// Makes a link; the one before cannot be used any more.
///
/// # Errors
/// If the data folder cannot be written.
pub(crate) fn make(config: &DashboardConfig, origin: &str) -> anyhow::Result<String> {
    make_folder(&config.data)?;
    let token =
        random_hex::<32>().map_err(|error| anyhow::anyhow!("{}", error.log.unwrap_or(error.detail)))?;
    let expires = now_s() + LIFETIME_S;
    write_private(
        &hash_file(&config.data),
        &format!("{} {expires}\n", token_hash(&token)),
    )?;
    Ok(format!("{}/login#token={token}", origin.trim_end_matches('/')))
}

/// Uses a link up: true if it is the one that was made, and not too old.
pub(crate) fn redeem(data: &Path, token: &str) -> bool {
    let path = hash_file(data);
    let Some((hash, expires)) = read(&path) else {
        return false;
    };
    if !constant_time_eq(hash.as_bytes(), token_hash(token).as_bytes()) {
        return false;
    }
    // Whoever removes it was first.
    std::fs::remove_file(&path).is_ok() && now_s() < expires
}

fn read(path: &Path) -> Option<(String, i64)> {
    if std::fs::metadata(path).ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let (hash, expires) = text.trim().split_once(' ')?;
    Some((hash.to_owned(), expires.parse().ok()?))
}

/// A folder for this user only.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| {
            format!(
                "could not make the folder {}: set data to one that can be written",
                path.display()
            )
        })
}

/// Writes a file that only this user may read, whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("could not write {}", path.display());
    let beside = path.with_extension("new");
    // A file left over by a crash, or put there by somebody, is not written into.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    std::fs::rename(&beside, path).with_context(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(data: &Path) -> DashboardConfig {
        DashboardConfig {
            data: data.join("d"),
            ..DashboardConfig::default()
        }
    }

    #[test]
    fn a_link_is_used_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let link = make(&config, "http://127.0.0.1:8000/").unwrap();
        let token = link.strip_prefix("http://127.0.0.1:8000/login#token=").unwrap();
        assert_eq!(token.len(), 64);
        assert!(!redeem(&config.data, "0"));
        assert!(redeem(&config.data, token));
        assert!(!redeem(&config.data, token));
    }

    #[test]
    fn a_new_link_ends_the_old_one_and_only_its_hash_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let old = make(&config, "http://x").unwrap();
        let new = make(&config, "http://x").unwrap();
        let token = |link: &str| link.split_once("token=").unwrap().1.to_owned();
        let file = hash_file(&config.data);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(!kept.contains(&token(&new)));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!redeem(&config.data, &token(&old)));
        assert!(redeem(&config.data, &token(&new)));
    }

    #[test]
    fn an_old_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        make_folder(&config.data).unwrap();
        write_private(
            &hash_file(&config.data),
            &format!("{} {}\n", token_hash("t"), now_s() - 1),
        )
        .unwrap();
        assert!(!redeem(&config.data, "t"));
    }
}
