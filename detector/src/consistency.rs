//! The consistency voice: what a client declares against what it shows. Needs no population, so it speaks from the first request.

use std::collections::HashMap;
use std::sync::Arc;

use ja4_identity::{Catalogue, Dimension, Kind, Observation, Tcp, Verdict};
use ja4_reasons::{Reason, voice};

use crate::features::ClientRow;
use crate::segments::Declared;

/// Most answers that are remembered: a site sees a few thousand different combinations, a flood of them costs time only.
const MAX_REMEMBERED: usize = 32_768;

/// A contradiction that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Contradiction {
    /// Dimension, as in reasons: `user_agent`, `ja4`, `header_order`, `http2`, `tcp`, `address`.
    pub dimension: &'static str,
    /// What the client says.
    pub declared: String,
    /// What it shows.
    pub observed: String,
    /// Line of the catalogue.
    pub source: String,
    /// Bits of evidence.
    pub bits: f32,
}

/// What consistency says of a client, where it says anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Finding {
    /// All contradictions, strongest first.
    pub contradictions: Vec<Contradiction>,
    /// Bits together.
    pub bits: f32,
    /// Its crawler's operator publishes its address: it is what it says.
    pub is_verified_crawler: bool,
}

impl Finding {
    /// As reasons.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        let total: f32 = self.contradictions.iter().map(|c| c.bits).sum();
        // The catalogue caps what single contradictions add up to.
        let scale = if total > 0.0 { self.bits / total } else { 0.0 };
        self.contradictions.iter().map(move |c| Reason {
            declared: c.declared.clone(),
            observed: c.observed.clone(),
            source: c.source.clone(),
            ..Reason::of_feature(voice::CONSISTENCY, c.dimension, c.bits * scale)
        })
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// What it says that it is.
    pub declared: Declared,
    /// None when nothing speaks for or against it.
    pub finding: Option<Arc<Finding>>,
}

/// Compares rows with the catalogue; equal rows are compared once.
#[derive(Debug, Default)]
pub struct Consistency {
    remembered: HashMap<u64, Observed, ahash::RandomState>,
    hasher: ahash::RandomState,
}

impl Consistency {
    /// Compares one row.
    pub fn compare(&mut self, row: &ClientRow<'_>) -> Observed {
        let key = self.hasher.hash_one((
            (
                &row.user_agents,
                &row.header_orders,
                &row.http_versions,
                &row.navigation_order,
            ),
            (
                &row.ja4,
                &row.ja4_norm,
                &row.alpn,
                &row.tls_version,
                &row.h2_fp,
                &row.tcp_options,
            ),
            (row.header_flags_or, row.header_flags_and),
            [
                row.raw.one_ttl,
                row.raw.one_window,
                row.raw.one_mss,
                row.raw.one_wscale,
            ]
            .map(f32::to_bits),
        ));
        if let Some(known) = self.remembered.get(&key) {
            return known.clone();
        }
        let (observed, depends_on_address) = compare(row);
        if !depends_on_address {
            if self.remembered.len() >= MAX_REMEMBERED {
                self.remembered.clear();
            }
            self.remembered.insert(key, observed.clone());
        }
        observed
    }
}

