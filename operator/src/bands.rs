//! Numbers as the status says them: bands, so that it changes seldom. Exact values are metrics. Pure.

/// Share of packets or events that were dropped; nothing for not known.
pub(crate) fn dropping(share: Option<f64>) -> String {
    match share {
        None => "unknown",
        Some(share) if share <= 0.0 => "none",
        Some(share) if share < 0.001 => "under 0.1 %",
        Some(share) if share < 0.01 => "under 1 %",
        Some(_) => "1 % or more",
    }
    .to_owned()
}

/// Share of requests over TLS that found their connection; nothing for no traffic.
pub(crate) fn join_rate(rate: Option<f64>) -> String {
    match rate {
        None => "no traffic",
        Some(rate) if rate > 0.99 => "over 99 %",
        Some(rate) if rate > 0.95 => "over 95 %",
        Some(rate) if rate > 0.8 => "over 80 %",
        Some(_) => "under 80 %",
    }
    .to_owned()
}
