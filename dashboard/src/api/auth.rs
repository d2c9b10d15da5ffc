//! Routes that log in and out.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};

use crate::api::extract::JsonBody;
use crate::api::types::{
    LinkRequest, LoginKind, LoginRequest, Me, PasswordRequest, Problem, ProblemCode, Role,
};
use crate::auth::{Remote, User, link, passwords};
use crate::error::ApiError;
use crate::state::App;
use crate::store::write::{Act, UserWrite};
use crate::window::now_us;

/// Longest password that is looked at, bytes: the longest that can be set, in characters of four.
const MAX_PASSWORD_BYTES: usize = 4 * 256;

/// Logs in by name and password.
#[utoipa::path(
    post,
    path = "/auth/login",
    tag = "auth",
    request_body = LoginRequest,
    responses((status = 200, body = Me), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn login(
    State(app): State<App>,
    Extension(Remote(remote)): Extension<Remote>,
    JsonBody(body): JsonBody<LoginRequest>,
) -> Result<Response, ApiError> {
    let name: String = body.user.chars().take(passwords::MAX_USER_BYTES).collect();
    attempt(&app, remote, Some(&name), "password")?;
    if body.password.len() > MAX_PASSWORD_BYTES || passwords::refuse_user(&body.user).is_some() {
        return Err(refuse(&app, &name, remote, "password").await);
    }
    let user = app
        .user(&body.user)
        .await?
        .filter(|user| user.disabled == 0 && !user.password_hash.is_empty());
    let known = user.as_ref().map(|user| user.password_hash.clone());
    let matches = app.passwords.verify(body.password, known).await?;
    let role = user.and_then(|user| passwords::role(&user.role));
    let Some(role) = role.filter(|_| matches) else {
        return Err(refuse(&app, &name, remote, "password").await);
    };
    app.throttle.forgive(&name);
    begin(&app, &body.user, role, LoginKind::Password, remote).await
}

/// Logs in the local administrator by a one-time link.
#[utoipa::path(
    post,
    path = "/auth/link",
    tag = "auth",
    request_body = LinkRequest,
    responses((status = 200, body = Me), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn link(
    State(app): State<App>,
    Extension(Remote(remote)): Extension<Remote>,
    JsonBody(body): JsonBody<LinkRequest>,
) -> Result<Response, ApiError> {
    attempt(&app, remote, None, "link")?;
    let data = app.config.data.clone();
    let is_good = tokio::task::spawn_blocking(move || link::redeem(&data, &body.token))
        .await
        .map_err(|error| ApiError::internal(format!("link: {error}")))?;
    if !is_good {
        let mut error = refuse(&app, link::LOCAL_ADMIN, remote, "link").await;
        "the link is used up or too old".clone_into(&mut error.detail);
        return Err(error.with_remedy("make another with `ja4-dashboard login-link --config FILE`"));
    }
    begin(&app, link::LOCAL_ADMIN, Role::Admin, LoginKind::Link, remote).await
}

fn attempt(app: &App, remote: IpAddr, name: Option<&str>, kind: &str) -> Result<(), ApiError> {
    app.throttle
        .attempt(remote, name, Instant::now())
        .map_err(|wait_s| {
            app.metrics.logins.with_label_values(&[kind, "throttled"]).inc();
            ApiError::new(
                ProblemCode::TooManyAttempts,
                format!("too many attempts: wait {wait_s} seconds"),
            )
            .retry_after(wait_s)
        })
}

/// One answer for every reason: whoever guesses learns nothing.
async fn refuse(app: &App, name: &str, remote: IpAddr, kind: &str) -> ApiError {
    app.metrics.logins.with_label_values(&[kind, "refused"]).inc();
    let act = Act {
        user: name.to_owned(),
        act: "login_failed",
        object: kind.to_owned(),
        detail: serde_json::json!({}),
        remote,
    };
    if let Err(error) = app.writer.audit(&act).await {
        tracing::warn!(
            "a refused login is not in the audit: {}",
            error.log.unwrap_or(error.detail)
        );
    }
    ApiError::new(
        ProblemCode::BadCredentials,
        "name and password do not belong together",
    )
}

async fn begin(
    app: &App,
    user: &str,
    role: Role,
    via: LoginKind,
    remote: IpAddr,
) -> Result<Response, ApiError> {
    let kind = match via {
        LoginKind::Password => "password",
        LoginKind::Link => "link",
    };
    let act = Act {
        user: user.to_owned(),
        act: "login",
        object: kind.to_owned(),
        detail: serde_json::json!({ "role": role }),
        remote,
    };
    match (app.writer.audit(&act).await, via) {
        (Ok(()), _) => {}
        // Whoever has the link is at the machine, and may have come because the store is away.
        (Err(error), LoginKind::Link) => {
            tracing::warn!(
                "a login by link is not in the audit: {}",
                error.log.unwrap_or(error.detail)
            );
        }
        (Err(error), LoginKind::Password) => return Err(error),
    }
    let (session, cookie) = app.sessions.begin(user, role, via)?;
    app.metrics.logins.with_label_values(&[kind, "ok"]).inc();
    let mut response = Json(app.sessions.me(&session)).into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Ends the session.
#[utoipa::path(
    post,
    path = "/auth/logout",
    tag = "auth",
    responses((status = 204, description = "done"), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn logout(
    State(app): State<App>,
    user: User,
    headers: HeaderMap,
    _request: Request,
) -> Result<Response, ApiError> {
    if let Some(token) = app.sessions.cookie(&headers) {
        app.sessions.end(&token);
    }
    let act = Act {
        user: user.session.user.clone(),
        act: "logout",
        object: String::new(),
        detail: serde_json::json!({}),
        remote: user.remote,
    };
    if let Err(error) = app.writer.audit(&act).await {
        tracing::warn!(
            "a logout is not in the audit: {}",
            error.log.unwrap_or(error.detail)
        );
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .insert(SET_COOKIE, app.sessions.clear_cookie()?);
    Ok(response)
}

/// Sets the password of the user of this session.
#[utoipa::path(
    post,
    path = "/auth/password",
    tag = "auth",
    request_body = PasswordRequest,
    responses((status = 204, description = "done"), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn password(
    State(app): State<App>,
    user: User,
    JsonBody(body): JsonBody<PasswordRequest>,
) -> Result<StatusCode, ApiError> {
    let session = &user.session;
    let name = &session.user;
    let row = app.user(name).await?;
    if session.via == LoginKind::Password {
        attempt(&app, user.remote, Some(name), "password")?;
        let known = row.as_ref().map(|row| row.password_hash.clone());
        let current = body
            .current
            .filter(|current| current.len() <= MAX_PASSWORD_BYTES)
            .unwrap_or_default();
        if !app.passwords.verify(current, known).await? {
            return Err(ApiError::new(
                ProblemCode::BadCredentials,
                "the present password is another one",
            ));
        }
    }
    if let Some(why) = passwords::refuse(name, &body.new) {
        return Err(ApiError::bad_parameter(why));
    }
    let role = match session.role() {
        Role::Viewer => "viewer",
        Role::Analyst => "analyst",
        Role::Admin => "admin",
    };
    let password_hash = app.passwords.hash(body.new).await?;
    app.writer
        .audit(&Act {
            user: name.clone(),
            act: "password",
            object: name.clone(),
            detail: serde_json::json!({}),
            remote: user.remote,
        })
        .await?;
    app.writer
        .user(&UserWrite {
            user_name: name.clone(),
            version: u64::try_from(now_us()).unwrap_or(0),
            role: role.to_owned(),
            password_hash,
            disabled: 0,
            deleted: 0,
        })
        .await?;
    app.sessions.end_all_of(name, Some(session));
    Ok(StatusCode::NO_CONTENT)
}

/// The user of this session.
#[utoipa::path(
    get,
    path = "/auth/me",
    tag = "auth",
    responses((status = 200, body = Me), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn me(State(app): State<App>, user: User) -> Result<Json<Me>, ApiError> {
    Ok(Json(app.sessions.me(&user.session)))
}
