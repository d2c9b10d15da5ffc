//! Events of the sensor: a connection opened, said its hello, was confirmed, ended.

use std::sync::Arc;

use crate::WallNs;
use crate::address::{CanonicalAddr, Endpoint, Pair};
use crate::id::ConnUid;
use crate::json::{Object, write_int, write_list};
use crate::text::Text;

/// Transport protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP: QUIC, DTLS.
    Udp,
}

impl Transport {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Direction of a connection against the configured own networks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Direction {
    /// To an own address from elsewhere: what is scored.
    #[default]
    Ingress,
    /// From an own address to elsewhere.
    Egress,
    /// Between own addresses.
    Internal,
}

impl Direction {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Internal => "internal",
        }
    }
}

/// How well a connection is known to be real.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Confirmed {
    /// A lone packet: could be forged.
    #[default]
    None,
    /// The server acknowledged it.
    Acked,
    /// Valid client data came after that.
    Followed,
}

impl Confirmed {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Acked => "acked",
            Self::Followed => "followed",
        }
    }
}

/// What was odd about a connection: a set of named bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConnFlags(pub u32);

impl ConnFlags {
    /// A segment of the hello came twice.
    pub const RETRANSMITTED: Self = Self(1);
    /// Two segments disagreed about the same bytes; the first won.
    pub const OVERLAP_CONFLICT: Self = Self(1 << 1);
    /// The SYN was not seen.
    pub const MIDSTREAM: Self = Self(1 << 2);
    /// Not the first hello of the connection.
    pub const SECOND_HELLO: Self = Self(1 << 3);
    /// The server asked for another hello (HelloRetryRequest) or a QUIC Retry was seen.
    pub const RETRY: Self = Self(1 << 4);
    /// The hello offers early data.
    pub const EARLY_DATA: Self = Self(1 << 5);
    /// Segments came out of order.
    pub const OUT_OF_ORDER: Self = Self(1 << 6);
    /// The hello came in several TLS records.
    pub const FRAGMENTED_RECORDS: Self = Self(1 << 7);

    /// All flags with their names on the wire.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::RETRANSMITTED, "retransmitted"),
        (Self::OVERLAP_CONFLICT, "overlap_conflict"),
        (Self::MIDSTREAM, "midstream"),
        (Self::SECOND_HELLO, "second_hello"),
        (Self::RETRY, "retry"),
        (Self::EARLY_DATA, "early_data"),
        (Self::OUT_OF_ORDER, "out_of_order"),
        (Self::FRAGMENTED_RECORDS, "fragmented_records"),
    ];

    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// True if all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, name)| name)
    }

    /// The flag of a wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(_, known)| *known == name)
            .map(|(flag, _)| flag)
    }
}

/// Outer addresses of an encapsulated connection: tenants' addresses may overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encap<'a> {
    /// Such as `vlan`, `vxlan`, `geneve`, `gre`, `gtpu`.
    pub kind: Text<'a>,
    /// VLAN id, VNI or TEID.
    pub network_id: u32,
    /// Outer addresses, where the encapsulation has them.
    pub outer: Option<(CanonicalAddr, CanonicalAddr)>,
}

/// What the client's SYN says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TcpFacts {
    /// Time to live or hop limit as received.
    pub ttl: u8,
    /// Window as sent, unscaled.
    pub window: u16,
    /// Maximum segment size, bytes.
    pub mss: Option<u16>,
    /// Window scale, a shift.
    pub wscale: Option<u8>,
    /// Option kinds in order, padding included.
    pub options: Vec<u8>,
    /// The timestamp option was there.
    pub timestamps: bool,
}

/// What is known of a connection, in each of its events that carries addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnFacts<'a> {
    /// The sensor's id of the connection.
    pub conn_uid: ConnUid,
    /// Transport.
    pub transport: Transport,
    /// Wire addresses, innermost if encapsulated.
    pub pair: Pair,
    /// Other address pairs under which the same hello was seen.
    pub views: Vec<Pair>,
    /// Set when encapsulated.
    pub encap: Option<Encap<'a>>,
    /// Time of the SYN, nanoseconds since the epoch; absent when it was not seen.
    pub open_ts_ns: Option<WallNs>,
    /// From SYN to complete hello, microseconds.
    pub syn_to_hello_us: Option<u32>,
    /// From the SYN.
    pub tcp: Option<TcpFacts>,
    /// Against the own networks.
    pub direction: Direction,
    /// What is known at the time of the event.
    pub confirmed: Confirmed,
    /// What was odd.
    pub flags: ConnFlags,
}

