//! Tests on a real Kubernetes cluster: attaching to one, waiting for it, looking at containers from outside.
//!
//! A test is a call of [`test()`] with what it [`Need`]s; it gets a [`Case`]: a client, a namespace of its own, and the
//! nodes where they can be reached. What the environment says decides the cluster:
//!
//! | `E2E_STATE` | `KUBECONFIG` | cluster |
//! |---|---|---|
//! | set | any | the one of `e2e/cluster/` with that state folder, already up (`cargo xtask e2e` does this) |
//! | unset | set | somebody else's: tests that look into nodes skip |
//! | unset | unset | one of `e2e/cluster/`, started for this process and its neighbours, stopped after the last |
//!
//! A test that cannot run prints `skipped: ` and why. One that fails keeps logs and events and prints where.

mod authority;
mod case;
mod cluster;
mod evidence;
mod helm;
mod images;
mod last_word;
pub mod manifests;
mod nodes;
pub mod pipeline;
mod pods;
pub mod resource;
pub mod store;
mod volume;
pub mod wait;

pub use authority::Authority;
pub use case::{Case, test};
pub use cluster::Need;
pub use helm::{HelmRun, charts};
pub use last_word::read_last_word;
pub use nodes::{ContainerProcess, NodeAccess, ProcStatus};
pub use pods::restarts;
pub use volume::NodeDisk;
pub use wait::JobEnd;
