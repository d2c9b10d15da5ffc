"""Checks what Helm rendered: pod security, rights, labels, the definition; splits it for validation. Called by test.sh.

    check.py values CHART              every key of values.yaml is described there and in the schema, and every object schema is closed
    check.py rendered FILE OUT CRD     asserts the rules below of all objects in FILE, writes those of built-in kinds to OUT
"""

import json
import re
import sys
from pathlib import Path

try:
    import yaml
except ImportError:
    sys.exit("check.py: PyYAML is missing: apt-get install python3-yaml")

# Groups whose schemas Kubernetes itself has.
BUILT_IN = {"", "apps", "batch", "policy", "networking.k8s.io", "rbac.authorization.k8s.io", "apiextensions.k8s.io"}
# Schemas that hand on what Kubernetes checks itself, with any keys.
OPEN = {"spec", "global", "nodeAffinity", "podAffinity", "podAntiAffinity", "namespaceSelector", "podSelector"}


def fail(text):
    sys.exit(f"check.py: {text}")


def check_values(chart):
    """Values, their comments and their schema say the same."""
    schema = json.loads((chart / "values.schema.json").read_text())
    text = (chart / "values.yaml").read_text()
    values = yaml.safe_load(text)
    lines = text.splitlines()
    for i, line in enumerate(lines):
        # A key needs a comment above it, except what is inside a default that is handed on as a whole.
        key = re.match(r"( *)([A-Za-z]+):", line)
        if key and not (i and lines[i - 1].lstrip().startswith("#")):
            path = [key.group(2)]
            indent = len(key.group(1))
            for above in reversed(lines[:i]):
                outer = re.match(r"( *)([A-Za-z]+):", above)
                if outer and len(outer.group(1)) < indent:
                    indent = len(outer.group(1))
                    path.insert(0, outer.group(2))
            if path[0] not in ("resources", "spec"):
                fail(f"{chart.name}: values.yaml: {'.'.join(path)} has no comment")

    def walk(node, path):
        if "enum" in node or "type" in node:
            if not node.get("description"):
                fail(f"{chart.name}: schema of {path} has no description")
        if node.get("type") == "object":
            if "additionalProperties" not in node:
                fail(f"{chart.name}: schema of {path} is open")
            if node["additionalProperties"] is True and path.split(".")[-1] not in OPEN:
                fail(f"{chart.name}: schema of {path} is open")
        for name, child in node.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        # What a list holds may be plain text, which the list's description is about.
        if isinstance(node.get("items"), dict) and node["items"].get("type") == "object":
            walk(node["items"], f"{path}[]")

    def compare(node, value, path):
        if not isinstance(value, dict) or "properties" not in node:
            return
        for name in value:
            if name not in node["properties"]:
                fail(f"{chart.name}: values.yaml has {path}.{name}, the schema has not")
            compare(node["properties"][name], value[name], f"{path}.{name}")
        if path.split(".")[-1] not in ("affinity", "requests", "limits"):
            for name in node["properties"]:
                if name not in value:
                    fail(f"{chart.name}: the schema has {path}.{name}, values.yaml has not")

    walk(schema, "values")
    compare(schema, values, "values")
    readme = (chart / "README.md").read_text()
    for name in values:
        if f"`{name}" not in readme:
            fail(f"{chart.name}: README.md does not name `{name}`")


def pod_of(doc):
    """Pod spec of an object that has one, and the pod's metadata."""
    kind = doc["kind"]
    if kind == "Pod":
        return doc["spec"], doc["metadata"]
    if kind in ("Deployment", "DaemonSet", "StatefulSet", "Job"):
        return doc["spec"]["template"]["spec"], doc["spec"]["template"]["metadata"]
    if kind == "CronJob":
        template = doc["spec"]["jobTemplate"]["spec"]["template"]
        return template["spec"], template["metadata"]
    return None, None


