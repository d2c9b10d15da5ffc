//! Routes of files: everything that passes the filter, not only what a page shows.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use crate::api::extract::Params;
use crate::api::types::{ClientRow, ExportFormat, ExportParams, Problem};
use crate::auth::User;
use crate::body::{ChannelBody, Pieces, Unfinished};
use crate::error::ApiError;
use crate::export;
use crate::pages::{Scope, labels, triage};
use crate::state::App;
use crate::store::api_error;
use crate::store::read::{Ask, Tally};
use crate::store::rows::{TotalsRow, plain_ip};
use crate::store::write::Act;
use crate::window::{now_s, rfc3339};

/// A piece of a file is sent when it is so long, bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Longest line of the store, bytes: a request has some texts of at most 64 KB each, escaped.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Columns of a file of clients.
const CLIENT_COLUMNS: [&str; 22] = [
    "src_ip",
    "ja4",
    "host",
    "verdict",
    "evidence_bits",
    "score",
    "model",
    "reasons",
    "label",
    "label_note",
    "label_author",
    "requests",
    "errors",
    "bytes",
    "first_seen",
    "last_seen",
    "ua_family",
    "identity",
    "country",
    "asn",
    "as_name",
    "crawler",
];

/// Columns of a file of requests.
const REQUEST_COLUMNS: [&str; 21] = [
    "ts",
    "src_ip",
    "src_port",
    "ja4",
    "host",
    "method",
    "path",
    "query",
    "status",
    "bytes_sent",
    "duration_us",
    "user_agent",
    "ua_family",
    "referer",
    "country",
    "asn",
    "http_version",
    "match",
    "h2_fp",
    "header_order",
    "event_id",
];

/// All clients of the triage list that pass the filter.
#[utoipa::path(
    get,
    path = "/export/clients",
    tag = "export",
    params(ExportParams),
    responses(
        (status = 200, description = "the file; `x-rows` says how many rows it has, `x-truncated` that it was cut, and at how many", body = String, content_type = "text/csv"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn export_clients(
    State(app): State<App>,
    user: User,
    Params(params): Params<ExportParams>,
) -> Result<Response, ApiError> {
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), params.q.as_deref())?;
    let limit = app.config.limits.export_clients;
    let mut tally = Tally::new();
    let sort = params.sort.unwrap_or_default();
    let mut keys = triage::keys(&app.reader, &mut tally, &scope, sort, 0, limit + 1).await?;
    let is_cut = keys.len() as u64 > limit || tally.meta().truncated.is_some();
    keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let file = File {
        what: "clients",
        format: params.format,
        n_rows: keys.len() as u64,
        is_cut,
        limit,
    };
    record(&app, &user, &file, &scope, params.q.as_deref()).await?;
    let (pieces, body) = ChannelBody::new();
    let format = params.format;
    tokio::spawn(async move {
        let work = async {
            let mut out = export::header(format, &CLIENT_COLUMNS);
            for chunk in keys.chunks(triage::CHUNK) {
                let rows =
                    triage::details(&app.reader, &mut tally, app.recorded(), scope.span, chunk).await?;
                for row in &rows {
                    out.extend(export::line(format, &CLIENT_COLUMNS, &client(row)));
                }
                if !send(&pieces, &mut out).await {
                    return Ok(());
                }
            }
            send(&pieces, &mut out).await;
            Ok(())
        };
        finish(&pieces, work.await).await;
    });
    file.response(body)
}

