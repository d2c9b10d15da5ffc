//! The clients of one window: who they are, their vectors, what consistency says of them. Filled row by row as the answer comes.
//!
//! One vector of `N_FEATURES` single-precision numbers for each client and a few words beside it: 450 bytes, so that 50 000
//! clients take 23 MB. Texts that many clients share are held once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::consistency::{Consistency, Finding};
use crate::features::local::local;
use crate::features::{ClientRow, N_BASES, N_FEATURES, forget_browser_features};
use crate::scaler::Row;
use crate::segments::{Declared, Segment, Window, segment_of};

/// Number of a text that is held once; 0 is the empty text.
pub type Symbol = u32;

/// Texts, each once.
#[derive(Debug)]
pub struct Texts {
    numbers: HashMap<Arc<str>, Symbol, ahash::RandomState>,
    texts: Vec<Arc<str>>,
}

impl Default for Texts {
    fn default() -> Self {
        let empty: Arc<str> = Arc::from("");
        let mut numbers = HashMap::default();
        numbers.insert(Arc::clone(&empty), 0);
        Self {
            numbers,
            texts: vec![empty],
        }
    }
}

impl Texts {
    /// Longest text that is kept; what is longer is cut at a character.
    const MAX_BYTES: usize = 1024;

    fn number(&mut self, text: &str) -> Symbol {
        let text = match text
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| *at >= Self::MAX_BYTES)
        {
            Some(end) => &text[..end],
            None => text,
        };
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(0);
        let text: Arc<str> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    /// The text of a number.
    pub fn text(&self, number: Symbol) -> &str {
        &self.texts[number as usize]
    }

    /// How many there are.
    pub fn n(&self) -> usize {
        self.texts.len()
    }
}

/// One client in one window.
#[derive(Debug, Clone)]
pub struct Client {
    /// Address, IPv4 as `::ffff:a.b.c.d`.
    pub src_ip: [u8; 16],
    /// (address, JA4, host) as one number.
    pub entity: u64,
    /// Last request, microseconds since the epoch.
    pub last_us: i64,
    /// Requests in the window.
    pub requests: u32,
    /// JA4.
    pub ja4: Symbol,
    /// JA4 without PSK and padding.
    pub ja4_norm: Symbol,
    /// Host.
    pub host: Symbol,
    /// One of its User-Agents.
    pub user_agent: Symbol,
    /// One of its header orders; 0 when none is known.
    pub header_order: Symbol,
    /// HTTP/2 fingerprint.
    pub h2_fp: Symbol,
    /// TCP options of its SYN.
    pub tcp_options: Symbol,
    /// Number of User-Agents.
    pub n_user_agents: u16,
    /// Segment.
    pub segment: Segment,
    /// It says that it is something else than a browser.
    pub is_program: bool,
    /// What consistency says; None for no contradiction.
    pub finding: Option<Arc<Finding>>,
}

impl Client {
    /// /24 of an IPv4 address, /64 of an IPv6 one, the rest zero.
    pub fn prefix(&self) -> [u8; 16] {
        prefix_of(&self.src_ip)
    }
}

/// /24 of an IPv4 address, /64 of an IPv6 one, the rest zero.
pub fn prefix_of(address: &[u8; 16]) -> [u8; 16] {
    let mut prefix = *address;
    if is_v4(address) {
        prefix[15] = 0;
    } else {
        prefix[8..].fill(0);
    }
    prefix
}

fn is_v4(address: &[u8; 16]) -> bool {
    address[..10].iter().all(|byte| *byte == 0) && address[10..12] == [0xff, 0xff]
}

/// An address as people write it.
pub fn address_text(address: &[u8; 16]) -> String {
    std::net::Ipv6Addr::from(*address).to_canonical().to_string()
}

/// A network as people write it.
pub fn prefix_text(prefix: &[u8; 16]) -> String {
    format!("{}/{}", address_text(prefix), if is_v4(prefix) { 24 } else { 64 })
}

/// The clients of one window.
#[derive(Debug)]
pub struct Population {
    /// Which window.
    pub window: Window,
    /// Shared texts.
    pub texts: Texts,
    /// The clients, in the order of arrival.
    pub clients: Vec<Client>,
    /// Where each shard ends in `clients`: what is written together.
    pub shard_ends: Vec<usize>,
    values: Vec<f32>,
    bases: Vec<[f32; N_BASES]>,
}

