//! Reasons, voices and identities from the store's form into the answer's.

use std::collections::BTreeMap;

use ja4_identity::Catalogue;
use ja4_reasons::Place;

use crate::api::types::{ClientVerdict, ModelState, Reason, Voice, Waterfall, WaterfallStep};
use crate::store::rows::{ReasonRow, VoiceRow};

/// Most programs named for one JA4: some are sent by dozens.
const MAX_NAMES: usize = 6;

/// A reason with its sentence. `model` and `host` are what it compares with.
pub(crate) fn reason(row: &ReasonRow, model: &str, host: &str) -> Reason {
    #[expect(clippy::cast_possible_truncation, reason = "stored as Float32")]
    let structured = ja4_reasons::Reason {
        voice: row.voice.clone(),
        feature: row.feature.clone(),
        value: row.value.unwrap_or(f64::NAN),
        median: row.median.unwrap_or(f64::NAN),
        percentile: row.percentile.unwrap_or(f64::NAN) as f32,
        contribution: row.contribution as f32,
        declared: row.declared.clone(),
        observed: row.observed.clone(),
        source: row.source.clone(),
    };
    Reason {
        voice: row.voice.clone(),
        feature: row.feature.clone(),
        text: ja4_reasons::sentence(&structured, &Place::of_model(model, host)),
        value: row.value,
        median: row.median,
        percentile: row.percentile,
        contribution: finite(row.contribution),
        declared: row.declared.clone(),
        observed: row.observed.clone(),
        source: row.source.clone(),
    }
}

/// All of them, in their order.
pub(crate) fn reasons(rows: &[ReasonRow], model: &str, host: &str) -> Vec<Reason> {
    rows.iter().map(|row| reason(row, model, host)).collect()
}

/// Voices.
pub(crate) fn voices(rows: &[VoiceRow]) -> Vec<Voice> {
    rows.iter()
        .map(|row| Voice {
            voice: row.voice.clone(),
            raw: row.raw,
            p_value: row.p_value,
            contribution: finite(row.contribution),
        })
        .collect()
}

/// JSON has no NaN; a number that is none is nothing.
pub(crate) fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}

/// Steps that add up to the evidence. What the rows leave out is a step of its own, so that the sum is right.
pub(crate) fn waterfall(model: &str, reasons: &[Reason], evidence: f64) -> Waterfall {
    let mut steps: Vec<WaterfallStep> = Vec::with_capacity(reasons.len() + 1);
    let mut sum = 0.0;
    let mut push = |voice: &str, feature: &str, text: &str, bits: f64| {
        sum += bits;
        steps.push(WaterfallStep {
            voice: voice.to_owned(),
            feature: feature.to_owned(),
            text: text.to_owned(),
            bits,
            sum,
        });
        sum
    };
    let (rest, listed): (Vec<&Reason>, Vec<&Reason>) = reasons
        .iter()
        .partition(|reason| reason.feature == ja4_reasons::REST);
    let mut total = 0.0;
    for reason in listed.into_iter().chain(rest) {
        total = push(&reason.voice, &reason.feature, &reason.text, reason.contribution);
    }
    // Numbers are stored with seven digits.
    if (evidence - total).abs() > 0.01 {
        push(
            "",
            ja4_reasons::REST,
            "smaller signs that are not listed",
            evidence - total,
        );
    }
    Waterfall {
        model_name: model.to_owned(),
        steps,
        total: evidence,
    }
}

/// What the store says of a score.
pub(crate) fn verdict(text: &str) -> ClientVerdict {
    match text {
        "alert" => ClientVerdict::Alert,
        "flagged" => ClientVerdict::Flagged,
        _ => ClientVerdict::Normal,
    }
}

/// The stronger one.
pub(crate) fn stronger(a: ClientVerdict, b: ClientVerdict) -> ClientVerdict {
    let rank = |verdict| match verdict {
        ClientVerdict::Unscored => 0,
        ClientVerdict::Normal => 1,
        ClientVerdict::Flagged => 2,
        ClientVerdict::Alert => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// What the store says of a model.
pub(crate) fn model_state(text: &str) -> Option<ModelState> {
    match text {
        "learning" => Some(ModelState::Learning),
        "provisional" => Some(ModelState::Provisional),
        "armed" => Some(ModelState::Armed),
        _ => None,
    }
}

/// Programs that are known to send this JA4, each once with its versions.
pub(crate) fn identity(ja4: &str) -> Vec<String> {
    if ja4.is_empty() {
        return Vec::new();
    }
    let mut order: Vec<&str> = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in Catalogue::embedded().ja4_names(ja4) {
        let known = versions.entry(line.client).or_insert_with(|| {
            order.push(line.client);
            Vec::new()
        });
        if !line.version.is_empty() && !known.contains(&line.version) {
            known.push(line.version);
        }
    }
    let n = order.len();
    let mut names: Vec<String> = order
        .into_iter()
        .take(MAX_NAMES)
        .map(|client| {
            let known = versions.get(client).map_or(&[][..], Vec::as_slice);
            match known {
                [] => client.to_owned(),
                known if known.len() > 4 => {
                    format!("{client} {}, … {}", known[..2].join(", "), known[known.len() - 1])
                }
                known => format!("{client} {}", known.join(", ")),
            }
        })
        .collect();
    if n > MAX_NAMES {
        names.push(format!("and {} more", n - MAX_NAMES));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(feature: &str, contribution: f64) -> ReasonRow {
        ReasonRow {
            voice: "forest".to_owned(),
            feature: feature.to_owned(),
            value: None,
            median: None,
            percentile: None,
            contribution,
            declared: String::new(),
            observed: String::new(),
            source: String::new(),
        }
    }

    #[test]
    fn steps_of_a_waterfall_add_up() {
        let reasons = reasons(
            &[row("~rest", 1.0), row("a", 3.0), row("b", -0.5)],
            "browser/1h",
            "h",
        );
        let waterfall = waterfall("browser/1h", &reasons, 5.0);
        let features: Vec<&str> = waterfall.steps.iter().map(|step| step.feature.as_str()).collect();
        assert_eq!(features, ["a", "b", "~rest", "~rest"]);
        let last = waterfall.steps.last().unwrap();
        assert!(
            (last.sum - 5.0).abs() < 1e-9 && (last.bits - 1.5).abs() < 1e-9,
            "{waterfall:?}"
        );
    }

    #[test]
    fn a_known_ja4_has_names_and_an_unknown_one_has_none() {
        let known = Catalogue::embedded()
            .lines()
            .iter()
            .find(|line| line.client.contains("curl"))
            .map(|line| line.client);
        assert!(known.is_some());
        assert!(identity("").is_empty() && identity("nonsense").is_empty());
        // Measured from the client: curl of Debian 12.
        let names = identity("t13d3112h2_e8f1e7e78f70_b26ce05bbdd6");
        assert!(names.iter().any(|name| name.contains("curl")), "{names:?}");
    }
}
