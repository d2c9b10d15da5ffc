//! Facets and completion: from hourly aggregates without a filter, else from the requests, at most so many of them.

use std::collections::BTreeMap;

use crate::api::types::{Facet, FacetValue, Facets, FieldValue, Truncated, TruncatedBy, Values};
use crate::error::ApiError;
use crate::filter::fields::{FIELDS, FieldDef, Kind, Target};
use crate::filter::{fields, written};
use crate::pages::reasons::identity;
use crate::pages::{HOURLY_FROM_S, Scope};
use crate::store::read::{Ask, Reader, Tally};
use crate::store::rows::{FacetRow, ValueRow};

/// Values of one facet.
const VALUES_PER_FACET: u64 = 10;

/// Requests that facets are counted of, where they cannot come from an aggregate: counting takes half a microsecond for
/// each, and a page should be there in a tenth of a second. More are cut, and the answer says so.
const MAX_COUNTED: u64 = 200_000;

/// Facets of the window.
pub(crate) async fn page(reader: &Reader, scope: &Scope) -> Result<Facets, ApiError> {
    let mut tally = Tally::new();
    let (span, facets) = facets(reader, &mut tally, scope).await?;
    Ok(Facets {
        window: span.window(),
        facets,
        meta: tally.meta(),
    })
}

/// Facets, and the window that they are of.
pub(crate) async fn facets(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
) -> Result<(crate::window::Span, Vec<Facet>), ApiError> {
    // One more than is shown tells that there are more.
    let limit = VALUES_PER_FACET + 1;
    let (span, rows) = if scope.filter.is_empty() && scope.span.seconds() >= HOURLY_FROM_S {
        let span = scope.span.widened(3600);
        let ask = Ask::new("facets").during(span).with("limit", limit);
        (span, tally.take(reader.rows::<FacetRow>(ask).await?))
    } else {
        let ask = Ask::new("facets_filtered")
            .during(scope.span)
            .with("limit", limit)
            .with("n", MAX_COUNTED)
            .filter(&scope.filter.compile());
        let rows = tally.take(reader.rows::<FacetRow>(ask).await?);
        // Every request has exactly one method.
        note_if_cut(
            tally,
            rows.iter()
                .filter(|row| row.dim == "method")
                .map(|row| row.n_requests)
                .sum(),
        );
        (scope.span, rows)
    };
    let mut by_dim: BTreeMap<String, Vec<FacetRow>> = BTreeMap::new();
    for row in rows {
        by_dim.entry(row.dim.clone()).or_default().push(row);
    }
    let facets = FIELDS
        .iter()
        .filter_map(|field| {
            let mut rows = by_dim.remove(field.facet?)?;
            let more = rows.len() as u64 > VALUES_PER_FACET;
            rows.truncate(usize::try_from(VALUES_PER_FACET).unwrap_or(usize::MAX));
            Some(Facet {
                field: field.name.to_owned(),
                values: rows.into_iter().map(|row| facet_value(field, row)).collect(),
                more,
            })
        })
        .collect();
    Ok((span, facets))
}

fn note_if_cut(tally: &mut Tally, n_counted: u64) {
    if n_counted >= MAX_COUNTED {
        tally.note(Some(Truncated {
            by: TruncatedBy::Rows,
            limit: MAX_COUNTED,
        }));
    }
}

fn facet_value(field: &FieldDef, row: FacetRow) -> FacetValue {
    FacetValue {
        name: name_of(field, &row.value),
        value: row.value,
        requests: row.n_requests,
        errors: row.n_errors,
        clients: row.n_clients,
    }
}

/// What a value stands for.
fn name_of(field: &FieldDef, value: &str) -> Option<String> {
    match field.name {
        "ja4" | "ja4_norm" => {
            let names = identity(value);
            (!names.is_empty()).then(|| names.join("; "))
        }
        _ => None,
    }
}

/// Columns whose values `values_filtered` can give; `path` is what it gives for any other.
const COMPLETED: &[&str] = &[
    "src_ip",
    "path",
    "path_template",
    "match_reason",
    "contradictions",
    "sni",
    "alpn",
    "tls_version",
    "h2_fp",
    "source",
    "node",
];

/// True if [`values`] knows values of the field.
pub(crate) fn completes(field: &FieldDef) -> bool {
    field.facet.is_some() || COMPLETED.contains(&field.name) || field.choices().next().is_some()
}

/// Values of a field that begin with a text.
pub(crate) async fn values(
    reader: &Reader,
    scope: &Scope,
    field_name: &str,
    prefix: &str,
    limit: u64,
) -> Result<Values, ApiError> {
    let field = fields::named(field_name).ok_or_else(|| {
        ApiError::bad_parameter(format!(
            "there is no field {field_name:?}: GET /api/v1/fields has all"
        ))
    })?;
    let mut tally = Tally::new();
    let values = if matches!(field.kind, Kind::Choice(_) | Kind::Bits(_)) && field.facet.is_none() {
        field
            .choices()
            .filter(|choice| choice.starts_with(prefix))
            .map(|choice| ValueRow {
                value: choice.to_owned(),
                n_requests: 0,
                n_clients: 0,
            })
            .collect()
    } else if !completes(field) {
        Vec::new()
    } else {
        stored_values(reader, &mut tally, scope, field, prefix, limit).await?
    };
    Ok(Values {
        field: field.name.to_owned(),
        values: values
            .into_iter()
            .map(|row| FieldValue {
                written: written(&row.value),
                name: name_of(field, &row.value),
                value: row.value,
                requests: row.n_requests,
                clients: row.n_clients,
            })
            .collect(),
        meta: tally.meta(),
    })
}

async fn stored_values(
    reader: &Reader,
    tally: &mut Tally,
    scope: &Scope,
    field: &FieldDef,
    prefix: &str,
    limit: u64,
) -> Result<Vec<ValueRow>, ApiError> {
    if let Some(dim) = field.facet
        && scope.filter.is_empty()
        && scope.span.seconds() >= HOURLY_FROM_S
    {
        let ask = Ask::new("facet")
            .during(scope.span.widened(3600))
            .with("dim", dim)
            .with("prefix", prefix)
            .limit(limit);
        return Ok(tally.take_list(reader.rows(ask).await?));
    }
    let Target::Column(column) = field.target else {
        return Ok(Vec::new());
    };
    let ask = Ask::new("values_filtered")
        .during(scope.span)
        .with("dim", column)
        .with("prefix", prefix)
        .with("n", MAX_COUNTED)
        .limit(limit)
        .filter(&scope.filter.compile());
    let rows: Vec<ValueRow> = tally.take_list(reader.rows(ask).await?);
    note_if_cut(tally, rows.iter().map(|row| row.n_requests).sum());
    Ok(rows)
}
