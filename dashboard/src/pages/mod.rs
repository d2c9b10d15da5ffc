//! What each page is made of: questions to the store, put together into an answer.

pub(crate) mod client;
pub(crate) mod facets;
pub(crate) mod group;
pub(crate) mod labels;
pub(crate) mod overview;
pub(crate) mod reasons;
pub(crate) mod requests;
pub(crate) mod status;
pub(crate) mod traffic;
pub(crate) mod triage;

use crate::api::types::{Position, ProblemCode};
use crate::error::ApiError;
use crate::filter::{Filter, FilterError};
use crate::window::{Span, now_s};

/// Where a window begins when nothing is said.
pub(crate) const LAST_DAY: &str = "now-24h";
/// Where the window of a list of acts begins when nothing is said.
pub(crate) const LAST_WEEK: &str = "now-7d";

/// Windows from this length on are answered from hourly aggregates where they can be: the hours at both ends are then
/// counted whole, which the answer's window says.
pub(crate) const HOURLY_FROM_S: i64 = 2 * 3600;

/// Window and filter of a page.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) span: Span,
    pub(crate) filter: Filter,
}

impl Scope {
    /// From parameters.
    pub(crate) fn parse(from: Option<&str>, to: Option<&str>, q: Option<&str>) -> Result<Self, ApiError> {
        Ok(Self {
            span: Span::parse(from, to, LAST_DAY, now_s())?,
            filter: parse_filter(q.unwrap_or_default())?,
        })
    }
}

/// Reads a filter.
pub(crate) fn parse_filter(text: &str) -> Result<Filter, ApiError> {
    Filter::parse(text).map_err(bad_filter)
}

fn bad_filter(error: FilterError) -> ApiError {
    let mut problem = ApiError::new(ProblemCode::BadFilter, error.message).with_remedy(error.remedy);
    problem.position = Some(Position {
        offset: error.offset,
        length: error.length,
    });
    problem
}

/// A number within its bounds, or the default.
pub(crate) fn bounded(name: &str, asked: Option<u32>, default: u32, max: u32) -> Result<u64, ApiError> {
    match asked {
        None => Ok(u64::from(default)),
        Some(n) if (1..=max).contains(&n) => Ok(u64::from(n)),
        Some(_) => Err(ApiError::bad_parameter(format!("{name} must be 1 to {max}"))),
    }
}
