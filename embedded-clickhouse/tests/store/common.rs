//! Starts the real store on a directory of its own and speaks to it over plain sockets.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The engine's library; None, with a message, where it cannot be had.
pub(crate) fn library() -> Option<PathBuf> {
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
macro_rules! library_or_skip {
    () => {
        match $crate::common::library() {
            Some(library) => library,
            None => return,
        }
    };
}

pub(crate) use library_or_skip;

/// The store that is tested: of this build, or one that `JA4_PROGRAMS` holds, so that a long run survives the next build.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("JA4_PROGRAMS").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_ja4-clickhouse")),
        |folder| Path::new(&folder).join("ja4-clickhouse"),
    )
}

/// What a store answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| {
                line.split_once(": ")
                    .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            })
            .map(|(_, v)| v)
    }

    pub(crate) fn code(&self) -> Option<u32> {
        self.header("x-clickhouse-exception-code")?.parse().ok()
    }
}

/// A directory and how to start a store on it.
pub(crate) struct Place {
    pub(crate) library: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) config: String,
    pub(crate) environment: Vec<(String, String)>,
    /// What runs the store; nothing: it runs itself.
    pub(crate) prefix: Vec<String>,
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) fn new(library: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("store");
        Self {
            _directory: Some(directory),
            ..Self::at(library, data)
        }
    }

    pub(crate) fn at(library: PathBuf, data: PathBuf) -> Self {
        Self {
            library,
            data,
            config: String::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
            _directory: None,
        }
    }

    /// Keys of the configuration file.
    pub(crate) fn with(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    pub(crate) fn spawn(&self) -> Child {
        fs::create_dir_all(&self.data).unwrap();
        // Left by the last run; may already be gone.
        let _gone = fs::remove_file(self.data.join("listen"));
        // Beside the directory, which a test may fill up.
        let config = self.data.with_extension("yaml");
        fs::write(&config, &self.config).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.data.with_extension("log"))
            .unwrap();
        let mut words = self.prefix.clone();
        words.push(program().display().to_string());
        Command::new(&words[0])
            .args(&words[1..])
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--data")
            .arg(&self.data)
            .arg("--lib")
            .arg(&self.library)
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub(crate) fn start(&self) -> Store<'_> {
        let mut store = Store {
            place: self,
            child: self.spawn(),
        };
        store.wait_ready();
        store
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    pub(crate) fn address(&self) -> Option<String> {
        Some(
            fs::read_to_string(self.data.join("listen"))
                .ok()?
                .trim()
                .to_owned(),
        )
    }

    pub(crate) fn token(&self, class: &str) -> String {
        fs::read_to_string(self.data.join("tokens").join(class))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Sends one request; None when the store is not there or breaks off.
    pub(crate) fn try_post(&self, class: &str, url_query: &str, body: &[u8]) -> Option<Answer> {
        let request = format!(
            "POST /?{url_query} HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.token(class),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_mins(1))).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        read_answer(&mut stream)
    }
}

/// Sends a statement as the last request of a connection.
pub(crate) fn send(stream: &mut TcpStream, token: &str, sql: &str) {
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sql}",
        sql.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
}

/// Reads an answer to the end of its body; None when it breaks off.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok()?;
    parse_answer(&raw)
}

pub(crate) fn parse_answer(raw: &[u8]) -> Option<Answer> {
    let head_end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..head_end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut rest = &raw[head_end + 4..];
    let answer = |body| {
        Some(Answer {
            status,
            head: head.clone(),
            body,
        })
    };
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return answer(rest.to_vec());
    }
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|w| w == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).ok()?, 16).ok()?;
        rest = &rest[line_end + 2..];
        if length == 0 {
            return answer(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// A running store.
pub(crate) struct Store<'a> {
    pub(crate) place: &'a Place,
    pub(crate) child: Child,
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Store<'_> {
    pub(crate) fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.place.address().is_none() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the store ended with {status}:\n{}", self.place.log());
            }
            assert!(
                Instant::now() < deadline,
                "the store did not start:\n{}",
                self.place.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn post(&self, class: &str, url_query: &str, body: &[u8]) -> Answer {
        self.place
            .try_post(class, url_query, body)
            .unwrap_or_else(|| panic!("no answer:\n{}", self.place.log()))
    }

    /// Runs a statement that must succeed; gives its output.
    #[track_caller]
    pub(crate) fn ok(&self, class: &str, sql: &str) -> String {
        let answer = self.post(class, "", sql.as_bytes());
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text()
    }

    /// Runs a statement as the migrator; output without the line end.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.ok("migrator", sql).trim_end().to_owned()
    }

    /// Runs a statement that must fail; gives code and text.
    #[track_caller]
    pub(crate) fn refused(&self, class: &str, url_query: &str, sql: &str) -> (u16, u32, String) {
        let answer = self.post(class, url_query, sql.as_bytes());
        assert_ne!(answer.status, 200, "{sql}: {}", answer.text());
        (answer.status, answer.code().unwrap_or_default(), answer.text())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.place.address().unwrap())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.place.address().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a statement and leaves its answer to be read.
    pub(crate) fn ask(&self, class: &str, sql: &str) -> TcpStream {
        let mut stream = self.connect();
        send(&mut stream, &self.place.token(class), sql);
        stream
    }

    /// Statements that run, beside the one that asks.
    pub(crate) fn running(&self) -> usize {
        self.sql("SELECT count() - 1 FROM system.processes")
            .parse()
            .unwrap()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} did not come about");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then its exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.wait_exit()
    }

    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the store did not end:\n{}",
                self.place.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A field of /proc/PID/status in kB.
    pub(crate) fn memory_kb(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
