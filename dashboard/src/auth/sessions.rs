//! Sessions in memory: found by the hash of their token, ended by idling, by age, or by being too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use prometheus::IntGauge;

use crate::api::types::{LoginKind, Me, Role};
use crate::auth::{random_hex, token_hash};
use crate::config::SessionsConfig;
use crate::error::ApiError;
use crate::window::{now_us, rfc3339_us};

/// Longest `Cookie` header that is read: ours is 70 bytes, others on this host may be beside it.
const MAX_COOKIE_BYTES: usize = 16 * 1024;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// User.
    pub(crate) user: String,
    /// How it began.
    pub(crate) via: LoginKind,
    /// CSRF token.
    pub(crate) csrf_token: String,
    role: AtomicU8,
    began: Instant,
    expires_at_us: i64,
    /// Seconds after `began` at which the last request came.
    seen_s: AtomicU64,
    /// Seconds after `began` at which the user was looked up.
    checked_s: AtomicU64,
}

impl Session {
    /// The role, as it is now.
    pub(crate) fn role(&self) -> Role {
        match self.role.load(Ordering::Relaxed) {
            0 => Role::Viewer,
            1 => Role::Analyst,
            _ => Role::Admin,
        }
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.store(role as u8, Ordering::Relaxed);
    }

    /// True for the administrator of the one-time link.
    pub(crate) fn is_local_admin(&self) -> bool {
        self.via == LoginKind::Link
    }

