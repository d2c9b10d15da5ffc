//! Asks a process's admin endpoint over loopback: is it ready, what does its ledger say.
//!
//! HTTP/1.0 and one request a connection: the answer ends where the connection does, and nothing is kept open.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ja4_common::ledger::Ledger;

/// A process that answers later than this is busy or stuck; it is asked again a second later.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A ledger is a few kilobytes; what is longer is not one.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Whether `/readyz` says 200.
pub(crate) fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/readyz").is_ok()
}

/// The ledger as the process knows it now.
///
/// # Errors
/// When the process does not answer in time or answers something else than a ledger.
pub(crate) fn ledger(admin: SocketAddr) -> anyhow::Result<Ledger> {
    let body = get(admin, "/ledger")?;
    serde_json::from_slice(&body).with_context(|| format!("the answer of {admin}/ledger is no ledger"))
}

/// The body of a 200 answer.
fn get(admin: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
    let (status, body) = parse_answer(&answer).with_context(|| format!("{admin}{path} answered no HTTP"))?;
    if status != 200 {
        bail!("{admin}{path} answered {status}");
    }
    Ok(body.to_vec())
}

/// Status and body of an HTTP/1 answer that ends with its connection.
fn parse_answer(answer: &[u8]) -> Option<(u16, &[u8])> {
    let head_len = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..head_len]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    Some((words.next()?.parse().ok()?, &answer[head_len + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_status_and_body() {
        let answer = b"HTTP/1.0 503 Service Unavailable\r\ncontent-type: text/plain\r\n\r\nnot yet\r\n\r\n";
        assert_eq!(parse_answer(answer), Some((503, &b"not yet\r\n\r\n"[..])));
        assert_eq!(parse_answer(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(parse_answer(b"HTTP/1.1 200 OK\r\n"), None);
    }

    #[test]
    fn nobody_there_is_not_ready() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        assert!(!is_ready(addr));
    }
}
