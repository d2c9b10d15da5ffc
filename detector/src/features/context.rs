//! Features that need the neighbours: how rare a fingerprint is, what an address and its network do, what was before.

use std::collections::HashMap;

use super::position;
use crate::population::{Population, Symbol, prefix_of};

const RARE_PATHS: usize = position("rare_paths");
const RARE_PATH_SHARE: usize = position("rare_path_share");
const HEADER_ORDER_RARITY: usize = position("header_order_rarity");
const JA4_RARITY: usize = position("ja4_rarity");
const JA4_AGE_H: usize = position("ja4_age_h");
const JA4_CLIENTS: usize = position("ja4_clients");
const JA4S_PER_ADDRESS: usize = position("ja4s_per_address");
const H2_RARITY: usize = position("h2_rarity");
const TCP_OPTIONS_RARITY: usize = position("tcp_options_rarity");
const USER_AGENTS_PER_ADDRESS: usize = position("user_agents_per_address");
const HOSTS_PER_ADDRESS: usize = position("hosts_per_address");
const PREFIX_CLIENTS: usize = position("prefix_clients");
const PREFIX_FLAGGED_SHARE: usize = position("prefix_flagged_share");
const DAYS_FLAGGED: usize = position("days_flagged");
const PATHS_DISTINCT: usize = position("paths_distinct");
const TCP_TTL_CLASS: usize = position("tcp_ttl_class");

/// Fewest clients of a host for "few clients asked this path" to mean anything.
const MIN_HOST_CLIENTS: u32 = 20;
/// How long a site must be known for the age of a fingerprint to mean anything, seconds.
const MIN_KNOWN_S: i64 = 86_400;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// What the store knows beyond the window.
#[derive(Debug, Default)]
pub struct Outside {
    /// Rare paths of each client.
    pub rare_paths: Map<u64, f32>,
    /// When each JA4 was first seen, seconds since the epoch.
    pub ja4_first_s: Map<String, i64>,
    /// Days before today on which each address was flagged.
    pub days_flagged: Map<[u8; 16], f32>,
}

#[derive(Debug, Default)]
struct Address {
    is_counted: bool,
    ja4s: Vec<Symbol>,
    hosts: Vec<Symbol>,
    user_agents: u32,
}

/// Most values that are told apart of one address; a NAT beyond is one all the same.
const MAX_DISTINCT: usize = 64;

fn note(seen: &mut Vec<Symbol>, value: Symbol) {
    if seen.len() < MAX_DISTINCT && !seen.contains(&value) {
        seen.push(value);
    }
}

/// Fills what needs the whole population. `end_s` is the window's end.
pub fn fill(population: &mut Population, outside: &Outside, end_s: i64) {
    let mut ja4 = Map::<Symbol, u32>::default();
    let mut orders = Map::<Symbol, u32>::default();
    let mut h2 = Map::<Symbol, u32>::default();
    let mut options = Map::<Symbol, u32>::default();
    let mut hosts = Map::<Symbol, u32>::default();
    let mut addresses = Map::<[u8; 16], Address>::default();
    let mut prefixes = Map::<[u8; 16], u32>::default();
    // Addresses of each network, and how many of them were flagged.
    let mut neighbours = Map::<[u8; 16], (u32, u32)>::default();
    for client in &population.clients {
        for (counts, value) in [
            (&mut ja4, client.ja4_norm),
            (&mut orders, client.header_order),
            (&mut h2, client.h2_fp),
            (&mut options, client.tcp_options),
            (&mut hosts, client.host),
        ] {
            if value != 0 {
                *counts.entry(value).or_default() += 1;
            }
        }
        let address = addresses.entry(client.src_ip).or_default();
        if !address.is_counted {
            address.is_counted = true;
            let (n, flagged) = neighbours.entry(prefix_of(&client.src_ip)).or_default();
            *n += 1;
            *flagged += u32::from(outside.days_flagged.contains_key(&client.src_ip));
        }
        if client.ja4_norm != 0 {
            note(&mut address.ja4s, client.ja4_norm);
        }
        note(&mut address.hosts, client.host);
        address.user_agents += u32::from(client.n_user_agents);
        *prefixes.entry(client.prefix()).or_default() += 1;
    }
    let [n_ja4, n_orders, n_h2, n_options] =
        [&ja4, &orders, &h2, &options].map(|counts| counts.values().map(|n| f64::from(*n)).sum::<f64>());
    let known_since = outside.ja4_first_s.values().copied().min();
    let knows_ages = known_since.is_some_and(|first| end_s - first >= MIN_KNOWN_S);
    for idx in 0..population.n() {
        let client = population.clients[idx].clone();
        // A rare program is a rare program; a rare browser is a question.
        let rarity = |counts: &Map<Symbol, u32>, value: Symbol, n: f64| -> f32 {
            match counts.get(&value) {
                Some(count) if value != 0 && !client.is_program => bits_of_share(f64::from(*count) / n),
                _ => f32::NAN,
            }
        };
        population.set(
            idx,
            HEADER_ORDER_RARITY,
            rarity(&orders, client.header_order, n_orders),
        );
        population.set(idx, JA4_RARITY, rarity(&ja4, client.ja4_norm, n_ja4));
        population.set(idx, H2_RARITY, rarity(&h2, client.h2_fp, n_h2));
        if !population.values(idx)[TCP_TTL_CLASS].is_nan() {
            population.set(
                idx,
                TCP_OPTIONS_RARITY,
                rarity(&options, client.tcp_options, n_options),
            );
        }
        let address = &addresses[&client.src_ip];
        if client.ja4_norm != 0 {
            population.set(idx, JA4_CLIENTS, count(ja4[&client.ja4_norm]));
            population.set(idx, JA4S_PER_ADDRESS, address.ja4s.len() as f32);
            let first = outside.ja4_first_s.get(population.texts.text(client.ja4));
            if let (Some(first), true) = (first, knows_ages) {
                #[expect(clippy::cast_possible_truncation, reason = "hours")]
                let hours = ((end_s - first).max(0) as f64 / 3600.0) as f32;
                population.set(idx, JA4_AGE_H, hours);
            }
        }
        population.set(idx, USER_AGENTS_PER_ADDRESS, count(address.user_agents));
        population.set(idx, HOSTS_PER_ADDRESS, address.hosts.len() as f32);
        population.set(idx, PREFIX_CLIENTS, count(prefixes[&client.prefix()]));
        let own = outside.days_flagged.get(&client.src_ip).copied();
        population.set(idx, DAYS_FLAGGED, own.unwrap_or(0.0));
        let (n, flagged) = neighbours[&client.prefix()];
        if n > 1 {
            let others = flagged - u32::from(own.is_some());
            population.set(idx, PREFIX_FLAGGED_SHARE, count(others) / count(n - 1));
        }
        if hosts.get(&client.host).is_some_and(|n| *n >= MIN_HOST_CLIENTS) {
            let rare = outside.rare_paths.get(&client.entity).copied().unwrap_or(0.0);
            let paths = population.values(idx)[PATHS_DISTINCT].max(1.0);
            population.set(idx, RARE_PATHS, rare);
            population.set(idx, RARE_PATH_SHARE, (rare / paths).min(1.0));
        }
    }
}

