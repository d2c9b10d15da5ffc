//! Why a client has its score now: its newest scores with all voices and reasons, and every feature beside the population's.

use ja4_reasons::{FEATURE_SET, FEATURES, Place, Reason, amount, sentence};
use serde_json::{Value, json};

use crate::cycle::Memory;
use crate::features::local::credited_sessions;
use crate::features::{Base, N_BASES, N_FEATURES, position};
use crate::scaler::Row;
use crate::tables::LastScore;
use crate::time::rfc3339;

/// The answer as JSON: one entry for each model that scored the client.
pub fn answer(scores: &[LastScore], memory: &Memory, host: &str) -> Value {
    Value::Array(scores.iter().map(|score| entry(score, memory, host)).collect())
}

fn entry(score: &LastScore, memory: &Memory, host: &str) -> Value {
    let place = Place::of_model(&score.model, host);
    // What the store renders is JSON; what it cannot be is shown as it is.
    let parse =
        |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let reasons: Vec<Value> = reasons(&score.reasons)
        .iter()
        .map(|reason| {
            json!({
                "sentence": sentence(reason, &place),
                "voice": reason.voice, "feature": reason.feature, "value": finite(reason.value), "median": finite(reason.median),
                "percentile": finite(f64::from(reason.percentile)), "contribution": reason.contribution,
                "declared": reason.declared, "observed": reason.observed, "source": reason.source,
            })
        })
        .collect();
    json!({
        "model_name": score.model,
        "model_version": score.version,
        "model_state": score.state,
        "segment": score.segment,
        "window_end": rfc3339(score.end_s),
        "requests": score.requests,
        "score": score.score,
        "evidence_bits": score.evidence_bits,
        "verdict": score.verdict,
        "voices": parse(&score.voices),
        "reasons": reasons,
        "features": features(score, memory, host),
    })
}

/// Reasons of the stored JSON: an array of objects by field name.
fn reasons(text: &str) -> Vec<Reason> {
    let Ok(Value::Array(items)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    items
        .iter()
        .map(|item| {
            let word = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
            // NaN is written as null.
            let number = |name: &str| item.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
            #[expect(clippy::cast_possible_truncation, reason = "stored in single precision")]
            Reason {
                voice: word("voice"),
                feature: word("feature"),
                value: number("value"),
                median: number("median"),
                percentile: number("percentile") as f32,
                contribution: number("contribution") as f32,
                declared: word("declared"),
                observed: word("observed"),
                source: word("source"),
            }
        })
        .collect()
}

fn features(score: &LastScore, memory: &Memory, host: &str) -> Value {
    let values: Option<Vec<Option<f32>>> = serde_json::from_str(&score.features).ok();
    let Some(values) = values.filter(|values| values.len() == N_FEATURES && score.feature_set == FEATURE_SET)
    else {
        return Value::Null;
    };
    let values: Vec<f32> = values
        .into_iter()
        .map(|value| value.unwrap_or(f32::NAN))
        .collect();
    let model = memory
        .model(&score.model)
        .filter(|model| model.identity.version == score.version);
    let explained = model.and_then(|model| {
        let bases = bases(&values);
        let row = Row {
            values: &values,
            bases: &bases,
            host,
        };
        model.attributions(&row).ok()
    });
    FEATURES
        .iter()
        .enumerate()
        .map(|(idx, feature)| {
            let value = f64::from(values[idx]);
            let mut entry = json!({
                "name": feature.name, "label": feature.label, "family": feature.family.name(), "unit": feature.unit.name(),
                "value": finite(value), "text": amount(value, feature.unit),
            });
            if let Some(model) = model {
                let (median, source) = model.scaler().shown_median(idx, host);
                entry["median"] = finite(f64::from(median));
                entry["median_of"] = Value::String(source);
                entry["percentile"] = finite(f64::from(model.scaler().percentile(idx, values[idx])));
            }
            if let Some((levels, distances)) = &explained {
                entry["forest_levels"] = finite(levels[idx]);
                entry["robust_z"] = finite(f64::from(distances[idx]));
            }
            entry
        })
        .collect()
}

/// What shares are shares of, as far as the vector tells: answers, headers and connections are taken to be known for every
/// request. The stored reasons are exact, these levels and distances nearly.
fn bases(values: &[f32]) -> [f32; N_BASES] {
    let mut bases = [values[position("requests")]; N_BASES];
    bases[Base::Other as usize] = values[position("paths_distinct")];
    let n_cookie = values[position("cookie_ratio")] * values[position("requests")];
    let sessions = values[position("sessions_per_request")] * n_cookie;
    // Both are missing where no cookie was seen: one session.
    bases[Base::Cookies as usize] = n_cookie.max(0.0);
    bases[Base::Sessions as usize] = credited_sessions(sessions.max(0.0), n_cookie.max(0.0));
    bases
}

fn finite(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_reasons_are_read_with_their_gaps() {
        let text = r#"[{"voice":"forest","feature":"requests","value":4037,"median":12,"percentile":99.9,"contribution":5.5,"declared":"","observed":"","source":"host:312"},
                       {"voice":"forest","feature":"~rest","value":null,"median":null,"percentile":null,"contribution":0.5,"declared":"","observed":"","source":""}]"#;
        let reasons = reasons(text);
        assert_eq!(reasons.len(), 2);
        assert!(reasons[1].value.is_nan() && (reasons[0].contribution - 5.5).abs() < 1e-6);
        assert_eq!(super::reasons("nonsense"), []);
    }

    #[test]
    fn a_score_without_a_model_in_memory_still_has_an_answer() {
        let score = LastScore {
            model: "browser/1h".into(),
            version: 7,
            state: "armed".into(),
            segment: "browser".into(),
            end_s: 0,
            requests: 9,
            score: 0.5,
            evidence_bits: 1.0,
            verdict: "normal".into(),
            voices: "[]".into(),
            feature_set: FEATURE_SET.into(),
            features: serde_json::to_string(&vec![1.0; N_FEATURES]).unwrap(),
            reasons: "[]".into(),
        };
        let answer = answer(&[score], &Memory::default(), "h");
        assert_eq!(answer[0]["features"].as_array().unwrap().len(), N_FEATURES);
        assert!(answer[0]["features"][0].get("median").is_none());
    }
}
