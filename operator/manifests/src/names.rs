//! Names of children: made of the pipeline's name, which has 30 characters at most, so that none is too long.

use operator_api::Component;

/// Folder on nodes with the sockets of a pipeline.
pub fn sockets_folder(namespace: &str, pipeline: &str) -> String {
    format!("/var/run/ja4/{namespace}/{pipeline}")
}

/// Folder on nodes with the spool of a pipeline.
pub fn spool_folder(namespace: &str, pipeline: &str) -> String {
    format!("/var/lib/ja4/{namespace}/{pipeline}")
}

/// Main object of a component.
pub fn of(pipeline: &str, component: Component) -> String {
    format!("{pipeline}-{}", component.as_str())
}

/// `CronJob` of a detector: 52 characters at most, because a Job's name has eleven more.
pub fn cron_job(pipeline: &str, detector: &str) -> String {
    format!("{pipeline}-det-{detector}")
}

/// Job that runs a detector once when it is installed, so that its state is known at once.
pub fn first_job(pipeline: &str, detector: &str) -> String {
    format!("{pipeline}-det-{detector}-first")
}

/// A Secret or `ConfigMap` that the operator makes, such as `correlator-tls`.
pub fn secret(pipeline: &str, what: &str) -> String {
    format!("{pipeline}-{what}")
}

/// `ConfigMap` with the certificates that clients of the store believe.
pub fn trust(pipeline: &str) -> String {
    format!("{pipeline}-trust")
}

/// What certificates name the pipeline.
pub fn identity(namespace: &str, pipeline: &str) -> String {
    format!("{namespace}.{pipeline}")
}

/// A Service's name in the cluster.
pub fn service_host(namespace: &str, service: &str) -> String {
    format!("{service}.{namespace}.svc")
}
