//! What the operator's account may do and may not, asked of the API server with the chart's own rights; and that people with `edit` may
//! not make pipelines.

use anyhow::{Context as _, ensure};
use ja4_e2e::{Case, Need};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

/// Where a right is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Own,
    Other,
    Cluster,
}

#[test]
fn the_operator_may_what_it_must_and_nothing_else() {
    ja4_e2e::test(
        "the_operator_may_what_it_must_and_nothing_else",
        Need::nodes(2).with_node_access(),
        async |case| {
            case.install_operator(&[]).await?;
            let account = format!("system:serviceaccount:{}:ja4-operator", case.namespace);
            let mut allowed: Vec<(&str, &str, &[&str])> = vec![
                ("ja4platform.io", "ja4pipelines", &["list", "watch"]),
                ("ja4platform.io", "ja4pipelines/status", &["patch"]),
                ("", "pods", &["list", "watch"]),
                ("", "secrets", &["get", "list", "watch", "create", "patch"]),
                ("events.k8s.io", "events", &["create", "patch"]),
            ];
            let whole: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
            for (group, kinds) in [
                ("", &["configmaps", "services", "persistentvolumeclaims"][..]),
                (
                    "apps",
                    &["daemonsets", "deployments", "statefulsets", "controllerrevisions"],
                ),
                ("batch", &["jobs", "cronjobs"]),
                ("networking.k8s.io", &["networkpolicies", "ingresses"]),
            ] {
                allowed.extend(kinds.iter().map(|kind| (group, *kind, whole)));
            }
            for (group, resource, verbs) in &allowed {
                for verb in [
                    "get",
                    "list",
                    "watch",
                    "create",
                    "update",
                    "patch",
                    "delete",
                    "deletecollection",
                ] {
                    let is_expected = verbs.contains(&verb);
                    for place in [Place::Own, Place::Other, Place::Cluster] {
                        let is_allowed = may(&case, &account, &[], verb, group, resource, place).await?;
                        ensure!(
                            is_allowed == (is_expected && place == Place::Own),
                            "{verb} {resource} ({group}) at {place:?}: allowed is {is_allowed}"
                        );
                    }
                }
            }
            for (verb, group, resource) in [
                ("create", "", "pods"),
                ("delete", "", "pods"),
                ("create", "", "pods/exec"),
                ("get", "", "pods/log"),
                ("delete", "", "secrets"),
                ("list", "", "nodes"),
                ("list", "", "namespaces"),
                ("create", "", "serviceaccounts"),
                ("create", "", "serviceaccounts/token"),
                ("create", "rbac.authorization.k8s.io", "rolebindings"),
                ("bind", "rbac.authorization.k8s.io", "roles"),
                ("escalate", "rbac.authorization.k8s.io", "roles"),
                ("patch", "ja4platform.io", "ja4pipelines"),
                ("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
                ("impersonate", "", "users"),
            ] {
                for place in [Place::Own, Place::Cluster] {
                    ensure!(
                        !may(&case, &account, &[], verb, group, resource, place).await?,
                        "{verb} {resource} is allowed"
                    );
                }
            }
            // Who creates a pipeline listens on the network of nodes: `edit` and `admin` do not suffice.
            for role in ["edit", "admin"] {
                case.apply::<k8s_openapi::api::rbac::v1::RoleBinding>(json!({
                    "metadata": {"name": format!("a-person-{role}")},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
                }))
                .await?;
                for verb in ["create", "patch", "delete", "get"] {
                    let is_allowed = may(
                        &case,
                        role,
                        &[],
                        verb,
                        "ja4platform.io",
                        "ja4pipelines",
                        Place::Own,
                    )
                    .await?;
                    ensure!(!is_allowed, "a person with {role} may {verb} pipelines");
                }
            }
            Ok(())
        },
    );
}

/// Asks the API server whether somebody may do something.
async fn may(
    case: &Case,
    user: &str,
    groups: &[&str],
    verb: &str,
    group: &str,
    resource: &str,
    place: Place,
) -> anyhow::Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let namespace = match place {
        Place::Own => case.namespace.as_str(),
        Place::Other => "kube-system",
        Place::Cluster => "",
    };
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": user,
        "groups": groups,
        "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        },
    }}))?;
    let reviews: Api<SubjectAccessReview> = Api::all(case.client.clone());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .context("ask for a review")?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
