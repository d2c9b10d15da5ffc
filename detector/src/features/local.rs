//! Features that a client's own row gives. Those that need its neighbours stay NaN here.

use super::{N_BASES, N_FEATURES};
use crate::features::columns::{ClientRow, Raw};

const NAN: f32 = f32::NAN;

/// Shortest time that a rate is computed over, seconds: a page with its assets is no rate.
const MIN_SPAN_S: f32 = 300.0;

/// Names and values, in the order of the dictionary.
#[expect(clippy::too_many_lines, reason = "a flat table")]
fn table(row: &ClientRow<'_>) -> [(&'static str, f32); N_FEATURES] {
    let r = &row.raw;
    let answers = answers(r);
    let joined = r.n_joined;
    let has_headers = r.n_headers > 0.0;
    // Requests without known headers count as "without" in the columns.
    let unknown = r.requests - r.n_headers;
    let without = |n: f32| {
        if has_headers {
            share(n - unknown, r.n_headers)
        } else {
            NAN
        }
    };
    let with = |n: f32| if has_headers { share(n, r.n_headers) } else { NAN };
    let of_answers = |n: f32| if answers > 0.0 { share(n, answers) } else { NAN };
    let of_joined = |n: f32| if joined > 0.0 { share(n, joined) } else { NAN };
    let of_requests = |n: f32| share(n, r.requests);
    let at_least = |n: f32, value: f32| if r.n_events >= n { value } else { NAN };
    let counted = |value: f32| if answers > 0.0 { value } else { NAN };
    let has_syn = r.one_ttl > 0.0 && r.n_wire > 0.0;
    let of_syn = |value: f32| if has_syn { value } else { NAN };
    let per_minute = r.requests / r.active_minutes.max(1.0);
    let has_tls = !row.ja4.is_empty();
    let offers_h2 = row.alpn.split(',').any(|name| name == "h2");
    let sessions = sessions(r);
    [
        ("requests", r.requests),
        (
            "requests_per_hour",
            r.requests * 3600.0 / r.span_s.max(MIN_SPAN_S),
        ),
        ("active_minutes", r.active_minutes),
        ("requests_per_minute", per_minute),
        ("max_per_minute", r.max_per_minute),
        (
            "burst_ratio",
            at_least(5.0, r.max_per_minute / per_minute.max(1e-3)),
        ),
        ("night_share", of_requests(r.night_requests)),
        (
            "requests_per_connection",
            if joined > 0.0 {
                joined / r.n_conns.max(1.0)
            } else {
                NAN
            },
        ),
        ("gap_p50_s", at_least(3.0, r.gap_p50_us / 1e6)),
        ("gap_p95_s", at_least(5.0, r.gap_p95_us / 1e6)),
        ("gap_cv", at_least(5.0, r.gap_sd_us / r.gap_mean_us.max(1.0))),
        ("gap_lag1", at_least(10.0, r.gap_lag1)),
        ("gap_fast_share", at_least(3.0, r.gap_fast_share)),
        ("paths_distinct", r.n_paths),
        ("path_entropy", at_least(3.0, r.path_entropy)),
        ("path_novelty", at_least(3.0, share(r.n_paths, r.n_events))),
        ("transition_entropy", at_least(5.0, r.transition_entropy)),
        ("rare_paths", NAN),
        ("rare_path_share", NAN),
        ("depth_mean", r.depth_mean),
        ("static_ratio", of_requests(r.n_static)),
        ("favicon_ratio", of_requests(r.n_favicon)),
        ("robots_ratio", of_requests(r.n_robots)),
        ("login_ratio", of_requests(r.n_login)),
        ("login_count", r.n_login),
        ("admin_count", r.n_admin),
        ("dotfile_count", r.n_dotfile),
        ("suspicious_count", r.n_suspicious),
        ("api_ratio", of_requests(r.n_api)),
        ("params_mean", r.params / r.requests.max(1.0)),
        ("uri_bytes_max", r.uri_max),
        ("ratio_4xx", of_answers(r.s4xx)),
        ("ratio_404", of_answers(r.s404)),
        ("count_404", counted(r.s404)),
        ("ratio_401_403", of_answers(r.s40x)),
        ("count_401_403", counted(r.s40x)),
        ("ratio_5xx", of_answers(r.s5xx)),
        ("ratio_redirect", of_answers(r.s3xx - r.s304)),
        ("statuses_distinct", r.n_statuses),
        ("conditional_ratio", of_answers(r.s304)),
        ("bytes_p50", counted(r.bytes_p50)),
        ("bytes_p95", counted(r.bytes_p95)),
        ("bytes_total", counted(r.bytes)),
        ("head_ratio", of_requests(r.n_head)),
        ("options_ratio", of_requests(r.n_options)),
        ("post_ratio", of_requests(r.n_post)),
        (
            "post_without_get",
            if r.n_post > 0.0 && r.n_get == 0.0 {
                1.0
            } else {
                0.0
            },
        ),
        (
            "header_count_mean",
            if has_headers { r.header_count_mean } else { NAN },
        ),
        ("no_language_ratio", without(r.no_language)),
        ("no_encoding_ratio", without(r.no_encoding)),
        ("no_sec_fetch_ratio", without(r.no_sec_fetch)),
        ("no_referer_ratio", without(r.no_referer)),
        ("cookie_ratio", with(r.n_cookie)),
        ("client_hint_ratio", with(r.n_client_hints)),
        (
            "header_orders_distinct",
            if row.header_order_hash == 0 {
                NAN
            } else {
                r.n_header_orders
            },
        ),
        ("header_order_rarity", NAN),
        ("ja4_rarity", NAN),
        ("ja4_age_h", NAN),
        ("ja4_clients", NAN),
        ("tls_ciphers", if has_tls { ja4_number(&row.ja4, 4) } else { NAN }),
        (
            "tls_extensions",
            if has_tls {
                ja4_number(&row.ja4_norm, 6)
            } else {
                NAN
            },
        ),
        ("tls_version", if has_tls { tls_minor(&row.ja4) } else { NAN }),
        ("sni_ratio", of_joined(r.n_sni)),
        ("resumed_ratio", of_joined(r.n_resumed)),
        ("pq_ratio", of_joined(r.n_pq)),
        ("hello_bytes", if joined > 0.0 { r.one_hello_bytes } else { NAN }),
        ("ja4s_per_address", NAN),
        ("h2_ratio", of_requests(r.n_h2)),
        (
            "h1_despite_h2",
            if offers_h2 {
                of_requests(r.requests - r.n_h2)
            } else {
                NAN
            },
        ),
        ("h2_rarity", NAN),
        ("h2_fps_distinct", if r.n_h2 > 0.0 { r.n_h2_fps } else { NAN }),
        ("tcp_ttl_class", of_syn(ttl_class(r.one_ttl))),
        ("tcp_window", of_syn(r.one_window)),
        ("tcp_mss", of_syn(r.one_mss)),
        ("tcp_options_rarity", NAN),
        ("syn_to_hello_ms", of_syn(r.syn_to_hello_p50_us / 1e3)),
        ("user_agents_distinct", r.n_user_agents),
        ("user_agents_per_address", NAN),
        ("contradicting_ratio", of_joined(r.n_contradicting)),
        (
            "sessions_per_request",
            if r.n_cookie > 0.0 {
                share(sessions, r.n_cookie)
            } else {
                NAN
            },
        ),
        ("hosts_per_address", NAN),
        ("prefix_clients", NAN),
        ("prefix_flagged_share", NAN),
        ("days_flagged", NAN),
    ]
}