fn compare(row: &ClientRow<'_>) -> (Observed, bool) {
    let agents: Vec<&str> = row
        .user_agents
        .iter()
        .map(AsRef::as_ref)
        .filter(|agent| !agent.is_empty())
        .collect();
    let mut orders: Vec<&str> = Vec::with_capacity(row.header_orders.len() + 1);
    for order in std::iter::once(&row.navigation_order).chain(&row.header_orders) {
        if !order.is_empty() && !orders.contains(&order.as_ref()) {
            orders.push(order);
        }
    }
    let versions: Vec<&str> = row.http_versions.iter().map(AsRef::as_ref).collect();
    let raw = &row.raw;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they were integers of this width"
    )]
    let tcp = (raw.one_ttl > 0.0 && raw.n_wire > 0.0).then(|| Tcp {
        ttl: raw.one_ttl as u8,
        window: raw.one_window as u16,
        mss: raw.one_mss as u16,
        wscale: raw.one_wscale as u8,
        options: &row.tcp_options,
    });
    let matrix = Catalogue::embedded().compare(&Observation {
        user_agents: &agents,
        ja4: &row.ja4,
        ja4_norm: &row.ja4_norm,
        alpn: &row.alpn,
        tls_version: &row.tls_version,
        header_orders: &orders,
        header_flags_or: row.header_flags_or,
        header_flags_and: row.header_flags_and,
        h2_fp: &row.h2_fp,
        http_versions: &versions,
        tcp,
        address: std::net::Ipv6Addr::from(row.src_ip).to_canonical(),
    });
    let declared = match matrix.claims.kind {
        Kind::Browser => Declared::Browser,
        Kind::Crawler => Declared::Crawler,
        Kind::Library | Kind::App | Kind::None => Declared::Other,
    };
    let bits = matrix.bits();
    let is_verified_crawler = declared == Declared::Crawler
        && matrix
            .cell(Dimension::Address)
            .is_some_and(|cell| cell.verdict == Verdict::Agrees);
    let mut contradictions: Vec<Contradiction> = matrix
        .cells
        .into_iter()
        .filter(|cell| cell.bits > 0.0)
        .map(|cell| Contradiction {
            dimension: cell.dimension.name(),
            declared: cell.declared,
            observed: format!("{} — {}", cell.observed, cell.why),
            source: cell.source,
            bits: cell.bits,
        })
        .collect();
    contradictions.sort_by(|a, b| b.bits.total_cmp(&a.bits));
    let finding = (bits > 0.0 || is_verified_crawler).then(|| {
        Arc::new(Finding {
            contradictions,
            bits,
            is_verified_crawler,
        })
    });
    (Observed { declared, finding }, declared == Declared::Crawler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Raw;

    fn googlebot(address: &str) -> ClientRow<'static> {
        ClientRow {
            src_ip: address
                .parse::<std::net::Ipv4Addr>()
                .unwrap()
                .to_ipv6_mapped()
                .octets(),
            user_agents: vec![
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)".into(),
            ],
            raw: Raw {
                requests: 1.0,
                ..Raw::default()
            },
            ..ClientRow::default()
        }
    }

    #[test]
    fn a_crawler_from_elsewhere_is_found_and_the_memory_does_not_mix_addresses() {
        let mut consistency = Consistency::default();
        let real = consistency.compare(&googlebot("66.249.66.1"));
        let fake = consistency.compare(&googlebot("203.0.113.9"));
        assert_eq!(
            (real.declared, fake.declared),
            (Declared::Crawler, Declared::Crawler)
        );
        assert!(real.finding.unwrap().is_verified_crawler);
        let fake = fake.finding.unwrap();
        assert!(!fake.is_verified_crawler && fake.bits >= 10.0, "{fake:?}");
        let reasons: Vec<Reason> = fake.reasons().collect();
        let total: f32 = reasons.iter().map(|reason| reason.contribution).sum();
        assert!((total - fake.bits).abs() < 1e-4);
        assert_eq!(reasons[0].feature, "address");
    }

    #[test]
    fn hostile_texts_do_no_harm() {
        let mut consistency = Consistency::default();
        let long = "\u{202e}<script>\0\r\n=cmd()".repeat(4000);
        let row = ClientRow {
            user_agents: vec![long.clone().into(); 4],
            header_orders: vec![long.clone().into(); 4],
            ja4: long.clone().into(),
            h2_fp: long.clone().into(),
            tcp_options: long.into(),
            raw: Raw {
                one_ttl: 64.0,
                n_wire: 1.0,
                ..Raw::default()
            },
            ..ClientRow::default()
        };
        let observed = consistency.compare(&row);
        for contradiction in observed
            .finding
            .iter()
            .flat_map(|finding| &finding.contradictions)
        {
            assert!(contradiction.observed.len() < 4096 && contradiction.declared.len() < 4096);
        }
    }
}