    /// True once in so many seconds.
    pub(crate) fn is_due_for_recheck(&self, every_s: u64) -> bool {
        let now = self.began.elapsed().as_secs();
        let checked = self.checked_s.load(Ordering::Relaxed);
        now >= checked + every_s
            && self
                .checked_s
                .compare_exchange(checked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn touch(&self) {
        self.seen_s
            .store(self.began.elapsed().as_secs(), Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        self.began
            .elapsed()
            .saturating_sub(Duration::from_secs(self.seen_s.load(Ordering::Relaxed)))
    }
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: SessionsConfig,
    cookie_name: &'static str,
    is_https: bool,
    by_hash: Mutex<HashMap<String, Arc<Session>>>,
    gauge: IntGauge,
}

impl Sessions {
    /// None yet.
    pub(crate) fn new(config: SessionsConfig, is_https: bool, gauge: IntGauge) -> Self {
        Self {
            config,
            // A browser takes the prefix only with Secure, Path=/ and no Domain: nothing beside us can set it.
            cookie_name: if is_https {
                "__Host-ja4_session"
            } else {
                "ja4_session"
            },
            is_https,
            by_hash: Mutex::default(),
            gauge,
        }
    }

    /// Begins a session; the header that gives its token to the browser.
    pub(crate) fn begin(
        &self,
        user: &str,
        role: Role,
        via: LoginKind,
    ) -> Result<(Arc<Session>, HeaderValue), ApiError> {
        let token = random_hex::<32>()?;
        let lifetime = self.config.lifetime.0;
        let session = Arc::new(Session {
            user: user.to_owned(),
            via,
            csrf_token: random_hex::<32>()?,
            role: AtomicU8::new(role as u8),
            began: Instant::now(),
            expires_at_us: now_us().saturating_add(i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX)),
            seen_s: AtomicU64::new(0),
            checked_s: AtomicU64::new(0),
        });
        let mut by_hash = self.lock();
        by_hash.retain(|_, session| self.lives(session));
        while by_hash.len() >= self.config.max {
            let longest_idle = by_hash
                .iter()
                .max_by_key(|(_, session)| session.idle())
                .map(|(hash, _)| hash.clone());
            match longest_idle {
                Some(hash) => by_hash.remove(&hash),
                None => break,
            };
        }
        by_hash.insert(token_hash(&token), Arc::clone(&session));
        self.count(&by_hash);
        drop(by_hash);
        Ok((session, self.set_cookie(&token, lifetime.as_secs())?))
    }

    fn set_cookie(&self, token: &str, max_age_s: u64) -> Result<HeaderValue, ApiError> {
        let secure = if self.is_https { "; Secure" } else { "" };
        HeaderValue::from_str(&format!(
            "{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}",
            self.cookie_name
        ))
        .map_err(|error| ApiError::internal(format!("cookie: {error}")))
    }

    /// The header that takes the token from the browser.
    pub(crate) fn clear_cookie(&self) -> Result<HeaderValue, ApiError> {
        self.set_cookie("", 0)
    }

    /// The token that a request carries.
    pub(crate) fn cookie(&self, headers: &HeaderMap) -> Option<String> {
        headers
            .get_all(COOKIE)
            .iter()
            .filter(|header| header.len() <= MAX_COOKIE_BYTES)
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.cookie_name)
            .map(|(_, token)| token.to_owned())
    }

    /// The session of a token, if it lives.
    pub(crate) fn find(&self, token: &str) -> Option<Arc<Session>> {
        let hash = token_hash(token);
        let mut by_hash = self.lock();
        let session = by_hash.get(&hash)?;
        if self.lives(session) {
            session.touch();
            return Some(Arc::clone(session));
        }
        by_hash.remove(&hash);
        self.count(&by_hash);
        None
    }

    /// Ends the session of a token.
    pub(crate) fn end(&self, token: &str) {
        let mut by_hash = self.lock();
        by_hash.remove(&token_hash(token));
        self.count(&by_hash);
    }

    /// Ends all sessions of a user, but one.
    pub(crate) fn end_all_of(&self, user: &str, but: Option<&Arc<Session>>) {
        let mut by_hash = self.lock();
        by_hash
            .retain(|_, session| session.user != user || but.is_some_and(|kept| Arc::ptr_eq(kept, session)));
        self.count(&by_hash);
    }

    /// What the user is told of the session.
    pub(crate) fn me(&self, session: &Session) -> Me {
        Me {
            user: session.user.clone(),
            role: session.role(),
            via: session.via,
            csrf_token: session.csrf_token.clone(),
            expires_at: rfc3339_us(session.expires_at_us),
            idle_timeout_s: self.config.idle.0.as_secs(),
        }
    }

    fn lives(&self, session: &Session) -> bool {
        session.began.elapsed() < self.config.lifetime.0 && session.idle() < self.config.idle.0
    }

    fn count(&self, by_hash: &HashMap<String, Arc<Session>>) {
        self.gauge.set(i64::try_from(by_hash.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ja4_common::units::Span;

    use super::*;

    fn sessions(idle_ms: u64, lifetime_ms: u64, max: usize, is_https: bool) -> Sessions {
        let config = SessionsConfig {
            idle: Span::millis(idle_ms),
            lifetime: Span::millis(lifetime_ms),
            max,
        };
        Sessions::new(config, is_https, IntGauge::new("x", "x").unwrap())
    }

    fn token(set_cookie: &HeaderValue) -> String {
        let text = set_cookie.to_str().unwrap();
        text.split(['=', ';']).nth(1).unwrap().to_owned()
    }

    #[test]
    fn a_session_is_found_by_its_token_until_it_ends() {
        let sessions = sessions(60_000, 60_000, 10, false);
        let (session, cookie) = sessions.begin("ada", Role::Analyst, LoginKind::Password).unwrap();
        let token = token(&cookie);
        assert_eq!(sessions.find(&token).unwrap().user, "ada");
        assert!(sessions.find("x").is_none());
        assert_ne!(session.csrf_token, token);
        sessions.end(&token);
        assert!(sessions.find(&token).is_none());
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_other_sites() {
        let (_, plain) = sessions(1, 1000, 1, false)
            .begin("a", Role::Viewer, LoginKind::Link)
            .unwrap();
        let plain = plain.to_str().unwrap().to_owned();
        assert!(
            plain.contains("HttpOnly") && plain.contains("SameSite=Strict") && !plain.contains("Secure"),
            "{plain}"
        );
        let (_, https) = sessions(1, 1000, 1, true)
            .begin("a", Role::Viewer, LoginKind::Link)
            .unwrap();
        let https = https.to_str().unwrap().to_owned();
        assert!(
            https.starts_with("__Host-") && https.contains("; Secure") && https.contains("Path=/;"),
            "{https}"
        );
    }

    #[test]
    fn an_old_session_is_gone() {
        let sessions = sessions(60_000, 0, 10, false);
        let (_, cookie) = sessions.begin("ada", Role::Admin, LoginKind::Link).unwrap();
        assert!(sessions.find(&token(&cookie)).is_none());
    }

    #[test]
    fn one_too_many_ends_the_one_that_idled_longest() {
        let sessions = sessions(60_000, 60_000, 2, false);
        let tokens: Vec<String> = (0..3)
            .map(|i| {
                let (session, cookie) = sessions
                    .begin(&format!("u{i}"), Role::Viewer, LoginKind::Password)
                    .unwrap();
                // As if it had been used that long ago.
                session.seen_s.store(u64::from(i == 1), Ordering::Relaxed);
                token(&cookie)
            })
            .collect();
        let alive: Vec<bool> = tokens
            .iter()
            .map(|token| sessions.find(token).is_some())
            .collect();
        assert_eq!(alive.iter().filter(|alive| **alive).count(), 2);
        assert!(!alive[0] && alive[2], "{alive:?}");
    }

    #[test]
    fn other_sessions_of_a_user_can_be_ended() {
        let sessions = sessions(60_000, 60_000, 10, false);
        let (kept, a) = sessions.begin("ada", Role::Admin, LoginKind::Link).unwrap();
        let (_, b) = sessions.begin("ada", Role::Admin, LoginKind::Link).unwrap();
        let (_, c) = sessions.begin("bob", Role::Admin, LoginKind::Link).unwrap();
        sessions.end_all_of("ada", Some(&kept));
        let alive = [a, b, c].map(|cookie| sessions.find(&token(&cookie)).is_some());
        assert_eq!(alive, [true, false, true]);
    }

    #[test]
    fn our_cookie_is_found_among_others() {
        let sessions = sessions(1, 1, 1, false);
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("a=b; ja4_session=xyz; c"));
        assert_eq!(sessions.cookie(&headers).as_deref(), Some("xyz"));
        headers.insert(COOKIE, HeaderValue::from_static("not_ja4_session=xyz"));
        assert_eq!(sessions.cookie(&headers), None);
    }
}
