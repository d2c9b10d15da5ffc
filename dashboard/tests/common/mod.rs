//! A real store, a real dashboard on it, and a browser's part of HTTP.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ja4_schema::{Names, RetentionDays, Store, apply, migrations};
use serde_json::Value;

#[path = "../../../schema/tests/common/fill.rs"]
mod fill;

/// A boot takes a second, on a busy machine some.
pub(crate) const BOOT_TIMEOUT: Duration = Duration::from_mins(2);

/// A process that ends with the test.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(program: &Path, args: &[&str], log: &Path) -> Self {
        let file = fs::File::create(log).unwrap();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self(child)
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of another package, built beside ours.
pub(crate) fn program(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_ja4-dashboard")).with_file_name(name);
    let path = std::env::var_os("JA4_PROGRAMS").map_or(built, |folder| Path::new(&folder).join(name));
    assert!(path.exists(), "{name} is not built: cargo build --workspace");
    path
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until `done`, or fails with what the process said.
fn wait_for(what: &str, log: &Path, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOOT_TIMEOUT;
    while !done() {
        assert!(
            Instant::now() < deadline,
            "{what} did not come up:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The embedded store on a folder and a port of its own, migrated.
#[derive(Debug)]
pub(crate) struct TestStore {
    folder: PathBuf,
    port: u16,
    process: Process,
    pub(crate) store: Store,
}

impl TestStore {
    /// `None`, with a message, where the engine cannot be had.
    pub(crate) async fn start(folder: &Path) -> Option<Self> {
        fetch_library()?;
        let port = free_port();
        let process = Self::spawn(folder, port);
        let token = fs::read_to_string(folder.join("store/tokens/migrator")).unwrap();
        let client = clickhouse::Client::default()
            .with_url(format!("http://127.0.0.1:{port}"))
            .with_user("migrator")
            .with_password(token.trim());
        let store = Store::with_client(client, Names::default());
        apply(&store, &migrations(), &RetentionDays::default())
            .await
            .unwrap();
        Some(Self {
            folder: folder.to_owned(),
            port,
            process,
            store,
        })
    }

    fn spawn(folder: &Path, port: u16) -> Process {
        let data = folder.join("store");
        fs::remove_file(data.join("listen")).ok();
        let log = folder.join("store.log");
        let process = Process::start(
            &program("ja4-clickhouse"),
            &[
                "run",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--data",
                data.to_str().unwrap(),
            ],
            &log,
        );
        wait_for("the store", &log, || data.join("listen").exists());
        process
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.process = Self::spawn(&self.folder, self.port);
    }

    /// Puts synthetic requests of the last day and something into every other table.
    pub(crate) async fn fill(&self, rows: u64) {
        fill::fill(&self.store, rows).await;
    }
}

/// Fetches the engine into the cache where the store looks for it.
fn fetch_library() -> Option<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-libchdb");
    let fetched = Command::new(script)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    if fetched.is_ok_and(|status| status.success()) {
        return Some(());
    }
    println!("skipped: libchdb cannot be had here; scripts/fetch-libchdb says what to do");
    None
}

/// A dashboard, and its configuration.
#[derive(Debug)]
pub(crate) struct Dashboard {
    folder: PathBuf,
    _process: Process,
    pub(crate) address: String,
    pub(crate) admin: String,
    pub(crate) config: PathBuf,
}

impl Dashboard {
    /// On the store of the same folder; `more` is YAML beside.
    pub(crate) fn start(folder: &Path, store: &TestStore, more: &str) -> Self {
        let config = folder.join("dashboard.yaml");
        let admin = format!("127.0.0.1:{}", free_port());
        fs::write(
            &config,
            format!(
                "process: {{admin: '{admin}'}}\nlisten: 127.0.0.1:0\ndata: {data}\nlocal_admin_link_file: {link}\nstore: {{url: 'http://127.0.0.1:{port}', user: dashboard, token_file: {token}}}\n{more}",
                data = folder.join("dashboard").display(),
                link = folder.join("link").display(),
                port = store.port,
                token = folder.join("store/tokens/dashboard").display(),
            ),
        )
        .unwrap();
        let log = folder.join("dashboard.log");
        let process = Process::start(
            Path::new(env!("CARGO_BIN_EXE_ja4-dashboard")),
            &["run", "--config", config.to_str().unwrap()],
            &log,
        );
        let (listen, link) = (folder.join("dashboard/listen"), folder.join("link"));
        wait_for("the dashboard", &log, || link.exists() && listen.exists());
        Self {
            folder: folder.to_owned(),
            _process: process,
            address: fs::read_to_string(listen).unwrap().trim().to_owned(),
            admin,
            config,
        }
    }

    /// The token of the link that was written at the start.
    pub(crate) fn link_token(&self) -> String {
        let link = fs::read_to_string(self.folder.join("link")).unwrap();
        link.trim().split_once("#token=").unwrap().1.to_owned()
    }

    /// A browser that has just opened the page.
    pub(crate) fn browser(&self) -> Browser {
        Browser {
            // A connection that is kept may be closed by the server in the moment in which it is used again.
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(HttpConnector::new()),
            address: self.address.clone(),
            cookie: None,
            csrf: None,
            origin: Some(format!("http://{}", self.address)),
        }
    }

    /// A browser of the local administrator.
    pub(crate) async fn admin_browser(&self) -> Browser {
        let mut browser = self.browser();
        browser.login_by_link(&self.link_token()).await;
        browser
    }

    /// What it says on stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("dashboard.log")).unwrap()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The part of a browser that speaks HTTP: keeps its cookie, sends origin and CSRF token.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) address: String,
    pub(crate) cookie: Option<String>,
    pub(crate) csrf: Option<String>,
    pub(crate) origin: Option<String>,
}

impl Browser {
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        more: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("http://{}{path}", self.address));
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if method != Method::GET {
            if let Some(csrf) = &self.csrf {
                request = request.header("x-csrf-token", csrf);
            }
            if let Some(origin) = &self.origin {
                request = request.header("origin", origin);
            }
            request = request.header("content-type", "application/json");
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(serde_json::to_vec(body).unwrap()));
        let response = self
            .client
            .request(request.body(Full::new(bytes)).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, &[]).await
    }

    /// GET that must work.
    pub(crate) async fn ok(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    }

    /// GET that must not.
    pub(crate) async fn refused(&self, path: &str, status: u16) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
        answer.json()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    /// POST that must work.
    pub(crate) async fn done(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    }

    fn keep(&mut self, answer: &Answer) {
        let cookie = answer.header("set-cookie");
        self.cookie = cookie.split(';').next().map(str::to_owned);
        self.csrf = answer.json()["csrf_token"].as_str().map(str::to_owned);
    }

    pub(crate) async fn login_by_link(&mut self, token: &str) {
        let answer = self
            .post("/api/v1/auth/link", &serde_json::json!({ "token": token }))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        self.keep(&answer);
    }

    pub(crate) async fn login(&mut self, user: &str, password: &str) -> Answer {
        let answer = self
            .post(
                "/api/v1/auth/login",
                &serde_json::json!({ "user": user, "password": password }),
            )
            .await;
        if answer.status == StatusCode::OK {
            self.keep(&answer);
        }
        answer
    }
}

/// A text as a query has it.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// Runs the program with these arguments and one line on its input; status, output, errors.
pub(crate) fn run(args: &[&str], input: &str) -> (i32, String, String) {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ja4-dashboard"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let out = child.wait_with_output().unwrap();
    (
        out.status.code().unwrap_or(-1),
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
    )
}
