//! The group voice: clients that hide alone betray themselves together. Pure.
//!
//! A group shares a network, a JA4 without PSK and padding, a header order or a host. Three measures, each in bits, the
//! largest counts and every member inherits it:
//!
//! - *alike*: mean over the behaviour features of the members' quartile distance divided by the population's. Half as wide as
//!   the median group of its kind gives 2 bits, each further halving 2 more, at most 6; from 5 addresses on. Of those that share
//!   a JA4 or a header order only where most say that they are browsers: a program that says what it is acts alike by nature.
//! - *rate*: requests of a network against the median network, `log2` of the ratio beyond 8, at most 3; networks of 3 addresses
//!   and more, since one address has its own numbers.
//! - *flagged*: the members' share of clients with consistency evidence or an earlier flag, against that of all others or one
//!   in sixteen, whichever is more, `log2((k + .5)/(n + 1)) - log2(max((K + .5)/(N + 1), 1/16))`, at most 4; at least 2 flagged
//!   of 3, not for hosts, and the client itself does not count. A large group with a few bots in it says nothing about the rest.

use std::collections::BTreeMap;

use ja4_reasons::{FEATURES, Family, Reason, voice};

use crate::population::{Population, prefix_text};
use crate::scaler::Scaler;
use crate::segments::Segment;
use crate::stats;

/// Fewest addresses of a group whose likeness is measured.
const MIN_ALIKE: usize = 5;
/// Fewest addresses of a network whose requests are compared.
const MIN_RATE: usize = 3;
/// Fewest groups of a kind for their median to stand for the kind; below it the population's own width does.
const MIN_GROUPS: usize = 5;
/// Most members whose features are looked at: a quartile needs no more.
const MAX_MEMBERS: usize = 200;
const ALIKE_BITS: f32 = 6.0;
const RATE_BITS: f32 = 3.0;
const FLAGGED_BITS: f32 = 4.0;
/// Share of flagged members up to which a group says nothing about the others, however clean the rest of the site is.
const TELLING_SHARE: f32 = 1.0 / 16.0;

/// What a group shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// /24 or /64.
    Prefix,
    /// JA4 without PSK and padding.
    Ja4Norm,
    /// Header order.
    HeaderOrder,
    /// Host.
    Host,
}

impl Kind {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Ja4Norm => "ja4_norm",
            Self::HeaderOrder => "header_order",
            Self::Host => "host",
        }
    }
}

/// One group with its measures.
#[derive(Debug, Clone)]
pub struct Group {
    /// Kind.
    pub kind: Kind,
    /// The value that is shared.
    pub value: String,
    /// Positions of its clients.
    pub members: Vec<usize>,
    /// Different addresses.
    pub n_addresses: usize,
    /// Requests together.
    pub requests: u64,
    /// Width of the members relative to the population; NaN when not measured.
    pub width: f32,
    /// What it is compared with.
    pub usual_width: f32,
    /// Bits of likeness.
    pub alike: f32,
    /// Median requests of groups of its kind.
    pub usual_requests: f32,
    /// Bits of rate.
    pub rate: f32,
    /// Members with evidence of their own.
    pub n_flagged: usize,
}

impl Group {
    /// Evidence for a member, and its reason.
    fn for_member(&self, is_flagged: bool, site: (usize, usize)) -> (f32, Option<Reason>) {
        let flagged = self.flagged_bits(is_flagged, site);
        let (measure, bits, value, median) = if self.alike >= self.rate && self.alike >= flagged {
            (
                "group_alike",
                self.alike,
                self.usual_width / self.width.max(1e-3),
                f32::NAN,
            )
        } else if flagged >= self.rate {
            (
                "group_flagged",
                flagged,
                share(self.n_flagged, self.members.len()),
                share(site.0, site.1),
            )
        } else {
            #[expect(clippy::cast_precision_loss, reason = "a count for people")]
            let requests = self.requests as f32;
            ("group_rate", self.rate, requests, self.usual_requests)
        };
        if bits <= 0.0 {
            return (0.0, None);
        }
        let reason = Reason {
            value: f64::from(value),
            median: f64::from(median),
            declared: self.members.len().to_string(),
            observed: format!("{} {}", self.kind.name(), self.value),
            ..Reason::of_feature(voice::GROUP, measure, bits)
        };
        (bits, Some(reason))
    }

