//! Asks the admin endpoint of a process: for probes in containers without a shell, and for who passes metrics on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::admin::AdminListen;

/// Longest answer that is read.
const ANSWER_MAX: u64 = 4 << 20;

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("admin endpoint {listen} does not answer {path}")]
pub struct AskError {
    /// The endpoint.
    listen: AdminListen,
    /// What it was asked for.
    path: String,
    /// Why.
    #[source]
    source: std::io::Error,
}

/// Asks for `path`, such as `/readyz`; the answer must come within `timeout`.
///
/// # Errors
/// If nobody listens there or what answers is no admin endpoint.
pub fn ask(listen: &AdminListen, path: &str, timeout: Duration) -> Result<Answer, AskError> {
    let answer = match listen {
        AdminListen::Tcp(address) => TcpStream::connect_timeout(address, timeout).and_then(|stream| {
            stream.set_write_timeout(Some(timeout))?;
            converse(stream, path, timeout, TcpStream::set_read_timeout)
        }),
        AdminListen::Unix(socket) => UnixStream::connect(socket).and_then(|stream| {
            stream.set_write_timeout(Some(timeout))?;
            converse(stream, path, timeout, UnixStream::set_read_timeout)
        }),
    };
    answer.map_err(|source| AskError {
        listen: listen.clone(),
        path: path.to_owned(),
        source,
    })
}

fn converse<S: Read + Write>(
    mut stream: S,
    path: &str,
    timeout: Duration,
    set_timeout: impl Fn(&S, Option<Duration>) -> std::io::Result<()>,
) -> std::io::Result<Answer> {
    let deadline = Instant::now() + timeout;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: admin\r\nConnection: close\r\n\r\n"
    )?;
    let mut raw = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        // A timeout of nothing would mean none.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        set_timeout(&stream, Some(left))?;
        let n = stream.read(&mut piece)?;
        if n == 0 {
            break;
        }
        raw.extend_from_slice(&piece[..n]);
        if raw.len() as u64 > ANSWER_MAX {
            return Err(std::io::Error::other("its answer is too long"));
        }
    }
    parse(&raw).ok_or_else(|| std::io::Error::other("its answer is not HTTP"))
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(raw);
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some(Answer {
        status: head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Admin, Server};
    use crate::ledger::Ledger;

    #[test]
    fn both_kinds_of_address_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        let unix = format!("unix:{}", folder.path().join("admin.sock").display());
        for listen in ["127.0.0.1:0", &unix] {
            let admin = Admin::new(prometheus::Registry::new(), &["store"], Ledger::default);
            let server = Server::start(&listen.parse().unwrap(), admin.clone()).unwrap();
            let ask = |path| ask(server.address(), path, Duration::from_secs(10)).unwrap();
            assert_eq!(ask("/healthz").status, 200);
            let unready = ask("/readyz");
            assert!(
                unready.status == 503 && unready.body.contains("store"),
                "{unready:?}"
            );
            admin.set_ready("store");
            assert_eq!(ask("/readyz").status, 200);
        }
        let nobody = "unix:/nonexistent/admin.sock".parse().unwrap();
        let error = ask(&nobody, "/readyz", Duration::from_secs(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/admin.sock"), "{error}");
    }

    #[test]
    fn an_endpoint_that_says_nothing_is_left_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = AdminListen::Tcp(listener.local_addr().unwrap());
        let asked = Instant::now();
        assert!(ask(&silent, "/healthz", Duration::from_millis(200)).is_err());
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
}