/// Writes the vector of a row, context left NaN, and what its shares are shares of.
///
/// # Panics
/// When `out` is not [`N_FEATURES`] long.
pub fn local(row: &ClientRow<'_>, out: &mut [f32]) -> [f32; N_BASES] {
    let values = table(row);
    assert_eq!(out.len(), N_FEATURES, "one place for each feature");
    for (place, (_, value)) in out.iter_mut().zip(values) {
        *place = value;
    }
    let r = &row.raw;
    let n_sessions = credited_sessions(sessions(r), r.n_cookie);
    [
        r.requests,
        answers(r),
        r.n_headers,
        r.n_joined,
        r.n_paths,
        r.n_cookie,
        n_sessions,
    ]
}

/// Sessions that its requests name. Those without a cookie are all of one that is none.
fn sessions(r: &Raw) -> f32 {
    r.n_sessions - if r.n_cookie < r.requests { 1.0 } else { 0.0 }
}

/// For how many people a client can stand: one for each session that came twice or more in the mean, within bounds.
pub(crate) fn credited_sessions(sessions: f32, n_cookie: f32) -> f32 {
    sessions.min(n_cookie / 2.0).clamp(1.0, ja4_reasons::SESSIONS_MAX)
}

/// Requests whose answer was seen.
fn answers(r: &Raw) -> f32 {
    (r.requests - r.n_unended).max(0.0)
}

fn share(part: f32, whole: f32) -> f32 {
    (part / whole.max(1.0)).clamp(0.0, 1.0)
}

/// Two digits of a JA4, such as the number of cipher suites at 4.
fn ja4_number(ja4: &str, at: usize) -> f32 {
    ja4.get(at..at + 2)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(NAN)
}

