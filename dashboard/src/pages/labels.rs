//! Labels: given with a note, kept with the vector that they judged, taken back by act.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::api::types::{
    ClientKey, Label, LabelAct, LabelEntry, LabelKind, LabelRequest, Labels, ProblemCode,
};
use crate::error::ApiError;
use crate::filter::Filter;
use crate::pages::triage::mapped;
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{ActRow, HistoryRow, LabelRow, VectorRow, plain_ip};
use crate::store::write::{LabelWrite, Writer};
use crate::window::{Span, now_s, now_us, parse_rfc3339, rfc3339, rfc3339_us};

/// Most clients of one act.
pub(crate) const MAX_CLIENTS: usize = 500;
/// Longest note, characters.
const MAX_NOTE_CHARS: usize = 2000;
/// Longest JA4 and host of a client that is named, bytes: what is longer is nobody's client.
const MAX_JA4_BYTES: usize = 256;
const MAX_HOST_BYTES: usize = 1024;
/// Addresses of one question: they travel in a URL.
const CHUNK: usize = 200;

/// The store's word for no act.
pub(crate) const NO_ACT: &str = "00000000-0000-0000-0000-000000000000";

/// Label of the store; none if it is not one of ours.
pub(crate) fn kind(text: &str) -> Option<LabelKind> {
    match text {
        "bot" => Some(LabelKind::Bot),
        "legitimate" => Some(LabelKind::Legitimate),
        "verified_crawler" => Some(LabelKind::VerifiedCrawler),
        "unsure" => Some(LabelKind::Unsure),
        _ => None,
    }
}

/// As the store writes it.
pub(crate) fn name(kind: LabelKind) -> &'static str {
    match kind {
        LabelKind::Bot => "bot",
        LabelKind::Legitimate => "legitimate",
        LabelKind::VerifiedCrawler => "verified_crawler",
        LabelKind::Unsure => "unsure",
    }
}

/// A label as answers have it.
pub(crate) fn label(row: &LabelRow) -> Option<Label> {
    Some(Label {
        label: kind(&row.label)?,
        note: row.note.clone(),
        author: row.author.clone(),
        at: version_time(row.version),
        expires_at: expiry(row.expires_s),
        act_id: (row.act_id != NO_ACT).then(|| row.act_id.clone()),
    })
}

fn version_time(version: u64) -> String {
    rfc3339_us(i64::try_from(version).unwrap_or(i64::MAX))
}

fn expiry(seconds: i64) -> Option<String> {
    (seconds > 0).then(|| rfc3339(seconds))
}

/// Checks clients that a request names, and writes their addresses the one way.
pub(crate) fn check_clients(clients: &[ClientKey]) -> Result<Vec<ClientKey>, ApiError> {
    if !(1..=MAX_CLIENTS).contains(&clients.len()) {
        return Err(ApiError::bad_parameter(format!(
            "clients must be 1 to {MAX_CLIENTS}, these are {}",
            clients.len()
        )));
    }
    let mut checked = BTreeSet::new();
    for client in clients {
        if client.src_ip.parse::<std::net::IpAddr>().is_err() {
            return Err(ApiError::bad_parameter("clients: src_ip must be an address"));
        }
        if client.ja4.len() > MAX_JA4_BYTES || client.host.len() > MAX_HOST_BYTES {
            return Err(ApiError::bad_parameter("clients: ja4 or host is too long"));
        }
        checked.insert(ClientKey {
            src_ip: plain_ip(&mapped(&client.src_ip)),
            ..client.clone()
        });
    }
    Ok(checked.into_iter().collect())
}

fn key(ip: &str, ja4: &str, host: &str) -> ClientKey {
    ClientKey {
        src_ip: ip.to_owned(),
        ja4: ja4.to_owned(),
        host: host.to_owned(),
    }
}

