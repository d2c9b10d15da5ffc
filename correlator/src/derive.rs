//! What the correlator reads out of a request for the store: header order, family of the User-Agent.

use hashbrown::{HashMap, HashSet};
use ja4_identity::Catalogue;
use ja4_model::joined::Derived;
use ja4_model::{HeadersForm, Request, Text};

/// Most User-Agents whose family is remembered; a parse takes microseconds, most sites see a few thousand.
const MAX_AGENTS: usize = 16_384;
/// Longest User-Agent that is parsed; real ones have under 500 bytes.
const MAX_AGENT_BYTES: usize = 1024;
/// Most families of one process. Aggregates have a row for each, and an unknown program's family is its own word: a flood
/// of invented names must not become a flood of rows. Sites see a few hundred.
const MAX_FAMILIES: usize = 1_000;
/// Every family beyond that.
const OTHER_FAMILY: &str = "~other";
/// Longest list of header names kept, bytes.
const MAX_ORDER_BYTES: usize = 4096;

/// Derives facts of requests, with a memory of User-Agents.
pub(crate) struct Deriver {
    catalogue: &'static Catalogue,
    /// Family of each User-Agent seen lately, by the text's hash.
    by_agent: HashMap<u64, Text<'static>, ahash::RandomState>,
    families: HashSet<Text<'static>, ahash::RandomState>,
    hasher: ahash::RandomState,
}

impl std::fmt::Debug for Deriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deriver")
            .field("agents", &self.by_agent.len())
            .field("families", &self.families.len())
            .finish_non_exhaustive()
    }
}

impl Default for Deriver {
    fn default() -> Self {
        Self {
            catalogue: Catalogue::embedded(),
            by_agent: HashMap::default(),
            families: HashSet::default(),
            hasher: ahash::RandomState::default(),
        }
    }
}

impl Deriver {
    /// Facts of a redacted request; `session_hash` is what redaction gave.
    pub(crate) fn derive(&mut self, request: &Request<'_>, session_hash: u64) -> Derived<'static> {
        let header_order = match request.headers_form {
            HeadersForm::Ordered => header_order(request),
            HeadersForm::Named => Vec::new(),
        };
        Derived {
            ua_family: self.family(request),
            session_hash,
            header_order_hash: stable_hash(&header_order),
            header_order: header_order.into(),
        }
    }

    fn family(&mut self, request: &Request<'_>) -> Text<'static> {
        let Some(agent) = request
            .header("user-agent")
            .map(Text::as_bytes)
            .filter(|agent| !agent.is_empty())
        else {
            return Text::EMPTY;
        };
        let hash = self.hasher.hash_one(agent);
        if let Some(family) = self.by_agent.get(&hash) {
            return family.clone();
        }
        let agent = String::from_utf8_lossy(&agent[..agent.len().min(MAX_AGENT_BYTES)]);
        let family = self.bounded(self.catalogue.family_of(&agent).into());
        if self.by_agent.len() >= MAX_AGENTS {
            self.by_agent.clear();
        }
        self.by_agent.insert(hash, family.clone());
        family
    }

    /// The family itself while there are few.
    fn bounded(&mut self, family: Text<'static>) -> Text<'static> {
        if let Some(known) = self.families.get(&family) {
            return known.clone();
        }
        if self.families.len() >= MAX_FAMILIES {
            return OTHER_FAMILY.into();
        }
        self.families.insert(family.clone());
        family
    }
}

/// Header names in the client's order and case, commas between.
fn header_order(request: &Request<'_>) -> Vec<u8> {
    let mut order = Vec::with_capacity(request.headers.len() * 16);
    for (name, _) in &request.headers {
        if order.len() + name.as_bytes().len() >= MAX_ORDER_BYTES {
            break;
        }
        if !order.is_empty() {
            order.push(b',');
        }
        order.extend_from_slice(name.as_bytes());
    }
    order
}

/// The same on every machine and in every version: it is stored. 0 for nothing.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let hash = cityhash_rs::cityhash_102_128(bytes);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both halves are folded into the result"
    )]
    let folded = (hash as u64) ^ ((hash >> 64) as u64);
    folded.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(agent: &'static str, form: HeadersForm) -> Request<'static> {
        Request {
            headers: vec![("Host".into(), "x".into()), ("user-agent".into(), agent.into())],
            headers_form: form,
            ..Request::default()
        }
    }

    #[test]
    fn order_is_kept_only_where_it_is_known() {
        let mut deriver = Deriver::default();
        let ordered = deriver.derive(&request("curl/7.88.1", HeadersForm::Ordered), 0);
        assert_eq!(ordered.header_order, "Host,user-agent");
        assert_ne!(ordered.header_order_hash, 0);
        let named = deriver.derive(&request("curl/7.88.1", HeadersForm::Named), 0);
        assert_eq!((named.header_order, named.header_order_hash), (Text::EMPTY, 0));
    }

    #[test]
    fn families_of_common_agents_are_known() {
        let mut deriver = Deriver::default();
        let mut family = |agent| deriver.derive(&request(agent, HeadersForm::Named), 0).ua_family;
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        assert_eq!(family(chrome), "Chrome");
        assert_eq!(family(chrome), "Chrome");
        assert_eq!(
            family("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            "Firefox"
        );
        assert_eq!(
            family("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
            "Googlebot"
        );
        assert_eq!(family("python-requests/2.31.0"), "Python Requests");
        assert_eq!(family("\u{1}\u{2}"), "");
    }

    #[test]
    fn a_flood_of_invented_families_is_one_family() {
        let mut deriver = Deriver::default();
        let mut families = std::collections::BTreeSet::new();
        for i in 0..20_000 {
            let agent: &'static str = Box::leak(format!("Invented{i}/1.0").into_boxed_str());
            let family = deriver.derive(&request(agent, HeadersForm::Named), 0).ua_family;
            families.insert(String::from_utf8_lossy(family.as_bytes()).into_owned());
        }
        assert_eq!(families.len(), MAX_FAMILIES + 1);
        assert!(families.contains(OTHER_FAMILY) && deriver.by_agent.len() <= MAX_AGENTS);
        // What was known before the flood is still known.
        let known = deriver.derive(&request("Invented7/1.0", HeadersForm::Named), 0);
        assert_eq!(known.ua_family, "Invented7");
    }

    #[test]
    fn the_stored_hash_never_changes() {
        assert_eq!(stable_hash(b""), 0);
        assert_eq!(stable_hash(b"Host,User-Agent,Accept"), STABLE_SAMPLE);
    }

    /// Made once; a change would split every fingerprint in the store in two.
    const STABLE_SAMPLE: u64 = 12_203_494_990_430_233_041;
}
