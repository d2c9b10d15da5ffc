//! Renders a reason as one sentence.

use std::fmt::Write as _;

use crate::dictionary::{Feature, feature};
use crate::number::{amount, grouped};
use crate::{REST, Reason, voice};

/// What a reason's numbers were compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Segment of the population: `browser`, `api`, `declared_bot`, `no_tls` or `all`.
    pub segment: &'a str,
    /// Window: `1h` or `24h`.
    pub window: &'a str,
    /// Host that the client asked; empty where none is meant.
    pub host: &'a str,
}

impl<'a> Place<'a> {
    /// The place of a model's name, `segment/window`.
    pub fn of_model(model_name: &'a str, host: &'a str) -> Self {
        let (segment, window) = model_name.split_once('/').unwrap_or((model_name, ""));
        Self {
            segment,
            window,
            host,
        }
    }

    fn window_text(&self) -> &'a str {
        match self.window {
            "1h" => "1 h",
            "24h" => "24 h",
            other => other,
        }
    }

    fn people(&self) -> &'a str {
        match self.segment {
            "browser" => "browsers",
            "api" => "API clients",
            "declared_bot" => "declared bots",
            "no_tls" => "clients without TLS fingerprint",
            _ => "all clients",
        }
    }
}

/// One sentence without a full stop.
pub fn sentence(reason: &Reason, place: &Place<'_>) -> String {
    match (reason.voice.as_str(), reason.feature.as_str()) {
        (_, REST) => "smaller signs that are not listed".to_owned(),
        (voice::LABEL, _) => format!("labelled {} {}", reason.declared, reason.observed),
        (voice::CONSISTENCY, dimension) => contradiction(reason, dimension),
        (voice::GROUP, measure) => group(reason, measure),
        (_, name) => feature(name).map_or_else(
            || format!("{name} is {}", amount(reason.value, crate::Unit::Number)),
            |feature| compared(reason, feature, place),
        ),
    }
}

fn compared(reason: &Reason, feature: &Feature, place: &Place<'_>) -> String {
    let mut text = if reason.value.is_nan() {
        format!("{}: not known for this client", feature.label)
    } else {
        feature.says.replace("{}", &amount(reason.value, feature.unit))
    };
    if feature.over_window && !place.window.is_empty() {
        write!(text, " in {}", place.window_text()).expect("writing to a String does not fail");
    }
    if reason.median.is_nan() {
        return text;
    }
    let whereabouts = if reason.source.starts_with("host:") {
        " on this host"
    } else {
        ""
    };
    write!(
        text,
        "; the median of {}{whereabouts} is {}",
        place.people(),
        amount(reason.median, feature.unit)
    )
    .expect("writing to a String does not fail");
    let percentile = f64::from(reason.percentile);
    if percentile >= 99.0 {
        write!(text, ", more than {} of them", share(percentile)).expect("writing to a String does not fail");
    } else if percentile <= 1.0 {
        write!(text, ", less than {} of them", share(100.0 - percentile))
            .expect("writing to a String does not fail");
    }
    text
}

/// A percentile that never says all: the client is one of them.
fn share(percent: f64) -> String {
    format!("{:.1} %", (percent * 10.0).floor().min(999.0) / 10.0)
}

fn contradiction(reason: &Reason, dimension: &str) -> String {
    // The comparison wrote a sentence of its own behind what was seen.
    if let Some((_, why)) = reason.observed.rsplit_once(" — ")
        && !why.is_empty()
    {
        let mut text = why.trim_end_matches('.').to_owned();
        if !reason.source.is_empty() {
            write!(text, " (catalogue: {})", reason.source).expect("writing to a String does not fail");
        }
        return text;
    }
    let what = match dimension {
        "user_agent" => "its User-Agent",
        "ja4" => "its TLS fingerprint",
        "header_order" => "its header order",
        "http2" => "its HTTP/2 settings",
        "tcp" => "its TCP options",
        "address" => "its address",
        other => other,
    };
    let declared = if reason.declared.is_empty() {
        "nothing"
    } else {
        &reason.declared
    };
    let mut text = if dimension == "address" {
        format!("says it is {declared}, but {what} is not: {}", reason.observed)
    } else {
        format!("says it is {declared}, but {what} shows {}", reason.observed)
    };
    if !reason.source.is_empty() {
        write!(text, " (catalogue: {})", reason.source).expect("writing to a String does not fail");
    }
    text
}

