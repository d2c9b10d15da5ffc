//! Who is there: people, apps, machines and bots with their addresses, all from one seed. Pure.
//!
//! Addresses are those of one town, the same for every seed: some 200 networks, most with one address, a few with many,
//! as clients are spread over the internet. Part of its addresses are homes, where those of the recorded yesterday are
//! who come back; the others are of newcomers. People, apps, machines and bots are spread over both alike, and some
//! share the address of a NAT, so that neither address nor network tells what a client is.

use std::net::Ipv4Addr;

use super::Rng;
use super::tools::Kind;

/// The address that many share.
pub(crate) const NAT: Ipv4Addr = Ipv4Addr::new(127, 20, 0, 1);
/// The town: how many networks have how many addresses, in 127.10.0.0/24 to 127.10.219.0/24.
const TOWN: [(u8, usize); 5] = [(170, 1), (30, 2), (10, 4), (6, 8), (4, 16)];
/// Of its 382 addresses so many are homes of people, apps and machines; the recorded yesterday has one at each.
const PEOPLE_HOMES: usize = 178;
const APP_HOMES: usize = 45;
const MACHINE_HOMES: usize = 20;
/// One of so many bots and apps sits behind the NAT.
const ONE_IN_BEHIND_NAT: u32 = 4;

/// A person with a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PersonPart {
    pub(crate) number: u32,
    pub(crate) address: Ipv4Addr,
    /// Has an account and signs in at times.
    pub(crate) has_account: bool,
}

/// An application that reads the site over our own TLS client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppPart {
    pub(crate) number: u32,
    pub(crate) address: Ipv4Addr,
}

/// A service or bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolPart {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) address: Ipv4Addr,
}

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) people: u32,
    pub(crate) behind_nat: u32,
    pub(crate) apps: u32,
    pub(crate) services: bool,
    pub(crate) bots: u32,
    /// Percent of them who are not at a home.
    pub(crate) newcomers: u32,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cast {
    pub(crate) people: Vec<PersonPart>,
    pub(crate) apps: Vec<AppPart>,
    pub(crate) services: Vec<ToolPart>,
    pub(crate) bots: Vec<ToolPart>,
}

/// Addresses by who is at home there; the rest is of newcomers.
#[derive(Debug)]
struct Town {
    people: Vec<Ipv4Addr>,
    apps: Vec<Ipv4Addr>,
    machines: Vec<Ipv4Addr>,
    others: Vec<Ipv4Addr>,
}

impl Town {
    /// The same always: who comes back is where he was.
    fn new() -> Self {
        let mut rng = Rng::new(0, 1 << 43);
        let sizes = TOWN
            .iter()
            .flat_map(|&(networks, addresses)| (0..networks).map(move |_| addresses));
        let mut networks: Vec<u8> = (0..TOWN.iter().map(|(networks, _)| networks).sum()).collect();
        rng.shuffle(&mut networks);
        let mut all = Vec::new();
        for (network, n_addresses) in networks.into_iter().zip(sizes) {
            let mut hosts: Vec<u8> = (1..=254).collect();
            rng.shuffle(&mut hosts);
            let hosts = hosts.into_iter().take(n_addresses);
            all.extend(hosts.map(|host| Ipv4Addr::new(127, 10, network, host)));
        }
        rng.shuffle(&mut all);
        let others = all.split_off(PEOPLE_HOMES + APP_HOMES + MACHINE_HOMES);
        let machines = all.split_off(PEOPLE_HOMES + APP_HOMES);
        let apps = all.split_off(PEOPLE_HOMES);
        Self {
            people: all,
            apps,
            machines,
            others,
        }
    }
}

