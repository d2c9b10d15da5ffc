//! A proxy that gives each person of the one browser, and programs that cannot choose it, an address of their own.
//!
//! ```text
//! browser --CONNECT--> 127.10.0.7:PORT --from 127.10.0.7--> site
//! ```
//!
//! It listens on the very address that it connects from: the proxy that a person's browser context is told of *is*
//! the person's address. TLS passes untouched, so the site sees the browser's own hello. It connects to the site
//! only, and loopback addresses are reached from this machine only. A program that knows no proxies is told that the
//! site is here: what it sends goes on from the first byte ([`Way::Relay`]).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Shared;

/// A browser's CONNECT has some 200 bytes.
const HEAD_MAX_BYTES: usize = 8 << 10;
/// Longest time for the head, and for the connection to the site.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How it is told what to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By CONNECT.
    Connect,
    /// Not at all.
    Relay,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where it listens: the source address, and a port.
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on `source`; port 0 takes a free one.
    ///
    /// # Errors
    /// The port is taken there.
    pub(crate) async fn start(
        source: Ipv4Addr,
        port: u16,
        way: Way,
        shared: &Arc<Shared>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((source, port))
            .await
            .with_context(|| format!("cannot listen on {source}:{port}; change proxy_port"))?;
        let address = listener.local_addr().context("a listener has an address")?;
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&shared);
                        tokio::spawn(async move {
                            if let Err(reason) = tunnel(stream, source, way, &shared).await {
                                tracing::debug!("a tunnel ended: {reason}");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!("the proxy cannot accept: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
        Ok(Self { address, task })
    }
}

async fn tunnel(
    mut client: TcpStream,
    source: Ipv4Addr,
    way: Way,
    shared: &Shared,
) -> Result<(), &'static str> {
    let config = &shared.config;
    if way == Way::Connect {
        let head = tokio::time::timeout(TIMEOUT, read_head(&mut client))
            .await
            .map_err(|_| "head_timeout")??;
        let wanted = format!(
            "CONNECT {}:{} HTTP/1.1\r\n",
            config.server_name,
            config.server.port()
        );
        if !head.starts_with(wanted.as_bytes()) {
            let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            client.write_all(answer).await.map_err(|_| "client_gone")?;
            return Err("not_the_site");
        }
    }
    let socket = TcpSocket::new_v4().map_err(|_| "socket")?;
    socket.bind(SocketAddr::from((source, 0))).map_err(|_| "bind")?;
    let mut site = tokio::time::timeout(TIMEOUT, socket.connect(config.server))
        .await
        .map_err(|_| "connect_timeout")?
        .map_err(|_| "connect")?;
    site.set_nodelay(true).map_err(|_| "connect")?;
    client.set_nodelay(true).map_err(|_| "client_gone")?;
    if way == Way::Connect {
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .map_err(|_| "client_gone")?;
    }
    copy_bidirectional(&mut client, &mut site)
        .await
        .map_err(|_| "reset")?;
    Ok(())
}

/// Up to the empty line; the browser sends nothing of TLS before the answer.
async fn read_head(client: &mut TcpStream) -> Result<Vec<u8>, &'static str> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX_BYTES {
            return Err("head_too_large");
        }
        if client.read_buf(&mut head).await.map_err(|_| "reset")? == 0 {
            return Err("closed");
        }
    }
    Ok(head)
}
