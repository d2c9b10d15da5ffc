//! From a `Ja4Pipeline` to the Kubernetes objects that it stands for.
//!
//! ```text
//! spec + facts ─▶ validate ─▶ ValidPipeline ─▶ desired ─▶ [Desired]   in the order of their stages, each with a hash
//! ```
//!
//! Read [`ValidPipeline`] and [`Desired`] first. Validating can fail and says with which remedy; building cannot. The same input gives
//! the same bytes, so an object is sent only when its hash changes. Each kind of part has a file; what is common to all pods is
//! in `pod`, the configuration files of the programs in `config`.
//!
//! Deliberately absent: clients, the clock, randomness. Secrets are named here and made elsewhere; their content never comes here.
#![warn(clippy::disallowed_methods, reason = "pure: spec and facts are arguments")]

mod config;
mod correlator;
mod dashboard;
mod detector;
mod monitoring;
mod network;
mod object;
mod pod;
mod schedule;
mod schema;
mod sensor;
mod store;
mod validate;

pub mod names;

pub use config::CORRELATOR_PORT;
pub use object::{Desired, Stage, covers, hash};
pub use schedule::Periods;
pub use validate::{Apis, Facts, Invalid, ValidDetector, ValidPipeline, release_number, unchecked, validate};

/// What the builders need beside the pipeline: what was observed of the world that changes objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Which try of the schema Job, from 0.
    pub schema_attempt: u32,
    /// The value of the annotation that asks for another try; empty for none.
    pub retry: String,
}

/// All objects of a pipeline, in the order in which they are to be applied.
pub fn desired(pipeline: &ValidPipeline, observed: &Observed) -> Vec<Desired> {
    let mut objects = Vec::new();
    objects.extend(store::objects(pipeline));
    objects.extend(schema::objects(pipeline, observed));
    objects.extend(correlator::objects(pipeline));
    objects.extend(dashboard::objects(pipeline));
    objects.extend(sensor::objects(pipeline));
    objects.extend(detector::objects(pipeline));
    objects.extend(network::objects(pipeline));
    objects.extend(monitoring::objects(pipeline));
    objects.sort_by_key(|object| object.stage);
    objects
}
