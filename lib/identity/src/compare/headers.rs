//! Header orders against the claimed client: a browser's order differs by what is asked for, so an order fits if it fits one
//! of the browser's templates: the shared names in the same order, and none of the template's own names missing.

use std::fmt::Write as _;

use super::{Cell, Dimension, Finding, Observation, Verdict, shown};
use crate::agent::{Claims, Engine, Kind};
use crate::catalogue::{Catalogue, Group, Shared, Template};
use crate::weights;

/// Most orders of one client that are looked at.
const MAX_ORDERS: usize = 32;
/// Longest order that is looked at, bytes; the store keeps 4096.
const MAX_ORDER_BYTES: usize = 4096;
/// Names that must be shared before an order can fit.
const MIN_SHARED: usize = 3;

/// Names that a browser sends with some requests only, or that people's settings add.
const OPTIONAL: [&str; 29] = [
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "dnt",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "origin",
    "pragma",
    "priority",
    "purpose",
    "range",
    "referer",
    "save-data",
    "sec-fetch-storage-access",
    "sec-fetch-user",
    "sec-gpc",
    "sec-purpose",
    "sec-websocket-extensions",
    "service-worker",
    "te",
    "transfer-encoding",
    "upgrade-insecure-requests",
    "x-requested-with",
];

/// Names whose place a page's script can move, in requests that are no navigation: Chromium keeps the names that its renderer
/// sets in a hash table, so that one custom header changes their order; scripts may set the language and conditions too.
const MOVABLE: [&str; 14] = [
    "accept",
    "accept-language",
    "authorization",
    "cache-control",
    "content-type",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "pragma",
    "range",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "x-requested-with",
];
/// The name that only navigations have, and whose order no script can change.
const OF_NAVIGATION: &str = "upgrade-insecure-requests";

/// Place of a name that is not there.
const ABSENT: u16 = u16::MAX;

/// One observed order.
struct Order<'a> {
    text: &'a str,
    lower: String,
    is_http1: bool,
    n_names: usize,
    is_navigation: bool,
}

impl<'a> Order<'a> {
    fn of(text: &'a str) -> Self {
        let lower = text.to_ascii_lowercase();
        Self {
            text,
            // HTTP/2 has `:authority` in its place.
            is_http1: lower.split(',').any(|name| name == "host"),
            n_names: lower.split(',').count(),
            is_navigation: lower.split(',').any(|name| name == OF_NAVIGATION),
            lower,
        }
    }
}

/// How an order compares with the nearest template of an engine.
enum Fit<'a> {
    Fits(&'a Template),
    /// In order, but names are missing.
    Lacks(&'a Template, Vec<u16>),
    /// Two names the wrong way round: the client sends the first before the second.
    Swapped(&'a Template, u16, u16),
}

/// The claims that an order is set against.
struct Claimed<'a> {
    claims: &'a [&'a Claims],
    engines: Vec<Engine>,
}

impl Catalogue {
    pub(super) fn header_cell(&self, seen: &Observation<'_>, claims: &[&Claims]) -> Cell {
        let orders: Vec<Order<'_>> = seen
            .header_orders
            .iter()
            .filter(|order| !order.is_empty() && order.len() <= MAX_ORDER_BYTES)
            .take(MAX_ORDERS)
            .map(|order| Order::of(order))
            .collect();
        let (finding, observed) = self.headers(seen, claims, &orders);
        finding.cell(Dimension::HeaderOrder, shown(&claims[0].describe()), observed)
    }

