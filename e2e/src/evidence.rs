//! What is shown and kept of a failure: states of pods, events, logs of pods and of the cluster's own parts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};

use crate::case::Case;

/// Lines of each container's log in an error's text; the files have all.
const LINES_SHOWN: i64 = 20;

/// The states of pods, the events and the ends of the logs, as text.
pub(crate) async fn describe(case: &Case) -> String {
    let mut text = events(case).await;
    for pod in pods(case).await {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        let _written = writeln!(text, "pod {}: {}", pod.name_any(), phase.unwrap_or_default());
        for container in containers(&pod) {
            let log = log(case, &pod.name_any(), &container, Some(LINES_SHOWN), false).await;
            for line in log.lines() {
                let _written = writeln!(text, "  {container}: {line}");
            }
        }
    }
    text
}

/// Writes what there is into the test's folder and returns it. What cannot be had is said in its file.
pub(crate) async fn keep(case: &Case) -> PathBuf {
    let folder = case.log_folder();
    // What an earlier run left would mislead.
    let _removed = std::fs::remove_dir_all(&folder);
    if let Err(error) = std::fs::create_dir_all(&folder) {
        return folder.join(format!("(not written: {error})"));
    }
    write(&folder, "events.txt", &events(case).await);
    let pods = pods(case).await;
    write(
        &folder,
        "pods.json",
        &serde_json::to_string_pretty(&pods).unwrap_or_default(),
    );
    for pod in &pods {
        for container in containers(pod) {
            let name = pod.name_any();
            let text = log(case, &name, &container, None, false).await;
            write(&folder, &format!("{name}.{container}.log"), &text);
            if restarted(pod, &container) {
                let text = log(case, &name, &container, None, true).await;
                write(&folder, &format!("{name}.{container}.previous.log"), &text);
            }
        }
    }
    if let Some(nodes) = case.node_access() {
        for (name, path) in nodes.component_logs() {
            let _copied = std::fs::copy(path, folder.join(name));
        }
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    // The failure itself is what matters; a full disk must not hide it.
    let _written = std::fs::write(folder.join(name), text);
}

async fn events(case: &Case) -> String {
    let list = match case.api::<Event>().list(&ListParams::default()).await {
        Ok(list) => list,
        Err(error) => return format!("no events: {error}\n"),
    };
    list.items.iter().fold(String::new(), |mut text, event| {
        let object = &event.involved_object;
        let _written = writeln!(
            text,
            "event {} {}/{}: {}: {}",
            event.type_.as_deref().unwrap_or_default(),
            object.kind.as_deref().unwrap_or_default(),
            object.name.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default(),
        );
        text
    })
}

async fn pods(case: &Case) -> Vec<Pod> {
    let list = case.api::<Pod>().list(&ListParams::default()).await;
    list.map(|list| list.items).unwrap_or_default()
}

fn containers(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers).map(|c| c.name.clone()).collect()
}

fn restarted(pod: &Pod, container: &str) -> bool {
    let statuses = pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    statuses
        .filter(|status| status.name == container)
        .any(|status| status.restart_count > 0)
}

async fn log(case: &Case, pod: &str, container: &str, lines: Option<i64>, previous: bool) -> String {
    let params = LogParams {
        container: Some(container.to_owned()),
        tail_lines: lines,
        previous,
        ..LogParams::default()
    };
    let answer = case.api::<Pod>().logs(pod, &params).await;
    answer.unwrap_or_else(|error| format!("(no log: {error})"))
}
