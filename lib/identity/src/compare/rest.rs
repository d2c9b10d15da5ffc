//! The User-Agent against itself, TCP against the claimed system, the address against the claimed crawler's networks.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Cell, Dimension, Finding, Observation, Tcp, shown};
use crate::agent::{Claims, Engine, Kind, Known};
use crate::catalogue::Catalogue;
use crate::crawlers::Crawler;
use crate::weights;

pub(super) fn agent_cell(seen: &Observation<'_>, claims: &[&Claims]) -> Cell {
    let first = seen.user_agents.first().copied().unwrap_or_default();
    agent(first, claims).cell(Dimension::UserAgent, shown(&claims[0].describe()), first)
}

pub(super) fn tcp_cell(seen: &Observation<'_>, claims: &Claims) -> Cell {
    let observed = seen.tcp.map_or_else(String::new, |tcp| {
        format!("TTL {}, options {}", tcp.ttl, tcp.options)
    });
    tcp(seen, claims).cell(Dimension::Tcp, shown(&claims.os), &observed)
}

impl Catalogue {
    pub(super) fn address_cell(&self, seen: &Observation<'_>, known: &[Arc<Known>]) -> Cell {
        let (declared, finding) = self.address(seen, known);
        finding.cell(Dimension::Address, declared, &seen.address.to_string())
    }

    fn address(&self, seen: &Observation<'_>, known: &[Arc<Known>]) -> (String, Finding) {
        let mut crawlers = known.iter().filter(|one| one.claims.kind == Kind::Crawler);
        let Some(first) = crawlers.clone().next() else {
            return (String::new(), Finding::unknown("", "No crawler is claimed."));
        };
        let Some(crawler) = crawlers.find_map(|one| one.crawler) else {
            let why = "Nobody publishes how to check this crawler.";
            return (shown(&first.claims.family), Finding::unknown("", why));
        };
        let declared = format!("{} of {}", crawler.name, crawler.operator);
        (declared, self.crawler_at(&crawler, seen.address))
    }

    fn crawler_at(&self, crawler: &Crawler, address: IpAddr) -> Finding {
        let own = self
            .crawlers
            .networks_of(address)
            .find(|network| network.list == crawler.list || network.operator == crawler.operator);
        if let Some(network) = own {
            let why = format!(
                "The address is in {}, which {} publishes.",
                network.network, network.operator
            );
            return Finding::agrees(&format!("{} ({})", network.list, network.date), why);
        }
        if !crawler.list.is_empty() {
            let why = format!(
                "It says {}, but its address is in none of the networks that {} publishes for it.",
                crawler.name, crawler.operator
            );
            let source = format!("{} ({})", crawler.list, self.crawlers.date_of(crawler.list));
            return Finding::contradicts(weights::CRAWLER_OUTSIDE, &source, why);
        }
        let why = if crawler.rdns_suffixes.is_empty() {
            format!("{} publishes no networks for {}.", crawler.operator, crawler.name)
        } else {
            format!(
                "{} is checked by its reverse name ending in {}, which is not looked up here.",
                crawler.name,
                crawler.rdns_suffixes.replace(',', " or ")
            )
        };
        Finding::unknown("", why)
    }
}

fn agent(first: &str, claims: &[&Claims]) -> Finding {
    if claims[0].kind == Kind::None {
        return Finding::unknown("", "The client sends no User-Agent.");
    }
    if let Some(why) = impossible(first, claims[0]) {
        return Finding::contradicts(weights::AGENT_IMPOSSIBLE, "", why);
    }
    let mut engines: Vec<Engine> = claims.iter().filter_map(|one| one.engine).collect();
    engines.sort_unstable();
    engines.dedup();
    if engines.len() > 1 {
        let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
        let why = format!(
            "One address with one JA4 says that it is {}. People behind one inspecting proxy look like this too.",
            names.join(" and ")
        );
        return Finding::contradicts(weights::AGENTS_OF_ENGINES, "", why);
    }
    Finding::agrees("", "The User-Agent is consistent in itself.")
}

