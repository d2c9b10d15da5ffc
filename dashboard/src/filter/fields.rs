//! The dictionary: which fields there are, what their values look like, and which column each is.

use crate::api::types::{FieldScope, GroupKind};

/// What values of a field look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// Number.
    Number(Unit),
    /// Number that names something: compared whole, up to 2^64.
    Id,
    /// Address or network.
    Address,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A bit of a column of flags, by name and number.
    Bits(&'static [(&'static str, u8)]),
}

/// What a number counts, and which endings it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things.
    Count,
    /// HTTP statuses; `4xx` is a class.
    Status,
    /// Bytes; `k`, `M`, `G` are thousands.
    Bytes,
    /// Microseconds; written in `us`, `ms` (without an ending too) or `s`.
    Duration,
    /// Bits or shares: not whole.
    Real,
}

impl Unit {
    /// The number in the column's unit.
    pub(crate) fn parse(self, text: &str) -> Option<f64> {
        let endings: &[(&str, f64)] = match self {
            Self::Count | Self::Status | Self::Real => &[],
            Self::Bytes => &[("k", 1e3), ("M", 1e6), ("G", 1e9)],
            Self::Duration => &[("us", 1.0), ("ms", 1e3), ("s", 1e6)],
        };
        let without = if self == Self::Duration { 1e3 } else { 1.0 };
        let (digits, factor) = endings
            .iter()
            .find_map(|(ending, factor)| Some((text.strip_suffix(ending)?, *factor)))
            .unwrap_or((text, without));
        // No exponents, no names such as inf: what people write is digits and a point.
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            || (self == Self::Real
                && digits
                    .strip_prefix('-')
                    .is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit() || b == b'.')));
        let number = digits.parse::<f64>().ok().filter(|n| plain && n.abs() <= 9e15)? * factor;
        (self == Self::Real || number.fract() == 0.0).then_some(number)
    }

    /// The least number above.
    pub(crate) fn above(self, number: f64) -> f64 {
        if self == Self::Real {
            number.next_up()
        } else {
            number + 1.0
        }
    }

    /// The greatest number below.
    pub(crate) fn below(self, number: f64) -> f64 {
        if self == Self::Real {
            number.next_down()
        } else {
            number - 1.0
        }
    }

    /// What else may be written.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Count | Self::Real => "",
            Self::Status => " or 4xx",
            Self::Bytes => ", with k, M or G for thousands",
            Self::Duration => ", with us, ms or s",
        }
    }
}

/// What a field is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A column of the request.
    Column(&'static str),
    /// A set of clients: the query with this name gives them, the expression is about this column of it.
    Clients {
        query: &'static str,
        column: &'static str,
        /// A choice that means: in none of the sets.
        none: Option<&'static str>,
    },
}

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FieldDef {
    /// Name.
    pub(crate) name: &'static str,
    /// Other names.
    pub(crate) aliases: &'static [&'static str],
    /// What values look like.
    pub(crate) kind: Kind,
    /// What it is asked of.
    pub(crate) target: Target,
    /// What it is, with its unit.
    pub(crate) description: &'static str,
    /// A filter with it.
    pub(crate) example: &'static str,
    /// Name in `agg_facet_1h`, where it has one.
    pub(crate) facet: Option<&'static str>,
    /// Page for its values.
    pub(crate) group: Option<GroupKind>,
}

impl FieldDef {
    /// What it belongs to.
    pub(crate) fn scope(&self) -> FieldScope {
        match self.target {
            Target::Column(_) => FieldScope::Request,
            Target::Clients { .. } => FieldScope::Client,
        }
    }

    /// Its choices, if they are known.
    pub(crate) fn choices(&self) -> impl Iterator<Item = &'static str> {
        let (names, bits): (&[&str], &[(&str, u8)]) = match self.kind {
            Kind::Choice(names) => (names, &[]),
            Kind::Bits(bits) => (&[], bits),
            _ => (&[], &[]),
        };
        names.iter().copied().chain(bits.iter().map(|(name, _)| *name))
    }
}

