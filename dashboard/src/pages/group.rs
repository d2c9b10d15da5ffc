//! The page of what several clients share.

use crate::api::types::{ClientSort, GroupKind, GroupPage, GroupScore, HistogramPoint, Recorded, SeenOnHost};
use crate::error::ApiError;
use crate::filter::{network_text, written};
use crate::pages::reasons::{finite, identity, reasons};
use crate::pages::{Scope, facets, parse_filter, traffic, triage};
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{GroupScoreRow, NamesRow, SeenRow};
use crate::window::rfc3339;

/// Clients on the page.
const MAX_CLIENTS: u64 = 100;
/// Scores on the page.
const MAX_SCORES: u64 = 100;
/// Hosts on the page.
const MAX_HOSTS: u64 = 100;
/// Longest value that is shown, characters.
const MAX_SHOWN_CHARS: usize = 2048;

/// The group as the parts of the page ask for it.
struct Group {
    kind: GroupKind,
    value: String,
    /// A filter that gives its requests.
    filter: String,
    /// Its name among the detector's groups.
    score_kind: &'static str,
    /// Its name among the values whose first time is kept.
    first_seen_kind: Option<&'static str>,
}

fn group(kind: GroupKind, value: &str) -> Result<Group, ApiError> {
    let (field, score_kind, first_seen_kind) = match kind {
        GroupKind::Ja4 => ("ja4", "ja4_norm", Some("ja4")),
        GroupKind::Host => ("host", "host", None),
        GroupKind::Prefix => ("src_ip", "prefix", None),
        GroupKind::HeaderOrder => ("header_order_hash", "header_order", Some("header_order")),
        GroupKind::UserAgent => ("user_agent", "user_agent", Some("user_agent")),
    };
    let value = match kind {
        GroupKind::Prefix => network(value)?,
        GroupKind::HeaderOrder => value
            .parse::<u64>()
            .map_err(|_| {
                ApiError::bad_parameter("value must be the hash of a header order, a decimal number")
            })?
            .to_string(),
        _ => value.to_owned(),
    };
    let written = if value.is_empty() {
        "\"\"".to_owned()
    } else {
        written(&value)
    };
    Ok(Group {
        kind,
        filter: format!("{field}:{written}"),
        value,
        score_kind,
        first_seen_kind,
    })
}

/// `10.1.2.3/24` is the network of it.
fn network(value: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::bad_parameter("value must be a network such as 192.0.2.0/24 or 2001:db8::/64");
    let (address, prefix_len) = match value.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u32>().map_err(|_| wrong())?)),
        None => (value, None),
    };
    let (bits, longest) = match address.parse().map_err(|_| wrong())? {
        std::net::IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 32),
        std::net::IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host_bits = longest - prefix_len.filter(|len| *len <= longest).unwrap_or(longest);
    if prefix_len.is_some_and(|len| len > longest) {
        return Err(wrong());
    }
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Ok(network_text((bits & mask).into(), (bits | !mask).into()))
}

