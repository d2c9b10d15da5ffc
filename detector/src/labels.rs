//! What analysts said of clients, and the lists: what it changes in the next cycle. Pure.

use std::collections::HashMap;

use ja4_reasons::{Reason, voice};

/// What a label or a list entry makes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Scored, never flagged; it belongs to what is normal.
    Suppress,
    /// Flagged whatever its score.
    Flag,
    /// Noted only.
    Note,
}

/// A verdict that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it makes of the client.
    pub effect: Effect,
    /// `bot`, `legitimate`, `verified_crawler`, `unsure`, or `allow`, `deny`, `watch` of a list.
    pub label: String,
    /// Who set it, when, and what they noted.
    pub by: String,
}

impl Verdict {
    /// As a reason without bits.
    pub fn reason(&self) -> Reason {
        Reason {
            declared: self.label.clone(),
            observed: self.by.clone(),
            ..Reason::of_feature(voice::LABEL, "label", 0.0)
        }
    }
}

/// Names of a client, as labels and lists know it.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Address, IPv4 as `::ffff:a.b.c.d`.
    pub src_ip: [u8; 16],
    /// JA4, empty without.
    pub ja4: &'a str,
    /// Host.
    pub host: &'a str,
    /// One of its User-Agents.
    pub user_agent: &'a str,
}

/// All that hold now.
#[derive(Debug, Default)]
pub struct Verdicts {
    clients: HashMap<([u8; 16], String, String), Verdict, ahash::RandomState>,
    lists: HashMap<(String, String), Verdict, ahash::RandomState>,
    prefixes: Vec<([u8; 16], u8, Verdict)>,
    /// Version of the newest label, microseconds since the epoch; 0 for none.
    pub newest_label: u64,
}

impl Verdicts {
    /// Adds the label of one client.
    pub fn add_label(&mut self, who: ([u8; 16], String, String), label: &str, by: String, version: u64) {
        self.newest_label = self.newest_label.max(version);
        let effect = match label {
            "bot" => Effect::Flag,
            "legitimate" | "verified_crawler" => Effect::Suppress,
            _ => Effect::Note,
        };
        let label = label.to_owned();
        self.clients.insert(who, Verdict { effect, label, by });
    }

    /// Adds an entry of a list; kinds that name no client (or cannot be read) are ignored and counted by the caller.
    ///
    /// # Errors
    /// A value that its kind cannot have.
    pub fn add_entry(&mut self, kind: &str, value: &str, action: &str, by: String) -> Result<(), String> {
        let effect = match action {
            "deny" => Effect::Flag,
            "allow" => Effect::Suppress,
            _ => Effect::Note,
        };
        let verdict = Verdict {
            effect,
            label: action.to_owned(),
            by,
        };
        match kind {
            "ip" | "prefix" => {
                let (address, bits) = parse_prefix(value)
                    .ok_or_else(|| format!("{kind} {value:?} is no address or network"))?;
                self.prefixes.push((address, bits, verdict));
                // The narrowest network decides.
                self.prefixes.sort_by_key(|(_, bits, _)| std::cmp::Reverse(*bits));
            }
            "ja4" | "host" | "user_agent" => {
                self.lists.insert((kind.to_owned(), value.to_owned()), verdict);
            }
            other => return Err(format!("lists of {other:?} are not looked at")),
        }
        Ok(())
    }