impl Cast {
    /// The same for the same seed and counts.
    pub(crate) fn of(seed: u64, counts: Counts) -> Self {
        let mut rng = Rng::new(seed, 1 << 41);
        let mut town = Town::new();
        rng.shuffle(&mut town.people);
        rng.shuffle(&mut town.others);
        let mut homes = town.people.into_iter();
        // More newcomers than addresses share them from the start again.
        let mut others = town.others.into_iter().cycle();
        let mut draw = || others.next().unwrap_or(NAT);
        let comes_back = |rng: &mut Rng| rng.below(100) >= counts.newcomers;
        let people = (0..counts.people)
            .map(|number| PersonPart {
                number,
                address: if number < counts.behind_nat {
                    NAT
                } else if comes_back(&mut rng) {
                    homes.next().unwrap_or_else(&mut draw)
                } else {
                    draw()
                },
                has_account: rng.below(3) == 0,
            })
            .collect();
        let apps = (0..counts.apps)
            .map(|number| {
                // An installation that comes back is the same, behind the NAT or at its home.
                let (nth, turn) = (number / ONE_IN_BEHIND_NAT, number % ONE_IN_BEHIND_NAT);
                let home = town.apps.get((nth * (ONE_IN_BEHIND_NAT - 1) + turn) as usize);
                let address = match home {
                    _ if turn == ONE_IN_BEHIND_NAT - 1 => NAT,
                    Some(home) if comes_back(&mut rng) => *home,
                    _ => draw(),
                };
                AppPart { number, address }
            })
            .collect();
        let services = if counts.services {
            Kind::SERVICES.as_slice()
        } else {
            &[]
        };
        let mut machine_homes = town.machines.into_iter();
        let services = services
            .iter()
            .zip(0_u8..)
            .map(|(&(kind, is_in_house), number)| ToolPart {
                number: u32::from(number),
                kind,
                // Those that a site's own people run have a network of their own; others are out there with everybody.
                address: if is_in_house {
                    Ipv4Addr::new(127, 30, 0, number + 1)
                } else {
                    let home = machine_homes.next();
                    home.filter(|_| comes_back(&mut rng)).unwrap_or_else(&mut draw)
                },
            })
            .collect();
        let mut kinds = Kind::BOTS;
        // The first stays: a search engine that is none belongs to every cast.
        rng.shuffle(&mut kinds[1..]);
        let mut programs_behind_nat = std::collections::BTreeSet::new();
        let bots = (0..counts.bots)
            .zip(kinds.into_iter().cycle())
            .map(|(number, kind)| ToolPart {
                number: 1000 + number,
                kind,
                address: if kind == Kind::BrowserBot {
                    // Behind the NAT or at a home it would be one client with the people there, and nobody could tell.
                    draw()
                } else if rng.below(ONE_IN_BEHIND_NAT) == 0 && programs_behind_nat.insert(kind.program()) {
                    // One of each program: two would be one client.
                    NAT
                } else if comes_back(&mut rng) {
                    // Somebody's home, who is not there now.
                    homes.next().unwrap_or_else(&mut draw)
                } else {
                    draw()
                },
            })
            .collect();
        Self {
            people,
            apps,
            services,
            bots,
        }
    }

