//! The page of one client, its timeline, requests and scores.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ja4_identity::{Catalogue, Dimension, Observation, Tcp, Verdict};

use crate::api::types::{
    Claims, ClientFacts, ClientKey, ClientPage, ClientRow, FeatureNumber, Matrix, MatrixCell,
    MatrixDimension, MatrixVerdict, Meta, Numbers, Recorded, Recurrence, ScorePoint, Scores, Shown, TcpFacts,
    Timeline, TimelineEvent, TimelineEventKind, TimelinePoint,
};
use crate::error::ApiError;
use crate::filter::{Filter, written};
use crate::pages::reasons::{finite, reason, verdict, voices, waterfall};
use crate::pages::{LAST_DAY, Scope, labels, parse_filter, traffic, triage};
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{
    DetectionRow, FactsRow, FeatureNamesRow, HashedRow, KeyRow, NumbersRow, RecurrenceRow, ScoreRow,
    ShownRow, SiblingRow, plain_ip,
};
use crate::window::{Span, now_s};

/// Models whose numbers are shown: those with most evidence.
const MAX_NUMBERS: usize = 4;
/// Events on a timeline.
const MAX_EVENTS: u64 = 200;
/// Scores of a list.
const MAX_SCORES: u64 = 1000;
/// Labels on the page.
const MAX_LABELS: u64 = 50;

/// One client and a window.
#[derive(Debug, Clone)]
pub(crate) struct OneClient {
    pub(crate) key: ClientKey,
    pub(crate) span: Span,
}