    fn flagged_bits(&self, own: bool, (site_flagged, site_n): (usize, usize)) -> f32 {
        let own = usize::from(own);
        let (k, n) = (self.n_flagged.saturating_sub(own), self.members.len() - 1);
        if self.kind == Kind::Host || n < 2 || k < 2 {
            return 0.0;
        }
        let (others, n_others) = (
            site_flagged.saturating_sub(self.n_flagged),
            site_n - self.members.len(),
        );
        let odds = |k: usize, n: usize| (k as f32 + 0.5) / (n as f32 + 1.0);
        (odds(k, n).log2() - odds(others, n_others).max(TELLING_SHARE).log2()).clamp(0.0, FLAGGED_BITS)
    }

    /// Evidence of the group itself: the largest that a member without evidence of its own inherits.
    pub fn bits(&self, site: (usize, usize)) -> (f32, Option<Reason>) {
        self.for_member(false, site)
    }
}

/// All groups, and for each client its place in them.
#[derive(Debug, Default)]
pub struct Groups {
    /// The groups.
    pub groups: Vec<Group>,
    /// Numbers of the groups of each client.
    pub of_client: Vec<Vec<u32>>,
    /// Clients with evidence of their own, and all.
    pub site: (usize, usize),
    flagged: Vec<bool>,
}

impl Groups {
    /// Measures. `is_flagged` says which clients have evidence of their own; without a scaler likeness is not measured.
    pub fn measure(population: &Population, scaler: Option<&Scaler>, is_flagged: &[bool]) -> Self {
        let mut by_key = BTreeMap::<(Kind, [u8; 16]), Vec<usize>>::new();
        for (idx, client) in population.clients.iter().enumerate() {
            by_key
                .entry((Kind::Prefix, client.prefix()))
                .or_default()
                .push(idx);
            for (kind, symbol) in [
                (Kind::Ja4Norm, client.ja4_norm),
                (Kind::HeaderOrder, client.header_order),
                (Kind::Host, client.host),
            ] {
                if symbol != 0 {
                    by_key
                        .entry((kind, u128::from(symbol).to_be_bytes()))
                        .or_default()
                        .push(idx);
                }
            }
        }
        let mut groups: Vec<Group> = by_key
            .into_iter()
            .filter(|(_, members)| members.len() >= 3)
            .map(|((kind, key), members)| group(population, scaler, is_flagged, kind, &key, members))
            .collect();
        weigh(&mut groups, browser_width(population, scaler));
        let mut of_client = vec![Vec::new(); population.n()];
        for (number, group) in groups.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            group.members.iter().for_each(|idx| of_client[*idx].push(number));
        }
        let site = (
            is_flagged.iter().filter(|flagged| **flagged).count(),
            population.n(),
        );
        Self {
            groups,
            of_client,
            site,
            flagged: is_flagged.to_vec(),
        }
    }

    /// What a client inherits: the strongest of its groups.
    pub fn inherited(&self, idx: usize) -> (f32, Option<Reason>, Option<u32>) {
        let mut best = (0.0, None, None);
        for &number in &self.of_client[idx] {
            let (bits, reason) = self.groups[number as usize].for_member(self.flagged[idx], self.site);
            if bits > best.0 {
                best = (bits, reason, Some(number));
            }
        }
        best
    }
}

fn share(k: usize, n: usize) -> f32 {
    k as f32 / (n.max(1)) as f32
}

