//! Routes that help in the search bar.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Params;
use crate::api::types::{Field, FieldKind, Fields, Problem, Values, ValuesParams};
use crate::auth::User;
use crate::error::ApiError;
use crate::filter::fields::{FIELDS, Kind};
use crate::filter::{MAX_CHARS, MAX_TERMS, SYNTAX};
use crate::pages::facets::completes;
use crate::pages::{self, Scope, bounded};
use crate::state::App;

/// Longest text that values may begin with, characters.
const MAX_PREFIX_CHARS: usize = 512;

/// The dictionary of the filter language.
#[utoipa::path(
    get,
    path = "/fields",
    tag = "filter",
    responses((status = 200, body = Fields), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn fields(_user: User) -> Result<Json<Fields>, ApiError> {
    let fields = FIELDS
        .iter()
        .map(|field| Field {
            name: field.name.to_owned(),
            aliases: field.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            kind: match field.kind {
                Kind::Text => FieldKind::Text,
                Kind::Number(_) | Kind::Id => FieldKind::Number,
                Kind::Address => FieldKind::Address,
                Kind::Choice(_) | Kind::Bits(_) => FieldKind::Choice,
            },
            scope: field.scope(),
            description: field.description.to_owned(),
            values: field.choices().map(str::to_owned).collect(),
            example: field.example.to_owned(),
            completes: completes(field),
            is_facet: field.facet.is_some() && field.name != "user_agent",
            group_kind: field.group,
        })
        .collect();
    Ok(Json(Fields {
        fields,
        syntax: SYNTAX.iter().map(|rule| (*rule).to_owned()).collect(),
        max_length: MAX_CHARS,
        max_terms: MAX_TERMS,
    }))
}

/// Values of a field, with counts.
#[utoipa::path(
    get,
    path = "/values",
    tag = "filter",
    params(ValuesParams),
    responses((status = 200, body = Values), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn values(
    State(app): State<App>,
    _user: User,
    Params(params): Params<ValuesParams>,
) -> Result<Json<Values>, ApiError> {
    let scope = Scope::parse(params.from.as_deref(), params.to.as_deref(), params.q.as_deref())?;
    let limit = bounded("limit", params.limit, 12, 100)?;
    let prefix = params.prefix.unwrap_or_default();
    if prefix.chars().count() > MAX_PREFIX_CHARS {
        return Err(ApiError::bad_parameter(format!(
            "prefix has at most {MAX_PREFIX_CHARS} characters"
        )));
    }
    pages::facets::values(&app.reader, &scope, &params.field, &prefix, limit)
        .await
        .map(Json)
}