def check_restricted(where, pod):
    """The restricted profile of pod security, and what we ask for beyond it."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            fail(f"{where}: {key}")
    outer = pod.get("securityContext", {})
    if outer.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        fail(f"{where}: seccompProfile is not RuntimeDefault")
    if outer.get("runAsNonRoot") is not True or outer.get("runAsUser") in (None, 0):
        fail(f"{where}: may run as root")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= allowed:
            fail(f"{where}: volume {volume['name']} is of a kind that restricted refuses")
    for container in pod.get("initContainers", []) + pod["containers"]:
        inner = container.get("securityContext", {})
        name = f"{where}: {container['name']}"
        if inner.get("allowPrivilegeEscalation") is not False:
            fail(f"{name}: allowPrivilegeEscalation is not false")
        if inner.get("capabilities") != {"drop": ["ALL"]}:
            fail(f"{name}: capabilities are not drop ALL and nothing else")
        if inner.get("readOnlyRootFilesystem") is not True:
            fail(f"{name}: the root can be written")
        if inner.get("privileged") or inner.get("runAsUser") == 0 or inner.get("runAsNonRoot") is False:
            fail(f"{name}: asks for more than its pod")
        if any("hostPort" in port for port in container.get("ports", [])):
            fail(f"{name}: hostPort")
        resources = container.get("resources", {})
        if not resources.get("requests") or "memory" not in resources.get("limits", {}):
            fail(f"{name}: no requests, or no limit of memory")


def check_role(where, doc):
    """Rights are named one by one, and Secrets are in no ClusterRole."""
    for rule in doc["rules"]:
        if "*" in rule.get("apiGroups", []) + rule["resources"] + rule["verbs"]:
            fail(f"{where}: a wildcard")
        if {"nodes", "namespaces", "roles", "clusterroles", "pods/exec"} & set(rule["resources"]):
            fail(f"{where}: {rule['resources']}")
        if {"bind", "escalate", "impersonate", "deletecollection"} & set(rule["verbs"]):
            fail(f"{where}: {rule['verbs']}")
        if doc["kind"] == "ClusterRole" and "secrets" in rule["resources"]:
            fail(f"{where}: Secrets of every namespace")
    if any(label.startswith("rbac.authorization.k8s.io/aggregate") for label in doc["metadata"].get("labels", {})):
        fail(f"{where}: is added to a role of Kubernetes' own")


def check_rendered(path, out, crd):
    docs = [doc for doc in yaml.safe_load_all(path.read_text()) if doc]
    seen = set()
    built_in = []
    for doc in docs:
        group = doc["apiVersion"].rpartition("/")[0]
        meta = doc["metadata"]
        where = f"{doc['kind']} {meta['name']}"
        key = (group, doc["kind"], meta.get("namespace"), meta["name"])
        if key in seen:
            fail(f"{where} is there twice")
        seen.add(key)
        if doc["kind"] not in ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition") and not meta.get("namespace"):
            fail(f"{where}: no namespace")
        if meta.get("labels", {}).get("app.kubernetes.io/part-of") != "ja4-platform":
            fail(f"{where}: no label app.kubernetes.io/part-of")
        for name, value in {**meta.get("labels", {}), **meta.get("annotations", {})}.items():
            if not isinstance(value, str):
                fail(f"{where}: {name} is no text")
        pod, pod_meta = pod_of(doc)
        if pod:
            check_restricted(where, pod)
        if doc["kind"] in ("Role", "ClusterRole"):
            check_role(where, doc)
        if doc["kind"] == "Deployment":
            for label, value in doc["spec"]["selector"]["matchLabels"].items():
                if pod_meta["labels"].get(label) != value:
                    fail(f"{where}: the selector does not find its pods")
        if doc["kind"] == "CustomResourceDefinition":
            if meta["annotations"].get("helm.sh/resource-policy") != "keep":
                fail(f"{where}: would go with the release")
            if doc["spec"] != yaml.safe_load(crd.read_text())["spec"]:
                fail(f"{where}: Helm changed what the operator's types generate")
        if doc["kind"] == "PrometheusRule" and "NAMESPACE" in json.dumps(doc):
            fail(f"{where}: a placeholder is left")
        if group in BUILT_IN:
            built_in.append(doc)
    out.mkdir(parents=True, exist_ok=True)
    for i, doc in enumerate(built_in):
        (out / f"{path.stem}-{i}.yaml").write_text(yaml.safe_dump(doc))
    print(f"{path.stem}: {len(docs)} objects")


match sys.argv[1:]:
    case ["values", chart]:
        check_values(Path(chart))
    case ["rendered", rendered, out, crd]:
        check_rendered(Path(rendered), Path(out), Path(crd))
    case _:
        sys.exit(__doc__)
