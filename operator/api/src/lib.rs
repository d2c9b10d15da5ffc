//! The custom resource `Ja4Pipeline`, as people write it and as the operator answers.
//!
//! Read [`Ja4PipelineSpec`] for what can be asked and [`Ja4PipelineStatus`] for what is answered. The schema that the API server
//! enforces is generated from these types ([`crd()`]); [`check()`] applies the same schema, defaults and rules without a server,
//! so that `ja4-operator validate` refuses what the cluster would refuse.
//!
//! Everything that a person can write is bounded: strings by length and pattern, lists and maps by number. Defaults are in the
//! schema, so what `kubectl get -o yaml` shows is what holds. Deliberately absent: clients, files, the clock.
#![warn(clippy::disallowed_methods, reason = "pure: what to check is an argument")]
#![allow(
    unreachable_pub,
    reason = "the derive of schemas copies each struct into a function"
)]

pub mod conditions;
pub mod labels;

mod check;
mod components;
mod crd;
mod page;
mod pipeline;
mod scalars;
mod status;
mod store;

pub use check::{Fault, check, check_update};
pub use components::*;
pub use crd::crd;
pub use page::page;
pub use pipeline::*;
pub use scalars::*;
pub use status::*;
pub use store::*;

/// API group of the resource.
pub const GROUP: &str = "ja4platform.io";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "Ja4Pipeline";
