//! Events of an HTTP source: a request arrived, a request ended.

use crate::address::{CanonicalAddr, Endpoint, Pair};
use crate::connection::{Hex, Transport, write_pair};
use crate::json::{Object, write_list, write_text};
use crate::text::Text;

/// Whether `headers` are all headers in the client's order, or some by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HeadersForm {
    /// All, in the client's order: fit for fingerprints.
    Ordered,
    /// Some, without order.
    #[default]
    Named,
}

impl HeadersForm {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Named => "named",
        }
    }
}

/// Where in a chain of servers the source sits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Tier {
    /// The first that the client reaches.
    #[default]
    Edge,
    /// Behind an edge that logs too.
    Backend,
}

impl Tier {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Backend => "backend",
        }
    }
}

/// Why the server believes the client's address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EffectiveSource {
    /// It is the socket's peer.
    #[default]
    Wire,
    /// From the PROXY protocol.
    ProxyProtocol,
    /// From a header: behind an HTTP proxy the fingerprint is the proxy's.
    Forwarded,
}

impl EffectiveSource {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Forwarded => "forwarded",
        }
    }
}

/// What the server knows of the connection's TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerTls<'a> {
    /// Negotiated version, such as `TLSv1.3`.
    pub version: Text<'a>,
    /// Negotiated cipher suite.
    pub cipher: Text<'a>,
    /// Server name.
    pub sni: Text<'a>,
    /// The session was resumed.
    pub resumed: bool,
    /// JA4 as the server computed it.
    pub ja4: Text<'a>,
    /// Client random: joins exactly.
    pub client_random: Option<[u8; 32]>,
}

/// One request, as received.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Request<'a> {
    /// Transport.
    pub transport: Transport,
    /// The socket's peer and own address, never a header's claim.
    pub pair: Pair,
    /// Client of the PROXY protocol.
    pub proxy_client: Option<Endpoint>,
    /// Who the server believes the client is; the wire's if absent.
    pub effective_ip: Option<CanonicalAddr>,
    /// Why it believes so.
    pub effective_source: EffectiveSource,
    /// The server's id of the connection; empty if it has none.
    pub conn_id: Text<'a>,
    /// Index of the request on its connection, from 0.
    pub req_index: Option<u32>,
    /// HTTP/2 or 3 stream.
    pub stream_id: Option<u64>,
    /// Method.
    pub method: Text<'a>,
    /// `http` or `https`.
    pub scheme: Text<'a>,
    /// Host or `:authority`.
    pub host: Text<'a>,
    /// Path, without query.
    pub path: Text<'a>,
    /// Query, without `?`.
    pub query: Text<'a>,
    /// `1.0`, `1.1`, `2`, `3`.
    pub http_version: Text<'a>,
    /// Names and values.
    pub headers: Vec<(Text<'a>, Text<'a>)>,
    /// All in order, or some by name.
    pub headers_form: HeadersForm,
    /// Names have the client's case.
    pub headers_case: bool,
    /// Repeated headers are repeated here.
    pub headers_dups: bool,
    /// HTTP/2 settings, window, priority and pseudo-header order, as one text; empty if unseen.
    pub h2_fp: Text<'a>,
    /// Status, if it is known with the request.
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub bytes_sent: Option<u64>,
    /// From the first byte of the request to the last of the answer, microseconds.
    pub duration_us: Option<u64>,
    /// An `end` event will bring status, bytes and duration.
    pub end_follows: bool,
    /// What the server knows of the TLS session.
    pub tls: Option<ServerTls<'a>>,
    /// The request's id, if it has one.
    pub request_id: Text<'a>,
    /// Edge or backend.
    pub tier: Tier,
    /// Names of the fields that the producer cut.
    pub truncated: Vec<Text<'a>>,
}

impl Request<'_> {
    /// First value of a header, by name without case.
    pub fn header(&self, name: &str) -> Option<&Text<'_>> {
        self.headers
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        object.str("transport", self.transport.name());
        write_pair(object, &self.pair);
        if let Some(client) = self.proxy_client {
            object.display("proxy_client_ip", client.ip);
            object.num("proxy_client_port", client.port);
        }
        if let Some(ip) = self.effective_ip {
            object.display("effective_ip", ip);
            object.str("effective_source", self.effective_source.name());
        }
        object.text_if("conn_id", &self.conn_id);
        object.num_opt("req_index", self.req_index);
        object.num_opt("stream_id", self.stream_id);
        object.text("method", &self.method);
        object.text("scheme", &self.scheme);
        object.text("host", &self.host);
        object.text("path", &self.path);
        object.text_if("query", &self.query);
        object.text("http_version", &self.http_version);
        write_list(object.key("headers"), &self.headers, |out, (name, value)| {
            out.push(b'[');
            write_text(out, name.as_bytes());
            out.push(b',');
            write_text(out, value.as_bytes());
            out.push(b']');
        });
        object.str("headers_form", self.headers_form.name());
        object.flag("headers_case", self.headers_case);
        object.flag("headers_dups", self.headers_dups);
        object.text_if("h2_fp", &self.h2_fp);
        object.num_opt("status", self.status);
        object.num_opt("bytes_sent", self.bytes_sent);
        object.num_opt("duration_us", self.duration_us);
        object.flag("end_follows", self.end_follows);
        if let Some(tls) = &self.tls {
            write_tls(tls, Object::open(object.key("tls")));
        }
        object.text_if("request_id", &self.request_id);
        if self.tier != Tier::Edge {
            object.str("tier", self.tier.name());
        }
        object.texts("truncated", &self.truncated);
    }
}

fn write_tls(tls: &ServerTls<'_>, mut object: Object<'_>) {
    object.text_if("version", &tls.version);
    object.text_if("cipher", &tls.cipher);
    object.text_if("sni", &tls.sni);
    object.flag("resumed", tls.resumed);
    object.text_if("ja4", &tls.ja4);
    if let Some(random) = &tls.client_random {
        object.display("client_random", Hex(random));
    }
    object.close();
}

/// The end of a request that was announced with `end_follows`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestEnd {
    /// `seq` of the request, of the same process.
    pub request_seq: u64,
    /// Status of the answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub bytes_sent: Option<u64>,
    /// From the first byte of the request to the last of the answer, microseconds.
    pub duration_us: Option<u64>,
}

impl RequestEnd {
    /// Writes the fields into an open object.
    pub fn write_fields(&self, object: &mut Object<'_>) {
        object.num("request_seq", self.request_seq);
        object.num_opt("status", self.status);
        object.num_opt("bytes_sent", self.bytes_sent);
        object.num_opt("duration_us", self.duration_us);
    }
}
