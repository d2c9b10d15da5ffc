//! Which crawler a User-Agent names, and which networks its operator publishes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::table::{LoadError, read};

const CRAWLERS: &str = include_str!("../data/crawlers.tsv");
const RANGES: &str = include_str!("../data/crawler_ranges.tsv");

/// A network that an operator publishes for its crawler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrawlerNetwork {
    /// Name of the list, such as `google-googlebot`.
    pub list: &'static str,
    /// Who runs the crawler.
    pub operator: &'static str,
    /// What the list is for.
    pub label: &'static str,
    /// The network.
    pub network: IpNet,
    /// Day on which the list was read, `YYYY-MM-DD`.
    pub date: &'static str,
}

/// A crawler with what it can be checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crawler {
    /// What its User-Agent contains, in lower case.
    pub token: &'static str,
    pub name: &'static str,
    pub operator: &'static str,
    /// Name of its list of networks; empty without.
    pub list: &'static str,
    /// Suffixes of its reverse names, comma between; empty without.
    pub rdns_suffixes: &'static str,
}

/// All crawlers and networks.
#[derive(Debug)]
pub(crate) struct Crawlers {
    /// Longer tokens first, so that `googlebot-image` is found before `googlebot`.
    by_token: Vec<(String, Crawler)>,
    /// (first, last) address as a number in IPv6's space, sorted by first. Networks of different lists overlap.
    networks: Vec<(u128, u128, CrawlerNetwork)>,
    /// The largest `last` of the networks before and at each index.
    furthest: Vec<u128>,
    /// Day of each list.
    dates: BTreeMap<&'static str, &'static str>,
}

impl Crawlers {
    pub(crate) fn load() -> Result<Self, LoadError> {
        let columns = ["token", "name", "operator", "ranges", "rdns_suffixes", "docs"];
        let mut by_token: Vec<(String, Crawler)> = read("crawlers.tsv", CRAWLERS, columns)?
            .into_iter()
            // A parenthesis is a remark: such names are tokens of robots.txt only.
            .filter(|line| !line[0].starts_with('('))
            .map(|[token, name, operator, list, rdns_suffixes, _]| {
                let crawler = Crawler {
                    token,
                    name,
                    operator,
                    list,
                    rdns_suffixes,
                };
                (token.to_ascii_lowercase(), crawler)
            })
            .collect();
        by_token.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut networks = Vec::new();
        let mut dates = BTreeMap::new();
        for [list, operator, label, date, network] in read(
            "crawler_ranges.tsv",
            RANGES,
            ["ranges", "operator", "label", "date", "network"],
        )? {
            let parsed: IpNet = network.parse().map_err(|_| LoadError::Value {
                table: "crawler_ranges.tsv",
                value: network.to_owned(),
                what: "network",
            })?;
            dates.insert(list, date);
            let entry = CrawlerNetwork {
                list,
                operator,
                label,
                network: parsed,
                date,
            };
            networks.push((number(parsed.network()), number(parsed.broadcast()), entry));
        }
        // A crawler whose list is empty would be outside of it wherever it is.
        let is_missing = |crawler: &Crawler| !crawler.list.is_empty() && !dates.contains_key(crawler.list);
        if let Some((_, crawler)) = by_token.iter().find(|(_, crawler)| is_missing(crawler)) {
            return Err(LoadError::Value {
                table: "crawlers.tsv",
                value: crawler.list.to_owned(),
                what: "list of networks",
            });
        }
        networks.sort_by(|a, b| (a.0, a.1, a.2.list).cmp(&(b.0, b.1, b.2.list)));
        let mut so_far = 0;
        let furthest = networks
            .iter()
            .map(|(_, last, _)| {
                so_far = so_far.max(*last);
                so_far
            })
            .collect();
        Ok(Self {
            by_token,
            networks,
            furthest,
            dates,
        })
    }

    /// The crawler that a User-Agent in lower case names.
    pub(crate) fn named_in(&self, lower: &str) -> Option<&Crawler> {
        self.by_token
            .iter()
            .find(|(token, _)| lower.contains(token.as_str()))
            .map(|(_, crawler)| crawler)
    }

    /// The networks that hold an address, last first.
    pub(crate) fn networks_of(&self, address: IpAddr) -> impl Iterator<Item = &CrawlerNetwork> {
        let at = number(address);
        let end = self.networks.partition_point(|(first, _, _)| *first <= at);
        // Going back ends where no earlier network reaches this far.
        (0..end)
            .rev()
            .take_while(move |i| self.furthest[*i] >= at)
            .filter_map(move |i| {
                let (_, last, network) = &self.networks[i];
                (*last >= at).then_some(network)
            })
    }

    /// The day on which a list was read.
    pub(crate) fn date_of(&self, list: &str) -> &'static str {
        self.dates.get(list).copied().unwrap_or_default()
    }
}

/// IPv4 in IPv6's space, so that one order holds for both.
fn number(address: IpAddr) -> u128 {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    u128::from_be_bytes(v6.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_token_names_the_crawler() {
        let crawlers = Crawlers::load().unwrap();
        assert_eq!(
            crawlers.named_in("googlebot-image/1.0").unwrap().name,
            "Googlebot-Image"
        );
        assert_eq!(
            crawlers
                .named_in("mozilla/5.0 (compatible; googlebot/2.1)")
                .unwrap()
                .name,
            "Googlebot"
        );
        assert!(crawlers.named_in("mozilla/5.0 (x11; linux x86_64)").is_none());
    }

    #[test]
    fn networks_are_found_in_both_families_and_forms() {
        let crawlers = Crawlers::load().unwrap();
        let lists = |text: &str| -> Vec<&str> {
            let address = text.parse().unwrap();
            crawlers
                .networks_of(address)
                .map(|network| network.list)
                .collect()
        };
        assert!(lists("66.249.66.1").contains(&"google-googlebot"));
        assert!(lists("::ffff:66.249.66.1").contains(&"google-googlebot"));
        assert!(lists("2001:4860:4801:10::1").contains(&"google-googlebot"));
        assert_eq!(lists("127.0.0.1"), Vec::<&str>::new());
        assert_eq!(lists("::"), Vec::<&str>::new());
    }

    #[test]
    fn search_equals_a_walk_over_all_networks() {
        let crawlers = Crawlers::load().unwrap();
        for (first, last, _) in crawlers.networks.iter().step_by(7) {
            for at in [first.wrapping_sub(1), *first, *last, last.wrapping_add(1)] {
                let address = IpAddr::from(at.to_be_bytes());
                let walked = crawlers
                    .networks
                    .iter()
                    .filter(|(a, b, _)| (*a..=*b).contains(&at));
                assert_eq!(crawlers.networks_of(address).count(), walked.count(), "{address}");
            }
        }
    }
}
