//! The overview: traffic, joins, clients by verdict, what is new.

use crate::api::types::{
    ClientCounts, JoinReason, Joins, Loss, Novelty, Overview, PipelineState, TrafficTotals,
};
use crate::error::ApiError;
use crate::pages::{Scope, facets, traffic};
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{ClientCountsRow, JoinReasonRow, LabelCountRow, LossRow, NoveltyRow};

/// New values of each kind that are shown.
const NOVELTIES_PER_KIND: u64 = 10;

/// The page. What is new is left out while the detector learns: then everything is.
pub(crate) async fn page(reader: &Reader, scope: &Scope, state: PipelineState) -> Result<Overview, ApiError> {
    let mut tally = Tally::new();
    let (mut a, mut b, mut c, mut d) = (Tally::new(), Tally::new(), Tally::new(), Tally::new());
    let (traffic, joins, clients, novelties, facets) = tokio::try_join!(
        async {
            let series = traffic::series(reader, &mut a, scope, None).await?;
            let totals = traffic::totals(reader, &mut a, scope, Some(&series)).await?;
            Ok((series, totals))
        },
        joins(reader, &mut b, scope),
        client_counts(reader, &mut c, scope),
        novelties(reader, scope, state),
        facets::facets(reader, &mut d, scope),
    )?;
    for part in [&a, &b, &c, &d] {
        tally.note(part.meta().truncated);
    }
    let (series, totals) = traffic;
    let TrafficTotals { clients: total, .. } = totals;
    Ok(Overview {
        window: series.span.window(),
        step_s: u32::try_from(series.step_s).unwrap_or(u32::MAX),
        joins: Joins {
            secure: series.points.iter().map(|point| point.secure).sum(),
            ..joins_of(joins, &series)
        },
        series: series.points,
        totals,
        clients: ClientCounts { total, ..clients },
        novelties,
        facets: facets.1,
        meta: tally.meta(),
    })
}

fn joins_of((reasons, loss): (Vec<JoinReason>, Vec<Loss>), series: &traffic::Series) -> Joins {
    let secure: u64 = series.points.iter().map(|point| point.secure).sum();
    let joined: u64 = series.points.iter().map(|point| point.joined).sum();
    Joins {
        secure,
        joined,
        rate: (secure > 0).then(|| joined.min(secure) as f64 / secure as f64),
        reasons,
        loss,
    }
}

async fn joins(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
) -> Result<(Vec<JoinReason>, Vec<Loss>), ApiError> {
    let reasons = Ask::new("join_reasons")
        .during(scope.span)
        .filter(&scope.filter.compile());
    let losses = Ask::new("losses").during(scope.span);
    let (reasons, losses) = tokio::try_join!(
        reader.rows::<JoinReasonRow>(reasons),
        reader.rows::<LossRow>(losses)
    )?;
    let reasons = tally
        .take(reasons)
        .into_iter()
        .map(|row| JoinReason {
            r#match: row.found,
            reason: row.why,
            requests: row.n_requests,
        })
        .collect();
    let losses = tally
        .take(losses)
        .into_iter()
        .map(|row| Loss {
            source: row.source,
            node: row.node,
            reason: row.reason,
            events: row.n_events,
        })
        .collect();
    Ok((reasons, losses))
}

/// Scored, flagged and labelled clients; their total is counted with the traffic.
async fn client_counts(reader: &Reader, tally: &mut Tally, scope: &Scope) -> Result<ClientCounts, ApiError> {
    let filter = scope.filter.compile_for_clients();
    let scored = Ask::new("client_counts").during(scope.span).filter(&filter);
    let labelled = Ask::new("label_counts").during(scope.span).filter(&filter);
    let (scored, labelled) = tokio::try_join!(
        reader.rows::<ClientCountsRow>(scored),
        reader.rows::<LabelCountRow>(labelled)
    )?;
    let scored = tally.take(scored).pop().unwrap_or_default();
    let mut counts = ClientCounts {
        scored: scored.n_scored,
        flagged: scored.n_flagged,
        alert: scored.n_alert,
        ..ClientCounts::default()
    };
    for row in tally.take(labelled) {
        match row.label.as_str() {
            "bot" => counts.bot = row.n_clients,
            "legitimate" => counts.legitimate = row.n_clients,
            "verified_crawler" => counts.verified_crawler = row.n_clients,
            "unsure" => counts.unsure = row.n_clients,
            _ => {}
        }
    }
    Ok(counts)
}

async fn novelties(
    reader: &Reader,
    scope: &Scope,
    state: PipelineState,
) -> Result<Option<Vec<Novelty>>, ApiError> {
    if matches!(state, PipelineState::Waiting | PipelineState::Learning) {
        return Ok(None);
    }
    let mut ask = Ask::new("novelties")
        .during(scope.span)
        .with("limit", NOVELTIES_PER_KIND);
    // First times are kept by host; another filter does not apply to them.
    if scope.filter.needs_only(&["host"]) && !scope.filter.needs_clients() {
        ask = ask.filter(&scope.filter.compile());
    }
    let rows: Vec<NoveltyRow> = reader.rows(ask).await?.rows;
    Ok(Some(
        rows.into_iter()
            .map(|row| Novelty {
                kind: row.new_kind,
                host: row.on_host,
                value: row.first_value,
                first_seen: row.first_seen_at,
                requests: row.n_requests,
            })
            .collect(),
    ))
}
