//! The triage list: which clients, in which order, and all that is known of each.

use std::collections::{BTreeMap, HashMap};

use crate::api::types::{
    ClientRow, ClientSort, ClientVerdict, Clients, Incident, ModelScore, ProblemCode, Recorded,
};
use crate::error::ApiError;
use crate::filter::Compiled;
use crate::pages::reasons::{finite, identity, model_state, reasons, stronger, verdict, voices};
use crate::pages::{Scope, labels};
use crate::store::read::{Ask, Reader, Tally, array};
use crate::store::rows::{ClientSeenRow, FlagRow, IncidentRow, KeyRow, LabelRow, ModelRow};
use crate::window::{self, Span};

/// Clients whose details are asked for in one go: their ids and addresses are parameters, which travel in a URL of at
/// most 64 KiB.
pub(crate) const CHUNK: usize = 500;

/// Farthest page of the list. Beyond it a filter helps more than another page, and each page costs as much as all
/// before it.
const MAX_OFFSET: u64 = 100_000;

/// The list.
pub(crate) async fn page(
    reader: &Reader,
    recorded: Option<&Recorded>,
    scope: &Scope,
    sort: ClientSort,
    limit: u64,
    cursor: Option<&str>,
) -> Result<Clients, ApiError> {
    let offset = match cursor {
        None => 0,
        Some(cursor) => cursor
            .parse::<u64>()
            .ok()
            .filter(|offset| *offset <= MAX_OFFSET)
            .ok_or_else(|| {
                ApiError::new(
                    ProblemCode::BadParameter,
                    "cursor is not one of ours: take next_cursor of the page before",
                )
            })?,
    };
    let mut tally = Tally::new();
    // One more tells whether there is another page.
    let mut keys = keys(reader, &mut tally, scope, sort, offset, limit + 1).await?;
    let has_more = keys.len() as u64 > limit;
    keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let clients = details(reader, &mut tally, recorded, scope.span, &keys).await?;
    let next = offset + limit;
    Ok(Clients {
        window: scope.span.window(),
        clients,
        next_cursor: (has_more && next <= MAX_OFFSET).then(|| next.to_string()),
        meta: tally.meta(),
    })
}

/// Clients in their order: the scored ones by evidence, then the others by requests; or all by something else.
pub(crate) async fn keys(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
    sort: ClientSort,
    offset: u64,
    limit: u64,
) -> Result<Vec<KeyRow>, ApiError> {
    let filter = scope.filter.compile_for_clients();
    if sort != ClientSort::Evidence {
        return seen(reader, tally, scope.span, &filter, sort, true, offset, limit).await;
    }
    let ask = Ask::new("triage_scored")
        .during(scope.span)
        .with("offset", offset)
        .with("limit", limit)
        .filter(&filter);
    let mut keys: Vec<KeyRow> = tally.take(reader.rows(ask).await?);
    let missing = limit - keys.len() as u64;
    if missing > 0 {
        // How many of the scored ones were on pages before, which the unscored ones follow.
        let n_scored = if keys.is_empty() && offset > 0 {
            let ask = Ask::new("client_counts").during(scope.span).filter(&filter);
            let counts = tally.take(reader.rows::<crate::store::rows::ClientCountsRow>(ask).await?);
            counts.first().map_or(0, |row| row.n_scored)
        } else {
            offset + keys.len() as u64
        };
        let offset = offset.saturating_sub(n_scored);
        keys.extend(
            seen(
                reader,
                tally,
                scope.span,
                &filter,
                ClientSort::Requests,
                false,
                offset,
                missing,
            )
            .await?,
        );
    }
    Ok(keys)
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is a part of one question, asked from two places above"
)]
async fn seen(
    reader: &Reader,
    tally: &mut Tally,
    span: Span,
    filter: &Compiled,
    sort: ClientSort,
    with_scored: bool,
    offset: u64,
    limit: u64,
) -> Result<Vec<KeyRow>, ApiError> {
    let sort = match sort {
        ClientSort::Evidence | ClientSort::Requests => "requests",
        ClientSort::Errors => "errors",
        ClientSort::LastSeen => "last_seen",
        ClientSort::FirstSeen => "first_seen",
    };
    let ask = Ask::new("triage_seen")
        .during(span)
        .with("sort", sort)
        .with("with_scored", u8::from(with_scored))
        .with("offset", offset)
        .with("limit", limit)
        .filter(filter);
    Ok(tally.take(reader.rows(ask).await?))
}