    /// Every address from which a browser comes, once.
    pub(crate) fn browser_addresses(&self) -> std::collections::BTreeSet<Ipv4Addr> {
        let bots = self.bots.iter().filter(|bot| bot.kind == Kind::BrowserBot);
        self.people
            .iter()
            .map(|person| person.address)
            .chain(bots.map(|bot| bot.address))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::clients::ClientsConfig;
    use crate::record::RecordConfig;

    /// What `ja4-demo clients` has without a configuration.
    fn cast(seed: u64) -> Cast {
        Cast::of(seed, ClientsConfig::default().counts(64))
    }

    fn yesterday() -> Cast {
        let config = RecordConfig::default().clients;
        Cast::of(config.seed.unwrap(), config.counts(config.humans))
    }

    /// One for each client out there: not behind the NAT, not in-house.
    fn addresses(cast: &Cast) -> Vec<Ipv4Addr> {
        let people = cast.people.iter().map(|person| person.address);
        let apps = cast.apps.iter().map(|app| app.address);
        let tools = cast.services.iter().chain(&cast.bots).map(|tool| tool.address);
        people
            .chain(apps)
            .chain(tools)
            .filter(|address| is_out_there(*address))
            .collect()
    }

    fn is_out_there(address: Ipv4Addr) -> bool {
        address.octets()[1] == 10
    }

    fn network(address: Ipv4Addr) -> u8 {
        address.octets()[2]
    }

    /// Of one client: its address, whether it is alone in its network, whether somebody was there yesterday.
    type Facts = (Ipv4Addr, bool, bool);

    /// Clients of each network.
    fn networks(cast: &Cast) -> BTreeMap<u8, usize> {
        let mut networks = BTreeMap::new();
        for address in addresses(cast) {
            *networks.entry(network(address)).or_default() += 1;
        }
        networks
    }

    #[test]
    fn the_same_seed_casts_the_same_and_another_seed_does_not() {
        assert_eq!(cast(1), cast(1));
        assert_ne!(cast(1), cast(2));
    }

    #[test]
    fn six_bots_are_of_six_kinds_and_one_claims_to_be_a_search_engine() {
        for seed in 0..50 {
            let kinds: BTreeSet<_> = cast(seed)
                .bots
                .iter()
                .map(|bot| format!("{:?}", bot.kind))
                .collect();
            assert_eq!(kinds.len(), 6);
            assert!(kinds.contains("FakeCrawler"));
        }
    }

    #[test]
    fn most_networks_have_one_client_and_some_have_several() {
        let casts = (0..50).map(cast).chain([yesterday()]);
        for networks in casts.map(|cast| networks(&cast)) {
            let n_clients: usize = networks.values().sum();
            let n_single = networks.values().filter(|n| **n == 1).count();
            assert!(
                networks.len() * 2 > n_clients,
                "{} networks of {n_clients}",
                networks.len()
            );
            assert!(
                n_single * 3 > networks.len() * 2,
                "{n_single} of {}",
                networks.len()
            );
            assert!(networks.values().any(|n| *n >= 3), "{networks:?}");
        }
        let n_networks = networks(&yesterday()).len();
        assert!(n_networks >= 120, "{n_networks} networks in the recording");
        assert!(Town::new().others.len() >= 100);
    }

    #[test]
    fn no_address_and_no_network_tells_what_a_client_is() {
        let was_there: BTreeSet<_> = addresses(&yesterday()).into_iter().collect();
        let (mut people, mut bots, mut nat_bots) = (Vec::new(), Vec::new(), 0);
        for cast in (0..400).map(cast) {
            let networks = networks(&cast);
            let facts = |address: Ipv4Addr| {
                is_out_there(address).then(|| {
                    let is_alone = networks[&network(address)] == 1;
                    (address, is_alone, was_there.contains(&address))
                })
            };
            people.extend(cast.people.iter().filter_map(|person| facts(person.address)));
            bots.extend(cast.bots.iter().filter_map(|bot| facts(bot.address)));
            nat_bots += cast.bots.iter().filter(|bot| bot.address == NAT).count();
        }
        let of = |all: &[Facts]| -> BTreeSet<Ipv4Addr> { all.iter().map(|(address, ..)| *address).collect() };
        assert!(
            of(&bots).is_subset(&of(&people)),
            "every address of a bot was a person's under another seed"
        );
        assert!(nat_bots > 400, "{nat_bots} bots share the NAT with people");
        let share = |all: &[Facts], has: fn(&Facts) -> bool| {
            all.iter().filter(|facts| has(facts)).count() as f64 / all.len() as f64
        };
        for (what, has, tolerance) in [
            (
                "alone in its network",
                (|facts: &Facts| facts.1) as fn(&Facts) -> bool,
                0.05,
            ),
            // The bot with a browser is always new.
            ("there yesterday", |facts: &Facts| facts.2, 0.15),
        ] {
            let (people, bots) = (share(&people, has), share(&bots, has));
            assert!(
                (people - bots).abs() < tolerance,
                "{what}: {people} of people, {bots} of bots"
            );
        }
    }

    #[test]
    fn about_half_were_there_yesterday_and_are_where_they_were() {
        let then = yesterday();
        let people: BTreeSet<_> = then.people.iter().map(|person| person.address).collect();
        let (mut n_back, mut n_new) = (0, 0);
        for cast in (0..50).map(cast) {
            let came = cast.people.iter().filter(|person| is_out_there(person.address));
            for person in came {
                if people.contains(&person.address) {
                    n_back += 1;
                } else {
                    n_new += 1;
                }
            }
            for (now, then) in cast.services.iter().zip(&then.services) {
                let is_new = !addresses(&yesterday()).contains(&now.address);
                assert!(now.address == then.address || is_new, "{now:?} was {then:?}");
            }
        }
        let share = f64::from(n_back) / f64::from(n_back + n_new);
        assert!((0.45..0.55).contains(&share), "{share}");
    }

    #[test]
    fn nobody_shares_an_address_but_behind_the_nat() {
        for cast in (0..50).map(cast).chain([yesterday()]) {
            let all = addresses(&cast);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
    }

    #[test]
    fn what_comes_in_numbers_is_there_more_than_once_in_networks_of_its_own() {
        let mut networks: BTreeMap<String, BTreeSet<[u8; 2]>> = BTreeMap::new();
        for service in cast(1).services {
            let [_, a, b, _] = service.address.octets();
            networks
                .entry(format!("{:?}", service.kind))
                .or_default()
                .insert([a, b]);
        }
        let single: Vec<_> = networks
            .iter()
            .filter(|(_, networks)| networks.len() < 2)
            .collect();
        assert_eq!(single.len(), 1, "{single:?}");
        assert!(networks["Health"].len() == 1);
    }
}