    /// The verdict on a client: its own label first, then address, JA4, User-Agent, host.
    pub fn of(&self, who: &Who<'_>) -> Option<&Verdict> {
        if !self.clients.is_empty() {
            let own = self
                .clients
                .get(&(who.src_ip, who.ja4.to_owned(), who.host.to_owned()));
            if own.is_some() {
                return own;
            }
        }
        if let Some((_, _, verdict)) = self
            .prefixes
            .iter()
            .find(|(address, bits, _)| same_prefix(address, &who.src_ip, *bits))
        {
            return Some(verdict);
        }
        if self.lists.is_empty() {
            return None;
        }
        [
            ("ja4", who.ja4),
            ("user_agent", who.user_agent),
            ("host", who.host),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .find_map(|(kind, value)| self.lists.get(&(kind.to_owned(), value.to_owned())))
    }
}

/// An address or network; IPv4 as its mapped form, with 96 bits more.
fn parse_prefix(text: &str) -> Option<([u8; 16], u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let (octets, full, offset) = match address.parse::<std::net::IpAddr>().ok()? {
        std::net::IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), 32, 96),
        std::net::IpAddr::V6(v6) => (v6.octets(), 128, 0),
    };
    let bits = bits.unwrap_or(full);
    (bits <= full).then_some((octets, bits + offset))
}

fn same_prefix(a: &[u8; 16], b: &[u8; 16], bits: u8) -> bool {
    let shift = 128 - u32::from(bits);
    let cut = |address: &[u8; 16]| u128::from_be_bytes(*address).checked_shr(shift).unwrap_or(0);
    cut(a) == cut(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> [u8; 16] {
        text.parse::<std::net::Ipv4Addr>()
            .unwrap()
            .to_ipv6_mapped()
            .octets()
    }

    fn who(address: &str) -> Who<'static> {
        Who {
            src_ip: v4(address),
            ja4: "t13",
            host: "h",
            user_agent: "curl/8",
        }
    }

    #[test]
    fn a_client_s_own_label_stands_before_every_list() {
        let mut verdicts = Verdicts::default();
        verdicts
            .add_entry("prefix", "203.0.113.0/24", "deny", "by bob".into())
            .unwrap();
        verdicts.add_label(
            (v4("203.0.113.9"), "t13".into(), "h".into()),
            "legitimate",
            "by alice".into(),
            7,
        );
        assert_eq!(verdicts.of(&who("203.0.113.9")).unwrap().effect, Effect::Suppress);
        assert_eq!(verdicts.of(&who("203.0.113.8")).unwrap().effect, Effect::Flag);
        assert_eq!(verdicts.of(&who("203.0.114.8")), None);
        assert_eq!(verdicts.newest_label, 7);
    }

    #[test]
    fn the_narrowest_network_decides() {
        let mut verdicts = Verdicts::default();
        verdicts
            .add_entry("prefix", "10.0.0.0/8", "deny", String::new())
            .unwrap();
        verdicts
            .add_entry("ip", "10.1.2.3", "allow", String::new())
            .unwrap();
        assert_eq!(verdicts.of(&who("10.1.2.3")).unwrap().effect, Effect::Suppress);
        assert_eq!(verdicts.of(&who("10.1.2.4")).unwrap().effect, Effect::Flag);
    }

    #[test]
    fn lists_of_fingerprints_and_agents_are_looked_at() {
        let mut verdicts = Verdicts::default();
        verdicts
            .add_entry("user_agent", "curl/8", "watch", String::new())
            .unwrap();
        assert_eq!(verdicts.of(&who("10.1.2.3")).unwrap().effect, Effect::Note);
        verdicts.add_entry("ja4", "t13", "deny", String::new()).unwrap();
        assert_eq!(verdicts.of(&who("10.1.2.3")).unwrap().effect, Effect::Flag);
    }

    #[test]
    fn nonsense_in_a_list_is_an_error_and_no_panic() {
        let mut verdicts = Verdicts::default();
        for (kind, value) in [
            ("ip", "x"),
            ("prefix", "10.0.0.0/99"),
            ("prefix", "10.0.0.0/"),
            ("color", "red"),
        ] {
            assert!(
                verdicts.add_entry(kind, value, "deny", String::new()).is_err(),
                "{kind} {value}"
            );
        }
        verdicts
            .add_entry("prefix", "::/0", "watch", String::new())
            .unwrap();
        assert!(verdicts.of(&who("10.1.2.3")).is_some());
    }
}