/// Labels clients.
pub(crate) async fn set(
    reader: &Reader,
    writer: &Writer,
    author: &str,
    request: &LabelRequest,
) -> Result<LabelAct, ApiError> {
    let clients = check_clients(&request.clients)?;
    let note = request.note.trim();
    if note.chars().count() > MAX_NOTE_CHARS {
        return Err(ApiError::bad_parameter(format!(
            "note has at most {MAX_NOTE_CHARS} characters"
        )));
    }
    let expires_at = match &request.expires_at {
        None => 0,
        Some(text) => {
            let at = parse_rfc3339(text).ok_or_else(|| {
                ApiError::bad_parameter("expires_at is not a time such as 2026-05-01T12:00:00Z")
            })? / 1_000_000;
            if at <= now_s() {
                return Err(ApiError::bad_parameter("expires_at has passed already"));
            }
            at
        }
    };
    let before = current(reader, &clients).await?;
    let mut vectors = vectors(reader, &clients).await?;
    let at = now_us();
    let act_id = Uuid::new_v4().to_string();
    let rows: Vec<LabelWrite> = clients
        .iter()
        .map(|client| {
            let judged = vectors.remove(client);
            LabelWrite {
                src_ip: mapped(&client.src_ip),
                ja4: client.ja4.clone(),
                host: client.host.clone(),
                version: next_version(at, before.get(client)),
                label: name(request.label).to_owned(),
                note: note.to_owned(),
                author: author.to_owned(),
                expires_at,
                deleted: 0,
                model_name: judged
                    .as_ref()
                    .map_or_else(String::new, |row| row.model_name.clone()),
                model_version: judged.as_ref().map_or(0, |row| row.model_version),
                feature_set: judged
                    .as_ref()
                    .map_or_else(String::new, |row| row.feature_set.clone()),
                features: judged.map_or_else(Vec::new, |row| numbers(&row.features)),
                act_id: act_id.clone(),
                undoes: NO_ACT.to_owned(),
                before_label: before
                    .get(client)
                    .filter(|row| row.holds == 1)
                    .map_or_else(String::new, |row| row.label.clone()),
            }
        })
        .collect();
    writer.labels(&rows).await?;
    Ok(LabelAct {
        act_id,
        changed: rows.len() as u64,
        left_alone: Vec::new(),
        at: rfc3339_us(at),
    })
}

/// Later than what is there, whatever our clock says.
fn next_version(at_us: i64, before: Option<&LabelRow>) -> u64 {
    let now = u64::try_from(at_us).unwrap_or(0);
    before.map_or(now, |row| now.max(row.version + 1))
}

fn numbers(features: &[Option<f64>]) -> Vec<f64> {
    features.iter().map(|number| number.unwrap_or(f64::NAN)).collect()
}

