//! The alert budget: a ceiling of new incidents a day, never a quota; and incidents, which hold alerts together. Pure.
//!
//! An incident is the alerts of one client or group until it was quiet for a day. Alerts of an open incident are free; a new
//! one must fit under the ceiling. What does not fit stays flagged and is counted as suppressed.

use std::collections::{BTreeMap, BTreeSet};

/// A day, microseconds: the quiet that ends an incident, and the span of the budget.
pub const DAY_US: i64 = 86_400_000_000;

/// What holds alerts together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `client`, `prefix`, `ja4_norm`, `header_order` or `host`.
    pub kind: String,
    /// The client as `address ja4 host`, or the group's value.
    pub value: String,
}

/// An incident as far as the budget cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// First alert, microseconds since the epoch.
    pub opened_us: i64,
    /// Last alert.
    pub last_us: i64,
}

/// A flagged client that asks for an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    /// Its own key first, then those of groups that it was flagged with.
    pub keys: Vec<Key>,
    /// Groups that it is in: it joins their open incidents and opens none for them.
    pub joins: Vec<Key>,
    /// Its evidence, bits.
    pub bits: f32,
}

/// What the budget says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Joins the open incident of this key.
    Joins(Key),
    /// Opens an incident with this key.
    Opens(Key),
    /// Flagged, without an alert.
    Suppressed,
}

/// The outcome of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// One for each that asked, in their order.
    pub decisions: Vec<Decision>,
    /// New incidents of the last 24 hours, this cycle included.
    pub used: u32,
    /// How many were suppressed.
    pub suppressed: u64,
}

/// Decides, strongest evidence first. `known` are the incidents by key, at most one open for each.
pub fn decide(asking: &[Asking], known: &BTreeMap<Key, Known>, ceiling: u32, now_us: i64) -> Outcome {
    let mut open: BTreeSet<Key> = known
        .iter()
        .filter(|(_, incident)| now_us - incident.last_us < DAY_US)
        .map(|(key, _)| key.clone())
        .collect();
    let recent = known
        .values()
        .filter(|incident| now_us - incident.opened_us < DAY_US)
        .count();
    let mut outcome = Outcome {
        decisions: vec![Decision::Suppressed; asking.len()],
        used: u32::try_from(recent).unwrap_or(u32::MAX),
        suppressed: 0,
    };
    let mut order: Vec<usize> = (0..asking.len()).collect();
    order.sort_by(|&a, &b| {
        asking[b]
            .bits
            .total_cmp(&asking[a].bits)
            .then_with(|| asking[a].keys.cmp(&asking[b].keys))
    });
    for idx in order {
        let Asking { keys, joins, .. } = &asking[idx];
        if let Some(key) = keys.iter().chain(joins).find(|key| open.contains(*key)) {
            outcome.decisions[idx] = Decision::Joins(key.clone());
            continue;
        }
        // A group before the client: one incident for a campaign.
        match keys.last() {
            Some(key) if outcome.used < ceiling => {
                open.insert(key.clone());
                outcome.used += 1;
                outcome.decisions[idx] = Decision::Opens(key.clone());
            }
            _ => outcome.suppressed += 1,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    fn key(kind: &str, value: &str) -> Key {
        Key {
            kind: kind.to_owned(),
            value: value.to_owned(),
        }
    }

    fn client(name: &str, bits: f32) -> Asking {
        Asking {
            keys: vec![key("client", name)],
            joins: Vec::new(),
            bits,
        }
    }

    fn opened(names: &[&str], opened_us: i64, last_us: i64) -> BTreeMap<Key, Known> {
        names
            .iter()
            .map(|name| (key("client", name), Known { opened_us, last_us }))
            .collect()
    }

    #[test]
    fn the_ceiling_holds_and_the_strongest_come_first() {
        let asking = [client("a", 11.0), client("b", 30.0), client("c", 20.0)];
        let outcome = decide(&asking, &BTreeMap::new(), 2, 0);
        assert_eq!(outcome.decisions[0], Decision::Suppressed);
        assert!(
            matches!(outcome.decisions[1], Decision::Opens(_))
                && matches!(outcome.decisions[2], Decision::Opens(_))
        );
        assert_eq!((outcome.used, outcome.suppressed), (2, 1));
    }

    #[test]
    fn a_budget_is_no_quota() {
        let outcome = decide(&[], &BTreeMap::new(), 20, 0);
        assert_eq!((outcome.used, outcome.decisions.len()), (0, 0));
    }

    #[test]
    fn alerts_of_an_open_incident_are_free() {
        let known = opened(&["a", "b"], 0, HOUR_US);
        let outcome = decide(&[client("a", 11.0), client("c", 40.0)], &known, 2, 2 * HOUR_US);
        assert_eq!(
            outcome.decisions,
            [Decision::Joins(key("client", "a")), Decision::Suppressed]
        );
    }

    #[test]
    fn a_quiet_day_ends_an_incident_and_frees_the_budget() {
        let known = opened(&["a"], 0, HOUR_US);
        let still = decide(&[client("a", 11.0)], &known, 1, HOUR_US + DAY_US - 1);
        assert_eq!(still.decisions, [Decision::Joins(key("client", "a"))]);
        let over = decide(&[client("a", 11.0)], &known, 1, HOUR_US + DAY_US);
        assert_eq!(over.decisions, [Decision::Opens(key("client", "a"))]);
        assert_eq!(over.used, 1);
    }

    #[test]
    fn one_of_a_campaign_alone_joins_its_incident_and_opens_none_for_it() {
        let network = key("prefix", "203.0.113.0/24");
        let alone = Asking {
            joins: vec![network.clone()],
            ..client("a", 12.0)
        };
        let known = BTreeMap::from([(
            network.clone(),
            Known {
                opened_us: 0,
                last_us: HOUR_US,
            },
        )]);
        let outcome = decide(std::slice::from_ref(&alone), &known, 5, 2 * HOUR_US);
        assert_eq!(outcome.decisions, [Decision::Joins(network)]);
        let outcome = decide(&[alone], &BTreeMap::new(), 5, 2 * HOUR_US);
        assert_eq!(outcome.decisions, [Decision::Opens(key("client", "a"))]);
    }

    #[test]
    fn a_campaign_is_one_incident() {
        let member = |name: &str, bits| Asking {
            keys: vec![key("client", name), key("prefix", "203.0.113.0/24")],
            joins: Vec::new(),
            bits,
        };
        let outcome = decide(
            &[member("a", 12.0), member("b", 14.0), member("c", 13.0)],
            &BTreeMap::new(),
            1,
            0,
        );
        let opens = outcome
            .decisions
            .iter()
            .filter(|d| matches!(d, Decision::Opens(_)))
            .count();
        assert_eq!((opens, outcome.used, outcome.suppressed), (1, 1, 0));
    }
}