/// All that is known of some clients, in their order.
pub(crate) async fn details(
    reader: &Reader,
    tally: &mut Tally,
    recorded: Option<&Recorded>,
    span: Span,
    keys: &[KeyRow],
) -> Result<Vec<ClientRow>, ApiError> {
    let mut rows = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(CHUNK) {
        rows.extend(details_of_chunk(reader, tally, recorded, span, chunk).await?);
    }
    Ok(rows)
}

async fn details_of_chunk(
    reader: &Reader,
    tally: &mut Tally,
    recorded: Option<&Recorded>,
    span: Span,
    keys: &[KeyRow],
) -> Result<Vec<ClientRow>, ApiError> {
    let mut ips: Vec<&str> = keys.iter().map(|key| key.src_ip.as_str()).collect();
    ips.sort_unstable();
    ips.dedup();
    let ips: Vec<String> = ips.into_iter().map(mapped).collect();
    let ids = array(keys.iter().map(|key| key.entity_id));
    let ask = |query| {
        Ask::new(query)
            .during(span)
            .with_texts("ips", ips.clone())
            .with("ids", &ids)
    };
    let (seen, models, flags, labels) = tokio::try_join!(
        reader.rows::<ClientSeenRow>(ask("client_rows").with("limit", keys.len())),
        reader.rows::<ModelRow>(ask("client_models")),
        reader.rows::<FlagRow>(ask("client_flags")),
        reader.rows::<LabelRow>(ask("client_labels")),
    )?;
    let seen: HashMap<u64, ClientSeenRow> = tally.take(seen).into_iter().map(|row| (row.id, row)).collect();
    let mut models_by_id: HashMap<u64, Vec<ModelRow>> = HashMap::new();
    for row in tally.take(models) {
        models_by_id.entry(row.id).or_default().push(row);
    }
    let mut flags_by_id: HashMap<u64, Vec<FlagRow>> = HashMap::new();
    for row in tally.take(flags) {
        flags_by_id.entry(row.id).or_default().push(row);
    }
    let mut labels: HashMap<u64, LabelRow> = tally
        .take(labels)
        .into_iter()
        .filter(|row| row.holds == 1)
        .map(|row| (row.id, row))
        .collect();
    let incidents = incidents(reader, tally, flags_by_id.values().flatten()).await?;
    Ok(keys
        .iter()
        .map(|key| {
            let parts = Parts {
                seen: seen.get(&key.entity_id),
                models: models_by_id.remove(&key.entity_id).unwrap_or_default(),
                flags: flags_by_id.remove(&key.entity_id).unwrap_or_default(),
                label: labels.remove(&key.entity_id),
            };
            row(key, &parts, &incidents, recorded)
        })
        .collect())
}

struct Parts<'a> {
    seen: Option<&'a ClientSeenRow>,
    models: Vec<ModelRow>,
    flags: Vec<FlagRow>,
    label: Option<LabelRow>,
}