fn addresses(clients: &[ClientKey]) -> Vec<String> {
    let mut ips: Vec<String> = clients.iter().map(|client| mapped(&client.src_ip)).collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

async fn current(reader: &Reader, clients: &[ClientKey]) -> Result<HashMap<ClientKey, LabelRow>, ApiError> {
    let mut found = HashMap::new();
    for ips in addresses(clients).chunks(CHUNK) {
        let ask = Ask::new("client_labels").with_texts("ips", ips.iter().cloned());
        for row in reader.rows::<LabelRow>(ask).await?.rows {
            found.insert(key(&row.src_ip, &row.ja4, &row.host), row);
        }
    }
    Ok(found)
}

async fn vectors(reader: &Reader, clients: &[ClientKey]) -> Result<HashMap<ClientKey, VectorRow>, ApiError> {
    // What the analyst sees is at most a day old, or older by a look back.
    let now = now_s();
    let span = Span {
        from: now - 7 * 86_400,
        to: now + 1,
    };
    let wanted: BTreeSet<&ClientKey> = clients.iter().collect();
    let mut found = HashMap::new();
    for ips in addresses(clients).chunks(CHUNK) {
        let ask = Ask::new("client_vectors")
            .during(span)
            .with_texts("ips", ips.iter().cloned());
        for row in reader.rows::<VectorRow>(ask).await?.rows {
            let key = key(&row.src_ip, &row.ja4, &row.host);
            if wanted.contains(&key) {
                found.insert(key, row);
            }
        }
    }
    Ok(found)
}

/// Takes an act back: each of its clients gets the label that it had before, unless somebody labelled it since.
pub(crate) async fn undo(
    reader: &Reader,
    writer: &Writer,
    author: &str,
    act_id: &str,
) -> Result<LabelAct, ApiError> {
    let act = Uuid::parse_str(act_id)
        .map_err(|_| ApiError::bad_parameter("act_id must be the act_id of a label"))?
        .to_string();
    let rows: Vec<ActRow> = reader
        .rows(Ask::new("label_act").with("act_id", &act))
        .await?
        .rows;
    if rows.is_empty() || act == NO_ACT {
        return Err(ApiError::not_found("there is no such act"));
    }
    if rows.iter().any(|row| row.took_back != NO_ACT) {
        return Err(ApiError::new(
            ProblemCode::Conflict,
            "this act took a label back: label the clients again instead",
        ));
    }
    let at = now_us();
    let undo_id = Uuid::new_v4().to_string();
    let mut left_alone = Vec::new();
    let mut writes = Vec::new();
    for row in rows {
        let client = key(&row.ip, &row.client_ja4, &row.client_host);
        if row.now_act_id != act {
            left_alone.push(client);
            continue;
        }
        let had_label = row.before_version > 0 && row.before_deleted == 0;
        writes.push(LabelWrite {
            src_ip: mapped(&client.src_ip),
            ja4: client.ja4,
            host: client.host,
            version: u64::try_from(at).unwrap_or(0),
            label: if had_label {
                row.before_label_set
            } else {
                row.act_label.clone()
            },
            note: row.before_note,
            author: author.to_owned(),
            expires_at: row.before_expires_s,
            deleted: u8::from(!had_label),
            model_name: row.before_model_name,
            model_version: row.before_model_version,
            feature_set: row.before_feature_set,
            features: numbers(&row.before_features),
            act_id: undo_id.clone(),
            undoes: act.clone(),
            before_label: row.act_label,
        });
    }
    if writes.is_empty() {
        return Err(ApiError::new(
            ProblemCode::Conflict,
            "nothing to take back: every client of this act was labelled again since",
        ));
    }
    writer.labels(&writes).await?;
    Ok(LabelAct {
        act_id: undo_id,
        changed: writes.len() as u64,
        left_alone,
        at: rfc3339_us(at),
    })
}

/// What analysts decided in a window.
pub(crate) async fn page(reader: &Reader, span: Span, limit: u64) -> Result<Labels, ApiError> {
    let mut tally = Tally::new();
    let labels = history(reader, &mut tally, span, &Filter::default(), limit).await?;
    Ok(Labels {
        labels,
        meta: tally.meta(),
    })
}

/// Labels and undos, newest first.
pub(crate) async fn history(
    reader: &Reader,
    tally: &mut Tally,
    span: Span,
    filter: &Filter,
    limit: u64,
) -> Result<Vec<LabelEntry>, ApiError> {
    let ask = Ask::new("label_history")
        .with("from_us", span.from.max(0) * 1_000_000)
        .with("to_us", span.to.max(0) * 1_000_000)
        .limit(limit)
        .filter(&filter.compile());
    let rows: Vec<HistoryRow> = tally.take_list(reader.rows(ask).await?);
    Ok(rows
        .into_iter()
        .map(|row| LabelEntry {
            at: version_time(row.version),
            client: key(&row.src_ip, &row.ja4, &row.host),
            label: kind(&row.label).filter(|_| row.deleted == 0),
            before: kind(&row.before_label),
            note: row.words,
            author: row.author,
            expires_at: expiry(row.expires_s),
            undoes: (row.undoes != NO_ACT).then_some(row.undoes),
            undone: row.undone == 1,
            model_name: row.model_name,
            model_version: row.model_version,
            act_id: row.act_id,
        })
        .collect())
}