fn group(
    population: &Population,
    scaler: Option<&Scaler>,
    is_flagged: &[bool],
    kind: Kind,
    key: &[u8; 16],
    members: Vec<usize>,
) -> Group {
    let first = &population.clients[members[0]];
    let text = |symbol| population.texts.text(symbol).to_owned();
    let value = match kind {
        Kind::Prefix => prefix_text(key),
        Kind::Ja4Norm => text(first.ja4_norm),
        Kind::HeaderOrder => text(first.header_order),
        Kind::Host => text(first.host),
    };
    let mut addresses: Vec<&[u8; 16]> = members
        .iter()
        .map(|idx| &population.clients[*idx].src_ip)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let n_addresses = addresses.len();
    let requests = members
        .iter()
        .map(|idx| u64::from(population.clients[*idx].requests))
        .sum();
    let width = match scaler {
        Some(scaler) if n_addresses >= MIN_ALIKE && is_telling(population, kind, &members) => {
            width(population, scaler, &members)
        }
        _ => f32::NAN,
    };
    let n_flagged = members.iter().filter(|idx| is_flagged[**idx]).count();
    Group {
        kind,
        value,
        n_addresses,
        requests,
        width,
        usual_width: 1.0,
        alike: 0.0,
        usual_requests: f32::NAN,
        rate: 0.0,
        n_flagged,
        members,
    }
}

/// Whether likeness of such a group says anything.
fn is_telling(population: &Population, kind: Kind, members: &[usize]) -> bool {
    match kind {
        Kind::Prefix => true,
        Kind::Ja4Norm | Kind::HeaderOrder => {
            let is_browser = |idx: &&usize| population.clients[**idx].segment == Segment::Browser;
            members.iter().filter(is_browser).count() * 2 > members.len()
        }
        Kind::Host => false,
    }
}

/// How wide the clients are that say that they are browsers, at most 1: what those of one JA4 or header order compare with.
fn browser_width(population: &Population, scaler: Option<&Scaler>) -> f32 {
    let is_browser = |idx: &usize| population.clients[*idx].segment == Segment::Browser;
    let browsers: Vec<usize> = (0..population.n()).filter(is_browser).collect();
    match scaler {
        Some(scaler) if browsers.len() >= MIN_ALIKE => width(population, scaler, &browsers).min(1.0),
        _ => 1.0,
    }
}

/// Mean over the behaviour features of the members' quartile distance by the population's spread, each at most 2.
fn width(population: &Population, scaler: &Scaler, members: &[usize]) -> f32 {
    let step = members.len().div_ceil(MAX_MEMBERS);
    let mut rows = Vec::new();
    let mut seen = vec![0.0; crate::features::N_FEATURES];
    for idx in members.iter().step_by(step) {
        scaler.write(&population.row(*idx), &mut seen);
        rows.extend_from_slice(&seen);
    }
    let n_features = crate::features::N_FEATURES;
    let mut column = Vec::new();
    let (mut total, mut n) = (0.0, 0.0);
    for (idx, feature) in FEATURES.iter().enumerate() {
        if !matches!(
            feature.family,
            Family::Volume | Family::Timing | Family::Paths | Family::Results
        ) {
            continue;
        }
        // What the population itself does not vary in says nothing about likeness.
        if scaler.varies(idx) {
            column.clear();
            column.extend(rows.iter().skip(idx).step_by(n_features));
            column.sort_unstable_by(f32::total_cmp);
            let distance = stats::quantile(&column, 0.75) - stats::quantile(&column, 0.25);
            total += (distance / scaler.spread[idx]).min(2.0);
            n += 1.0;
        }
    }
    if n > 0.0 { total / n } else { f32::NAN }
}

