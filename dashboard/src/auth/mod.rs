//! Who may do what: sessions, passwords, the one-time link, and what a request from another site looks like.
//!
//! Every route below `/api/v1` but the two that log in needs a session, and every request that is not GET its CSRF token
//! and our own origin; [`guard`] sees to both before a handler runs. Roles are checked by the extractors [`Analyst`] and
//! [`Admin`].

pub(crate) mod link;
pub(crate) mod origin;
pub(crate) mod passwords;
pub(crate) mod sessions;
pub(crate) mod throttle;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::api::types::{ProblemCode, Role};
use crate::error::ApiError;
use crate::state::App;

use self::sessions::Session;

/// Header that carries the CSRF token.
const CSRF_HEADER: &str = "x-csrf-token";

/// Routes that need no session: they make one.
const OPEN_ROUTES: [&str; 2] = ["/api/v1/auth/login", "/api/v1/auth/link"];

/// How often a session's user is looked up again: one who is disabled is out after this.
const RECHECK_S: u64 = 60;

/// Address that a request comes from, put into it by the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote(pub(crate) IpAddr);

/// A request with a session: what handlers see of the user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    /// The session.
    pub(crate) session: Arc<Session>,
    /// Where the request comes from.
    pub(crate) remote: IpAddr,
}

/// A user who may label and make rules.
#[derive(Debug, Clone)]
pub(crate) struct Analyst(pub(crate) User);

/// A user who may see the audit.
#[derive(Debug, Clone)]
pub(crate) struct Admin;

impl User {
    fn needs(self, role: Role) -> Result<Self, ApiError> {
        if self.session.role() >= role {
            return Ok(self);
        }
        let role = match role {
            Role::Viewer => "viewer",
            Role::Analyst => "analyst",
            Role::Admin => "administrator",
        };
        Err(ApiError::new(
            ProblemCode::Forbidden,
            format!("this needs the role {role}: ask an administrator"),
        ))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(not_logged_in)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Analyst {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        User::from_request_parts(parts, state)
            .await?
            .needs(Role::Analyst)
            .map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        User::from_request_parts(parts, state).await?.needs(Role::Admin)?;
        Ok(Self)
    }
}

fn not_logged_in() -> ApiError {
    ApiError::new(ProblemCode::NotLoggedIn, "log in first")
}

/// Lets requests with a session through, and those that make one.
pub(crate) async fn guard(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read {
        app.origins.check_write(request.headers())?;
    }
    if OPEN_ROUTES.contains(&request.uri().path()) {
        return Ok(next.run(request).await);
    }
    let token = app.sessions.cookie(request.headers()).ok_or_else(not_logged_in)?;
    let session = app
        .sessions
        .find(&token)
        .ok_or_else(|| ApiError::new(ProblemCode::NotLoggedIn, "the session has ended: log in again"))?;
    recheck(&app, &session).await?;
    if !is_read && !has_csrf_token(request.headers(), &session) {
        return Err(ApiError::new(
            ProblemCode::CrossSite,
            "the header x-csrf-token is missing or wrong: GET /api/v1/auth/me has it",
        ));
    }
    let remote = request
        .extensions()
        .get::<Remote>()
        .map_or_else(|| IpAddr::from([0, 0, 0, 0]), |remote| remote.0);
    request.extensions_mut().insert(User { session, remote });
    Ok(next.run(request).await)
}

fn has_csrf_token(headers: &HeaderMap, session: &Session) -> bool {
    headers
        .get(CSRF_HEADER)
        .is_some_and(|token| constant_time_eq(token.as_bytes(), session.csrf_token.as_bytes()))
}

/// Looks the user up again from time to time. While the store is away the session goes on.
async fn recheck(app: &App, session: &Arc<Session>) -> Result<(), ApiError> {
    if !session.is_due_for_recheck(RECHECK_S) {
        return Ok(());
    }
    let Ok(user) = app.user(&session.user).await else {
        return Ok(());
    };
    match user {
        Some(user) if user.disabled == 0 => {
            if let Some(role) = passwords::role(&user.role) {
                session.set_role(role);
            }
            Ok(())
        }
        // The local administrator has no row until a password is set.
        None if session.is_local_admin() => Ok(()),
        _ => {
            app.sessions.end_all_of(&session.user, None);
            Err(ApiError::new(
                ProblemCode::NotLoggedIn,
                "this user may not log in any more: ask an administrator",
            ))
        }
    }
}

/// Compares without telling by its time where the difference is.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Random bytes as hexadecimal digits.
///
/// # Errors
/// If the kernel gives none.
pub(crate) fn random_hex<const N: usize>() -> Result<String, ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal(format!("no random bytes: {error}")))?;
    Ok(hex(&bytes))
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)]))
        .collect()
}

/// SHA-256 of a token, as hexadecimal digits: what is kept of it.
pub(crate) fn token_hash(token: &str) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(token.as_bytes()))
}
