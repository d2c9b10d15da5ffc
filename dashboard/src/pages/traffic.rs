//! Traffic by step: from the minutes' aggregate where the filter asks for hosts only, else from the requests.

use std::collections::BTreeMap;

use crate::api::types::{Histogram, HistogramPoint, TrafficPoint, TrafficTotals};
use crate::error::ApiError;
use crate::pages::Scope;
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{ClientsTotalRow, HistogramRow, TotalsRow, TrafficRow};
use crate::window::{Span, rfc3339};

/// A traffic series, and the window and step that it is of.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) span: Span,
    pub(crate) step_s: i64,
    pub(crate) points: Vec<TrafficPoint>,
}

/// The aggregate has hosts and minutes.
fn from_aggregate(scope: &Scope, step_s: i64) -> bool {
    step_s >= 60 && scope.filter.needs_only(&["host"]) && !scope.filter.needs_clients()
}

/// Traffic of the window.
pub(crate) async fn series(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
    asked_step: Option<u32>,
) -> Result<Series, ApiError> {
    let mut step_s = scope.span.step(asked_step, 1)?;
    let mut span = scope.span;
    let query = if from_aggregate(scope, step_s) {
        step_s = scope.span.step(asked_step, 60)?;
        span = span.widened(60);
        "overview"
    } else {
        "traffic_filtered"
    };
    let ask = Ask::new(query)
        .during(span)
        .with("step_s", step_s)
        .filter(&scope.filter.compile());
    let rows: Vec<TrafficRow> = tally.take(reader.rows(ask).await?);
    let by_start: BTreeMap<i64, TrafficRow> = rows.into_iter().map(|row| (row.bucket, row)).collect();
    let points = span
        .steps(step_s)
        .map(|start| match by_start.get(&start) {
            Some(row) => TrafficPoint {
                t: rfc3339(start),
                requests: row.n_requests,
                s2xx: row.n_2xx,
                s3xx: row.n_3xx,
                s4xx: row.n_4xx,
                s5xx: row.n_5xx,
                bytes: row.n_bytes,
                secure: row.n_secure,
                joined: row.n_joined,
                h2: row.n_h2,
            },
            None => TrafficPoint {
                t: rfc3339(start),
                ..TrafficPoint::default()
            },
        })
        .collect();
    Ok(Series { span, step_s, points })
}

/// Totals of the window.
pub(crate) async fn totals(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
    series: Option<&Series>,
) -> Result<TrafficTotals, ApiError> {
    if let Some(series) = series
        && scope.filter.is_empty()
    {
        let ask = Ask::new("clients_total").during(scope.span);
        let clients = tally.take(reader.rows::<ClientsTotalRow>(ask).await?);
        let mut totals = TrafficTotals {
            clients: clients.first().map_or(0, |row| row.n_clients),
            ..TrafficTotals::default()
        };
        for point in &series.points {
            totals.requests += point.requests;
            totals.errors += point.s4xx + point.s5xx;
            totals.bytes += point.bytes;
        }
        return Ok(totals);
    }
    let ask = Ask::new("totals_filtered")
        .during(scope.span)
        .filter(&scope.filter.compile());
    let row: TotalsRow = reader
        .rows(ask)
        .await
        .map(|answer| tally.take(answer))?
        .pop()
        .unwrap_or_default();
    Ok(TrafficTotals {
        requests: row.n_requests,
        errors: row.n_errors,
        bytes: row.n_bytes,
        clients: row.n_clients,
    })
}

/// The histogram of a page.
pub(crate) async fn histogram(
    reader: &Reader,
    scope: &Scope,
    step: Option<u32>,
) -> Result<Histogram, ApiError> {
    let mut tally = Tally::new();
    let step_s = scope.span.step(step, 1)?;
    let (span, step_s, points): (Span, i64, Vec<HistogramPoint>) = if from_aggregate(scope, step_s) {
        let series = series(reader, &mut tally, scope, step).await?;
        let points = series
            .points
            .into_iter()
            .map(|point| HistogramPoint {
                t: point.t,
                requests: point.requests,
                errors: point.s4xx + point.s5xx,
            })
            .collect();
        (series.span, series.step_s, points)
    } else {
        let rows = filtered_steps(reader, &mut tally, scope, step_s).await?;
        let points = rows
            .into_iter()
            .map(|(start, row)| HistogramPoint {
                t: rfc3339(start),
                requests: row.as_ref().map_or(0, |row| row.n_requests),
                errors: row.as_ref().map_or(0, |row| row.n_errors),
            })
            .collect();
        (scope.span, step_s, points)
    };
    Ok(Histogram {
        window: span.window(),
        step_s: u32::try_from(step_s).unwrap_or(u32::MAX),
        total: points.iter().map(|point| point.requests).sum(),
        points,
        meta: tally.meta(),
    })
}

/// Every step of the window with what the requests of it were.
pub(crate) async fn filtered_steps(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
    step_s: i64,
) -> Result<Vec<(i64, Option<HistogramRow>)>, ApiError> {
    let ask = Ask::new("histogram_filtered")
        .during(scope.span)
        .with("step_s", step_s)
        .filter(&scope.filter.compile());
    let rows: Vec<HistogramRow> = tally.take(reader.rows(ask).await?);
    let mut by_start: BTreeMap<i64, HistogramRow> = rows.into_iter().map(|row| (row.bucket, row)).collect();
    Ok(scope
        .span
        .steps(step_s)
        .map(|start| (start, by_start.remove(&start)))
        .collect())
}