fn tls_minor(ja4: &str) -> f32 {
    match ja4.get(1..3) {
        Some("13") => 3.0,
        Some("12") => 2.0,
        Some("11") => 1.0,
        Some("10" | "s3" | "s2") => 0.0,
        _ => NAN,
    }
}

fn ttl_class(ttl: f32) -> f32 {
    [32.0, 64.0, 128.0]
        .into_iter()
        .find(|class| ttl <= *class)
        .unwrap_or(255.0)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use ja4_reasons::FEATURES;

    use super::*;

    #[test]
    fn an_address_is_as_many_people_as_it_has_sessions_within_bounds() {
        assert_eq!(credited_sessions(0.0, 0.0), 1.0);
        assert_eq!(credited_sessions(12.0, 500.0), 12.0);
        // A new session with every request is no person each time.
        assert_eq!(credited_sessions(20.0, 20.0), 10.0);
        assert_eq!(credited_sessions(5000.0, 50_000.0), ja4_reasons::SESSIONS_MAX);
    }
    use crate::features::position;

    fn vector(row: &ClientRow<'_>) -> Vec<f32> {
        let mut out = vec![0.0; N_FEATURES];
        local(row, &mut out);
        out
    }

    fn of(vector: &[f32], name: &str) -> f32 {
        vector[position(name)]
    }

    #[test]
    fn names_and_order_are_the_dictionary_s() {
        let names: Vec<&str> = table(&ClientRow::default())
            .iter()
            .map(|(name, _)| *name)
            .collect();
        let expected: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn missing_is_not_zero() {
        let row = ClientRow {
            raw: Raw {
                requests: 2.0,
                n_unended: 2.0,
                n_events: 2.0,
                ..Raw::default()
            },
            ..ClientRow::default()
        };
        let vector = vector(&row);
        for name in [
            "ratio_404",
            "bytes_p50",
            "gap_p50_s",
            "no_language_ratio",
            "sni_ratio",
            "tls_ciphers",
            "tcp_mss",
            "h1_despite_h2",
            "ja4_rarity",
        ] {
            assert!(of(&vector, name).is_nan(), "{name}");
        }
        assert_eq!(of(&vector, "dotfile_count"), 0.0);
    }

    #[test]
    fn requests_without_known_headers_are_not_requests_without_a_header() {
        let raw = Raw {
            requests: 10.0,
            n_headers: 4.0,
            no_language: 7.0,
            n_cookie: 2.0,
            n_events: 10.0,
            ..Raw::default()
        };
        let vector = vector(&ClientRow {
            raw,
            ..ClientRow::default()
        });
        assert_eq!(of(&vector, "no_language_ratio"), 0.25);
        assert_eq!(of(&vector, "cookie_ratio"), 0.5);
    }

    #[test]
    fn parts_of_a_ja4_are_read_and_nonsense_is_missing() {
        let row = |ja4: &'static str| ClientRow {
            ja4: ja4.into(),
            ja4_norm: ja4.into(),
            ..ClientRow::default()
        };
        let chrome = vector(&row("t13d1516h2_8daaf6152771_b0da82dd1658"));
        assert_eq!(
            (
                of(&chrome, "tls_ciphers"),
                of(&chrome, "tls_extensions"),
                of(&chrome, "tls_version")
            ),
            (15.0, 16.0, 3.0)
        );
        let odd = vector(&row("é<script>"));
        assert!(of(&odd, "tls_ciphers").is_nan() && of(&odd, "tls_version").is_nan());
    }

    #[test]
    fn a_rate_waits_for_five_minutes() {
        let raw = Raw {
            requests: 100.0,
            span_s: 2.0,
            ..Raw::default()
        };
        assert_eq!(
            of(
                &vector(&ClientRow {
                    raw,
                    ..ClientRow::default()
                }),
                "requests_per_hour"
            ),
            1200.0
        );
    }

    #[test]
    fn proxied_connections_say_nothing_of_the_client_s_tcp() {
        let raw = Raw {
            requests: 5.0,
            one_ttl: 60.0,
            n_wire: 0.0,
            ..Raw::default()
        };
        assert!(
            of(
                &vector(&ClientRow {
                    raw,
                    ..ClientRow::default()
                }),
                "tcp_ttl_class"
            )
            .is_nan()
        );
        let raw = Raw { n_wire: 5.0, ..raw };
        assert_eq!(
            of(
                &vector(&ClientRow {
                    raw,
                    ..ClientRow::default()
                }),
                "tcp_ttl_class"
            ),
            64.0
        );
    }
}
