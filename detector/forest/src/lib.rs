//! Isolation forest and robust z on plain matrices: scores that say how strange a row is, and because of what.
//!
//! ```text
//! rows --> Model::fit --> Model --evaluate--> Evidence of each row: raw score, p-value and bits of two voices
//!                           |   --reasons---> the features those bits come from, with value, median, percentile
//!                           +-- to_bytes, from_bytes, check_features
//! ```
//!
//! Read [`Model`] first; [`ForestParams`] and [`Forest`] are the forest alone, on linfa's traits. A row's evidence in
//! bits is the sum of its voices' bits, and its reasons add up to it, so a caller can add voices of its own.
//!
//! ```
//! use detector_forest::{ForestParams, Model, Training};
//!
//! let mut rows = ndarray::Array2::from_shape_fn((400, 2), |(i, j)| ((i * (j + 3)) % 50) as f32);
//! rows[[7, 1]] = 4_037.0;
//! let training = Training {
//!     features: vec!["errors".to_owned(), "requests".to_owned()],
//!     from_s: 1_700_000_000,
//!     to_s: 1_700_003_600,
//!     ..Training::default()
//! };
//! let model = Model::fit(&rows, &ForestParams::new(1), training)?;
//! model.check_features(&["errors", "requests"])?;
//! let evidence = model.evaluate(&rows)?;
//! let strangest = (0..400).max_by(|&a, &b| evidence[a].bits.total_cmp(&evidence[b].bits));
//! assert_eq!(strangest, Some(7));
//! let reasons = model.reasoner().reasons(&[21.0, 4_037.0], &evidence[7])?;
//! assert_eq!(reasons[0].feature, Some(1));
//! let saved = model.to_bytes();
//! assert_eq!(Model::from_bytes(&saved)?, model);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Promises: the same seed and rows give the same bits at any number of threads and, with [`Sampling::Content`], in any
//! order of the rows; no size of input panics, from no row up; a missing value (NaN) is never taken for a number unless
//! the policy of its feature ([`Missing`]) says so; hostile bytes are refused, not trusted.
//!
//! Deliberately absent: sockets, files, clocks, environment, serde. The only threads are scoped ones that fill
//! separate parts of one result.
#![warn(clippy::disallowed_methods, reason = "pure: time and bytes are arguments")]

mod bytes;
mod evidence;
mod explain;
mod export;
mod forest;
mod model;
mod params;
mod rng;
mod robust;
mod rows;
mod sample;
mod tail;
mod tree;

pub use bytes::{ALGORITHM, FORMAT, LoadError, feature_hash};
pub use evidence::{Share, split_bits};
pub use explain::{Explainer, Explanation};
pub use forest::{FitError, Forest, ScoreError, average_path_length};
pub use model::{Evidence, FeatureMismatch, Model, REFERENCE_ROWS, Reason, Reasoner, Said, Training, Voice};
pub use params::{
    ForestParams, MAX_FEATURES, MAX_SUBSAMPLE, MAX_THREADS, MAX_TREES, Missing, ParamsError, Sampling,
    ValidForestParams,
};
pub use robust::{FeatureTable, MAX_Z};
pub use rows::{Rows, Value};
pub use tail::{EXTRAPOLATION_BITS, Tail};
