//! Help for the search bar: which fields there are, which values they have.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Meta;

/// What values of a field look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldKind {
    /// Text: `field:value`, with `*` for any characters.
    Text,
    /// Number: `field:5`, `field:>=5`, `field:5..9`.
    Number,
    /// Address or network: `field:192.0.2.1`, `field:192.0.2.0/24`.
    Address,
    /// One of `values`.
    Choice,
}

/// What a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldScope {
    /// To a request.
    Request,
    /// To the client that made it.
    Client,
}

/// A field of the filter language.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Field {
    /// Name.
    pub(crate) name: String,
    /// Other names that are understood.
    pub(crate) aliases: Vec<String>,
    /// What its values look like.
    pub(crate) kind: FieldKind,
    /// What it belongs to.
    pub(crate) scope: FieldScope,
    /// What it is, with its unit.
    pub(crate) description: String,
    /// Its values, if they are few and known.
    pub(crate) values: Vec<String>,
    /// A filter that uses it.
    pub(crate) example: String,
    /// GET /api/v1/values knows its values with counts.
    pub(crate) completes: bool,
    /// GET /api/v1/facets has it.
    pub(crate) is_facet: bool,
    /// GET /api/v1/group has a page for its values, under this kind; null when not.
    #[schema(required)]
    pub(crate) group_kind: Option<super::GroupKind>,
}

/// The dictionary of the filter language.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Fields {
    /// All fields, in the order in which they are best shown.
    pub(crate) fields: Vec<Field>,
    /// How filters are written, one rule a line.
    pub(crate) syntax: Vec<String>,
    /// Longest filter, characters.
    pub(crate) max_length: usize,
    /// Most terms of a filter.
    pub(crate) max_terms: usize,
}

/// Which values are wanted.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ValuesParams {
    /// Field.
    pub(crate) field: String,
    /// What they begin with. Default: anything.
    pub(crate) prefix: Option<String>,
    /// Begin of the window. Default `now-24h`.
    pub(crate) from: Option<String>,
    /// End of the window. Default `now`.
    pub(crate) to: Option<String>,
    /// Filter that is set beside. Default: everything.
    pub(crate) q: Option<String>,
    /// Most values, 1 to 100; default 12.
    #[param(minimum = 1, maximum = 100)]
    pub(crate) limit: Option<u32>,
}

/// A value that the field has.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FieldValue {
    /// The value.
    pub(crate) value: String,
    /// The same as the filter language takes it: quoted where it must be.
    pub(crate) written: String,
    /// What it stands for; null when nothing is known.
    #[schema(required)]
    pub(crate) name: Option<String>,
    /// Requests.
    pub(crate) requests: u64,
    /// Client addresses; counted to within 2 %.
    pub(crate) clients: u64,
}

/// Values of one field.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Values {
    /// Field.
    pub(crate) field: String,
    /// Most frequent first.
    pub(crate) values: Vec<FieldValue>,
    /// How it came about.
    #[serde(flatten)]
    pub(crate) meta: Meta,
}