impl OneClient {
    /// From parameters.
    pub(crate) fn parse(
        src_ip: &str,
        ja4: Option<&str>,
        host: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Self, ApiError> {
        let keys = labels::check_clients(&[ClientKey {
            src_ip: src_ip.to_owned(),
            ja4: ja4.unwrap_or_default().to_owned(),
            host: host.to_owned(),
        }])?;
        let key = keys
            .into_iter()
            .next()
            .ok_or_else(|| ApiError::bad_parameter("no client is named"))?;
        Ok(Self {
            key,
            span: Span::parse(from, to, LAST_DAY, now_s())?,
        })
    }

    fn ask(&self, query: &'static str) -> Ask {
        Ask::new(query)
            .during(self.span)
            .with("src_ip", triage::mapped(&self.key.src_ip))
            .with("ja4", &self.key.ja4)
            .with("host", &self.key.host)
    }

    /// The requests of the client that pass a filter beside.
    pub(crate) fn scope(&self, q: Option<&str>) -> Result<Scope, ApiError> {
        Ok(Scope {
            span: self.span,
            filter: self.filter()?.and(parse_filter(q.unwrap_or_default())?),
        })
    }

    fn filter(&self) -> Result<Filter, ApiError> {
        let value = |text: &str| {
            if text.is_empty() {
                "\"\"".to_owned()
            } else {
                written(text)
            }
        };
        parse_filter(&format!(
            "src_ip:{} ja4:{} host:{}",
            self.key.src_ip,
            value(&self.key.ja4),
            value(&self.key.host)
        ))
    }
}

/// The page.
pub(crate) async fn page(
    reader: &Reader,
    recorded: Option<&Recorded>,
    one: &OneClient,
) -> Result<ClientPage, ApiError> {
    let mut tally = Tally::new();
    let (mut a, mut b) = (Tally::new(), Tally::new());
    let mapped_ip = triage::mapped(&one.key.src_ip);
    let filter = one.filter()?;
    let id = async {
        let ask = one.ask("client_id");
        Ok::<_, ApiError>(reader.rows::<KeyRow>(ask).await?.first())
    };
    let (key, facts, siblings, recurrence, history) = tokio::try_join!(
        id,
        reader.rows::<FactsRow>(one.ask("client_facts")),
        reader.rows::<SiblingRow>(one.ask("client_siblings").with("limit", 21)),
        reader.rows::<RecurrenceRow>(Ask::new("client_recurrence").with("src_ip", &mapped_ip)),
        labels::history(
            reader,
            &mut a,
            Span {
                from: 0,
                to: now_s() + 86_400
            },
            &filter,
            MAX_LABELS
        ),
    )?;
    let key = key.ok_or_else(|| ApiError::internal("client_id gave no row"))?;
    let client = triage::details(reader, &mut b, recorded, one.span, std::slice::from_ref(&key))
        .await?
        .pop()
        .ok_or_else(|| ApiError::internal("a client without a row"))?;
    let numbers = numbers(reader, &mut b, one, &client).await?;
    tally.note(b.meta().truncated);
    let facts = tally.take(facts).pop().filter(|facts| facts.n_requests > 0);
    let matrix = facts.as_ref().and_then(|facts| matrix(&one.key, facts));
    Ok(ClientPage {
        window: one.span.window(),
        matrix,
        facts: facts.map(client_facts),
        numbers,
        waterfalls: client
            .models
            .iter()
            .map(|model| waterfall(&model.model_name, &model.reasons, model.evidence_bits))
            .collect(),
        labels: history,
        recurrence: tally.take(recurrence).pop().map(|row| Recurrence {
            days_flagged: row.days_flagged,
            clients_flagged: row.entities_flagged,
            first_flagged_at: row.first_flagged_at,
            last_flagged_at: row.last_flagged_at,
            score_max: finite(row.score_max),
        }),
        siblings: tally
            .take(siblings)
            .into_iter()
            .filter(|row| row.ja4 != one.key.ja4 || row.host != one.key.host)
            .take(20)
            .map(|row| ClientKey {
                src_ip: one.key.src_ip.clone(),
                ja4: row.ja4,
                host: row.host,
            })
            .collect(),
        client,
        meta: tally.meta(),
    })
}

fn shown(rows: Vec<ShownRow>) -> Vec<Shown> {
    rows.into_iter()
        .filter(|(value, _, _)| !value.is_empty())
        .map(|(value, cut, requests)| Shown {
            value,
            cut: cut == 1,
            requests,
            hash: None,
        })
        .collect()
}

/// With the hash by which its group is asked for.
fn shown_hashed(rows: Vec<HashedRow>) -> Vec<Shown> {
    rows.into_iter()
        .filter(|(value, ..)| !value.is_empty())
        .map(|(value, cut, requests, hash)| Shown {
            value,
            cut: cut == 1,
            requests,
            hash: Some(hash),
        })
        .collect()
}

fn client_facts(row: FactsRow) -> ClientFacts {
    let tcp = tcp(&row);
    ClientFacts {
        user_agents: shown(row.user_agents),
        header_orders: shown_hashed(row.header_orders),
        h2_fps: shown(row.h2_fps),
        http_versions: shown(row.http_versions),
        methods: shown(row.methods),
        statuses: shown(row.statuses),
        paths: shown(row.paths),
        matches: shown(row.matches),
        contradictions: shown(row.contradicting),
        ja4_norm: row.one_ja4_norm,
        ja3: row.one_ja3,
        alpn: row.one_alpn,
        tls_version: row.one_tls_version,
        sni: row.one_sni,
        tcp,
        connections: row.n_connections,
        n_paths: row.n_paths,
    }
}

fn tcp(row: &FactsRow) -> Option<TcpFacts> {
    let (ttl, window, mss, wscale, options) = &row.tcp;
    (*ttl != 0).then(|| TcpFacts {
        ttl: *ttl,
        window: *window,
        mss: *mss,
        wscale: *wscale,
        options: options.clone(),
    })
}

/// Declared against observed, by the catalogue.
fn matrix(key: &ClientKey, facts: &FactsRow) -> Option<Matrix> {
    let address: IpAddr = plain_ip(&key.src_ip).parse().ok()?;
    let (agents, orders, versions) = (
        texts(facts.user_agents.iter().map(|row| &row.0)),
        texts(facts.header_orders.iter().map(|row| &row.0)),
        texts(facts.http_versions.iter().map(|row| &row.0)),
    );
    let h2_fp = facts
        .h2_fps
        .iter()
        .map(|(value, _, _)| value.as_str())
        .find(|value| !value.is_empty())
        .unwrap_or_default();
    let (ttl, window, mss, wscale, options) = &facts.tcp;
    let observation = Observation {
        user_agents: &agents,
        ja4: &key.ja4,
        ja4_norm: &facts.one_ja4_norm,
        alpn: &facts.one_alpn,
        tls_version: &facts.one_tls_version,
        header_orders: &orders,
        header_flags_or: facts.flags_or,
        header_flags_and: facts.flags_and,
        h2_fp,
        http_versions: &versions,
        tcp: (*ttl != 0).then_some(Tcp {
            ttl: *ttl,
            window: *window,
            mss: *mss,
            wscale: *wscale,
            options,
        }),
        ..Observation::new(address)
    };
    let compared = Catalogue::embedded().compare(&observation);
    Some(Matrix {
        claims: Claims {
            kind: compared.claims.kind.name().to_owned(),
            family: compared.claims.family,
            version: compared.claims.version,
            os: compared.claims.os,
        },
        cells: compared
            .cells
            .into_iter()
            .map(|cell| MatrixCell {
                dimension: dimension(cell.dimension),
                declared: cell.declared,
                observed: cell.observed,
                verdict: match cell.verdict {
                    Verdict::Agrees => MatrixVerdict::Agrees,
                    Verdict::Contradicts => MatrixVerdict::Contradicts,
                    Verdict::Unknown => MatrixVerdict::Unknown,
                },
                bits: f64::from(cell.bits),
                source: cell.source,
                why: cell.why,
            })
            .collect(),
    })
}

fn texts<'r>(values: impl Iterator<Item = &'r String>) -> Vec<&'r str> {
    values
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .collect()
}

