//! Why a client has its score: the structured reason as it is stored, the dictionary of features, and the sentence for people.
//!
//! Input: a [`Reason`] and the [`Place`] that it speaks of. Output: one plain sentence, such as "4 037 requests in 1 h; the
//! median of browsers on this host is 12". Read [`Reason`] and [`dictionary::FEATURES`] first. Values keep the unit of their
//! feature; a number that is not known is NaN. Texts of a reason may come from a client and are returned as they are: whoever
//! shows a sentence escapes it. Deliberately absent: computing anything.
#![warn(clippy::disallowed_methods, reason = "pure: time and bytes are arguments")]

pub mod dictionary;
mod number;
mod sentence;

use serde::{Deserialize, Serialize};

pub use dictionary::{
    Direction, FEATURE_SET, FEATURES, Family, Feature, SESSIONS_MAX, Transform, Unit, feature,
};
pub use number::{amount, grouped};
pub use sentence::{Place, sentence};

/// Name of the reason that holds what is not listed, so that contributions of a row add up.
pub const REST: &str = "~rest";

/// Voices of the detector. A label of an analyst speaks with a voice of its own and no bits.
pub mod voice {
    /// Isolation forest.
    pub const FOREST: &str = "forest";
    /// The most extreme features by robust z.
    pub const ROBUST_Z: &str = "robust_z";
    /// Declared against observed.
    pub const CONSISTENCY: &str = "consistency";
    /// What clients of one prefix, fingerprint, header order or host do together.
    pub const GROUP: &str = "group";
    /// What an analyst said.
    pub const LABEL: &str = "label";
}

/// One reason, in the order of the columns of the tables' tuple.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Who says so: see [`voice`].
    pub voice: String,
    /// Name of a feature of the dictionary, a dimension of the identity comparison, a group's measure, or [`REST`].
    pub feature: String,
    /// Value of the feature in its unit; NaN where there is none.
    pub value: f64,
    /// Median of the population in the feature's unit; NaN where there is none.
    pub median: f64,
    /// Share of the population with a smaller value, 0 to 100; NaN where there is none.
    pub percentile: f32,
    /// Part of the row's evidence, bits.
    pub contribution: f32,
    /// What the client says that it is; for a group the number of its clients; for a label the label.
    pub declared: String,
    /// What was seen instead, and behind ` — ` the comparison's own sentence; for a group its kind and value; for a label who
    /// set it and when.
    pub observed: String,
    /// Line of the catalogue that says so; for statistics the population: `host:312` or `site:312`, its size behind it.
    pub source: String,
}

impl Reason {
    /// A reason of a feature; other texts empty.
    pub fn of_feature(voice: &str, feature: &str, contribution: f32) -> Self {
        Self {
            voice: voice.to_owned(),
            feature: feature.to_owned(),
            value: f64::NAN,
            median: f64::NAN,
            percentile: f32::NAN,
            contribution,
            declared: String::new(),
            observed: String::new(),
            source: String::new(),
        }
    }
}
