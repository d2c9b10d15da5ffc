//! How much each contradiction weighs, in bits: the logarithm (base 2) of how much more often clients that lie show it than
//! clients that are what they say. One table; the documentation repeats it and a test compares both.

/// A kind of contradiction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Its name in the documentation.
    pub name: &'static str,
    /// Bits of evidence.
    pub bits: f32,
    /// Why that many.
    pub because: &'static str,
}

/// Most bits that a matrix can give: beyond that the order no longer matters, and no client should drown the ranking.
pub const CAP_BITS: f32 = 20.0;
/// From here on consistency alone flags a client. Above any single contradiction but a crawler's address, so two
/// independent dimensions must agree that the claim is false.
pub const FLOOR_BITS: f32 = 10.0;
/// Most bits that TLS, HTTP/2 and TCP give together while the headers are in the claimed browser's own order. An
/// inspecting proxy replaces all three and passes headers on: below the floor on purpose.
pub const TRANSPORT_CAP_BITS: f32 = 9.0;

/// The JA4 of a program or library under a browser's name.
pub const JA4_OF_PROGRAM: Weight = Weight {
    name: "JA4 of a program",
    bits: 7.0,
    because: "86 % of bots that claim Firefox or Chrome are plain HTTP libraries (Good Bot, Bad Bot, 2021); an honest browser shows a \
              library's JA4 only behind TLS inspection built on it",
};
/// The JA4 of another browser engine.
pub const JA4_OF_OTHER_ENGINE: Weight = Weight {
    name: "JA4 of another engine",
    bits: 6.0,
    because: "each engine has its own TLS library; people who change their User-Agent for a site that refuses their browser do this too",
};
/// The JA4 of versions of the same browser that are far from the claimed one.
pub const JA4_OF_OTHER_VERSION: Weight = Weight {
    name: "JA4 of other versions",
    bits: 5.0,
    because: "impersonation profiles lag behind the User-Agent; policies that switch parts of TLS off move an honest browser too",
};
/// A JA4 that is not in the catalogue but lacks what every browser of the last years offers.
pub const JA4_SHAPE: Weight = Weight {
    name: "shape of the JA4",
    bits: 3.0,
    because: "browsers offer ALPN and TLS 1.3; inspected connections (4 to 11 % of all, Durumeric et al. 2017) often do not",
};
/// A program's name over a browser's JA4.
pub const JA4_OF_BROWSER: Weight = Weight {
    name: "JA4 of a browser under a program's name",
    bits: 3.0,
    because: "an impersonating TLS library whose User-Agent was forgotten; some desktop programs embed a browser engine",
};
/// The header order of a known program under a browser's name.
pub const ORDER_OF_PROGRAM: Weight = Weight {
    name: "header order of a program",
    bits: 6.0,
    because: "names, order and case are a library's defaults; proxies that reorder headers do not arrive at exactly those",
};
/// Headers that the claimed browser sends with every request are missing in the misfitting requests.
pub const HEADERS_MISSING: Weight = Weight {
    name: "headers missing",
    bits: 5.0,
    because: "browsers send them with each request of any kind; only header-stripping proxies remove them",
};
/// The claimed browser never sends this order.
pub const ORDER_OF_NONE: Weight = Weight {
    name: "header order unlike the browser's",
    bits: 4.0,
    because: "the order is compiled in; intermediaries that rewrite requests can change it",
};
/// Some orders fit the claimed browser, others do not.
pub const ORDER_MIXED: Weight = Weight {
    name: "some header orders unlike the browser's",
    bits: 1.5,
    because: "extensions and service workers of honest browsers make odd requests too",
};
/// HTTP/1.1 header names in another case than the browser's.
pub const HEADER_CASE: Weight = Weight {
    name: "case of header names",
    bits: 2.0,
    because: "some proxies write names in lower case",
};
/// The HTTP/2 settings of a known program or another engine.
pub const HTTP2_OF_OTHER: Weight = Weight {
    name: "HTTP/2 of another client",
    bits: 6.0,
    because: "settings, window and pseudo-header order are those of another implementation; inspecting proxies speak HTTP/2 themselves",
};
/// Pseudo-headers in an order that the engine never uses.
pub const HTTP2_PSEUDO_ORDER: Weight = Weight {
    name: "order of pseudo-headers",
    bits: 5.0,
    because: "compiled into each implementation; inspecting proxies speak HTTP/2 themselves",
};
/// TCP of another operating system.
pub const TCP_OTHER_SYSTEM: Weight = Weight {
    name: "TCP of another system",
    bits: 1.5,
    because: "VPNs, mobile gateways, proxies and virtual machines end TCP on another system very often",
};
/// A crawler's name from outside the networks that its operator publishes.
pub const CRAWLER_OUTSIDE: Weight = Weight {
    name: "crawler outside its networks",
    bits: 12.0,
    because: "operators publish these lists to be checked by; new networks appear before a snapshot has them",
};
/// User-Agents of different engines from one TLS stack.
pub const AGENTS_OF_ENGINES: Weight = Weight {
    name: "several engines in one client",
    bits: 2.0,
    because: "one address and one JA4 is one TLS stack; people behind one inspecting proxy share it",
};
/// A User-Agent that its browser cannot send.
pub const AGENT_IMPOSSIBLE: Weight = Weight {
    name: "impossible User-Agent",
    bits: 4.0,
    because: "parts of the text exclude each other; a few programs embed old engines on purpose",
};

/// Every weight.
pub const ALL: [Weight; 16] = [
    JA4_OF_PROGRAM,
    JA4_OF_OTHER_ENGINE,
    JA4_OF_OTHER_VERSION,
    JA4_SHAPE,
    JA4_OF_BROWSER,
    ORDER_OF_PROGRAM,
    HEADERS_MISSING,
    ORDER_OF_NONE,
    ORDER_MIXED,
    HEADER_CASE,
    HTTP2_OF_OTHER,
    HTTP2_PSEUDO_ORDER,
    TCP_OTHER_SYSTEM,
    CRAWLER_OUTSIDE,
    AGENTS_OF_ENGINES,
    AGENT_IMPOSSIBLE,
];