    fn headers<'a>(
        &self,
        seen: &Observation<'_>,
        claims: &[&Claims],
        orders: &[Order<'a>],
    ) -> (Finding, &'a str) {
        let Some(first) = orders.first() else {
            let why = "The web server does not report the order of headers.";
            return (Finding::unknown("", why), "");
        };
        if claims[0].kind == Kind::None {
            return (self.headers_of_nobody(first), first.text);
        }
        let claimed = Claimed {
            claims,
            engines: claims.iter().filter_map(|one| one.engine).collect(),
        };
        if claimed.engines.is_empty() {
            return (self.headers_of_program(claims, orders), first.text);
        }
        // One odd order among fitting ones weighs little; if none fits, the worst weighs in full.
        let mut worst: Option<(Finding, &Order<'a>)> = None;
        let mut fitting: Option<(Finding, &Order<'a>)> = None;
        let mut n_fitting = 0;
        for order in orders {
            let finding = self.order_of_engines(seen, &claimed, order);
            match finding.verdict {
                Verdict::Agrees => {
                    n_fitting += 1;
                    fitting.get_or_insert((finding, order));
                }
                Verdict::Contradicts => {
                    if worst.as_ref().is_none_or(|(known, _)| finding.bits > known.bits) {
                        worst = Some((finding, order));
                    }
                }
                Verdict::Unknown => {}
            }
        }
        match (worst, fitting) {
            (Some((mut finding, order)), Some(_)) => {
                finding.bits = finding.bits.min(weights::ORDER_MIXED.bits);
                write!(
                    finding.why,
                    " Other requests of this client fit ({n_fitting} orders)."
                )
                .expect("writing to a String does not fail");
                (finding, order.text)
            }
            (Some((finding, order)), None) | (None, Some((finding, order))) => (finding, order.text),
            (None, None) => {
                let why = "The header order is not in the catalogue; that is no evidence either way.";
                (Finding::unknown("", why), first.text)
            }
        }
    }

    /// The clients that send exactly these names in this order, whatever their case.
    fn exact(&self, order: &Order<'_>) -> Option<&Shared> {
        self.by_order[usize::from(order.is_http1)].get(&order.lower)
    }

    fn headers_of_nobody(&self, order: &Order<'_>) -> Finding {
        match self.exact(order) {
            None => Finding::unknown("", "The client claims nothing."),
            Some(shared) => Finding::unknown(
                &shared.all.cite,
                format!(
                    "The client claims nothing; this is the order of {}.",
                    shared.all.names
                ),
            ),
        }
    }

    fn headers_of_program(&self, claims: &[&Claims], orders: &[Order<'_>]) -> Finding {
        for shared in orders.iter().filter_map(|order| self.exact(order)) {
            let own = claims.iter().find_map(|one| self.own_line(one, &shared.all));
            if let Some(own) = own {
                return Finding::agrees(&own.cite(), "The header order is one that this client sends.");
            }
        }
        Finding::unknown(
            "",
            "Programs add headers of their own; their order is evidence only under a browser's name.",
        )
    }

    fn order_of_engines(&self, seen: &Observation<'_>, claimed: &Claimed<'_>, order: &Order<'_>) -> Finding {
        if let Some(shared) = self.exact(order) {
            let own = claimed
                .engines
                .iter()
                .find_map(|engine| shared.of_engine.get(engine));
            if let Some(own) = own {
                return right_order(seen, order, &own.cite);
            }
            // One name alone is in no order.
            if order.n_names > 1 {
                return order_of_other(claimed, &shared.all);
            }
        }
        // Without TLS browsers leave out half of their headers, and embedding programs have their own.
        if seen.ja4.is_empty() || claimed.claims.iter().any(|one| one.embeds_engine) {
            return not_catalogued();
        }
        let places = self.places(order);
        let mut mildest: Option<Finding> = None;
        for engine in &claimed.engines {
            let finding = self.order_of_engine(seen, claimed, *engine, order, &places);
            if finding.verdict != Verdict::Contradicts {
                return finding;
            }
            if mildest.as_ref().is_none_or(|known| finding.bits < known.bits) {
                mildest = Some(finding);
            }
        }
        mildest.unwrap_or_else(not_catalogued)
    }

    /// Where each known name stands in an order.
    fn places(&self, order: &Order<'_>) -> Vec<u16> {
        let mut places = vec![ABSENT; self.header_names.len()];
        for (name, place) in order.lower.split(',').zip(0..ABSENT) {
            if let Some(number) = self.header_numbers.get(name) {
                let slot = &mut places[usize::from(*number)];
                // The first of a repeated name counts.
                *slot = (*slot).min(place);
            }
        }
        places
    }

    fn order_of_engine(
        &self,
        seen: &Observation<'_>,
        claimed: &Claimed<'_>,
        engine: Engine,
        order: &Order<'_>,
        places: &[u16],
    ) -> Finding {
        let Some(templates) = self.templates.get(&(engine, order.is_http1)) else {
            return not_catalogued();
        };
        let fit = self.nearest(places, templates, engine, order.is_navigation);
        if let Fit::Fits(template) = &fit {
            return right_order(seen, order, &template.cite);
        }
        // Only of an engine that was asked for everything a page can ask for are all orders known.
        let is_asked = |request| templates.iter().any(|template| template.request == request);
        let oldest = self
            .versions
            .get(&engine)
            .and_then(|versions| versions.keys().next());
        let is_covered = |one: &&Claims| one.engine == Some(engine) && one.engine_version.as_ref() >= oldest;
        if !is_asked("fetch") || !is_asked("image") || !claimed.claims.iter().any(is_covered) {
            return not_catalogued();
        }
        let declared = claimed.claims[0].describe();
        let name = |number: u16| self.header_names[usize::from(number)].as_str();
        match fit {
            Fit::Fits(template) => right_order(seen, order, &template.cite),
            Fit::Lacks(template, missing) => {
                let missing: Vec<&str> = missing.into_iter().map(name).collect();
                let why = format!(
                    "It says {declared}, but it leaves out {}, which {} sends with every request of this kind.",
                    missing.join(", "),
                    engine.name()
                );
                Finding::contradicts(weights::HEADERS_MISSING, &template.cite, why)
            }
            Fit::Swapped(template, first, second) => {
                let why = format!(
                    "It says {declared}, but it sends {} before {}, which {} never does with such a request.",
                    name(first),
                    name(second),
                    engine.name()
                );
                Finding::contradicts(weights::ORDER_OF_NONE, &template.cite, why)
            }
        }
    }

    /// The best fit: fitting, else in order with the fewest missing names, else the template with most names shared.
    fn nearest<'a>(
        &self,
        places: &[u16],
        templates: &'a [Template],
        engine: Engine,
        is_navigation: bool,
    ) -> Fit<'a> {
        let mut lacking: Option<(&Template, Vec<u16>)> = None;
        let mut swapped: Option<(usize, &Template, u16, u16)> = None;
        for template in templates {
            let mut last: Option<(u16, u16)> = None;
            let mut swap = None;
            let mut n_shared = 0;
            let mut missing = Vec::new();
            for number in &template.names {
                let place = places[usize::from(*number)];
                if place == ABSENT {
                    if !self.header_kinds[usize::from(*number)].is_optional {
                        missing.push(*number);
                    }
                    continue;
                }
                n_shared += 1;
                let kind = &self.header_kinds[usize::from(*number)];
                if !is_navigation && (kind.is_movable || kind.is_agent && engine == Engine::Chromium) {
                    continue;
                }
                match last {
                    // The template has the last name before this one, the client after it.
                    Some((last_place, last_number)) if place < last_place => {
                        swap.get_or_insert((*number, last_number));
                    }
                    _ => last = Some((place, *number)),
                }
            }
            match swap {
                None if missing.is_empty() && n_shared >= MIN_SHARED => return Fit::Fits(template),
                None => {
                    if lacking
                        .as_ref()
                        .is_none_or(|(_, known)| missing.len() < known.len())
                    {
                        lacking = Some((template, missing));
                    }
                }
                Some((first, second)) => {
                    if swapped.is_none_or(|(n, ..)| n_shared > n) {
                        swapped = Some((n_shared, template, first, second));
                    }
                }
            }
        }
        match (lacking, swapped) {
            // Few names are in any order: what is missing says more.
            (Some((template, missing)), None) => Fit::Lacks(template, missing),
            (Some((template, missing)), Some((n, ..))) if missing.len() <= n => Fit::Lacks(template, missing),
            (_, Some((_, template, first, second))) => Fit::Swapped(template, first, second),
            (None, None) => Fit::Lacks(&templates[0], templates[0].names.clone()),
        }
    }
}

/// What the order of a name can tell.
#[derive(Debug)]
pub(crate) struct HeaderKind {
    /// Not every request has it.
    is_optional: bool,
    /// A script can move it.
    is_movable: bool,
    /// `User-Agent`, which Chromium's renderer sets like the names that scripts can move.
    is_agent: bool,
}

impl HeaderKind {
    /// Of a name in lower case.
    pub(crate) fn of(name: &str) -> Self {
        Self {
            is_optional: OPTIONAL.contains(&name),
            is_movable: MOVABLE.contains(&name),
            is_agent: name == "user-agent",
        }
    }
}

fn not_catalogued() -> Finding {
    Finding::unknown(
        "",
        "The header order is not in the catalogue; that is no evidence either way.",
    )
}

fn order_of_other(claimed: &Claimed<'_>, all: &Group) -> Finding {
    let why = format!(
        "It says {}, but its headers come in exactly the order of {}.",
        claimed.claims[0].describe(),
        all.names
    );
    Finding::contradicts(weights::ORDER_OF_PROGRAM, &all.cite, why)
}

/// The order is right; on HTTP/1.1 the case must be too.
fn right_order(seen: &Observation<'_>, order: &Order<'_>, cite: &str) -> Finding {
    /// Bit of `header_flags`: names in lower case, and the web server keeps their case.
    const LOWER_CASE: u32 = 1 << 24;
    let has_upper = order.text.bytes().any(|byte| byte.is_ascii_uppercase());
    if order.is_http1 && !has_upper && seen.header_flags_or & LOWER_CASE != 0 {
        let why =
            "Names are in lower case on HTTP/1.1, where browsers write User-Agent. Some proxies do this too.";
        return Finding::contradicts(weights::HEADER_CASE, cite, why);
    }
    Finding::agrees(
        cite,
        "Header names come in an order that the claimed browser sends.",
    )
}
