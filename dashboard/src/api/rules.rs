//! Route that makes rules for what stands in front.

use axum::Json;
use axum::extract::State;

use crate::api::extract::JsonBody;
use crate::api::types::{ClientKey, Problem, Rules, RulesRequest, WouldHit};
use crate::auth::Analyst;
use crate::error::ApiError;
use crate::filter::{Filter, written};
use crate::pages::{labels, parse_filter};
use crate::rules::{self, Matched};
use crate::state::App;
use crate::store::read::Ask;
use crate::store::rows::{HitsRow, LegitimateRow};
use crate::store::write::Act;
use crate::window::{Span, now_s, rfc3339};

/// Rules of one question: a filter has at most so many terms, and travels in a URL.
const CHUNK: usize = 50;
/// Legitimate clients that are named.
const MAX_EXAMPLES: usize = 20;

/// Makes rules for what stands in front. For analysts.
#[utoipa::path(
    post,
    path = "/rules",
    tag = "acts",
    request_body = RulesRequest,
    responses((status = 200, body = Rules), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn rules(
    State(app): State<App>,
    Analyst(user): Analyst,
    JsonBody(body): JsonBody<RulesRequest>,
) -> Result<Json<Rules>, ApiError> {
    let clients = labels::check_clients(&body.clients)?;
    let now = now_s();
    let made =
        rules::make(body.format, body.r#match, &clients, &rfc3339(now)).map_err(ApiError::bad_parameter)?;
    let would_hit = would_hit(
        &app,
        &made.matched.iter().collect::<Vec<_>>(),
        Span::last_day(now),
    )
    .await?;
    app.writer
        .audit(&Act {
            user: user.session.user.clone(),
            act: "rules",
            object: made.filename.to_owned(),
            detail: serde_json::json!({
                "format": body.format,
                "match": body.r#match,
                "rules": made.matched.len(),
                "would_hit_requests": would_hit.requests,
                "would_hit_legitimate": would_hit.legitimate_clients,
            }),
            remote: user.remote,
        })
        .await?;
    Ok(Json(Rules {
        n_rules: made.matched.len() as u64,
        text: made.text,
        filename: made.filename.to_owned(),
        usage: made.usage.to_owned(),
        skipped: made.skipped,
        would_hit,
    }))
}

/// What they would have hit. Rules of one kind hit different requests, so that counts of parts add up.
async fn would_hit(app: &App, matched: &[&Matched], span: Span) -> Result<WouldHit, ApiError> {
    let mut hit = WouldHit {
        window: span.window(),
        requests: 0,
        clients: 0,
        legitimate_clients: 0,
        legitimate_examples: Vec::new(),
    };
    for chunk in matched.chunks(CHUNK) {
        let filter = filter(chunk)?.compile();
        let ask = |query| Ask::new(query).during(span).filter(&filter);
        let (hits, legitimate) = tokio::try_join!(
            app.reader.rows::<HitsRow>(ask("rules_hits")),
            app.reader.rows::<LegitimateRow>(ask("rules_legitimate")),
        )?;
        let hits = hits.first().unwrap_or_default();
        hit.requests += hits.n_requests;
        hit.clients += hits.n_clients;
        hit.legitimate_clients += legitimate.rows.len() as u64;
        let places = MAX_EXAMPLES.saturating_sub(hit.legitimate_examples.len());
        hit.legitimate_examples
            .extend(legitimate.rows.into_iter().take(places).map(|row| ClientKey {
                src_ip: row.ip,
                ja4: row.client_ja4,
                host: row.client_host,
            }));
    }
    Ok(hit)
}

fn filter(matched: &[&Matched]) -> Result<Filter, ApiError> {
    let terms: Vec<String> = matched
        .iter()
        .map(|value| match value {
            Matched::Address(ip) => format!("src_ip:{ip}"),
            // A rule compares the host without its port and without regard to case.
            Matched::AddressHost(ip, host) => {
                format!(
                    "(src_ip:{ip} (host:{0}* -host:{0}.* -host:{0}-* OR host:{0}))",
                    written(host)
                )
            }
            Matched::Ja4(ja4) => format!("ja4:{}", written(ja4)),
        })
        .collect();
    parse_filter(&terms.join(" OR "))
}
