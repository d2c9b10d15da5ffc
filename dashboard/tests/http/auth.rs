//! Logging in and out: links, passwords, cookies, CSRF, roles, guessing.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{Dashboard, TestStore, run};

const PASSWORD: &str = "correct horse battery staple";

#[tokio::test]
async fn sessions_begin_and_end_as_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = TestStore::start(folder.path()).await else {
        return;
    };
    let dashboard = Dashboard::start(folder.path(), &store, "");
    nobody_gets_in_without_a_session(&dashboard).await;
    a_link_works_once(&dashboard).await;
    writes_need_token_and_origin(&dashboard).await;
    other_names_are_not_ours(&dashboard).await;
    passwords_and_roles(&dashboard).await;
    guessing_is_slow(&dashboard).await;
}

async fn nobody_gets_in_without_a_session(dashboard: &Dashboard) {
    let mut browser = dashboard.browser();
    for path in [
        "/api/v1/auth/me",
        "/api/v1/clients",
        "/api/v1/export/requests?format=csv",
        "/api/v1/audit",
    ] {
        let problem = browser.refused(path, 401).await;
        assert_eq!(problem["code"], "not_logged_in", "{path}");
    }
    browser.cookie = Some("ja4_session=0123".to_owned());
    browser.refused("/api/v1/status", 401).await;
    let answer = browser.post("/api/v1/labels", &json!({})).await;
    assert_eq!(answer.status, 401);
}

async fn a_link_works_once(dashboard: &Dashboard) {
    let token = dashboard.link_token();
    let mut browser = dashboard.browser();
    let wrong = browser
        .post("/api/v1/auth/link", &json!({ "token": "0".repeat(64) }))
        .await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["code"]),
        (401, &json!("bad_credentials"))
    );
    let answer = browser
        .post("/api/v1/auth/link", &json!({ "token": token }))
        .await;
    assert_eq!(answer.status, 200);
    let cookie = answer.header("set-cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Path=/"),
        "{cookie}"
    );
    let me = answer.json();
    assert_eq!(
        (&me["user"], &me["role"], &me["via"]),
        (&json!("admin"), &json!("admin"), &json!("link"))
    );
    let again = browser
        .post("/api/v1/auth/link", &json!({ "token": token }))
        .await;
    assert_eq!(again.status, 401);
    assert!(again.json()["remedy"].as_str().unwrap().contains("login-link"));
    // Another from the command line.
    let (status, out, _) = run(
        &["login-link", "--config", dashboard.config.to_str().unwrap()],
        "",
    );
    assert_eq!(status, 0);
    assert!(
        out.starts_with(&format!("http://{}/login#token=", dashboard.address)),
        "{out}"
    );
    browser
        .login_by_link(out.trim().split_once("#token=").unwrap().1)
        .await;
    assert_eq!(browser.ok("/api/v1/auth/me").await["user"], "admin");
    let out = browser.post("/api/v1/auth/logout", &json!({})).await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    browser.refused("/api/v1/auth/me", 401).await;
}

async fn fresh(dashboard: &Dashboard) -> crate::support::Browser {
    let (_, out, _) = run(
        &["login-link", "--config", dashboard.config.to_str().unwrap()],
        "",
    );
    let mut browser = dashboard.browser();
    browser
        .login_by_link(out.trim().split_once("#token=").unwrap().1)
        .await;
    browser
}

async fn writes_need_token_and_origin(dashboard: &Dashboard) {
    let browser = fresh(dashboard).await;
    let undo = json!({ "act_id": "123e4567-e89b-12d3-a456-426614174000" });
    assert_eq!(browser.post("/api/v1/labels/undo", &undo).await.status, 404);
    for (csrf, origin, fetch_site) in [
        (None, browser.origin.clone(), "same-origin"),
        (Some("0".repeat(64)), browser.origin.clone(), "same-origin"),
        (
            browser.csrf.clone(),
            Some("http://evil.example".to_owned()),
            "same-origin",
        ),
        (browser.csrf.clone(), Some("null".to_owned()), "same-origin"),
        (browser.csrf.clone(), browser.origin.clone(), "cross-site"),
    ] {
        let mut other = browser.clone();
        (other.csrf, other.origin) = (csrf, origin);
        let answer = other
            .send(
                Method::POST,
                "/api/v1/labels/undo",
                Some(&undo),
                &[("sec-fetch-site", fetch_site)],
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (403, &json!("cross_site"))
        );
    }
    // Also where no session is needed.
    let mut other = dashboard.browser();
    other.origin = Some("http://evil.example".to_owned());
    let answer = other
        .post("/api/v1/auth/login", &json!({ "user": "a", "password": "b" }))
        .await;
    assert_eq!(answer.status, 403);
}

async fn other_names_are_not_ours(dashboard: &Dashboard) {
    let browser = dashboard.browser();
    for path in ["/", "/api/v1/status"] {
        let answer = browser
            .send(Method::GET, path, None, &[("host", "evil.example")])
            .await;
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(answer.json()["code"], "cross_site");
    }
}