fn bits_of_share(share: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "bits")]
    let bits = -share.log2() as f32;
    bits.max(0.0)
}

fn count(n: u32) -> f32 {
    n as f32
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use crate::consistency::Consistency;
    use crate::features::{ClientRow, Raw};
    use crate::segments::Window;

    fn population(n: u8) -> Population {
        let mut population = Population::new(Window::Hour);
        let mut consistency = Consistency::default();
        for number in 0..n {
            let mut src_ip = "203.0.113.0"
                .parse::<std::net::Ipv4Addr>()
                .unwrap()
                .to_ipv6_mapped()
                .octets();
            src_ip[15] = number;
            let ja4 = if number == 0 {
                "t12d0505h1_rare"
            } else {
                "t13d1516h2_common"
            };
            let row = ClientRow {
                src_ip,
                entity: u64::from(number),
                ja4: ja4.into(),
                ja4_norm: ja4.into(),
                host: "h".into(),
                raw: Raw {
                    requests: 9.0,
                    n_paths: 4.0,
                    n_user_agents: 1.0,
                    ..Raw::default()
                },
                ..ClientRow::default()
            };
            population.push(&row, &mut consistency);
        }
        population
    }

    #[test]
    fn rarity_is_bits_of_the_share() {
        let mut population = population(32);
        fill(&mut population, &Outside::default(), 0);
        assert_eq!(population.values(0)[JA4_RARITY], 5.0);
        assert!(population.values(1)[JA4_RARITY] < 0.05);
        assert_eq!(population.values(1)[PREFIX_CLIENTS], 32.0);
        assert!(population.values(0)[HEADER_ORDER_RARITY].is_nan());
    }

    #[test]
    fn ages_wait_until_the_site_is_known_for_a_day() {
        let mut outside = Outside::default();
        outside.ja4_first_s.insert("t13d1516h2_common".into(), 1000);
        let mut young = population(3);
        fill(&mut young, &outside, 1000 + MIN_KNOWN_S - 1);
        assert!(young.values(1)[JA4_AGE_H].is_nan());
        let mut old = population(3);
        fill(&mut old, &outside, 1000 + MIN_KNOWN_S);
        assert_eq!(old.values(1)[JA4_AGE_H], 24.0);
        assert!(
            old.values(0)[JA4_AGE_H].is_nan(),
            "a fingerprint that the store does not know has no age"
        );
    }

    #[test]
    fn flagged_neighbours_are_the_others() {
        let mut population = population(5);
        let mut outside = Outside::default();
        let flagged = population.clients[2].src_ip;
        outside.days_flagged.insert(flagged, 3.0);
        fill(&mut population, &outside, 0);
        assert_eq!(population.values(2)[DAYS_FLAGGED], 3.0);
        assert_eq!(population.values(2)[PREFIX_FLAGGED_SHARE], 0.0);
        assert_eq!(population.values(1)[PREFIX_FLAGGED_SHARE], 0.25);
    }

    #[test]
    fn rare_paths_need_a_host_with_clients() {
        let mut outside = Outside::default();
        outside.rare_paths.insert(1, 3.0);
        let mut small = population(19);
        fill(&mut small, &outside, 0);
        assert!(small.values(1)[RARE_PATHS].is_nan());
        let mut large = population(20);
        fill(&mut large, &outside, 0);
        assert_eq!(
            (large.values(1)[RARE_PATHS], large.values(1)[RARE_PATH_SHARE]),
            (3.0, 0.75)
        );
        assert_eq!(large.values(2)[RARE_PATHS], 0.0);
    }
}
