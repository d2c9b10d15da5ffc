//! Producers as they are in the field: a sensor and web servers that speak through `ja4-emit`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ja4_emit::{EmitConfig, Emitter, SendOutcome, SocketKind, StopReport};
use ja4_model::{
    BootId, CanonicalAddr, ClientHello, Confirm, Confirmed, ConnFacts, ConnFlags, ConnUid, Direction,
    Endpoint, Event, HeadersForm, Pair, Request, Text, TlsFacts, Transport,
};

use super::NODE;

/// Memory of a producer for what is not acknowledged: more than any test sends while nobody listens.
const BUFFER_BYTES: usize = 256 << 20;

pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// A producer on a socket in `folder`, with the numbers of its events that become rows.
pub struct Producer {
    pub emitter: Emitter,
    pub boot: BootId,
    /// Numbers of hellos or requests.
    pub rows: Vec<u64>,
}

impl Producer {
    pub fn new(folder: &Path, socket: &str, kind: SocketKind, source: &str) -> Self {
        let boot = ja4_emit::random_boot().unwrap();
        let mut config = EmitConfig::new(folder.join(socket), kind, source, NODE, boot);
        config.buffer_bytes = BUFFER_BYTES;
        config.status_interval = Duration::from_millis(500);
        Self {
            emitter: Emitter::start(config).unwrap(),
            boot,
            rows: Vec::new(),
        }
    }

    pub fn sensor(folder: &Path) -> Self {
        Self::new(folder, "network.socket", SocketKind::Stream, "sensor")
    }

    pub fn server(folder: &Path) -> Self {
        Self::new(folder, "http.stream", SocketKind::Stream, "apache")
    }

    pub fn packet_server(folder: &Path) -> Self {
        Self::new(folder, "http.socket", SocketKind::Seqpacket, "nginx")
    }

    /// Sends an event that becomes a row.
    pub fn send_row(&mut self, ts_ns: i64, event: &Event<'_>) {
        match self.emitter.send(ts_ns, event) {
            SendOutcome::Queued { seq } => self.rows.push(seq),
            SendOutcome::Dropped { reason, .. } => panic!("the producer dropped an event: {}", reason.name()),
        }
    }

    /// A connection as the sensor tells of it.
    pub fn connection(&mut self, conn: &Connection) {
        self.send_row(conn.ts_ns, &conn.hello());
        let confirm = Event::Confirm(Confirm {
            conn_uid: conn.uid(),
            confirmed: Confirmed::Followed,
        });
        self.emitter.send(conn.ts_ns, &confirm);
    }

    /// Ends it when everything is acknowledged (STREAM) or sent.
    pub fn stop(self) -> (StopReport, Vec<u64>) {
        (self.emitter.stop(Duration::from_mins(1)), self.rows)
    }

    /// Everything that was sent is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.emitter.counters().pending == 0
    }
}

/// One client's connection, made from its number.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    pub number: u64,
    pub ts_ns: i64,
}

impl Connection {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            ts_ns: now_ns(),
        }
    }

    pub fn uid(&self) -> ConnUid {
        ConnUid(u128::from(self.number) + 1)
    }

    fn pair(&self) -> Pair {
        // Ports are not reused within a test: 40 000 of each of 65 536 addresses.
        let host =
            u32::try_from(self.number / 40_000).unwrap() * 256 + u32::try_from(self.number % 200).unwrap();
        let [_, b, c, d] = host.to_be_bytes();
        let port = u16::try_from(self.number % 40_000).unwrap() + 10_000;
        Pair {
            client: Endpoint::new(CanonicalAddr::from_v4([10, b, c, d]), port),
            server: Endpoint::new(CanonicalAddr::from_v4([192, 0, 2, 1]), 443),
        }
    }

    fn host(&self) -> String {
        format!("site-{}.example", self.number % 5)
    }

    pub fn hello(&self) -> Event<'static> {
        let mut client_random = [0; 32];
        client_random[..8].copy_from_slice(&self.number.to_le_bytes());
        let tls = TlsFacts {
            ja4: format!("t13d1516h2_{:012x}_test", self.number % 20).into(),
            ja4_norm: "t13d1516h2_norm".into(),
            ja3: format!("{:032x}", self.number % 20).into(),
            alpn: vec!["h2".into(), "http/1.1".into()],
            tls_version: "13".into(),
            ..TlsFacts::default()
        };
        Event::ClientHello(Box::new(ClientHello {
            conn: ConnFacts {
                conn_uid: self.uid(),
                transport: Transport::Tcp,
                pair: self.pair(),
                views: Vec::new(),
                encap: None,
                open_ts_ns: Some(self.ts_ns - 1_000_000),
                syn_to_hello_us: Some(1_000),
                tcp: None,
                direction: Direction::Ingress,
                confirmed: Confirmed::Acked,
                flags: ConnFlags::default(),
            },
            hello_index: 0,
            tls: Arc::new(tls),
            sni: self.host().into(),
            client_random,
            hello_bytes: 517,
            proxy: None,
        }))
    }

    /// A request on it; the query names the connection, so that a wrong join is seen.
    pub fn request(&self, index: u32) -> Event<'static> {
        self.request_to(index, &self.host())
    }

    pub fn request_to(&self, index: u32, host: &str) -> Event<'static> {
        let agent = format!("agent/{}", self.number % 7);
        let header = |name: &'static str, value: &str| (Text::from(name), Text::from(value.to_owned()));
        Event::Request(Box::new(Request {
            pair: self.pair(),
            conn_id: format!("c{}", self.number).into(),
            req_index: Some(index),
            method: if self.number.is_multiple_of(3) {
                "POST"
            } else {
                "GET"
            }
            .into(),
            scheme: "https".into(),
            host: host.to_owned().into(),
            path: format!("/page/{index}").into(),
            query: format!("_cid={}", self.uid().0).into(),
            http_version: "1.1".into(),
            headers: vec![
                header("Host", host),
                header("User-Agent", &agent),
                header("Accept", "*/*"),
                header("Cookie", "session=secret"),
            ],
            headers_form: HeadersForm::Ordered,
            headers_case: true,
            headers_dups: true,
            status: Some(if self.number.is_multiple_of(11) { 404 } else { 200 }),
            bytes_sent: Some(1000 + self.number % 100),
            duration_us: Some(900),
            ..Request::default()
        }))
    }
}