fn client(row: &ClientRow) -> Map<String, Value> {
    let reasons: Vec<&str> = row.reasons.iter().map(|reason| reason.text.as_str()).collect();
    let label = row.label.as_ref();
    let values = json!({
        "src_ip": row.src_ip,
        "ja4": row.ja4,
        "host": row.host,
        "verdict": row.verdict,
        "evidence_bits": row.evidence_bits,
        "score": row.score,
        "model": row.models.first().map(|model| &model.model_name),
        "reasons": reasons.join("; "),
        "label": label.map(|label| labels::name(label.label)),
        "label_note": label.map(|label| &label.note),
        "label_author": label.map(|label| &label.author),
        "requests": row.requests,
        "errors": row.errors,
        "bytes": row.bytes,
        "first_seen": row.first_seen,
        "last_seen": row.last_seen,
        "ua_family": row.ua_family,
        "identity": row.identity.join("; "),
        "country": row.country,
        "asn": row.asn,
        "as_name": row.as_name,
        "crawler": row.crawler,
    });
    match values {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// All requests that pass the filter.
#[utoipa::path(
    get,
    path = "/export/requests",
    tag = "export",
    params(ExportParams),
    responses(
        (status = 200, description = "the file; `x-rows` says how many rows it has, `x-truncated` that it was cut, and at how many", body = String, content_type = "text/csv"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn export_requests(
    State(app): State<App>,
    user: User,
    Params(params): Params<ExportParams>,
) -> Result<Response, ApiError> {
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), params.q.as_deref())?;
    let limit = app.config.limits.export_requests;
    let filter = scope.filter.compile();
    let mut tally = Tally::new();
    let count = Ask::new("totals_filtered").during(scope.span).filter(&filter);
    let totals: TotalsRow = app
        .reader
        .rows(count)
        .await
        .map(|answer| tally.take(answer))?
        .pop()
        .unwrap_or_default();
    let file = File {
        what: "requests",
        format: params.format,
        n_rows: totals.n_requests.min(limit),
        is_cut: totals.n_requests > limit || tally.meta().truncated.is_some(),
        limit,
    };
    record(&app, &user, &file, &scope, params.q.as_deref()).await?;
    let ask = Ask::new("export_requests")
        .during(scope.span)
        .with("limit", limit)
        .filter(&filter);
    let mut rows = app.reader.stream(ask)?;
    let (pieces, body) = ChannelBody::new();
    let format = params.format;
    tokio::spawn(async move {
        let work = async {
            let mut out = export::header(format, &REQUEST_COLUMNS);
            let mut rest = Vec::new();
            while let Some(bytes) = rows
                .next()
                .await
                .map_err(|error| api_error("export_requests", &error))?
            {
                rest.extend_from_slice(&bytes);
                let mut start = 0;
                while let Some(end) = rest[start..].iter().position(|byte| *byte == b'\n') {
                    let row = request(&rest[start..start + end])?;
                    out.extend(export::line(format, &REQUEST_COLUMNS, &row));
                    start += end + 1;
                    if out.len() >= PIECE_BYTES && !send(&pieces, &mut out).await {
                        return Ok(());
                    }
                }
                rest.drain(..start);
                if rest.len() > MAX_LINE_BYTES {
                    return Err(ApiError::internal("export_requests: a line without an end"));
                }
            }
            if !rest.is_empty() {
                let row = request(&rest)?;
                out.extend(export::line(format, &REQUEST_COLUMNS, &row));
            }
            send(&pieces, &mut out).await;
            Ok(())
        };
        finish(&pieces, work.await).await;
    });
    file.response(body)
}

fn request(line: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let mut row: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
        ApiError::internal(format!(
            "export_requests: a line that is not as expected: {error}"
        ))
    })?;
    if let Some(Value::String(ip)) = row.get("src_ip") {
        let plain = plain_ip(ip);
        row.insert("src_ip".to_owned(), Value::String(plain));
    }
    if let Some(found) = row.remove("found") {
        row.insert("match".to_owned(), found);
    }
    Ok(row)
}

/// Sends what there is; false when nobody takes it any more.
async fn send(pieces: &Pieces, out: &mut Vec<u8>) -> bool {
    out.is_empty() || pieces.send(Ok(Bytes::from(std::mem::take(out)))).await.is_ok()
}

async fn finish(pieces: &Pieces, result: Result<(), ApiError>) {
    if let Err(error) = result {
        tracing::warn!(
            "an export was not finished: {}",
            error.log.unwrap_or(error.detail)
        );
        // Nobody may be there to hear it.
        let _heard = pieces.send(Err(Unfinished)).await;
    }
}

/// A file about to be sent.
struct File {
    what: &'static str,
    format: ExportFormat,
    n_rows: u64,
    is_cut: bool,
    limit: u64,
}

impl File {
    fn response(&self, body: ChannelBody) -> Result<Response, ApiError> {
        let (ending, content_type) = match self.format {
            ExportFormat::Csv => ("csv", "text/csv; charset=utf-8"),
            ExportFormat::Ndjson => ("ndjson", "application/x-ndjson"),
        };
        let at = rfc3339(now_s()).replace([':', '-'], "");
        let cut = if self.is_cut {
            format!("-cut-at-{}", self.limit)
        } else {
            String::new()
        };
        let mut response = Response::new(Body::new(body));
        let headers = response.headers_mut();
        let value = |text: String| {
            HeaderValue::try_from(text)
                .map_err(|error| ApiError::internal(format!("header of an export: {error}")))
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(
            CONTENT_DISPOSITION,
            value(format!(
                "attachment; filename=\"ja4-{}-{at}{cut}.{ending}\"",
                self.what
            ))?,
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-rows", value(self.n_rows.to_string())?);
        if self.is_cut {
            headers.insert("x-truncated", value(self.limit.to_string())?);
        }
        Ok(response)
    }
}

async fn record(app: &App, user: &User, file: &File, scope: &Scope, q: Option<&str>) -> Result<(), ApiError> {
    let window = scope.span.window();
    app.writer
        .audit(&Act {
            user: user.session.user.clone(),
            act: "export",
            object: file.what.to_owned(),
            detail: json!({
                "format": file.format,
                "q": q,
                "from": window.from,
                "to": window.to,
                "rows": file.n_rows,
                "cut": file.is_cut,
            }),
            remote: user.remote,
        })
        .await
}