fn row(
    key: &KeyRow,
    parts: &Parts<'_>,
    incidents: &BTreeMap<String, Incident>,
    recorded: Option<&Recorded>,
) -> ClientRow {
    let mut models: Vec<ModelScore> = parts
        .models
        .iter()
        .map(|row| {
            model(
                row,
                &key.host,
                parts.flags.iter().find(|flag| flag.model == row.model),
            )
        })
        .collect();
    models.sort_by(|a, b| {
        b.evidence_bits
            .total_cmp(&a.evidence_bits)
            .then_with(|| a.model_name.cmp(&b.model_name))
    });
    let strongest = models.iter().fold(ClientVerdict::Unscored, |strongest, model| {
        stronger(strongest, model.verdict)
    });
    let is_flagged = matches!(strongest, ClientVerdict::Flagged | ClientVerdict::Alert);
    let seen = parts.seen;
    ClientRow {
        entity_id: key.entity_id.to_string(),
        src_ip: key.src_ip.clone(),
        ja4: key.ja4.clone(),
        host: key.host.clone(),
        identity: identity(&key.ja4),
        ua_family: seen.map_or_else(String::new, |row| row.ua_family.clone()),
        country: seen.map_or_else(String::new, |row| row.country.clone()),
        asn: seen.map_or(0, |row| row.asn),
        as_name: seen.map_or_else(String::new, |row| row.as_name.clone()),
        crawler: crawler(&key.src_ip, seen),
        requests: seen.map_or(0, |row| row.n_requests),
        errors: seen.map_or(0, |row| row.n_errors),
        bytes: seen.map_or(0, |row| row.n_bytes),
        first_seen: seen.map(|row| row.first_seen_at.clone()),
        last_seen: seen.map(|row| row.last_seen_at.clone()),
        evidence_bits: models.first().map(|model| model.evidence_bits),
        score: models.first().map(|model| model.score),
        verdict: strongest,
        flagged_since: parts
            .flags
            .iter()
            .map(|flag| flag.since.clone())
            .min()
            .filter(|_| is_flagged),
        label: parts.label.as_ref().and_then(labels::label),
        reasons: models
            .first()
            .map_or_else(Vec::new, |model| model.reasons.clone()),
        models,
        incident: parts
            .flags
            .iter()
            .find_map(|flag| incidents.get(&flag.incident))
            .cloned(),
        recorded: seen.is_some_and(|row| {
            is_recorded(recorded, &row.first_seen_at) && is_recorded(recorded, &row.last_seen_at)
        }),
    }
}

/// The operator whose published range holds the address: from the store's own data, else from the catalogue.
fn crawler(ip: &str, seen: Option<&ClientSeenRow>) -> String {
    match seen {
        Some(row) if !row.crawler.is_empty() => row.crawler.clone(),
        _ => ip
            .parse()
            .ok()
            .and_then(|ip| ja4_identity::Catalogue::embedded().crawler_of(ip))
            .map_or_else(String::new, |network| network.operator.to_owned()),
    }
}

fn model(row: &ModelRow, host: &str, flag: Option<&FlagRow>) -> ModelScore {
    let decided = verdict(&row.decided);
    let (segment, window) = row.model.split_once('/').unwrap_or((&row.model, ""));
    ModelScore {
        model_name: row.model.clone(),
        model_version: row.model_version,
        segment: if row.population.is_empty() {
            segment.to_owned()
        } else {
            row.population.clone()
        },
        window: window.to_owned(),
        state: model_state(&row.state),
        window_end: row.window_end_at.clone(),
        requests: row.n_requests,
        score: finite(row.combined),
        evidence_bits: finite(row.evidence),
        threshold: flag
            .filter(|_| decided != ClientVerdict::Normal)
            .and_then(|flag| flag.limit_score),
        verdict: decided,
        voices: voices(&row.all_voices),
        reasons: reasons(&row.why, &row.model, host),
    }
}

async fn incidents(
    reader: &Reader,
    tally: &mut Tally,
    flags: impl Iterator<Item = &FlagRow>,
) -> Result<BTreeMap<String, Incident>, ApiError> {
    let mut ids: Vec<&str> = flags
        .map(|flag| flag.incident.as_str())
        .filter(|id| *id != labels::NO_ACT)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ask = Ask::new("incidents_by_id").with_texts("incident_ids", ids.iter().map(|id| (*id).to_owned()));
    let rows: Vec<IncidentRow> = tally.take(reader.rows(ask).await?);
    Ok(rows
        .into_iter()
        .map(|row| {
            let incident = Incident {
                id: row.id.clone(),
                title: row.title,
                status: row.status,
                severity: row.severity,
                opened_at: row.opened_at,
                last_alert_at: row.last_alert_at,
            };
            (row.id, incident)
        })
        .collect())
}

/// True if a time lies in what was recorded.
pub(crate) fn is_recorded(recorded: Option<&Recorded>, at: &str) -> bool {
    let Some(recorded) = recorded else { return false };
    let times = [&recorded.from, &recorded.to].map(|text| window::parse_rfc3339(text));
    match (times, window::parse_rfc3339(at)) {
        ([Some(from), Some(to)], Some(at)) => (from..to).contains(&at),
        _ => false,
    }
}

/// The address as the store has it.
pub(crate) fn mapped(ip: &str) -> String {
    match ip.parse::<std::net::Ipv4Addr>() {
        Ok(v4) => v4.to_ipv6_mapped().to_string(),
        Err(_) => ip.to_owned(),
    }
}
