//! Real processes for the detector's tests: the store, the detector, and traffic written into the store as the correlator would.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(
    unreachable_pub,
    reason = "shared by the test files, which are crates of their own"
)]

#[path = "../../../schema/tests/common/traffic.rs"]
mod traffic;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ja4_schema::{Names, RetentionDays};
use serde_json::Value;
pub use traffic::{Kind, PEOPLE};

/// Longest wait for anything; a busy machine is slow, a broken one is stuck for ever.
const PATIENCE: Duration = Duration::from_mins(2);

/// The engine's library; None, with a message, where it cannot be had.
pub fn library() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-libchdb");
    let output = Command::new(script).stderr(Stdio::inherit()).output().ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: libchdb cannot be had here; scripts/fetch-libchdb says what to do");
    None
}

/// Leaves the test, with the message of [`library`], where there is no engine.
#[macro_export]
macro_rules! store_or_skip {
    ($folder:expr) => {
        match common::library() {
            Some(library) => common::Store::start(library, $folder),
            None => return,
        }
    };
}

fn program(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_ja4-detector")).with_file_name(name);
    let path = std::env::var_os("JA4_PROGRAMS").map_or(built, |folder| Path::new(&folder).join(name));
    assert!(
        path.exists(),
        "{name} is not built: cargo build -p embedded-clickhouse"
    );
    path
}

/// Polls until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The end of a window some time ago, on a multiple of five minutes.
pub fn some_time_ago() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    i64::try_from(now / 300 * 300).unwrap() - 4 * 3600
}

/// The store: a folder, an address that stays, and how to start it.
pub struct Store {
    library: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Store {
    /// Starts a store on an empty folder and applies the real migrations.
    pub fn start(library: PathBuf, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = folder.join("store");
        fs::create_dir_all(&folder).unwrap();
        let child = spawn_store(&library, &folder, port);
        let mut store = Self {
            library,
            folder,
            port,
            child,
        };
        store.wait_ready();
        let client = clickhouse::Client::default()
            .with_url(store.url())
            .with_user("migrator")
            .with_password(store.token("migrator"));
        let schema = ja4_schema::Store::with_client(client, Names::default());
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(ja4_schema::apply(
                &schema,
                &ja4_schema::migrations(),
                &RetentionDays::default(),
            ))
            .unwrap();
        store
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn token(&self, class: &str) -> String {
        fs::read_to_string(self.folder.join("tokens").join(class))
            .unwrap()
            .trim()
            .to_owned()
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let listen = self.folder.join("listen");
        let deadline = Instant::now() + PATIENCE;
        while !listen.exists() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the store ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the store did not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = spawn_store(&self.library, &self.folder, self.port);
        self.wait_ready();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }

    /// Runs a statement as the migrator that must succeed; its output without the last line end.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        let (status, text) = request(
            self.port,
            "POST",
            "/",
            &format!("X-ClickHouse-Key: {}\r\n", self.token("migrator")),
            sql,
        );
        assert_eq!(status, 200, "{sql}: {text}");
        text.trim_end().to_owned()
    }

    /// A number that a statement gives.
    #[track_caller]
    pub fn number(&self, sql: &str) -> f64 {
        let text = self.sql(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }

    /// Clients of one kind, who ask between `from_s` and `to_s`.
    pub fn traffic(&self, kind: &Kind, n_clients: u32, from_s: i64, to_s: i64) {
        self.sql(&kind.insert(n_clients, from_s, to_s));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn_store(library: &Path, folder: &Path, port: u16) -> Child {
    // Left by the last run; may already be gone.
    let _gone = fs::remove_file(folder.join("listen"));
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.with_extension("log"))
        .unwrap();
    Command::new(program("ja4-clickhouse"))
        .args(["run", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(folder)
        .arg("--lib")
        .arg(library)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A request of HTTP/1.0; status 0 when nobody answers.
pub fn request(port: u16, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let Ok(answer) = ask() else {
        return (0, String::new());
    };
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("chunked");
    (status, if chunked { unchunked(body) } else { body.to_owned() })
}

fn unchunked(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 || after.len() < length {
            break;
        }
        out.push_str(&after[..length]);
        rest = after[length..].trim_start_matches("\r\n");
    }
    out
}

/// The detector with a configuration.
pub struct Detector {
    config: PathBuf,
}

impl Detector {
    /// Writes a configuration into `folder`; `more` is YAML that comes on top.
    pub fn configure(folder: &Path, store: &Store, more: &str) -> Self {
        let config = folder.join("detector.yaml");
        let token = store.folder.join("tokens/detector");
        fs::write(
            &config,
            format!(
                "store:\n  url: {}\n  user: detector\n  token_file: {}\n{more}",
                store.url(),
                token.display()
            ),
        )
        .unwrap();
        Self { config }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ja4-detector"));
        command.args(arguments).arg("--config").arg(&self.config);
        command
    }

    /// Runs a command that must succeed; its output.
    #[track_caller]
    pub fn output(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One cycle whose windows end at `to_s`.
    #[track_caller]
    pub fn run(&self, to_s: i64) -> Value {
        serde_json::from_str(&self.output(&["run", "--at", &to_s.to_string()])).unwrap()
    }
}