impl ConnFacts<'_> {
    /// Detaches the facts from the message that they were read from.
    pub fn into_owned(self) -> ConnFacts<'static> {
        ConnFacts {
            conn_uid: self.conn_uid,
            transport: self.transport,
            pair: self.pair,
            views: self.views,
            encap: self.encap.map(|encap| Encap {
                kind: encap.kind.into_owned(),
                network_id: encap.network_id,
                outer: encap.outer,
            }),
            open_ts_ns: self.open_ts_ns,
            syn_to_hello_us: self.syn_to_hello_us,
            tcp: self.tcp,
            direction: self.direction,
            confirmed: self.confirmed,
            flags: self.flags,
        }
    }

    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        object.display("conn_uid", self.conn_uid);
        object.str("transport", self.transport.name());
        write_pair(object, &self.pair);
        if !self.views.is_empty() {
            write_list(object.key("views"), &self.views, |out, pair| {
                let mut view = Object::open(out);
                write_pair(&mut view, pair);
                view.close();
            });
        }
        if let Some(encap) = &self.encap {
            let mut inner = Object::open(object.key("encap"));
            inner.text("kind", &encap.kind);
            inner.num("network_id", encap.network_id);
            if let Some((src, dst)) = encap.outer {
                inner.display("outer_src", src);
                inner.display("outer_dst", dst);
            }
            inner.close();
        }
        object.num_opt("open_ts_ns", self.open_ts_ns);
        object.num_opt("syn_to_hello_us", self.syn_to_hello_us);
        if let Some(tcp) = &self.tcp {
            let mut inner = Object::open(object.key("tcp"));
            inner.num("ttl", tcp.ttl);
            inner.num("window", tcp.window);
            inner.num_opt("mss", tcp.mss);
            inner.num_opt("wscale", tcp.wscale);
            write_list(inner.key("options"), &tcp.options, |out, &kind| {
                write_int(out, kind.into());
            });
            inner.flag("timestamps", tcp.timestamps);
            inner.close();
        }
        object.str("direction", self.direction.name());
        object.str("confirmed", self.confirmed.name());
        if self.flags != ConnFlags::default() {
            write_list(object.key("flags"), self.flags.names(), crate::json::write_str);
        }
    }
}

fn write_endpoint(object: &mut Object<'_>, names: (&str, &str), endpoint: Endpoint) {
    object.display(names.0, endpoint.ip);
    object.num(names.1, endpoint.port);
}

pub(crate) fn write_pair(object: &mut Object<'_>, pair: &Pair) {
    write_endpoint(object, ("client_ip", "client_port"), pair.client);
    write_endpoint(object, ("server_ip", "server_port"), pair.server);
}

/// A connection to a plain-HTTP port opened.
#[derive(Clone, PartialEq, Debug)]
pub struct Open<'a> {
    /// The connection.
    pub conn: ConnFacts<'a>,
}

impl Open<'_> {
    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        self.conn.write_fields(object);
    }
}

/// What the ClientHello says of the client program: equal for many connections.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TlsFacts<'a> {
    /// JA4.
    pub ja4: Text<'a>,
    /// `JA4_r`: the lists that JA4 hashes, sorted.
    pub ja4_r: Text<'a>,
    /// JA4 with the pre-shared key and padding extensions taken out: one browser, one identity.
    pub ja4_norm: Text<'a>,
    /// JA3, 32 hexadecimal digits.
    pub ja3: Text<'a>,
    /// What JA3 hashes.
    pub ja3_raw: Text<'a>,
    /// Offered application protocols, in order.
    pub alpn: Vec<Text<'a>>,
    /// Highest offered version, such as `1.3`.
    pub tls_version: Text<'a>,
    /// Encrypted ClientHello offered.
    pub ech: bool,
    /// Pre-shared key offered: a resumption.
    pub psk: bool,
    /// Post-quantum key share offered.
    pub pq: bool,
}

impl TlsFacts<'_> {
    /// Detaches the facts from the message that they were read from.
    pub fn into_owned(self) -> TlsFacts<'static> {
        TlsFacts {
            ja4: self.ja4.into_owned(),
            ja4_r: self.ja4_r.into_owned(),
            ja4_norm: self.ja4_norm.into_owned(),
            ja3: self.ja3.into_owned(),
            ja3_raw: self.ja3_raw.into_owned(),
            alpn: self.alpn.into_iter().map(Text::into_owned).collect(),
            tls_version: self.tls_version.into_owned(),
            ech: self.ech,
            psk: self.psk,
            pq: self.pq,
        }
    }
}

