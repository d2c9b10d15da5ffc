//! The kinds of children: what is watched, applied and pruned.

use kube::core::{ApiResource, GroupVersionKind};
use operator_manifests::Apis;

/// A kind of child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    /// Group; empty for the core.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) name: &'static str,
    pub(crate) plural: &'static str,
    /// What the cluster must have for it.
    needs: Needs,
    /// Whether the operator makes it; pods are made by others.
    pub(crate) is_ours: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Needs {
    Nothing,
    Monitoring,
    Gateway,
}

const fn ours(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    needs: Needs,
) -> Kind {
    Kind {
        group,
        version,
        name: kind,
        plural,
        needs,
        is_ours: true,
    }
}

/// Configuration, and whom clients of the store believe.
pub(crate) const CONFIG_MAP: Kind = ours("", "v1", "ConfigMap", "configmaps", Needs::Nothing);
/// Sets that were applied.
pub(crate) const CONTROLLER_REVISION: Kind = ours(
    "apps",
    "v1",
    "ControllerRevision",
    "controllerrevisions",
    Needs::Nothing,
);
/// Certificates and tokens. Not among [`KINDS`]: they are watched only where a Role says so.
pub(crate) const SECRET: Kind = ours("", "v1", "Secret", "secrets", Needs::Nothing);

/// Every kind of child.
pub(crate) const KINDS: [Kind; 15] = [
    CONFIG_MAP,
    ours("", "v1", "Service", "services", Needs::Nothing),
    ours(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        Needs::Nothing,
    ),
    ours("apps", "v1", "StatefulSet", "statefulsets", Needs::Nothing),
    ours("apps", "v1", "Deployment", "deployments", Needs::Nothing),
    ours("apps", "v1", "DaemonSet", "daemonsets", Needs::Nothing),
    CONTROLLER_REVISION,
    ours("batch", "v1", "Job", "jobs", Needs::Nothing),
    ours("batch", "v1", "CronJob", "cronjobs", Needs::Nothing),
    ours(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        Needs::Nothing,
    ),
    ours("networking.k8s.io", "v1", "Ingress", "ingresses", Needs::Nothing),
    ours(
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
        "httproutes",
        Needs::Gateway,
    ),
    ours(
        "monitoring.coreos.com",
        "v1",
        "PodMonitor",
        "podmonitors",
        Needs::Monitoring,
    ),
    ours(
        "monitoring.coreos.com",
        "v1",
        "PrometheusRule",
        "prometheusrules",
        Needs::Monitoring,
    ),
    Kind {
        group: "",
        version: "v1",
        name: "Pod",
        plural: "pods",
        needs: Needs::Nothing,
        is_ours: false,
    },
];

impl Kind {
    /// The kind of an object; nothing for one that is no child.
    pub(crate) fn of(api_version: &str, kind: &str) -> Option<Self> {
        KINDS
            .into_iter()
            .find(|known| known.name == kind && known.api_version() == api_version)
    }

    pub(crate) fn api_version(self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group, self.version, self.name);
        ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }

    /// True where the cluster has it.
    pub(crate) fn is_served(self, apis: Apis) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Monitoring => apis.monitoring,
            Needs::Gateway => apis.gateway,
        }
    }
}