/// Bits of `header_flags`, as `docs/database-schema.md` has them.
pub(crate) const HEADER_BITS: &[(&str, u8)] = &[
    ("accept", 0),
    ("accept-language", 1),
    ("accept-encoding", 2),
    ("cookie", 3),
    ("referer", 4),
    ("sec-fetch-site", 5),
    ("sec-fetch-mode", 6),
    ("sec-fetch-dest", 7),
    ("sec-fetch-user", 8),
    ("sec-ch-ua", 9),
    ("upgrade-insecure-requests", 10),
    ("priority", 11),
    ("te", 12),
    ("connection", 13),
    ("authorization", 14),
    ("x-forwarded-for", 15),
    ("range", 16),
    ("if-none-match", 17),
    ("if-modified-since", 18),
    ("origin", 19),
    ("dnt", 20),
    ("x-requested-with", 21),
    ("lower-case-names", 24),
    ("title-case-names", 25),
    ("repeated-name", 26),
];
/// Bits of `path_flags`.
pub(crate) const PATH_BITS: &[(&str, u8)] = &[
    ("static", 0),
    ("favicon", 1),
    ("robots", 2),
    ("login", 3),
    ("admin", 4),
    ("dotfile", 5),
    ("suspicious", 6),
    ("api", 7),
];
/// Bits of `tls_flags`.
pub(crate) const TLS_BITS: &[(&str, u8)] = &[
    ("resumed", 0),
    ("ech", 1),
    ("psk", 2),
    ("post-quantum", 3),
    ("early-data", 4),
    ("sni", 5),
];
/// Bits of `conn_flags`.
pub(crate) const CONN_BITS: &[(&str, u8)] = &[
    ("retransmitted", 0),
    ("overlap-conflict", 1),
    ("midstream", 2),
    ("second-hello", 3),
    ("retry", 4),
    ("early-data", 5),
    ("out-of-order", 6),
    ("fragmented-records", 7),
];

const fn text(
    name: &'static str,
    column: &'static str,
    description: &'static str,
    example: &'static str,
) -> FieldDef {
    FieldDef {
        name,
        aliases: &[],
        kind: Kind::Text,
        target: Target::Column(column),
        description,
        example,
        facet: None,
        group: None,
    }
}

const fn number(
    name: &'static str,
    column: &'static str,
    unit: Unit,
    description: &'static str,
    example: &'static str,
) -> FieldDef {
    FieldDef {
        kind: Kind::Number(unit),
        ..text(name, column, description, example)
    }
}

const fn id(
    name: &'static str,
    column: &'static str,
    description: &'static str,
    example: &'static str,
) -> FieldDef {
    FieldDef {
        kind: Kind::Id,
        ..text(name, column, description, example)
    }
}

const fn choice(
    name: &'static str,
    column: &'static str,
    choices: &'static [&'static str],
    description: &'static str,
    example: &'static str,
) -> FieldDef {
    FieldDef {
        kind: Kind::Choice(choices),
        ..text(name, column, description, example)
    }
}

const fn bits(
    name: &'static str,
    column: &'static str,
    names: &'static [(&'static str, u8)],
    description: &'static str,
    example: &'static str,
) -> FieldDef {
    FieldDef {
        kind: Kind::Bits(names),
        ..text(name, column, description, example)
    }
}

const fn address(
    name: &'static str,
    column: &'static str,
    description: &'static str,
    example: &'static str,
) -> FieldDef {
    FieldDef {
        kind: Kind::Address,
        ..text(name, column, description, example)
    }
}

impl FieldDef {
    const fn facet(mut self, dim: &'static str) -> Self {
        self.facet = Some(dim);
        self
    }

    const fn group(mut self, kind: GroupKind) -> Self {
        self.group = Some(kind);
        self
    }

