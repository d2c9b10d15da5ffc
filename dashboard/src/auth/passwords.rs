//! Passwords: argon2id, a few at once, and as slow for a user that there is not as for one that there is.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

use crate::api::types::Role;
use crate::error::ApiError;

/// Hashes at once: each takes 19 MiB and some ten milliseconds of a core.
const MAX_AT_ONCE: usize = 2;

/// Shortest and longest password, characters; longer ones would only cost time.
pub(crate) const LENGTH: std::ops::RangeInclusive<usize> = 12..=256;

/// Longest name of a user, bytes.
pub(crate) const MAX_USER_BYTES: usize = 64;

/// Checks and makes hashes.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    /// Hash of a password that nobody has, for users that there are not.
    nobody: Arc<str>,
}

impl Passwords {
    /// Ready to check.
    ///
    /// # Errors
    /// If the kernel gives no random bytes.
    pub(crate) fn new() -> Result<Self, ApiError> {
        let nobody = hash(&crate::auth::random_hex::<32>()?)?;
        Ok(Self {
            turns: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            nobody: nobody.into(),
        })
    }

    /// True if the password belongs to the hash; without one it takes as long and is false.
    pub(crate) async fn verify(&self, password: String, known: Option<String>) -> Result<bool, ApiError> {
        let is_known = known.is_some();
        let known = known.unwrap_or_else(|| self.nobody.to_string());
        let matches = self.run(move || Ok(verify(&password, &known))).await?;
        Ok(matches && is_known)
    }

    /// The hash of a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        self.run(move || hash(&password)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let closed = |_| ApiError::internal("the queue of password hashes is closed");
        let _turn = self.turns.acquire().await.map_err(closed)?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ApiError::internal(format!("password hash: {error}")))?
    }
}

fn verify(password: &str, known: &str) -> bool {
    PasswordHash::new(known).is_ok_and(|known| {
        Argon2::default()
            .verify_password(password.as_bytes(), &known)
            .is_ok()
    })
}

/// Argon2id with the crate's parameters, in PHC form.
///
/// # Errors
/// If the kernel gives no random bytes.
pub(crate) fn hash(password: &str) -> Result<String, ApiError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| ApiError::internal(format!("password hash: {error}")))
}

/// The role that the store names.
pub(crate) fn role(name: &str) -> Option<Role> {
    match name {
        "viewer" => Some(Role::Viewer),
        "analyst" => Some(Role::Analyst),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

/// Why a password cannot be used; none if it can.
pub(crate) fn refuse(user: &str, password: &str) -> Option<String> {
    let n = password.chars().count();
    if !LENGTH.contains(&n) {
        return Some(format!(
            "a password has {} to {} characters, this one has {n}",
            LENGTH.start(),
            LENGTH.end()
        ));
    }
    if password.chars().all(|c| password.starts_with(c))
        || password.to_lowercase().contains(&user.to_lowercase())
    {
        return Some(
            "this password is too easy: take several words that do not hold the user's name".to_owned(),
        );
    }
    None
}

/// Why a name cannot be a user's; none if it can.
pub(crate) fn refuse_user(name: &str) -> Option<&'static str> {
    let fits = (1..=MAX_USER_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@'));
    (!fits).then_some("a user's name has 1 to 64 letters, digits, dots, dashes, underscores or @")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_belongs_to_its_hash_only() {
        let passwords = Passwords::new().unwrap();
        let known = passwords.hash("correct horse battery".to_owned()).await.unwrap();
        assert!(known.starts_with("$argon2id$"), "{known}");
        assert!(
            passwords
                .verify("correct horse battery".to_owned(), Some(known.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("correct horse".to_owned(), Some(known))
                .await
                .unwrap()
        );
        assert!(!passwords.verify("x".to_owned(), None).await.unwrap());
        assert!(
            !passwords
                .verify("x".to_owned(), Some("no hash".to_owned()))
                .await
                .unwrap()
        );
    }

    #[test]
    fn short_and_easy_passwords_are_refused() {
        assert!(refuse("ada", "short").unwrap().contains("12 to 256"));
        assert!(refuse("ada", &"x".repeat(20)).is_some());
        assert!(refuse("ada", "this is ada and long").is_some());
        assert!(refuse("ada", &"é".repeat(257)).is_some());
        assert_eq!(refuse("ada", "correct horse battery"), None);
    }

    #[test]
    fn names_are_plain() {
        for name in ["", "a b", "a\n", "é", &"x".repeat(65), "<b>"] {
            assert!(refuse_user(name).is_some(), "{name}");
        }
        assert_eq!(refuse_user("ada.l-1@x"), None);
    }
}
