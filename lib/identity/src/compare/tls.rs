//! JA4 against the claimed client: its own versions, another browser, a program, or nothing known.

use std::collections::BTreeSet;

use super::{Finding, Observation};
use crate::agent::{Claims, Engine, Kind};
use crate::catalogue::{Catalogue, Group, Shared};
use crate::weights;

/// Versions beyond the measured ones in which a JA4 may still be seen: Chromium and Firefox switch TLS features on for
/// some users first, over two or three versions.
const TOLERATED_VERSIONS: u32 = 300;

impl Catalogue {
    pub(super) fn tls(&self, seen: &Observation<'_>, claims: &Claims) -> Finding {
        if seen.ja4.is_empty() {
            return Finding::unknown("", "No TLS handshake of this client was seen.");
        }
        let Some(shared) = self.tls_of(seen.ja4, seen.ja4_norm) else {
            return match (claims.engine, claims.kind) {
                (Some(engine), kind) if kind != Kind::None => unknown_shape(seen, claims, engine),
                _ => not_catalogued(),
            };
        };
        match (claims.engine, claims.kind) {
            (_, Kind::None) => Finding::unknown(
                &shared.all.cite,
                format!(
                    "The client claims nothing; its JA4 is that of {}.",
                    shared.all.names
                ),
            ),
            (Some(engine), _) => self.tls_of_engine(seen, claims, engine, shared),
            (None, _) => self.tls_of_program(claims, &shared.all),
        }
    }

    fn tls_of_engine(
        &self,
        seen: &Observation<'_>,
        claims: &Claims,
        engine: Engine,
        shared: &Shared,
    ) -> Finding {
        if let Some(own) = shared.of_engine.get(&engine) {
            return self.tls_version(seen, claims, engine, own);
        }
        let weight = if shared.all.has_program {
            weights::JA4_OF_PROGRAM
        } else {
            weights::JA4_OF_OTHER_ENGINE
        };
        let why = format!(
            "It says {}, but its TLS is that of {}. A proxy that inspects TLS can cause this too.",
            claims.describe(),
            shared.all.names
        );
        Finding::contradicts(weight, &shared.all.cite, why)
    }

    /// The JA4 is the engine's: is it that of the claimed version?
    fn tls_version(&self, seen: &Observation<'_>, claims: &Claims, engine: Engine, own: &Group) -> Finding {
        let agrees = |words: &str| Finding::agrees(&own.cite, format!("{words} ({}).", own.names));
        let versions = || {
            own.ids
                .iter()
                .filter_map(|id| self.lines[*id].claims.engine_version)
        };
        let (Some(claimed), Some(low), Some(high)) =
            (claims.engine_version, versions().min(), versions().max())
        else {
            return agrees("The JA4 is one of the claimed engine");
        };
        if (low..=high).contains(&claimed) {
            return agrees("The JA4 is that of the claimed browser");
        }
        // Versions between this JA4's and the claimed one were measured with another JA4 only, and the distance is more
        // than a feature's roll-out.
        let is_other = |norms: &BTreeSet<&str>| !norms.contains(seen.ja4_norm) && !norms.contains(seen.ja4);
        let (between, distance) = if claimed < low {
            (claimed..=low, low - claimed)
        } else {
            (high..=claimed, claimed - high)
        };
        let is_between = self
            .versions
            .get(&engine)
            .is_some_and(|versions| versions.range(between).any(|(_, norms)| is_other(norms)));
        let tolerated = if engine == Engine::WebKit {
            0
        } else {
            TOLERATED_VERSIONS
        };
        if is_between && distance > tolerated {
            let why = format!(
                "It says {}, but this JA4 is that of {}; versions near the claimed one send another. Policies that switch parts \
                 of TLS off can cause this too.",
                claims.describe(),
                own.names
            );
            return Finding::contradicts(weights::JA4_OF_OTHER_VERSION, &own.cite, why);
        }
        agrees("The JA4 is that of versions near the claimed one")
    }

    fn tls_of_program(&self, claims: &Claims, all: &Group) -> Finding {
        if let Some(own) = self.own_line(claims, all) {
            return Finding::agrees(&own.cite(), "The JA4 is one that this client sends.");
        }
        if claims.kind == Kind::Library && !all.has_program {
            let why = format!(
                "It says {}, but its TLS is that of {}.",
                claims.describe(),
                all.names
            );
            return Finding::contradicts(weights::JA4_OF_BROWSER, &all.cite, why);
        }
        Finding::unknown(
            &all.cite,
            format!(
                "The JA4 is that of {}; what {} sends is not in the catalogue.",
                all.names,
                claims.describe()
            ),
        )
    }
}

fn not_catalogued() -> Finding {
    Finding::unknown(
        "",
        "The JA4 is not in the catalogue; that is no evidence either way.",
    )
}

/// A JA4 that is not in the catalogue is no evidence, unless it lacks what every version of the engine in the catalogue has.
fn unknown_shape(seen: &Observation<'_>, claims: &Claims, engine: Engine) -> Finding {
    // The first versions with TLS 1.3 switched on for everybody; ALPN is older.
    let oldest = match engine {
        Engine::Chromium => 7000,
        Engine::Gecko => 6300,
        Engine::WebKit => 1300,
    };
    if claims.embeds_engine || claims.engine_version.is_none_or(|version| version < oldest) {
        return not_catalogued();
    }
    let is_websocket = seen.header_orders.iter().any(|order| {
        order
            .split(',')
            .any(|name| name.eq_ignore_ascii_case("sec-websocket-key"))
    });
    let missing = match (seen.ja4.get(1..3), seen.ja4.get(8..10)) {
        (Some("12" | "11" | "10" | "s3"), _) => "does not offer TLS 1.3",
        (_, Some("00")) => "offers no ALPN",
        (_, Some("h1")) if !is_websocket => "does not offer HTTP/2",
        _ => return not_catalogued(),
    };
    let why = format!(
        "It says {}, but its TLS {missing}, which every version of {} near it does. A proxy that inspects TLS can cause this too.",
        claims.describe(),
        engine.name()
    );
    Finding::contradicts(weights::JA4_SHAPE, "", why)
}
