//! HTTP/2 settings, window and pseudo-headers against the claimed client.

use super::{Finding, Observation};
use crate::agent::{Claims, Engine, Kind};
use crate::catalogue::{Catalogue, Group};
use crate::weights;

/// Longest fingerprint that is looked up; the longest of the catalogue has under 200 bytes.
const MAX_FP_BYTES: usize = 1024;

impl Catalogue {
    pub(super) fn http2(&self, seen: &Observation<'_>, claims: &Claims) -> Finding {
        if seen.h2_fp.is_empty() || seen.h2_fp.len() > MAX_FP_BYTES {
            return Finding::unknown("", "No HTTP/2 settings of this client were seen.");
        }
        let shared = self.by_h2.get(seen.h2_fp);
        match (shared, claims.engine, claims.kind) {
            (None, _, Kind::None) => Finding::unknown("", "The client claims nothing."),
            (Some(shared), _, Kind::None) => Finding::unknown(
                &shared.all.cite,
                format!(
                    "The client claims nothing; its HTTP/2 is that of {}.",
                    shared.all.names
                ),
            ),
            (None, Some(engine), _) => self.unknown_settings(seen.h2_fp, claims, engine),
            (Some(shared), Some(engine), _) => match shared.of_engine.get(&engine) {
                Some(own) => Finding::agrees(
                    &own.cite,
                    format!("Settings and pseudo-headers are those of {}.", own.names),
                ),
                None => of_other(claims, &shared.all),
            },
            (None, None, _) => Finding::unknown("", "These settings are not in the catalogue."),
            (Some(shared), None, _) => self.http2_of_program(claims, &shared.all),
        }
    }

    fn unknown_settings(&self, h2_fp: &str, claims: &Claims, engine: Engine) -> Finding {
        let pseudo = h2_fp.rsplit('|').next().unwrap_or_default();
        let orders = self.pseudo_orders.get(&engine);
        if pseudo.is_empty() || orders.is_some_and(|orders| orders.contains(pseudo)) {
            return Finding::unknown(
                "",
                "These settings are not in the catalogue; the order of pseudo-headers fits the claimed browser.",
            );
        }
        let why = format!(
            "It says {}, but its pseudo-headers come in an order that {} never uses. A proxy that inspects TLS can cause this too.",
            claims.describe(),
            engine.name()
        );
        Finding::contradicts(weights::HTTP2_PSEUDO_ORDER, "", why)
    }

    fn http2_of_program(&self, claims: &Claims, all: &Group) -> Finding {
        if let Some(own) = self.own_line(claims, all) {
            return Finding::agrees(
                &own.cite(),
                "The HTTP/2 settings are those that this client sends.",
            );
        }
        Finding::unknown(
            &all.cite,
            format!(
                "The settings are those of {}; what {} sends is not in the catalogue.",
                all.names,
                claims.describe()
            ),
        )
    }
}

fn of_other(claims: &Claims, all: &Group) -> Finding {
    let why = format!(
        "It says {}, but its HTTP/2 is that of {}. A proxy that inspects TLS can cause this too.",
        claims.describe(),
        all.names
    );
    Finding::contradicts(weights::HTTP2_OF_OTHER, &all.cite, why)
}