/// Compares groups with others of their kind.
fn weigh(groups: &mut [Group], browser_width: f32) {
    for kind in [Kind::Prefix, Kind::Ja4Norm, Kind::HeaderOrder, Kind::Host] {
        let of_kind = |group: &&Group| group.kind == kind;
        let sorted = |values: &mut Vec<f32>| values.sort_unstable_by(f32::total_cmp);
        let mut widths: Vec<f32> = groups
            .iter()
            .filter(of_kind)
            .map(|g| g.width)
            .filter(|w| !w.is_nan())
            .collect();
        sorted(&mut widths);
        let widest = match kind {
            Kind::Ja4Norm | Kind::HeaderOrder => browser_width,
            Kind::Prefix | Kind::Host => 1.0,
        };
        let usual_width = if widths.len() >= MIN_GROUPS {
            stats::quantile(&widths, 0.5).min(widest)
        } else {
            widest
        };
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let mut requests: Vec<f32> = groups.iter().filter(of_kind).map(|g| g.requests as f32).collect();
        sorted(&mut requests);
        let usual_requests = stats::quantile(&requests, 0.5);
        let knows_rates = kind == Kind::Prefix && requests.len() >= MIN_GROUPS;
        for group in groups.iter_mut().filter(|group| group.kind == kind) {
            group.usual_width = usual_width;
            group.usual_requests = usual_requests;
            if !group.width.is_nan() {
                let halvings = (usual_width / group.width.max(0.02)).log2();
                group.alike = if halvings >= 1.0 {
                    (2.0 * halvings).min(ALIKE_BITS)
                } else {
                    0.0
                };
            }
            if knows_rates && group.n_addresses >= MIN_RATE {
                #[expect(clippy::cast_precision_loss, reason = "a count")]
                let ratio = group.requests as f32 / usual_requests.max(1.0);
                group.rate = (ratio.log2() - 3.0).clamp(0.0, RATE_BITS);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use crate::consistency::Consistency;
    use crate::features::{ClientRow, Raw};
    use crate::scaler::Row;
    use crate::segments::Window;

    const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

    /// 120 browsers in 12 networks who differ, and `campaign` clients in one network who do the same.
    fn population(campaign: u8) -> Population {
        let mut population = Population::new(Window::Hour);
        let mut consistency = Consistency::default();
        let mut push = |network: u8, host: u8, requests: f32, gap: f32| {
            let src_ip = std::net::Ipv4Addr::new(203, 0, network, host)
                .to_ipv6_mapped()
                .octets();
            let raw = Raw {
                requests,
                span_s: 3600.0,
                active_minutes: (requests / 3.0).ceil(),
                n_events: requests,
                n_paths: (requests / 2.0).ceil(),
                path_entropy: requests.log2(),
                transition_entropy: requests.log2(),
                gap_p50_us: gap,
                gap_p95_us: gap * 4.0,
                gap_mean_us: gap * 1.5,
                gap_sd_us: gap * f32::from(host % 7) / 3.0,
                bytes: requests * 1000.0 * f32::from(1 + host % 5),
                bytes_p50: 500.0 * f32::from(1 + host % 9),
                bytes_p95: 3000.0 * f32::from(1 + host % 9),
                n_user_agents: 1.0,
                ..Raw::default()
            };
            let entity = u64::from(network) * 256 + u64::from(host);
            population.push(
                &ClientRow {
                    src_ip,
                    entity,
                    host: "h".into(),
                    ja4: "t13d1516h2_8daaf6152771_02713d6af862".into(),
                    user_agents: vec![CHROME.into()],
                    raw,
                    ..ClientRow::default()
                },
                &mut consistency,
            );
        };
        for network in 0..12_u8 {
            for host in 0..10_u8 {
                let turn = f32::from(network * 10 + host);
                push(
                    network,
                    host,
                    8.0 + (turn * 7.0) % 90.0,
                    1e5 * (1.0 + (turn * 13.0) % 60.0),
                );
            }
        }
        for host in 0..campaign {
            push(99, host * 35, 40.0, 2e6);
        }
        population
    }

    /// As many clients of one JA4 in networks of their own that do the same, under a browser's name or their own.
    fn sharing_a_ja4(user_agent: &str) -> (Population, usize) {
        let mut population = population(0);
        let before = population.n();
        let mut consistency = Consistency::default();
        for network in 100..107_u8 {
            let raw = Raw {
                requests: 40.0,
                span_s: 3600.0,
                active_minutes: 13.0,
                n_events: 40.0,
                n_paths: 20.0,
                gap_p50_us: 2e6,
                gap_p95_us: 8e6,
                gap_mean_us: 3e6,
                bytes: 40_000.0,
                bytes_p50: 500.0,
                bytes_p95: 3000.0,
                n_user_agents: 1.0,
                ..Raw::default()
            };
            population.push(
                &ClientRow {
                    src_ip: std::net::Ipv4Addr::new(198, 51, network, 1)
                        .to_ipv6_mapped()
                        .octets(),
                    entity: 100_000 + u64::from(network),
                    host: "h".into(),
                    ja4: "t13d1516h2_8daaf6152771_02713d6af862".into(),
                    ja4_norm: "t13d1516h2_8daaf6152771_02713d6af862".into(),
                    user_agents: vec![user_agent.into()],
                    raw,
                    ..ClientRow::default()
                },
                &mut consistency,
            );
        }
        (population, before)
    }

    #[test]
    fn likeness_tells_of_browsers_and_not_of_programs_that_say_what_they_are() {
        let (browsers, first) = sharing_a_ja4(CHROME);
        let (bits, reason, _) = measured(&browsers, &[]).inherited(first);
        assert!(bits >= 2.0, "{bits}");
        assert_eq!(reason.unwrap().feature, "group_alike");
        let (programs, first) = sharing_a_ja4("shop-sync/4.2");
        assert_eq!(measured(&programs, &[]).inherited(first).0, 0.0);
    }

    fn measured(population: &Population, flagged: &[usize]) -> Groups {
        let rows: Vec<Row<'_>> = (0..population.n()).map(|idx| population.row(idx)).collect();
        let mut is_flagged = vec![false; population.n()];
        for idx in flagged {
            is_flagged[*idx] = true;
        }
        Groups::measure(population, Some(&Scaler::fit(&rows)), &is_flagged)
    }

    #[test]
    fn a_campaign_is_more_alike_than_clients_are() {
        let population = population(7);
        let groups = measured(&population, &[]);
        let (bits, reason, _) = groups.inherited(123);
        let reason = reason.unwrap();
        assert!(bits >= 4.0, "{bits}");
        assert_eq!(
            (reason.feature.as_str(), reason.observed.as_str()),
            ("group_alike", "prefix 203.0.99.0/24")
        );
        for idx in 0..120 {
            assert!(
                groups.inherited(idx).0 < 2.0,
                "client {idx} of an ordinary network: {:?}",
                groups.inherited(idx)
            );
        }
    }

    #[test]
    fn few_members_are_no_campaign() {
        let population = population(4);
        let groups = measured(&population, &[]);
        assert_eq!(groups.inherited(122).0, 0.0);
    }

    #[test]
    fn flagged_neighbours_count_and_the_client_itself_does_not() {
        let population = population(0);
        let groups = measured(&population, &[10, 11, 12, 13]);
        let (bits, reason, _) = groups.inherited(15);
        assert!(bits > 2.0, "{bits}");
        assert_eq!(reason.unwrap().feature, "group_flagged");
        let groups = measured(&population, &[10, 11]);
        assert_eq!(groups.inherited(10).0, 0.0, "one neighbour is none");
        assert_eq!(groups.inherited(30).0, 0.0, "another network");
    }

    #[test]
    fn nobody_makes_no_groups() {
        let population = Population::new(Window::Day);
        assert!(measured(&population, &[]).groups.is_empty());
    }
}