async fn passwords_and_roles(dashboard: &Dashboard) {
    let config = dashboard.config.to_str().unwrap();
    for (name, role) in [("vera", "viewer"), ("ada", "analyst")] {
        let (status, _, errors) = run(
            &["user", "--config", config, "add", name, "--role", role],
            &format!("{PASSWORD}\n"),
        );
        assert_eq!(status, 0, "{errors}");
    }
    let (_, listed, _) = run(&["user", "--config", config, "list"], "");
    assert_eq!(listed, "ada analyst\nvera viewer\n");
    let (status, _, errors) = run(&["user", "--config", config, "add", "bob"], "short\n");
    assert!(status == 1 && errors.contains("12 to 256"), "{errors}");

    let mut ada = dashboard.browser();
    let wrong = ada.login("ada", "wrong horse battery staple").await;
    let unknown = ada.login("nobody", PASSWORD).await;
    assert_eq!((wrong.status.as_u16(), unknown.status.as_u16()), (401, 401));
    let same =
        |answer: &crate::support::Answer| (answer.json()["code"].clone(), answer.json()["detail"].clone());
    assert_eq!(same(&wrong), same(&unknown));
    assert_eq!(ada.login("ada", PASSWORD).await.status, 200);
    let mut vera = dashboard.browser();
    assert_eq!(vera.login("vera", PASSWORD).await.status, 200);
    let label = json!({ "clients": [{ "src_ip": "192.0.2.1", "ja4": "", "host": "a" }], "label": "bot" });
    assert_eq!(ada.post("/api/v1/labels", &label).await.status, 200);
    let refused = vera.post("/api/v1/labels", &label).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (403, &json!("forbidden"))
    );
    for browser in [&ada, &vera] {
        browser.refused("/api/v1/audit", 403).await;
        browser.ok("/api/v1/clients").await;
    }

    let other_session = {
        let mut other = dashboard.browser();
        other.login("ada", PASSWORD).await;
        other
    };
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let new = "another horse battery staple";
    assert_eq!(
        ada.post("/api/v1/auth/password", &change("wrong", new))
            .await
            .status,
        401
    );
    assert_eq!(
        ada.post("/api/v1/auth/password", &change(PASSWORD, "short"))
            .await
            .status,
        400
    );
    assert_eq!(
        ada.post("/api/v1/auth/password", &change(PASSWORD, new))
            .await
            .status,
        204
    );
    ada.ok("/api/v1/auth/me").await;
    other_session.refused("/api/v1/auth/me", 401).await;
    let mut again = dashboard.browser();
    assert_eq!(again.login("ada", PASSWORD).await.status, 401);
    assert_eq!(again.login("ada", new).await.status, 200);

    // The local administrator sets a password without one before, and can then log in by it.
    let admin = fresh(dashboard).await;
    assert_eq!(
        admin
            .post(
                "/api/v1/auth/password",
                &json!({ "new": "a long secret for you" })
            )
            .await
            .status,
        204
    );
    let mut by_password = dashboard.browser();
    assert_eq!(
        by_password.login("admin", "a long secret for you").await.status,
        200
    );
    let audit = by_password.ok("/api/v1/audit").await;
    let acts: Vec<&Value> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["act"])
        .collect();
    for act in ["login", "login_failed", "logout", "password", "label", "user"] {
        assert!(acts.contains(&&json!(act)), "no {act} in {acts:?}");
    }
    assert!(!audit.to_string().contains("horse") && !dashboard.log().contains("horse"));

    let (status, _, _) = run(&["user", "--config", config, "disable", "vera"], "");
    assert_eq!(status, 0);
    assert_eq!(dashboard.browser().login("vera", PASSWORD).await.status, 401);
}

async fn guessing_is_slow(dashboard: &Dashboard) {
    let mut browser = dashboard.browser();
    let mut answer = browser.login("mallory", "guess guess guess").await;
    for _ in 0..40 {
        if answer.status == 429 {
            break;
        }
        answer = browser.login("mallory", "guess guess guess").await;
    }
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["code"], "too_many_attempts");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn behind_https_the_cookie_is_for_https_only() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = TestStore::start(folder.path()).await else {
        return;
    };
    let dashboard = Dashboard::start(
        folder.path(),
        &store,
        "public_url: https://dashboard.example\nsessions: {idle: 1s, lifetime: 1h, max: 3}\n",
    );
    let mut browser = dashboard.browser();
    browser.origin = Some("https://dashboard.example".to_owned());
    let link = std::fs::read_to_string(folder.path().join("link")).unwrap();
    assert!(
        link.starts_with("https://dashboard.example/login#token="),
        "{link}"
    );
    let answer = browser
        .post("/api/v1/auth/link", &json!({ "token": dashboard.link_token() }))
        .await;
    let cookie = answer.header("set-cookie").to_owned();
    assert!(
        cookie.starts_with("__Host-") && cookie.contains("; Secure"),
        "{cookie}"
    );
    assert!(answer.header("strict-transport-security").contains("max-age"));
    browser.cookie = cookie.split(';').next().map(str::to_owned);
    browser.ok("/api/v1/auth/me").await;
    // A session that nobody uses ends.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    browser.refused("/api/v1/auth/me", 401).await;
}
