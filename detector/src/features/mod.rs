//! From what the store counts of a client to the vector of the dictionary: first what its own row gives, then its context.
//!
//! ```text
//! row (columns) ──local──> vector with NaN where context is needed ──context──> vector ──model──> transformed, filled
//! ```

pub mod columns;
pub mod context;
pub mod local;

pub use columns::{ClientRow, Raw};
use ja4_reasons::FEATURES;

/// Length of a vector.
pub const N_FEATURES: usize = FEATURES.len();

/// Position of a feature, known at compile time.
///
/// # Panics
/// When no feature has that name; in a constant this is an error of compilation.
pub const fn position(name: &str) -> usize {
    let mut idx = 0;
    while idx < FEATURES.len() {
        if same(FEATURES[idx].name.as_bytes(), name.as_bytes()) {
            return idx;
        }
        idx += 1;
    }
    panic!("no feature has this name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut idx = 0;
    while idx < a.len() {
        if a[idx] != b[idx] {
            return false;
        }
        idx += 1;
    }
    true
}

/// What a share is a share of: how many things were counted decides how far it is shrunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Requests.
    Requests = 0,
    /// Requests whose answer was seen.
    Answers = 1,
    /// Requests whose headers are known.
    Headers = 2,
    /// Requests joined with a connection.
    Joined = 3,
    /// Paths, or neighbours: what else there is few of.
    Other = 4,
    /// Requests with a cookie.
    Cookies = 5,
    /// Sessions, from 1 to [`ja4_reasons::SESSIONS_MAX`]: what volumes are divided by.
    Sessions = 6,
}

/// Number of [`Base`]s.
pub const N_BASES: usize = 7;

/// The base of each share.
pub fn base(name: &str) -> Base {
    match name {
        "ratio_4xx" | "ratio_404" | "ratio_401_403" | "ratio_5xx" | "ratio_redirect"
        | "conditional_ratio" => Base::Answers,
        "no_language_ratio" | "no_encoding_ratio" | "no_sec_fetch_ratio" | "no_referer_ratio"
        | "cookie_ratio" | "client_hint_ratio" => Base::Headers,
        "sni_ratio" | "resumed_ratio" | "pq_ratio" | "contradicting_ratio" => Base::Joined,
        "sessions_per_request" => Base::Cookies,
        "rare_path_share" | "prefix_flagged_share" => Base::Other,
        _ => Base::Requests,
    }
}

/// Measures of what browsers do and the people before them: their headers, what a page loads at once, that people go away
/// again. Of a client that says that it is something else they are missing: a program without Accept-Language or pictures, or
/// one that asks all day, is no more of a bot than another.
const OF_BROWSERS: [usize; 12] = [
    position("active_minutes"),
    position("requests_per_connection"),
    position("static_ratio"),
    position("path_entropy"),
    position("transition_entropy"),
    position("gap_fast_share"),
    position("header_count_mean"),
    position("no_language_ratio"),
    position("no_encoding_ratio"),
    position("no_sec_fetch_ratio"),
    position("no_referer_ratio"),
    position("cookie_ratio"),
];

/// Takes the features of browsers out of a vector.
pub fn forget_browser_features(values: &mut [f32]) {
    for idx in OF_BROWSERS {
        values[idx] = f32::NAN;
    }
}