/// Parts of a User-Agent that exclude each other.
fn impossible(agent: &str, claims: &Claims) -> Option<&'static str> {
    let version = claims.engine_version.unwrap_or(0);
    let is_chromium = claims.engine == Some(Engine::Chromium);
    if is_chromium
        && version >= 11_000
        && ["Windows NT 5", "Windows NT 6.0"]
            .iter()
            .any(|old| agent.contains(old))
    {
        return Some("Chromium left Windows XP and Vista with version 50.");
    }
    if is_chromium && version >= 11_300 && agent.contains("Windows NT 6.") {
        return Some("Chromium left Windows 7 and 8 with version 110; newer ones say Windows NT 10.0.");
    }
    if claims.engine == Some(Engine::Gecko) && version >= 11_900 && agent.contains("Windows NT 6.") {
        return Some("Firefox left Windows 7 and 8 with version 116; newer ones say Windows NT 10.0.");
    }
    let systems = ["Windows NT", "Macintosh", "X11; Linux", "iPhone", "Android"];
    let n_systems = systems.iter().filter(|system| agent.contains(**system)).count();
    if claims.engine.is_some() && claims.kind == Kind::Browser && n_systems > 1 {
        return Some("It names two operating systems.");
    }
    None
}

fn tcp(seen: &Observation<'_>, claims: &Claims) -> Finding {
    let not_evaluated = |why: &str| Finding::unknown("", format!("Not evaluated: {why}."));
    let Some(tcp) = seen.tcp.filter(|tcp| !tcp.options.is_empty()) else {
        return not_evaluated("the first packet was not seen");
    };
    if is_local(seen.address) || tcp.mss > 9_000 {
        return not_evaluated("the client is on this machine or in a private network");
    }
    let Some(shown) = System::of_syn(&tcp) else {
        return Finding::unknown("", "This order of TCP options is of no known system.");
    };
    let Some(claimed) = System::of_claim(&claims.os) else {
        return not_evaluated("no operating system is claimed");
    };
    if shown == claimed {
        return Finding::agrees("", "TCP options are those of the claimed system.");
    }
    let why = format!(
        "It says {}, but its TCP is that of {}. VPNs, gateways and proxies cause this very often.",
        claims.os,
        shown.name()
    );
    Finding::contradicts(weights::TCP_OTHER_SYSTEM, "", why)
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_local(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

/// Families of TCP stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    /// Linux, Android, `ChromeOS`.
    Linux,
    /// Windows.
    Windows,
    /// macOS, iOS.
    Darwin,
}

impl System {
    const fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux or Android",
            Self::Windows => "Windows",
            Self::Darwin => "macOS or iOS",
        }
    }

    /// By the order of options, which kernels do not let programs choose, and the starting value of the TTL.
    fn of_syn(tcp: &Tcp<'_>) -> Option<Self> {
        // 2 MSS, 1 no operation, 3 window scale, 4 SACK permitted, 8 timestamps, 0 end.
        let is_128 = tcp.ttl > 64 && tcp.ttl <= 128;
        match tcp.options {
            "2,4,8,1,3" if !is_128 => Some(Self::Linux),
            "2,1,3,1,1,4" | "2,1,3,1,1,8,4" | "2,1,3,4,8" if is_128 => Some(Self::Windows),
            "2,1,3,1,1,8,4,0" | "2,1,3,1,1,8,4,0,0" if !is_128 => Some(Self::Darwin),
            _ => None,
        }
    }

    fn of_claim(os: &str) -> Option<Self> {
        match os {
            "Windows" => Some(Self::Windows),
            "Mac OS X" | "macOS" | "iOS" => Some(Self::Darwin),
            "Linux" | "Android" | "Ubuntu" | "Chrome OS" | "Fedora" | "Debian" => Some(Self::Linux),
            _ => None,
        }
    }
}
