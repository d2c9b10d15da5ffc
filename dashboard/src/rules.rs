//! Rules for what stands in front: nginx map, nftables set, `HAProxy` map, `CrowdSec` commands, as text.
//!
//! Pure. Input: clients, whose addresses, JA4s and hosts come from the network and may hold anything. Output: text in which
//! every value is an address that was parsed and printed again, a host name of letters, digits, dots and dashes, or a JA4
//! of letters, digits and underscores. Whatever else a value is, it is left out and said so: nothing is escaped, so
//! nothing can be escaped wrongly.
#![warn(clippy::disallowed_methods, reason = "pure: times are arguments")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::api::types::{ClientKey, RulesFormat, RulesMatch, SkippedClient};

/// Longest host name (RFC 1035).
const MAX_HOST_BYTES: usize = 253;
/// Longest JA4: 10 + 1 + 12 + 1 + 12, and what a changed form may add.
const MAX_JA4_BYTES: usize = 64;
/// How long `CrowdSec` decisions hold.
const CROWDSEC_DURATION: &str = "24h";

/// Text of the rules, and what was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RulesText {
    pub(crate) text: String,
    pub(crate) filename: &'static str,
    pub(crate) usage: &'static str,
    /// What the rules match, each once, in order.
    pub(crate) matched: BTreeSet<Matched>,
    pub(crate) skipped: Vec<SkippedClient>,
}

/// What one rule matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Matched {
    Address(IpAddr),
    AddressHost(IpAddr, String),
    Ja4(String),
}

/// Makes the rules. `at` is when, RFC 3339, for the comment at the top.
///
/// # Errors
/// If the format cannot match that.
pub(crate) fn make(
    format: RulesFormat,
    by: RulesMatch,
    clients: &[ClientKey],
    at: &str,
) -> Result<RulesText, &'static str> {
    if by != RulesMatch::Address && matches!(format, RulesFormat::NftablesSet | RulesFormat::Crowdsec) {
        return Err("this format matches addresses only: choose match address, or nginx_map or haproxy_map");
    }
    let mut matched = BTreeSet::new();
    let mut skipped: BTreeMap<&ClientKey, &'static str> = BTreeMap::new();
    for client in clients {
        match match_of(by, client) {
            Ok(value) => {
                matched.insert(value);
            }
            Err(why) => {
                skipped.insert(client, why);
            }
        }
    }
    let n = matched.len();
    let mut text = String::new();
    // Writing to a String does not fail.
    let _written = writeln!(
        text,
        "# ja4-platform, {at}: {n} {}",
        if n == 1 { "rule" } else { "rules" }
    );
    let (filename, usage) = match format {
        RulesFormat::NginxMap => nginx(&mut text, by, &matched),
        RulesFormat::NftablesSet => nftables(&mut text, &matched),
        RulesFormat::HaproxyMap => haproxy(&mut text, by, &matched),
        RulesFormat::Crowdsec => crowdsec(&mut text, &matched),
    };
    Ok(RulesText {
        text,
        filename,
        usage,
        matched,
        skipped: skipped
            .into_iter()
            .map(|(client, why)| SkippedClient {
                client: client.clone(),
                why: why.to_owned(),
            })
            .collect(),
    })
}

fn match_of(by: RulesMatch, client: &ClientKey) -> Result<Matched, &'static str> {
    let address = || {
        client
            .src_ip
            .parse::<IpAddr>()
            .map(|ip| ip.to_canonical())
            .map_err(|_| "its address is none")
            .and_then(|ip| {
                if ip.is_unspecified() || ip.is_loopback() {
                    Err("a rule against this address would hit the machine itself")
                } else {
                    Ok(ip)
                }
            })
    };
    match by {
        RulesMatch::Address => address().map(Matched::Address),
        RulesMatch::AddressHost => {
            let host = host_name(&client.host).ok_or("its host is no host name: a rule cannot name it")?;
            Ok(Matched::AddressHost(address()?, host))
        }
        RulesMatch::Ja4 => {
            let fits = (1..=MAX_JA4_BYTES).contains(&client.ja4.len())
                && client
                    .ja4
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if fits {
                Ok(Matched::Ja4(client.ja4.clone()))
            } else if client.ja4.is_empty() {
                Err("it has no JA4")
            } else {
                Err("its JA4 is none: a rule cannot name it")
            }
        }
    }
}