/// A complete TLS ClientHello.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientHello<'a> {
    /// The connection.
    pub conn: ConnFacts<'a>,
    /// 0 for the first hello of the connection, 1 for the one after a HelloRetryRequest.
    pub hello_index: u8,
    /// Fingerprints and offers; shared, because many connections of one program say the same.
    pub tls: Arc<TlsFacts<'a>>,
    /// Server name as sent; empty if none.
    pub sni: Text<'a>,
    /// Client random.
    pub client_random: [u8; 32],
    /// Length of the handshake message, bytes.
    pub hello_bytes: u32,
    /// Client address of a PROXY header that preceded the hello.
    pub proxy: Option<Endpoint>,
}

impl ClientHello<'_> {
    /// Detaches the hello from the message that it was read from; `tls` is the detached copy of its facts.
    pub fn into_owned(self, tls: Arc<TlsFacts<'static>>) -> ClientHello<'static> {
        ClientHello {
            conn: self.conn.into_owned(),
            hello_index: self.hello_index,
            tls,
            sni: self.sni.into_owned(),
            client_random: self.client_random,
            hello_bytes: self.hello_bytes,
            proxy: self.proxy,
        }
    }

    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        self.conn.write_fields(object);
        object.num("hello_index", self.hello_index);
        object.text("ja4", &self.tls.ja4);
        object.text_if("ja4_r", &self.tls.ja4_r);
        object.text("ja3", &self.tls.ja3);
        object.text_if("ja3_raw", &self.tls.ja3_raw);
        object.text("ja4_norm", &self.tls.ja4_norm);
        object.text_if("sni", &self.sni);
        object.texts("alpn", &self.tls.alpn);
        object.text("tls_version", &self.tls.tls_version);
        object.display("client_random", Hex(&self.client_random));
        object.num("hello_bytes", self.hello_bytes);
        object.flag("ech", self.tls.ech);
        object.flag("psk", self.tls.psk);
        object.flag("pq", self.tls.pq);
        if let Some(client) = self.proxy {
            let mut inner = Object::open(object.key("proxy"));
            write_endpoint(&mut inner, ("client_ip", "client_port"), client);
            inner.close();
        }
    }
}

/// The confirmation of a connection rose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Confirm {
    /// The connection; known from its earlier event.
    pub conn_uid: ConnUid,
    /// The new level.
    pub confirmed: Confirmed,
}

impl Confirm {
    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        object.display("conn_uid", self.conn_uid);
        object.str("confirmed", self.confirmed.name());
    }
}

/// Why the sensor let go of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CloseReason {
    /// Both sides ended it.
    Fin,
    /// Reset at the exact sequence number.
    Rst,
    /// A confirmed newer connection took its addresses.
    Replaced,
    /// Out of memory budget: the sensor stopped tracking, the connection may live.
    Evicted,
    /// Nothing seen for long: the sensor stopped tracking, the connection may live.
    Idle,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Fin, Self::Rst, Self::Replaced, Self::Evicted, Self::Idle];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Replaced => "replaced",
            Self::Evicted => "evicted",
            Self::Idle => "idle",
        }
    }

    /// True if the connection itself is over, not just its tracking.
    pub const fn ends_connection(self) -> bool {
        matches!(self, Self::Fin | Self::Rst | Self::Replaced)
    }
}

/// A connection ended, or the sensor stopped tracking it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// The connection; known from its earlier event.
    pub conn_uid: ConnUid,
    /// Addresses, absent when no packet caused the close.
    pub pair: Option<Pair>,
    /// Why.
    pub reason: CloseReason,
    /// Final level of confirmation.
    pub confirmed: Confirmed,
}

impl Close {
    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        object.display("conn_uid", self.conn_uid);
        if let Some(pair) = &self.pair {
            write_pair(object, pair);
        }
        object.str("reason", self.reason.name());
        object.str("confirmed", self.confirmed.name());
    }
}

/// Bytes as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // A formatted write for each byte cost a microsecond for each record with a client random.
        for chunk in self.0.chunks(32) {
            let mut text = [0; 64];
            for (digits, byte) in text.chunks_exact_mut(2).zip(chunk) {
                digits[0] = DIGITS[usize::from(byte >> 4)];
                digits[1] = DIGITS[usize::from(byte & 15)];
            }
            let text = std::str::from_utf8(&text[..2 * chunk.len()]).map_err(|_| std::fmt::Error)?;
            f.write_str(text)?;
        }
        Ok(())
    }
}