    const fn aka(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn of_clients(mut self, query: &'static str, none: Option<&'static str>) -> Self {
        if let Target::Column(column) = self.target {
            self.target = Target::Clients { query, column, none };
        }
        self
    }
}

/// All fields, in the order in which they are best shown.
pub(crate) static FIELDS: &[FieldDef] = &[
    address("src_ip", "src_ip", "address of the client", "src_ip:192.0.2.0/24")
        .aka(&["ip", "client"])
        .group(GroupKind::Prefix),
    text("ja4", "ja4", "JA4 of the client; \"\" without TLS", "ja4:t13d*")
        .facet("ja4")
        .group(GroupKind::Ja4),
    text("host", "host", "host asked", "host:shop.example")
        .aka(&["domain"])
        .facet("host")
        .group(GroupKind::Host),
    text("path", "path", "path, without the query", "path:/wp-*"),
    text(
        "query",
        "query",
        "query string, secrets redacted",
        "query:*redirect*",
    ),
    text("method", "method", "HTTP method", "method:POST").facet("method"),
    number(
        "status",
        "status",
        Unit::Status,
        "HTTP status; 0 when the end was not seen",
        "status:>=400",
    )
    .facet("status"),
    text(
        "user_agent",
        "user_agent",
        "User-Agent header",
        "user_agent:*curl*",
    )
    .aka(&["ua"])
    .facet("user_agent")
    .group(GroupKind::UserAgent),
    text(
        "ua_family",
        "ua_family",
        "family that the User-Agent claims",
        "ua_family:Chrome",
    )
    .aka(&["family"])
    .facet("ua_family"),
    choice(
        "label",
        "label",
        &["bot", "legitimate", "verified_crawler", "unsure", "none"],
        "label of the client",
        "label:bot",
    )
    .of_clients("filter_labels", Some("none")),
    choice(
        "verdict",
        "verdict",
        &["alert", "flagged", "normal", "unscored"],
        "what the detector makes of the client in this window; flagged includes alert",
        "verdict:flagged",
    )
    .of_clients("filter_scores", Some("unscored")),
    number(
        "evidence",
        "evidence",
        Unit::Real,
        "evidence of the client's newest scores, bits",
        "evidence:>=10",
    )
    .aka(&["evidence_bits"])
    .of_clients("filter_scores", None),
    text(
        "model",
        "model",
        "a model that scored the client, segment/window",
        "model:browser/1h",
    )
    .aka(&["model_name"])
    .of_clients("filter_scores", None),
    text(
        "segment",
        "segment",
        "population that the client was compared with",
        "segment:browser",
    )
    .of_clients("filter_scores", None),
    text(
        "reason",
        "reason",
        "feature that is among the client's reasons",
        "reason:ua_*",
    )
    .of_clients("filter_reasons", None),
    text(
        "country",
        "country",
        "country of the address, ISO 3166",
        "country:DE",
    )
    .aka(&["cc"])
    .facet("country"),
    number(
        "asn",
        "asn",
        Unit::Count,
        "autonomous system of the address",
        "asn:64496",
    )
    .facet("asn"),
    choice(
        "match",
        "match",
        &["exact", "asof", "ambiguous", "none"],
        "how the request found its connection",
        "match:none",
    )
    .aka(&["join"])
    .facet("match"),
    text(
        "match_reason",
        "match_reason",
        "why it found none",
        "match_reason:*",
    ),
    text(
        "contradictions",
        "contradictions",
        "where request and connection disagree",
        "contradictions:*sni_host*",
    ),
    choice(
        "confirmed",
        "confirmed",
        &["none", "acked", "followed"],
        "how far the connection is known to be real",
        "confirmed:none",
    ),
    text(
        "http_version",
        "http_version",
        "1.0, 1.1, 2 or 3",
        "http_version:2",
    )
    .facet("http_version"),
    text("scheme", "scheme", "http or https", "scheme:https"),
    text(
        "path_template",
        "path_template",
        "path with numbers and ids replaced by *",
        "path_template:\"/item/*\"",
    ),
    bits(
        "path_class",
        "path_flags",
        PATH_BITS,
        "what the path looks like",
        "path_class:dotfile",
    ),
    bits(
        "has_header",
        "header_flags",
        HEADER_BITS,
        "a header that the request has",
        "-has_header:accept-language",
    ),
    text("referer", "referer", "Referer header", "referer:\"\""),
    text(
        "accept_language",
        "accept_language",
        "Accept-Language header",
        "accept_language:de*",
    )
    .aka(&["lang"]),
    text(
        "header_order",
        "header_order",
        "header names as sent, comma between",
        "header_order:Host,User-Agent*",
    ),
    id(
        "header_order_hash",
        "header_order_hash",
        "hash of the header order",
        "header_order_hash:0",
    )
    .group(GroupKind::HeaderOrder),
    number(
        "header_count",
        "header_count",
        Unit::Count,
        "headers known",
        "header_count:<5",
    ),
    text(
        "h2_fp",
        "h2_fp",
        "HTTP/2 settings, window, priority, pseudo-header order",
        "h2_fp:*m,a,s,p",
    )
    .aka(&["h2"]),
    text(
        "ja4_norm",
        "ja4_norm",
        "JA4 without PSK and padding",
        "ja4_norm:t13d*",
    ),
    text("ja3", "ja3", "JA3, 32 hexadecimal digits", "ja3:*"),
    text("sni", "sni", "server name of the ClientHello", "sni:*.example"),
    text("alpn", "alpn", "ALPN offered, comma between", "alpn:h2*"),
    text(
        "tls_version",
        "tls_version",
        "highest TLS version offered",
        "tls_version:1.3",
    ),
    text(
        "tls_cipher",
        "tls_cipher",
        "cipher suite agreed",
        "tls_cipher:TLS_AES*",
    ),
    bits(
        "tls",
        "tls_flags",
        TLS_BITS,
        "what the handshake has",
        "tls:resumed",
    ),
    bits(
        "connection",
        "conn_flags",
        CONN_BITS,
        "what the connection had",
        "connection:midstream",
    ),
    number(
        "bytes",
        "bytes_sent",
        Unit::Bytes,
        "response body, bytes",
        "bytes:>1M",
    )
    .aka(&["bytes_sent"]),
    number(
        "duration",
        "duration_us",
        Unit::Duration,
        "start to end, milliseconds where no unit is written",
        "duration:>2s",
    ),
    number(
        "uri_bytes",
        "uri_bytes",
        Unit::Bytes,
        "length of path and query, bytes",
        "uri_bytes:>2k",
    ),
    number(
        "query_params",
        "query_params",
        Unit::Count,
        "parameters of the query string",
        "query_params:>10",
    ),
    number(
        "tcp_ttl",
        "tcp_ttl",
        Unit::Count,
        "TTL of the SYN; 0 when it was not seen",
        "tcp_ttl:65..128",
    ),
    text(
        "tcp_options",
        "tcp_options",
        "TCP options of the SYN in order",
        "tcp_options:2,4,8*",
    ),
    number(
        "src_port",
        "src_port",
        Unit::Count,
        "client port",
        "src_port:<1024",
    ),
    address(
        "peer_ip",
        "peer_ip",
        "address of the socket's peer",
        "peer_ip:10.0.0.0/8",
    ),
    address("dst_ip", "dst_ip", "server address", "dst_ip:192.0.2.80"),
    number("dst_port", "dst_port", Unit::Count, "server port", "dst_port:443"),
    choice(
        "direction",
        "direction",
        &["unknown", "ingress", "egress", "internal"],
        "from the configured own networks",
        "direction:ingress",
    ),
    choice(
        "tier",
        "tier",
        &["edge", "backend"],
        "where the request was seen",
        "tier:edge",
    ),
    text("source", "source", "kind of producer", "source:nginx"),
    text("node", "node", "host of the producer", "node:web-1"),
    text(
        "request_id",
        "request_id",
        "id that the request carries",
        "request_id:*",
    ),
    id("boot", "boot", "id of the producer's process", "boot:0"),
    id("seq", "seq", "number of the event in its process", "seq:0"),
];

/// The field of this name or alias.
pub(crate) fn named(name: &str) -> Option<&'static FieldDef> {
    FIELDS.iter().find(|field| {
        field.name.eq_ignore_ascii_case(name)
            || field.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

/// The field whose name is most like this one, if any is like it.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    FIELDS
        .iter()
        .flat_map(|field| std::iter::once(field.name).chain(field.aliases.iter().copied()))
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        // Below this two names share hardly more than a letter.
        .filter(|(likeness, _)| *likeness > 0.7)
        .map(|(_, candidate)| candidate)
}