/// The page.
pub(crate) async fn page(
    reader: &Reader,
    recorded: Option<&Recorded>,
    scope: &Scope,
    kind: GroupKind,
    value: &str,
) -> Result<GroupPage, ApiError> {
    let group = group(kind, value)?;
    let scope = Scope {
        span: scope.span,
        filter: parse_filter(&group.filter)?.and(scope.filter.clone()),
    };
    let step_s = scope.span.step(None, 1)?;
    let mut tally = Tally::new();
    let mut parts: [Tally; 6] = std::array::from_fn(|_| Tally::new());
    let [of_totals, of_steps, of_clients, of_facets, of_scores, of_seen] = &mut parts;
    let (totals, steps, clients, facets, scores, (seen, shown)) = tokio::try_join!(
        traffic::totals(reader, of_totals, &scope, None),
        traffic::filtered_steps(reader, of_steps, &scope, step_s),
        async {
            let keys = triage::keys(reader, of_clients, &scope, ClientSort::Evidence, 0, MAX_CLIENTS).await?;
            triage::details(reader, of_clients, recorded, scope.span, &keys).await
        },
        facets::facets(reader, of_facets, &scope),
        scores(reader, of_scores, &scope, &group),
        seen(reader, of_seen, &group),
    )?;
    for part in &parts {
        tally.note(part.meta().truncated);
    }
    Ok(GroupPage {
        window: scope.span.window(),
        kind: group.kind,
        shown: shown.unwrap_or_else(|| group.value.chars().take(MAX_SHOWN_CHARS).collect()),
        identity: if group.kind == GroupKind::Ja4 {
            identity(&group.value)
        } else {
            Vec::new()
        },
        value: group.value,
        filter: group.filter,
        totals,
        step_s: u32::try_from(step_s).unwrap_or(u32::MAX),
        points: steps
            .into_iter()
            .map(|(start, row)| HistogramPoint {
                t: rfc3339(start),
                requests: row.as_ref().map_or(0, |row| row.n_requests),
                errors: row.as_ref().map_or(0, |row| row.n_errors),
            })
            .collect(),
        scores,
        seen,
        clients,
        facets: facets.1,
        meta: tally.meta(),
    })
}

async fn scores(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
    group: &Group,
) -> Result<Vec<GroupScore>, ApiError> {
    let ask = Ask::new("group_scores")
        .during(scope.span)
        .with("group_kind", group.score_kind)
        .with("group_value", &group.value)
        .with("limit", MAX_SCORES);
    let rows: Vec<GroupScoreRow> = tally.take(reader.rows(ask).await?);
    Ok(rows
        .into_iter()
        .map(|row| GroupScore {
            reasons: reasons(&row.reasons, &row.model_name, ""),
            window_end: row.window_end,
            model_name: row.model_name,
            clients: row.clients,
            requests: row.requests,
            score: finite(row.score),
        })
        .collect())
}

/// When the value was first seen, by host; and the names behind the hash of a header order.
async fn seen(
    reader: &Reader,
    tally: &mut Tally,
    group: &Group,
) -> Result<(Vec<SeenOnHost>, Option<String>), ApiError> {
    let Some(kind) = group.first_seen_kind else {
        return Ok((Vec::new(), None));
    };
    let ask = Ask::new("seen_on_hosts")
        .with("kind", kind)
        .with("value", &group.value)
        .with("limit", MAX_HOSTS);
    let rows: Vec<SeenRow> = tally.take(reader.rows(ask).await?);
    let shown = if group.kind == GroupKind::HeaderOrder {
        let ask = Ask::new("header_order_text").with("value_id", &group.value);
        tally
            .take(reader.rows::<NamesRow>(ask).await?)
            .pop()
            .map(|row| row.names)
    } else {
        None
    };
    let seen = rows
        .into_iter()
        .map(|row| SeenOnHost {
            host: row.on_host,
            first_seen: row.first_seen_at,
            last_seen: row.last_seen_at,
            requests: row.n_requests,
        })
        .collect();
    Ok((seen, shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    #[test]
    fn every_group_has_a_filter_that_reads() {
        for (kind, value) in [
            (GroupKind::Ja4, "t13d \"x\" *"),
            (GroupKind::Ja4, ""),
            (GroupKind::Host, "a.example:8443"),
            (GroupKind::Prefix, "10.1.2.3/24"),
            (GroupKind::HeaderOrder, "18446744073709551615"),
            (GroupKind::UserAgent, "AND"),
        ] {
            let group = group(kind, value).unwrap();
            assert!(Filter::parse(&group.filter).is_ok(), "{}", group.filter);
        }
    }

    #[test]
    fn networks_are_written_one_way() {
        assert_eq!(network("10.1.2.3/24").unwrap(), "10.1.2.0/24");
        assert_eq!(network("10.1.2.3").unwrap(), "10.1.2.3");
        assert_eq!(network("2001:db8::1/64").unwrap(), "2001:db8::/64");
        for text in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "::/129"] {
            assert!(network(text).is_err(), "{text}");
        }
        assert!(group(GroupKind::HeaderOrder, "x").is_err());
    }
}
