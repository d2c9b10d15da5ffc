//! The catalogue of fingerprints, indexed: which clients, in which versions, show a JA4, HTTP/2 settings, a header order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use crate::agent::{Agents, Claims, Engine, Kind, Known};
use crate::compare::HeaderKind;
use crate::crawlers::{CrawlerNetwork, Crawlers};
use crate::table::{LoadError, read};

const CLIENTS: &str = include_str!("../../../testdata/identities/clients.tsv");
const TLS: &str = include_str!("../../../testdata/identities/tls.tsv");
const HTTP2: &str = include_str!("../../../testdata/identities/http2.tsv");
const HEADERS: &str = include_str!("../../../testdata/identities/headers.tsv");

/// The client that is a browser's changed copy under the browser's own User-Agent.
const TOR: &str = "Tor Browser";

/// What a line of the catalogue rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// The client itself ran.
    Measured,
    /// A program that copies the client ran: right about TLS and HTTP/2 only.
    Impersonation,
    /// A published record of the client.
    Signature,
}

impl Basis {
    /// Words for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured from the client",
            Self::Impersonation => "measured from an impersonation profile",
            Self::Signature => "published signature",
        }
    }
}

/// A client of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Unique name, such as `chromium-headless`.
    pub id: &'static str,
    /// Name for people, such as `Chromium`.
    pub client: &'static str,
    /// Version.
    pub version: &'static str,
    /// Operating system; empty if unknown.
    pub os: &'static str,
    /// `browser`, `library` or `tool`.
    pub kind: &'static str,
    /// The TLS library.
    pub stack: &'static str,
    /// What the line rests on.
    pub basis: Basis,
    /// Day, `YYYY-MM-DD`.
    pub date: &'static str,
    /// What exactly was run or read.
    pub source: &'static str,
    /// The client's own User-Agent; empty if it sends none.
    pub user_agent: &'static str,
    /// What that User-Agent claims.
    pub claims: Claims,
}

impl Line {
    /// Engine and version of a browser's line.
    pub fn engine(&self) -> Option<Engine> {
        self.claims.engine
    }

    /// For the column `source` of a cell.
    pub fn cite(&self) -> String {
        format!("{} ({}, {})", self.id, self.basis.name(), self.date)
    }
}

/// Indices into the clients.
pub(crate) type Ids = Vec<usize>;

/// Some clients of the catalogue, with the texts that cells need.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub ids: Ids,
    /// The line that a cell cites.
    pub cite: String,
    /// Clients and versions for people.
    pub names: String,
    /// True if a program or library is among them.
    pub has_program: bool,
}

/// The clients that show one value: all of them, and those of each engine.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub all: Group,
    pub of_engine: BTreeMap<Engine, Group>,
}

/// An order of header names that an engine sends.
#[derive(Debug)]
pub(crate) struct Template {
    /// What is asked for.
    pub request: &'static str,
    /// Numbers of the names, see [`Catalogue::names`].
    pub names: Vec<u16>,
    pub cite: String,
}

/// The embedded data, ready for use.
#[derive(Debug)]
pub struct Catalogue {
    pub(crate) lines: Vec<Line>,
    pub(crate) agents: Agents,
    pub(crate) crawlers: Crawlers,
    /// Places in `tls`, by JA4 and by its normal form.
    by_ja4: HashMap<&'static str, usize>,
    tls: Vec<Shared>,
    /// Normal forms of the JA4s of each engine's versions.
    pub(crate) versions: BTreeMap<Engine, BTreeMap<u32, BTreeSet<&'static str>>>,
    pub(crate) by_h2: HashMap<&'static str, Shared>,
    /// Orders of pseudo-headers of each engine.
    pub(crate) pseudo_orders: BTreeMap<Engine, BTreeSet<&'static str>>,
    /// Clients by exact order in lower case, HTTP/1 or not.
    pub(crate) by_order: [HashMap<String, Shared>; 2],
    /// Names of headers in lower case, numbered.
    pub(crate) header_numbers: HashMap<String, u16>,
    /// The same by number.
    pub(crate) header_names: Vec<String>,
    /// What each numbered name can tell.
    pub(crate) header_kinds: Vec<HeaderKind>,
    /// Templates of each engine, by HTTP/1 or not. Copies of browsers give none: they are right about TLS, not about all
    /// that a browser asks for.
    pub(crate) templates: BTreeMap<(Engine, bool), Vec<Template>>,
}