/// The host without its port, in lower case, if it is a name or an address.
fn host_name(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let fits = (1..=MAX_HOST_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    fits.then(|| name.to_ascii_lowercase())
}

fn nginx(text: &mut String, by: RulesMatch, matched: &BTreeSet<Matched>) -> (&'static str, &'static str) {
    let (source, usage) = match by {
        RulesMatch::Address => (
            "$remote_addr",
            "put it into http { }, then in server { }: if ($ja4_platform_block) { return 403; }",
        ),
        RulesMatch::AddressHost => (
            "\"$remote_addr $host\"",
            "put it into http { }, then in server { }: if ($ja4_platform_block) { return 403; }",
        ),
        RulesMatch::Ja4 => (
            "$ssl_ja4",
            "put it into http { } of an nginx with a JA4 module that sets $ssl_ja4, then in server { }: if ($ja4_platform_block) { return 403; }",
        ),
    };
    let _written = writeln!(text, "map {source} $ja4_platform_block {{\n    default 0;");
    for value in matched {
        let _written = match value {
            Matched::Address(ip) => writeln!(text, "    \"{ip}\" 1;"),
            Matched::AddressHost(ip, host) => writeln!(text, "    \"{ip} {host}\" 1;"),
            Matched::Ja4(ja4) => writeln!(text, "    \"{ja4}\" 1;"),
        };
    }
    text.push_str("}\n");
    ("ja4-block.map.conf", usage)
}

fn nftables(text: &mut String, matched: &BTreeSet<Matched>) -> (&'static str, &'static str) {
    let addresses = |v4: bool| -> Vec<String> {
        matched
            .iter()
            .filter_map(|value| match value {
                Matched::Address(ip) if ip.is_ipv4() == v4 => Some(ip.to_string()),
                _ => None,
            })
            .collect()
    };
    text.push_str("table inet ja4_platform {\n");
    for (name, kind, addresses) in [
        ("block4", "ipv4_addr", addresses(true)),
        ("block6", "ipv6_addr", addresses(false)),
    ] {
        let _written = writeln!(text, "    set {name} {{\n        type {kind}");
        if !addresses.is_empty() {
            let _written = writeln!(
                text,
                "        elements = {{\n            {}\n        }}",
                addresses.join(",\n            ")
            );
        }
        text.push_str("    }\n");
    }
    text.push_str(
        "    chain input {\n        type filter hook input priority filter - 1; policy accept;\n        ip saddr @block4 drop\n        ip6 saddr @block6 drop\n    }\n}\n",
    );
    ("ja4-block.nft", "load it with: nft -f ja4-block.nft")
}

fn haproxy(text: &mut String, by: RulesMatch, matched: &BTreeSet<Matched>) -> (&'static str, &'static str) {
    for value in matched {
        let _written = match value {
            Matched::Address(ip) => writeln!(text, "{ip} 1"),
            Matched::AddressHost(ip, host) => writeln!(text, "{host}|{ip} 1"),
            Matched::Ja4(ja4) => writeln!(text, "{ja4} 1"),
        };
    }
    let usage = match by {
        RulesMatch::Address => {
            "in a frontend: http-request deny if { src,map_ip(/etc/haproxy/ja4-block.map,0) -m str 1 }"
        }
        RulesMatch::AddressHost => {
            "in a frontend: http-request set-var-fmt(txn.ja4_key) %[req.hdr(host),host_only,lower]|%[src], then http-request deny if { var(txn.ja4_key),map(/etc/haproxy/ja4-block.map,0) -m str 1 }"
        }
        RulesMatch::Ja4 => {
            "in a frontend that sets txn.ja4: http-request deny if { var(txn.ja4),map(/etc/haproxy/ja4-block.map,0) -m str 1 }"
        }
    };
    ("ja4-block.map", usage)
}

fn crowdsec(text: &mut String, matched: &BTreeSet<Matched>) -> (&'static str, &'static str) {
    for value in matched {
        if let Matched::Address(ip) = value {
            let _written = writeln!(
                text,
                "cscli decisions add --ip {ip} --duration {CROWDSEC_DURATION} --type ban --reason ja4-platform"
            );
        }
    }
    ("ja4-block.sh", "run it where CrowdSec's local API is")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(src_ip: &str, ja4: &str, host: &str) -> ClientKey {
        ClientKey {
            src_ip: src_ip.to_owned(),
            ja4: ja4.to_owned(),
            host: host.to_owned(),
        }
    }

    fn text(format: RulesFormat, by: RulesMatch, clients: &[ClientKey]) -> String {
        make(format, by, clients, "2026-05-01T00:00:00Z").unwrap().text
    }

    const JA4: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";

    #[test]
    fn addresses_are_written_as_each_program_reads_them() {
        let clients = [
            client("::ffff:192.0.2.7", JA4, "a.example"),
            client("2001:db8::1", "", "a.example:8443"),
            client("192.0.2.7", "", "b.example"),
        ];
        let by = RulesMatch::Address;
        assert_eq!(
            text(RulesFormat::NginxMap, by, &clients),
            "# ja4-platform, 2026-05-01T00:00:00Z: 2 rules\nmap $remote_addr $ja4_platform_block {\n    default 0;\n    \"192.0.2.7\" 1;\n    \"2001:db8::1\" 1;\n}\n"
        );
        assert_eq!(
            text(RulesFormat::HaproxyMap, by, &clients),
            "# ja4-platform, 2026-05-01T00:00:00Z: 2 rules\n192.0.2.7 1\n2001:db8::1 1\n"
        );
        let nft = text(RulesFormat::NftablesSet, by, &clients);
        assert!(
            nft.contains("type ipv4_addr\n        elements = {\n            192.0.2.7\n"),
            "{nft}"
        );
        assert!(
            nft.contains("type ipv6_addr\n        elements = {\n            2001:db8::1\n"),
            "{nft}"
        );
        assert!(!nft.contains("::ffff:"));
        let crowdsec = text(RulesFormat::Crowdsec, by, &clients);
        assert!(crowdsec.contains("--ip 192.0.2.7 --duration"), "{crowdsec}");
    }

    #[test]
    fn hosts_and_ja4s_can_be_matched_where_the_program_can() {
        let clients = [client("192.0.2.7", JA4, "A.example:8443")];
        assert!(
            text(RulesFormat::NginxMap, RulesMatch::AddressHost, &clients)
                .contains("\"192.0.2.7 a.example\" 1;")
        );
        assert!(
            text(RulesFormat::HaproxyMap, RulesMatch::AddressHost, &clients)
                .contains("a.example|192.0.2.7 1")
        );
        assert!(text(RulesFormat::NginxMap, RulesMatch::Ja4, &clients).contains(&format!("\"{JA4}\" 1;")));
        assert!(make(RulesFormat::Crowdsec, RulesMatch::Ja4, &clients, "").is_err());
        assert!(make(RulesFormat::NftablesSet, RulesMatch::AddressHost, &clients, "").is_err());
    }

    #[test]
    fn what_cannot_be_named_is_left_out_and_said() {
        let hostile = [
            client("192.0.2.7", "x\"; } evil {", "a\"; return 200; }"),
            client("192.0.2.8; reboot", "", "a.example\n192.0.2.9 1"),
            client("127.0.0.1", "", "$host"),
        ];
        for by in [RulesMatch::AddressHost, RulesMatch::Ja4] {
            let rules = make(RulesFormat::NginxMap, by, &hostile, "t").unwrap();
            assert_eq!((rules.matched.len(), rules.skipped.len()), (0, 3), "{rules:?}");
        }
        let rules = make(RulesFormat::Crowdsec, RulesMatch::Address, &hostile, "t").unwrap();
        assert_eq!((rules.matched.len(), rules.skipped.len()), (1, 2), "{rules:?}");
        assert!(!rules.text.contains("reboot"));
    }

    proptest! {
        #[test]
        fn prop_values_never_add_a_line_or_leave_their_place(
            ip in "\\PC{0,20}|192\\.0\\.2\\.[0-9]{1,2}",
            ja4 in "\\PC{0,30}|[a-z0-9_]{1,36}",
            host in "\\PC{0,30}|[a-z.-]{1,20}",
        ) {
            let clients = [client(&ip, &ja4, &host)];
            for format in [RulesFormat::NginxMap, RulesFormat::NftablesSet, RulesFormat::HaproxyMap, RulesFormat::Crowdsec] {
                for by in [RulesMatch::Address, RulesMatch::AddressHost, RulesMatch::Ja4] {
                    let Ok(rules) = make(format, by, &clients, "t") else { continue };
                    let none = make(format, by, &[], "t").unwrap();
                    let more = rules.text.lines().count() - none.text.lines().count();
                    let most = if format == RulesFormat::NftablesSet { 3 } else { 1 };
                    prop_assert!(more <= most, "{}", rules.text);
                    prop_assert!(rules.text.is_ascii());
                    prop_assert!(!rules.text.contains(['\'', '`', '\\', '\r', '\0']));
                    // Each format's signs are those of the frame, whatever the values.
                    for sign in [';', '{', '}', '$', '"', '#', '@', '&'] {
                        let n = rules.text.matches(sign).count();
                        let frame = none.text.matches(sign).count();
                        let of_rules = match (format, sign) {
                            (RulesFormat::NginxMap, ';') => more,
                            (RulesFormat::NginxMap, '"') => 2 * more,
                            (RulesFormat::NftablesSet, '{' | '}') => usize::from(more > 0),
                            _ => 0,
                        };
                        prop_assert_eq!(n, frame + of_rules, "{}", rules.text);
                    }
                }
            }
        }
    }
}