fn dimension(dimension: Dimension) -> MatrixDimension {
    match dimension {
        Dimension::UserAgent => MatrixDimension::UserAgent,
        Dimension::Ja4 => MatrixDimension::Ja4,
        Dimension::HeaderOrder => MatrixDimension::HeaderOrder,
        Dimension::Http2 => MatrixDimension::Http2,
        Dimension::Tcp => MatrixDimension::Tcp,
        Dimension::Address => MatrixDimension::Address,
    }
}

/// The vectors of the models with most evidence, against the medians of their segments.
async fn numbers(
    reader: &Reader,
    tally: &mut Tally,
    one: &OneClient,
    client: &ClientRow,
) -> Result<Vec<Numbers>, ApiError> {
    if client.models.is_empty() {
        return Ok(Vec::new());
    }
    let names = feature_names(reader, tally).await?;
    let mut all = Vec::new();
    for model in client.models.iter().take(MAX_NUMBERS) {
        let ask = one.ask("client_numbers").with("model", &model.model_name);
        let Some(row) = tally.take(reader.rows::<NumbersRow>(ask).await?).pop() else {
            continue;
        };
        let Some(names) = names
            .values()
            .find(|names| names.len() == row.numbers.len() && !names.is_empty())
        else {
            continue;
        };
        all.push(Numbers {
            model_name: model.model_name.clone(),
            population: row.population,
            features: names
                .iter()
                .enumerate()
                .map(|(i, name)| {
                    let known = ja4_reasons::feature(name);
                    FeatureNumber {
                        feature: name.clone(),
                        title: known.map_or_else(|| name.clone(), |known| known.label.to_owned()),
                        unit: known.map_or_else(String::new, |known| known.unit.name().to_owned()),
                        value: row.numbers.get(i).copied().flatten(),
                        median: row.medians.get(i).copied().flatten(),
                        percentile: row.shares.get(i).copied().flatten().map(|share| share * 100.0),
                    }
                })
                .collect(),
        });
    }
    Ok(all)
}