static EMBEDDED: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::load().expect("the embedded catalogue is checked by this crate's tests"));

impl Catalogue {
    /// The catalogue of this build; made on first use, which takes some hundred milliseconds.
    pub fn embedded() -> &'static Self {
        &EMBEDDED
    }

    /// Reads the embedded data.
    ///
    /// # Errors
    /// A table that is not well-formed.
    pub fn load() -> Result<Self, LoadError> {
        let agents = Agents::load()?;
        let crawlers = Crawlers::load()?;
        let lines = read_clients(&agents, &crawlers)?;
        let by_id = lines.iter().enumerate().map(|(i, line)| (line.id, i)).collect();
        let mut catalogue = Self {
            agents,
            crawlers,
            lines,
            by_ja4: HashMap::new(),
            tls: Vec::new(),
            versions: BTreeMap::new(),
            by_h2: HashMap::new(),
            pseudo_orders: BTreeMap::new(),
            by_order: [HashMap::new(), HashMap::new()],
            header_numbers: HashMap::new(),
            header_names: Vec::new(),
            header_kinds: Vec::new(),
            templates: BTreeMap::new(),
        };
        catalogue.read_tls(&by_id)?;
        catalogue.read_http2(&by_id)?;
        catalogue.read_headers(&by_id)?;
        Ok(catalogue)
    }

    fn read_tls(&mut self, by_id: &HashMap<&str, usize>) -> Result<(), LoadError> {
        let columns = ["ja4", "ja4_norm", "alpn", "tls_version", "clients"];
        let mut by_norm: BTreeMap<&'static str, (BTreeSet<&'static str>, Ids)> = BTreeMap::new();
        for [ja4, ja4_norm, _, _, clients] in read("tls.tsv", TLS, columns)? {
            let clients = ids_of("tls.tsv", clients, by_id)?;
            // Tor Browser says Firefox, and has TLS settings of its own.
            for id in clients.iter().filter(|id| self.lines[**id].client != TOR) {
                let claims = &self.lines[*id].claims;
                if let (Some(engine), Some(version)) = (claims.engine, claims.engine_version) {
                    let versions = self.versions.entry(engine).or_default();
                    versions.entry(version).or_default().insert(ja4_norm);
                }
            }
            let (ja4s, ids) = by_norm.entry(ja4_norm).or_default();
            ja4s.extend([ja4, ja4_norm]);
            merge(ids, &clients);
        }
        for (ja4s, ids) in by_norm.into_values() {
            for ja4 in ja4s {
                self.by_ja4.insert(ja4, self.tls.len());
            }
            let shared = self.shared(ids);
            self.tls.push(shared);
        }
        Ok(())
    }

    fn read_http2(&mut self, by_id: &HashMap<&str, usize>) -> Result<(), LoadError> {
        for [h2_fp, clients] in read("http2.tsv", HTTP2, ["h2_fp", "clients"])? {
            let ids = ids_of("http2.tsv", clients, by_id)?;
            for engine in ids.iter().filter_map(|id| self.lines[*id].engine()) {
                let pseudo = h2_fp.rsplit('|').next().unwrap_or_default();
                self.pseudo_orders.entry(engine).or_default().insert(pseudo);
            }
            let shared = self.shared(ids);
            self.by_h2.insert(h2_fp, shared);
        }
        Ok(())
    }

    fn read_headers(&mut self, by_id: &HashMap<&str, usize>) -> Result<(), LoadError> {
        let columns = ["http", "request", "order", "clients"];
        let mut by_order: BTreeMap<(bool, String), Ids> = BTreeMap::new();
        for [http, request, order, clients] in read("headers.tsv", HEADERS, columns)? {
            let ids = ids_of("headers.tsv", clients, by_id)?;
            let is_http1 = http == "1";
            merge(
                by_order
                    .entry((is_http1, order.to_ascii_lowercase()))
                    .or_default(),
                &ids,
            );
            let names: Vec<u16> = order
                .split(',')
                // Names of the page's own stand anywhere.
                .filter(|name| !name.is_empty() && !name.starts_with(['x', 'X']))
                .map(|name| self.header_number(name))
                .collect();
            let mut of_engine: BTreeMap<Engine, Ids> = BTreeMap::new();
            for id in ids {
                let line = &self.lines[id];
                if let (Some(engine), true) = (line.engine(), line.basis != Basis::Impersonation) {
                    of_engine.entry(engine).or_default().push(id);
                }
            }
            for (engine, ids) in of_engine {
                let template = Template {
                    request,
                    names: names.clone(),
                    cite: self.cite(&ids),
                };
                self.templates
                    .entry((engine, is_http1))
                    .or_default()
                    .push(template);
            }
        }
        self.header_kinds = self
            .header_names
            .iter()
            .map(|name| HeaderKind::of(name))
            .collect();
        for ((is_http1, order), ids) in by_order {
            let shared = self.shared(ids);
            self.by_order[usize::from(is_http1)].insert(order, shared);
        }
        Ok(())
    }

    fn header_number(&mut self, name: &str) -> u16 {
        let lower = name.to_ascii_lowercase();
        if let Some(number) = self.header_numbers.get(&lower) {
            return *number;
        }
        let number = u16::try_from(self.header_names.len()).expect("the catalogue has some hundred names");
        self.header_names.push(lower.clone());
        self.header_numbers.insert(lower, number);
        number
    }

    fn shared(&self, ids: Ids) -> Shared {
        let mut of_engine: BTreeMap<Engine, Ids> = BTreeMap::new();
        for id in &ids {
            if let Some(engine) = self.lines[*id].engine() {
                of_engine.entry(engine).or_default().push(*id);
            }
        }
        let of_engine = of_engine
            .into_iter()
            .map(|(engine, ids)| (engine, self.group(ids)))
            .collect();
        Shared {
            all: self.group(ids),
            of_engine,
        }
    }

    pub(crate) fn group(&self, ids: Ids) -> Group {
        Group {
            cite: self.cite(&ids),
            names: self.names(&ids),
            has_program: ids.iter().any(|id| self.lines[*id].is_program()),
            ids,
        }
    }

    /// The best line of several: measured ones first, then the newest.
    fn cite(&self, ids: &[usize]) -> String {
        let best = ids
            .iter()
            .map(|id| &self.lines[*id])
            .min_by_key(|line| (line.basis, Reverse(line.claims.engine_version), line.id));
        match (best, ids.len()) {
            (None, _) => String::new(),
            (Some(line), 1) => line.cite(),
            (Some(line), n) => format!("{} and {} more", line.cite(), n - 1),
        }
    }

    /// Names of clients with their versions, at most four.
    fn names(&self, ids: &[usize]) -> String {
        let mut by_client: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for id in ids {
            let line = &self.lines[*id];
            by_client.entry(line.client).or_default().push(line.version);
        }
        let mut names = Vec::new();
        for (client, mut versions) in by_client {
            versions.sort_by_cached_key(|version| version_key(version));
            versions.dedup();
            names.push(match versions.as_slice() {
                [] => client.to_owned(),
                [one] => format!("{client} {one}"),
                [first, .., last] => format!("{client} {first} to {last}"),
            });
        }
        let n_more = names.len().saturating_sub(4);
        names.truncate(4);
        let mut text = names.join(", ");
        if n_more > 0 {
            write!(text, " and {n_more} more").expect("writing to a String does not fail");
        }
        text
    }

    /// Every client of the catalogue.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The clients that send a JA4, resumed sessions included; empty if it is not in the catalogue.
    pub fn ja4_names(&self, ja4: &str) -> Vec<&Line> {
        let ids = self.tls_of(ja4, "").map_or(&[][..], |shared| &shared.all.ids);
        ids.iter().map(|id| &self.lines[*id]).collect()
    }

    /// Clients by the normal form of a JA4, or by itself.
    pub(crate) fn tls_of(&self, ja4: &str, ja4_norm: &str) -> Option<&Shared> {
        let at = self.by_ja4.get(ja4_norm).or_else(|| self.by_ja4.get(ja4))?;
        self.tls.get(*at)
    }

    /// What a User-Agent claims. Bounded work and memory for any text.
    pub fn classify_user_agent(&self, user_agent: &str) -> Claims {
        self.known(user_agent).claims.clone()
    }

    /// The family alone, without remembering it: for callers that remember themselves.
    pub fn family_of(&self, user_agent: &str) -> String {
        self.agents.read(user_agent, &self.crawlers).claims.family
    }

    pub(crate) fn known(&self, user_agent: &str) -> Arc<Known> {
        self.agents.classify(user_agent, &self.crawlers)
    }

    /// The crawler's network that an address is in; the smallest one.
    pub fn crawler_of(&self, address: IpAddr) -> Option<&CrawlerNetwork> {
        self.crawlers
            .networks_of(address)
            .max_by_key(|network| network.network.prefix_len())
    }

    /// How many User-Agents are remembered; never more than a fixed number.
    pub fn n_remembered(&self) -> usize {
        self.agents.n_remembered()
    }
}