fn group(reason: &Reason, measure: &str) -> String {
    let (kind, value) = reason.observed.split_once(' ').unwrap_or(("", &reason.observed));
    let kind = match kind {
        "prefix" => "network",
        "ja4_norm" => "TLS fingerprint",
        "header_order" => "header order",
        other => other,
    };
    let who = format!("one of {} clients of {kind} {value}", reason.declared);
    match measure {
        "group_alike" => format!(
            "{who} that act alike: they lie {} times closer together than clients do",
            amount(reason.value, crate::Unit::Number)
        ),
        "group_rate" => format!(
            "{who} with {} requests together; the median of such groups is {}",
            grouped(reason.value),
            amount(reason.median, crate::Unit::Count)
        ),
        "group_flagged" => format!(
            "{who}, {} of them flagged",
            amount(reason.value, crate::Unit::Ratio)
        ),
        other => format!("{who}: {other} is {}", amount(reason.value, crate::Unit::Number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSERS: Place<'_> = Place {
        segment: "browser",
        window: "1h",
        host: "shop.example",
    };

    fn requests(value: f64, median: f64, percentile: f32) -> Reason {
        Reason {
            value,
            median,
            percentile,
            source: "host:312".to_owned(),
            ..Reason::of_feature(voice::ROBUST_Z, "requests", 3.0)
        }
    }

    #[test]
    fn a_count_reads_as_the_analyst_would_say_it() {
        assert_eq!(
            sentence(&requests(4037.0, 12.0, 98.0), &BROWSERS),
            "4 037 requests in 1 h; the median of browsers on this host is 12"
        );
    }

    #[test]
    fn an_extreme_percentile_is_said_and_never_is_everybody() {
        let text = sentence(&requests(4037.0, 12.0, 100.0), &BROWSERS);
        assert!(text.ends_with("is 12, more than 99.9 % of them"), "{text}");
    }

    #[test]
    fn the_place_follows_the_models_name() {
        let place = Place::of_model("all/24h", "a");
        let text = sentence(&requests(3.0, f64::NAN, f32::NAN), &place);
        assert_eq!(text, "3 requests in 24 h");
    }

    #[test]
    fn contradictions_name_both_sides_and_the_source() {
        let reason = Reason {
            declared: "Chrome 126".to_owned(),
            observed: "curl".to_owned(),
            source: "ja4:curl-8 measured 2026-11-20".to_owned(),
            ..Reason::of_feature(voice::CONSISTENCY, "ja4", 8.0)
        };
        assert_eq!(
            sentence(&reason, &BROWSERS),
            "says it is Chrome 126, but its TLS fingerprint shows curl (catalogue: ja4:curl-8 measured 2026-11-20)"
        );
    }

    #[test]
    fn the_sentence_of_a_comparison_is_taken_as_it_is() {
        let reason = Reason {
            declared: "Chrome 142".to_owned(),
            observed: "t13d — It says Chrome 142, but its TLS is that of curl 8.".to_owned(),
            ..Reason::of_feature(voice::CONSISTENCY, "ja4", 7.0)
        };
        assert_eq!(
            sentence(&reason, &BROWSERS),
            "It says Chrome 142, but its TLS is that of curl 8"
        );
    }

    #[test]
    fn groups_labels_and_the_rest_have_sentences() {
        let reason = Reason {
            value: 0.5,
            declared: "23".to_owned(),
            observed: "prefix 203.0.113.0/24".to_owned(),
            ..Reason::of_feature(voice::GROUP, "group_flagged", 1.0)
        };
        assert_eq!(
            sentence(&reason, &BROWSERS),
            "one of 23 clients of network 203.0.113.0/24, 50 % of them flagged"
        );
        let label = Reason {
            declared: "bot".to_owned(),
            observed: "by alice at 2026-11-26 10:00 UTC".to_owned(),
            ..Reason::of_feature(voice::LABEL, "label", 0.0)
        };
        assert_eq!(
            sentence(&label, &BROWSERS),
            "labelled bot by alice at 2026-11-26 10:00 UTC"
        );
        let rest = Reason::of_feature(voice::FOREST, REST, 0.1);
        assert_eq!(sentence(&rest, &BROWSERS), "smaller signs that are not listed");
    }

    #[test]
    fn every_feature_has_a_sentence_with_its_value() {
        for feature in crate::FEATURES {
            let reason = Reason {
                value: 0.75,
                median: 0.25,
                ..Reason::of_feature(voice::FOREST, feature.name, 1.0)
            };
            let text = sentence(&reason, &BROWSERS);
            assert!(
                text.contains(&amount(0.75, feature.unit)),
                "{}: {text}",
                feature.name
            );
            assert!(!text.contains('{') && !text.ends_with('.'), "{text}");
        }
    }

    #[test]
    fn unknown_features_and_hostile_texts_are_passed_through() {
        let odd = Reason {
            value: 2.0,
            ..Reason::of_feature("new_voice", "new_feature", 1.0)
        };
        assert_eq!(sentence(&odd, &BROWSERS), "new_feature is 2");
        let hostile = Reason {
            declared: "{}<script>".to_owned(),
            observed: "\u{202e}=cmd()".to_owned(),
            ..Reason::of_feature(voice::CONSISTENCY, "user_agent", 1.0)
        };
        assert!(sentence(&hostile, &BROWSERS).contains("{}<script>"));
    }
}
