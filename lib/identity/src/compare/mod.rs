//! Sets what a client shows against what it claims, dimension by dimension.
//!
//! Input: one client's values of a window. Output: a [`Matrix`] of cells, each with a verdict, the bits that a contradiction
//! weighs, the line of the catalogue that decided, and a sentence. Pure: the same input gives the same matrix.

mod headers;
mod http2;
mod rest;
mod tls;

pub(crate) use headers::HeaderKind;
use rest::{agent_cell, tcp_cell};

use std::net::IpAddr;
use std::sync::Arc;

use crate::agent::{Claims, Known};
use crate::catalogue::{Catalogue, Group, Line};
use crate::weights::{self, Weight};

/// Most User-Agents of one client that are read; a client with more rotates them, and the first ones tell.
const MAX_AGENTS: usize = 8;
/// Longest value that a cell repeats, in characters.
const MAX_SHOWN_CHARS: usize = 160;

/// What a client showed in a window. Empty text and empty slices mean: not seen.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// User-Agents, the most frequent first.
    pub user_agents: &'a [&'a str],
    /// JA4.
    pub ja4: &'a str,
    /// JA4 without what depends on resumption.
    pub ja4_norm: &'a str,
    /// ALPN offered, comma between.
    pub alpn: &'a str,
    /// Highest TLS version offered, such as `1.3`.
    pub tls_version: &'a str,
    /// Header names as sent, comma between, distinct.
    pub header_orders: &'a [&'a str],
    /// `header_flags` of all requests, or-ed.
    pub header_flags_or: u32,
    /// `header_flags` of all requests, and-ed.
    pub header_flags_and: u32,
    /// HTTP/2 fingerprint: settings, window, priority, pseudo-headers.
    pub h2_fp: &'a str,
    /// HTTP versions, such as `1.1` and `2`.
    pub http_versions: &'a [&'a str],
    /// The SYN, where it was seen.
    pub tcp: Option<Tcp<'a>>,
    /// Address.
    pub address: IpAddr,
}

impl Observation<'_> {
    /// Nothing but an address; the rest by struct update.
    pub const fn new(address: IpAddr) -> Self {
        Self {
            user_agents: &[],
            ja4: "",
            ja4_norm: "",
            alpn: "",
            tls_version: "",
            header_orders: &[],
            header_flags_or: 0,
            header_flags_and: 0,
            h2_fp: "",
            http_versions: &[],
            tcp: None,
            address,
        }
    }
}

/// A SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Time to live or hop limit as it arrived; 0 if not seen.
    pub ttl: u8,
    /// Window, bytes.
    pub window: u16,
    /// Maximum segment size, bytes; 0 without.
    pub mss: u16,
    /// Window scale, a power of two; 255 without.
    pub wscale: u8,
    /// Option numbers in order, comma between.
    pub options: &'a str,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The User-Agent against itself.
    UserAgent,
    /// TLS.
    Ja4,
    /// Order, case and presence of headers.
    HeaderOrder,
    /// HTTP/2 settings and pseudo-headers.
    Http2,
    /// TCP options.
    Tcp,
    /// Networks of crawlers.
    Address,
}

impl Dimension {
    /// Its name in stored reasons and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserAgent => "user_agent",
            Self::Ja4 => "ja4",
            Self::HeaderOrder => "header_order",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Address => "address",
        }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// What is shown is what the claimed client shows.
    Agrees,
    /// It is not.
    Contradicts,
    /// Nothing is known, or nothing was seen.
    Unknown,
}

impl Verdict {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Contradicts => "contradicts",
            Self::Unknown => "unknown",
        }
    }
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What is compared.
    pub dimension: Dimension,
    /// What the client claims.
    pub declared: String,
    /// What it shows.
    pub observed: String,
    /// The outcome.
    pub verdict: Verdict,
    /// Evidence of a contradiction, bits; 0 for other verdicts.
    pub bits: f32,
    /// Line of the catalogue with what it rests on and its date; empty if none was used.
    pub source: String,
    /// One sentence.
    pub why: String,
}

/// All comparisons of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// What the first User-Agent claims.
    pub claims: Claims,
    /// One cell for each dimension, in the order of [`Dimension`].
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// Evidence that the client is not what it says: the sum of its cells, at most [`weights::CAP_BITS`].
    pub fn bits(&self) -> f32 {
        let sum: f32 = self.cells.iter().map(|cell| cell.bits).sum();
        sum.min(weights::CAP_BITS)
    }

    /// True if the evidence is enough to flag the client by itself.
    pub fn is_flagged(&self) -> bool {
        self.bits() >= weights::FLOOR_BITS
    }

    /// The cell of a dimension.
    pub fn cell(&self, dimension: Dimension) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.dimension == dimension)
    }
}