fn read_clients(agents: &Agents, crawlers: &Crawlers) -> Result<Vec<Line>, LoadError> {
    let columns = [
        "id",
        "client",
        "version",
        "os",
        "kind",
        "stack",
        "basis",
        "date",
        "source",
        "user_agent",
    ];
    read("clients.tsv", CLIENTS, columns)?
        .into_iter()
        .map(
            |[
                id,
                client,
                version,
                os,
                kind,
                stack,
                basis,
                date,
                source,
                user_agent,
            ]| {
                let basis = match basis {
                    "measured" => Basis::Measured,
                    "impersonation" => Basis::Impersonation,
                    "signature" => Basis::Signature,
                    _ => {
                        return Err(LoadError::Value {
                            table: "clients.tsv",
                            value: basis.to_owned(),
                            what: "basis",
                        });
                    }
                };
                Ok(Line {
                    id,
                    client,
                    version,
                    os,
                    kind,
                    stack,
                    basis,
                    date,
                    source,
                    user_agent,
                    claims: agents.classify(user_agent, crawlers).claims.clone(),
                })
            },
        )
        .collect()
}

/// Clients by their names, comma between.
fn ids_of(table: &'static str, text: &'static str, by_id: &HashMap<&str, usize>) -> Result<Ids, LoadError> {
    let find = |id: &'static str| {
        by_id.get(id).copied().ok_or_else(|| LoadError::Value {
            table,
            value: id.to_owned(),
            what: "client",
        })
    };
    text.split(',').map(find).collect()
}

/// Parts of a version as numbers, for sorting.
fn version_key(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// Adds what is not there yet.
fn merge(into: &mut Ids, more: &[usize]) {
    for id in more {
        if !into.contains(id) {
            into.push(*id);
        }
    }
}

impl Line {
    /// True for a program or library, not a browser.
    pub(crate) fn is_program(&self) -> bool {
        self.kind != "browser"
    }

    /// True if the claims are those of this line's own User-Agent.
    pub(crate) fn is_family(&self, claims: &Claims) -> bool {
        !claims.family.is_empty() && self.claims.family == claims.family && claims.kind != Kind::None
    }
}
