//! Labels and annotations that the operator writes and reads. They are API: others select by them.

/// Label of every child: the pipeline's name.
pub const PIPELINE: &str = "ja4platform.io/pipeline";
/// Label of every child: which part it belongs to, such as `correlator`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label of every child: `ja4-platform`.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Label of every child: the program.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label of every child: the pipeline's name, as other tools look for it.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label of every child: `ja4-operator`.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label of the Jobs and pods of one detector: its name.
pub const DETECTOR: &str = "ja4platform.io/detector";

/// Annotation of every child: hash of what the operator last sent.
pub const APPLIED_HASH: &str = "ja4platform.io/applied-hash";
/// Annotation of pod templates: hash of the configuration that the pods read at their start.
pub const CONFIG_HASH: &str = "ja4platform.io/config-hash";
/// Annotation of a pipeline: any new value tries a failed step again.
pub const RETRY: &str = "ja4platform.io/retry";
/// Annotation of a pipeline: the hash in `status.plannedChanges` that a person agrees to.
pub const APPROVED: &str = "ja4platform.io/approved";
/// Value of [`PART_OF`].
pub const PLATFORM: &str = "ja4-platform";
/// Value of [`MANAGED_BY`] and field manager of the children.
pub const OPERATOR: &str = "ja4-operator";
/// Field manager of the status.
pub const STATUS_MANAGER: &str = "ja4-operator-status";