/// What one comparison found, before it becomes a cell.
#[derive(Debug, Clone)]
struct Finding {
    verdict: Verdict,
    bits: f32,
    source: String,
    why: String,
}

impl Finding {
    fn agrees(source: &str, why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Agrees,
            bits: 0.0,
            source: source.to_owned(),
            why: why.into(),
        }
    }

    fn unknown(source: &str, why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Unknown,
            bits: 0.0,
            source: source.to_owned(),
            why: why.into(),
        }
    }

    fn contradicts(weight: Weight, source: &str, why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Contradicts,
            bits: weight.bits,
            source: source.to_owned(),
            why: why.into(),
        }
    }

    fn cell(self, dimension: Dimension, declared: String, observed: &str) -> Cell {
        Cell {
            dimension,
            declared,
            observed: shown(observed),
            verdict: self.verdict,
            bits: self.bits,
            source: self.source,
            why: self.why,
        }
    }
}

impl Catalogue {
    /// The line of a group whose own User-Agent makes the same claim.
    fn own_line(&self, claims: &Claims, group: &Group) -> Option<&Line> {
        let mut lines = group.ids.iter().map(|id| &self.lines[*id]);
        lines.find(|line| line.is_family(claims))
    }

    /// Compares what a client shows with what it claims. Work is bounded for any input; it never fails.
    pub fn compare(&self, seen: &Observation<'_>) -> Matrix {
        let mut known: Vec<Arc<Known>> = Vec::new();
        for agent in seen.user_agents.iter().take(MAX_AGENTS) {
            let more = self.known(agent);
            if !known.iter().any(|one| one.claims == more.claims) {
                known.push(more);
            }
        }
        if known.is_empty() {
            known.push(Arc::default());
        }
        let claims: Vec<&Claims> = known.iter().map(|one| &one.claims).collect();
        let mut cells = vec![
            agent_cell(seen, &claims),
            Self::worst(Dimension::Ja4, seen.ja4, &claims, |one| self.tls(seen, one)),
            self.header_cell(seen, &claims),
            Self::worst(Dimension::Http2, seen.h2_fp, &claims, |one| self.http2(seen, one)),
            tcp_cell(seen, claims[0]),
            self.address_cell(seen, &known),
        ];
        limit_transport(&mut cells);
        Matrix {
            claims: claims[0].clone(),
            cells,
        }
    }

    /// The finding of the claim that the observation contradicts most; of the first claim if it contradicts none.
    fn worst(
        dimension: Dimension,
        observed: &str,
        claims: &[&Claims],
        find: impl Fn(&Claims) -> Finding,
    ) -> Cell {
        let mut worst = (claims[0], find(claims[0]));
        for one in &claims[1..] {
            let finding = find(one);
            if finding.bits > worst.1.bits {
                worst = (one, finding);
            }
        }
        let (one, finding) = worst;
        finding.cell(dimension, shown(&one.describe()), observed)
    }
}

/// While the headers are the claimed browser's own, TLS, HTTP/2 and TCP stay together below the floor: an inspecting proxy
/// replaces all three.
fn limit_transport(cells: &mut [Cell]) {
    let headers_agree = cells
        .iter()
        .any(|cell| cell.dimension == Dimension::HeaderOrder && cell.verdict == Verdict::Agrees);
    let is_transport = |cell: &&mut Cell| {
        matches!(cell.dimension, Dimension::Ja4 | Dimension::Http2 | Dimension::Tcp) && cell.bits > 0.0
    };
    let sum: f32 = cells.iter_mut().filter(is_transport).map(|cell| cell.bits).sum();
    if !headers_agree || sum <= weights::TRANSPORT_CAP_BITS {
        return;
    }
    let share = weights::TRANSPORT_CAP_BITS / sum;
    for cell in cells.iter_mut().filter(is_transport) {
        cell.bits *= share;
        cell.why += " The headers are the claimed browser's own, so this weighs less: a proxy that inspects TLS shows the same.";
    }
}

/// Text for a cell: no control characters or marks that turn text round, at most [`MAX_SHOWN_CHARS`] characters.
fn shown(text: &str) -> String {
    let is_harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out: String = text
        .chars()
        .filter(is_harmless)
        .take(MAX_SHOWN_CHARS + 1)
        .collect();
    if out.chars().count() > MAX_SHOWN_CHARS {
        out.pop();
        out.push('…');
    }
    out
}