impl Population {
    /// Nobody yet.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            texts: Texts::default(),
            clients: Vec::new(),
            shard_ends: Vec::new(),
            values: Vec::new(),
            bases: Vec::new(),
        }
    }

    /// Takes a row.
    pub fn push(&mut self, row: &ClientRow<'_>, consistency: &mut Consistency) {
        let at = self.values.len();
        self.values.resize(at + N_FEATURES, f32::NAN);
        let bases = local(row, &mut self.values[at..]);
        self.bases.push(bases);
        let observed = consistency.compare(row);
        let user_agent = row.user_agents.first().map_or("", AsRef::as_ref);
        let is_program = observed.declared != Declared::Browser && !user_agent.is_empty();
        if is_program {
            forget_browser_features(&mut self.values[at..]);
        }
        let texts = &mut self.texts;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let (requests, n_user_agents) = (row.raw.requests as u32, row.raw.n_user_agents as u16);
        let header_order = row.header_orders.iter().find(|order| !order.is_empty());
        self.clients.push(Client {
            src_ip: row.src_ip,
            entity: row.entity,
            last_us: row.last_us,
            requests,
            ja4: texts.number(&row.ja4),
            ja4_norm: texts.number(&row.ja4_norm),
            host: texts.number(&row.host),
            user_agent: texts.number(user_agent),
            header_order: texts.number(header_order.map_or("", AsRef::as_ref)),
            h2_fp: texts.number(&row.h2_fp),
            tcp_options: texts.number(&row.tcp_options),
            n_user_agents,
            segment: segment_of(observed.declared, !row.ja4.is_empty()),
            is_program,
            finding: observed.finding,
        });
    }

    /// Ends a shard.
    pub fn end_shard(&mut self) {
        self.shard_ends.push(self.clients.len());
    }

    /// Number of clients.
    pub fn n(&self) -> usize {
        self.clients.len()
    }

    /// The row of a client.
    pub fn row(&self, idx: usize) -> Row<'_> {
        Row {
            values: self.values(idx),
            bases: &self.bases[idx],
            host: self.texts.text(self.clients[idx].host),
        }
    }

    /// The vector of a client, in the features' units.
    pub fn values(&self, idx: usize) -> &[f32] {
        &self.values[idx * N_FEATURES..(idx + 1) * N_FEATURES]
    }

    /// Counts by base of a client.
    pub fn bases(&self, idx: usize) -> &[f32; N_BASES] {
        &self.bases[idx]
    }

    /// Sets one feature of a client and, where given, the count behind it.
    pub(crate) fn set(&mut self, idx: usize, feature: usize, value: f32) {
        self.values[idx * N_FEATURES + feature] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Raw;

    fn v4(text: &str) -> [u8; 16] {
        text.parse::<std::net::Ipv4Addr>()
            .unwrap()
            .to_ipv6_mapped()
            .octets()
    }

    #[test]
    fn what_browsers_do_is_measured_of_clients_that_say_that_they_are_one() {
        let mut population = Population::new(Window::Hour);
        let mut consistency = Consistency::default();
        let browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        for user_agent in [browser, "", "shop-sync/4.2"] {
            let raw = Raw {
                requests: 10.0,
                n_headers: 10.0,
                no_language: 10.0,
                header_count_mean: 4.0,
                ..Raw::default()
            };
            let row = ClientRow {
                user_agents: vec![user_agent.into()],
                raw,
                ..ClientRow::default()
            };
            population.push(&row, &mut consistency);
        }
        let place = |name: &str| {
            ja4_reasons::FEATURES
                .iter()
                .position(|feature| feature.name == name)
                .unwrap()
        };
        for name in [
            "no_language_ratio",
            "header_count_mean",
            "static_ratio",
            "cookie_ratio",
        ] {
            let known: Vec<bool> = (0..3)
                .map(|idx| !population.values(idx)[place(name)].is_nan())
                .collect();
            assert_eq!(known, [true, true, false], "{name}");
        }
    }

    #[test]
    fn networks_are_24_and_64_bits() {
        assert_eq!(prefix_text(&prefix_of(&v4("203.0.113.77"))), "203.0.113.0/24");
        let v6 = "2001:db8:1:2:3::4"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets();
        assert_eq!(prefix_text(&prefix_of(&v6)), "2001:db8:1:2::/64");
        assert_eq!(address_text(&v4("203.0.113.77")), "203.0.113.77");
    }

    #[test]
    fn texts_are_held_once_and_cut_at_a_character() {
        let mut texts = Texts::default();
        assert_eq!(texts.number(""), 0);
        let long = "é".repeat(70_000);
        let (a, b, c) = (texts.number("a"), texts.number(&long), texts.number("a"));
        assert_eq!((a, c), (1, 1));
        assert_eq!(texts.text(b).len(), 1024);
        assert_eq!(texts.n(), 3);
    }
}