/// Names of features by feature set: as the models have them, and those of this build.
async fn feature_names(
    reader: &Reader,
    tally: &mut Tally,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let rows: Vec<FeatureNamesRow> = tally.take(reader.rows(Ask::new("feature_names")).await?);
    let mut names: BTreeMap<String, Vec<String>> =
        rows.into_iter().map(|row| (row.feature_set, row.names)).collect();
    names
        .entry(ja4_reasons::FEATURE_SET.to_owned())
        .or_insert_with(|| {
            ja4_reasons::FEATURES
                .iter()
                .map(|feature| feature.name.to_owned())
                .collect()
        });
    Ok(names)
}

/// A client over time.
pub(crate) async fn timeline(
    reader: &Reader,
    one: &OneClient,
    step: Option<u32>,
) -> Result<Timeline, ApiError> {
    let step_s = one.span.step(step, 1)?;
    let scope = one.scope(None)?;
    let mut tally = Tally::new();
    let (mut a, mut b) = (Tally::new(), Tally::new());
    let (steps, detections, history) = tokio::try_join!(
        traffic::filtered_steps(reader, &mut a, &scope, step_s),
        reader.rows::<DetectionRow>(one.ask("client_detections").with("limit", MAX_EVENTS)),
        labels::history(reader, &mut b, one.span, &scope.filter, MAX_EVENTS),
    )?;
    tally.note(a.meta().truncated);
    let mut events: Vec<TimelineEvent> = tally
        .take(detections)
        .into_iter()
        .map(|row| {
            let first = row.reasons.first().map_or_else(String::new, |first| {
                format!(": {}", reason(first, &row.model_name, &one.key.host).text)
            });
            TimelineEvent {
                t: row.detected_at,
                kind: TimelineEventKind::Detection,
                text: format!(
                    "{} flagged it, {} severity, {:.1} bits{first}",
                    row.model_name,
                    row.severity,
                    finite(row.evidence_bits)
                ),
            }
        })
        .collect();
    events.extend(history.into_iter().map(|entry| TimelineEvent {
        t: entry.at,
        kind: TimelineEventKind::Label,
        text: match (entry.label, entry.undoes) {
            (Some(label), None) => format!("{} labelled it {}", entry.author, labels::name(label)),
            (Some(label), Some(_)) => format!(
                "{} took a label back; it is {} again",
                entry.author,
                labels::name(label)
            ),
            (None, _) => format!("{} took its label back", entry.author),
        },
    }));
    events.sort_by(|a, b| a.t.cmp(&b.t));
    let too_many = events
        .len()
        .saturating_sub(usize::try_from(MAX_EVENTS).unwrap_or(usize::MAX));
    events.drain(..too_many);
    Ok(Timeline {
        window: one.span.window(),
        step_s: u32::try_from(step_s).unwrap_or(u32::MAX),
        points: steps
            .into_iter()
            .map(|(start, row)| TimelinePoint {
                t: crate::window::rfc3339(start),
                requests: row.as_ref().map_or(0, |row| row.n_requests),
                errors: row.as_ref().map_or(0, |row| row.n_errors),
                bytes: row.as_ref().map_or(0, |row| row.n_bytes),
            })
            .collect(),
        events,
        meta: tally.meta(),
    })
}

/// Scores of a client.
pub(crate) async fn scores(reader: &Reader, one: &OneClient) -> Result<Scores, ApiError> {
    let mut tally = Tally::new();
    let rows: Vec<ScoreRow> = tally.take_list(reader.rows(one.ask("client_scores").limit(MAX_SCORES)).await?);
    let meta: Meta = tally.meta();
    Ok(Scores {
        window: one.span.window(),
        scores: rows
            .into_iter()
            .map(|row| ScorePoint {
                window_end: row.window_end,
                model_name: row.model_name,
                model_version: row.model_version,
                requests: row.requests,
                score: finite(row.score),
                evidence_bits: finite(row.evidence_bits),
                verdict: verdict(&row.decided),
                voices: voices(&row.voices),
            })
            .collect(),
        meta,
    })
}
