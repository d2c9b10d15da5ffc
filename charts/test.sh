#!/usr/bin/env bash
# test.sh    checks the charts: lint and rendering over ci/*-values.yaml, refusal of ci/negative/*.yaml by the schema with a message that
#            names the key, pod security and rights of all that is rendered, and, where kubernetes-validate is there, the schemas of
#            Kubernetes 1.33 to 1.37. HELM and KUBERNETES_VALIDATE name other programs than those of the path.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fail() { echo "test.sh: $*" >&2; exit 1; }
HELM=${HELM:-$(command -v helm || ls -t "$HOME"/.cache/ja4-platform/e2e/*/bin/helm 2>/dev/null | head -n 1 || true)}
[ -x "$HELM" ] || fail "helm is missing: install Helm 4, or set HELM"
VALIDATE=${KUBERNETES_VALIDATE:-$(command -v kubernetes-validate || true)}
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT

"$HERE/sync.sh" --check
HELM=$HELM "$HERE/flat.sh" --check
cp -r "$HERE/ja4-platform" "$HERE/ja4-pipeline" "$W/"
CRD="$W/ja4-platform/files/ja4pipelines.yaml"
for chart in ja4-platform ja4-pipeline; do
  python3 "$HERE/check.py" values "$HERE/$chart"
  for values in "$HERE/$chart"/ci/*-values.yaml; do
    name=$chart-$(basename "$values" -values.yaml)
    "$HELM" lint --strict --quiet "$W/$chart" --namespace shop -f "$values" >"$W/lint" 2>&1 || { cat "$W/lint" >&2; fail "lint of $name"; }
    "$HELM" template web "$W/$chart" --namespace shop -f "$values" >"$W/$name.yaml"
    python3 "$HERE/check.py" rendered "$W/$name.yaml" "$W/built-in" "$CRD"
    "$HELM" template web "$W/$chart" --namespace shop -f "$values" --api-versions monitoring.coreos.com/v1/PodMonitor \
      --api-versions monitoring.coreos.com/v1/PrometheusRule >"$W/$name-monitored.yaml"
    python3 "$HERE/check.py" rendered "$W/$name-monitored.yaml" "$W/built-in" "$CRD"
  done
  for values in "$HERE/$chart"/ci/negative/*.yaml; do
    word=$(sed -n 's/^# names: //p' "$values")
    [ -n "$word" ] || fail "$values: no line '# names: KEY'"
    if "$HELM" template web "$W/$chart" --namespace shop -f "$values" >/dev/null 2>"$W/refusal"; then
      fail "$chart accepts ${values#"$HERE"/}"
    fi
    grep -q "the specifications of the schema" "$W/refusal" || { cat "$W/refusal" >&2; fail "${values#"$HERE"/} is not refused by the schema"; }
    grep -qF -- "$word" "$W/refusal" || { cat "$W/refusal" >&2; fail "the refusal of ${values#"$HERE"/} does not name $word"; }
  done
done

# What the values mean. Each line: chart, values, then a text that must be rendered, or one after ! that must not.
expect() { # file pattern
  local file=$W/$1.yaml pattern=$2
  if [ "${pattern#!}" != "$pattern" ]; then
    ! grep -qE -- "${pattern#!}" "$file" || fail "$1 has ${pattern#!}"
  else
    grep -qE -- "$pattern" "$file" || fail "$1 lacks $pattern"
  fi
}
expect ja4-platform-default 'image: localhost/ja4-operator:0\.'
expect ja4-platform-default '^kind: ClusterRoleBinding'
expect ja4-platform-default '^kind: PodDisruptionBudget'
expect ja4-platform-default '!namespaces='
expect ja4-platform-default '!^kind: (PodMonitor|PrometheusRule)'
expect ja4-platform-default '!^ +resources: \[secrets\]'
expect ja4-platform-default-monitored '^kind: PodMonitor'
expect ja4-platform-default-monitored 'honorLabels: true'
expect ja4-platform-default-monitored 'runbook_url: docs/runbooks/Ja4OperatorDown.md'
expect ja4-platform-default-monitored 'namespace="shop"'
expect ja4-platform-one-replica '!^kind: (PodDisruptionBudget|NetworkPolicy|ConfigMap)'
expect ja4-platform-one-replica-monitored '!^kind: (PodMonitor|PrometheusRule)'
expect ja4-platform-namespaced '!^kind: ClusterRole'
expect ja4-platform-namespaced 'namespaces=shop,payments'
expect ja4-platform-namespaced '^  namespace: payments'
expect ja4-platform-no-crd '!^kind: (CustomResourceDefinition|ClusterRoleBinding)'
expect ja4-platform-no-crd 'serviceAccountName: ja4-operator-of-mine'
expect ja4-platform-everything 'image: mirror.example.org/security/ja4-operator@sha256:'
expect ja4-platform-everything 'image-registry=registry.example.org:5000/security'
expect ja4-platform-everything 'containerPort: 9090'
expect ja4-platform-everything 'runbook_url: https://git.example.org/ja4-platform/-/blob/main/docs/runbooks/Ja4OperatorDown.md'
expect ja4-pipeline-default '^  name: web$'
expect ja4-pipeline-default 'embedded: \{\}'
expect ja4-pipeline-external '!embedded'
expect ja4-pipeline-external '^  name: ja4platform-pki-shop'
expect ja4-pipeline-no-rbac '!^kind: Role'
if "$HELM" template a-release-with-a-name-that-is-too-long "$W/ja4-pipeline" >/dev/null 2>"$W/refusal"; then fail "a name of 31 characters is accepted"; fi
grep -q 'at most 30 characters' "$W/refusal" || fail "the refusal of a long name does not say how long it may be"

if [ -n "$VALIDATE" ]; then
  for version in 1.33 1.34 1.35 1.36 1.37; do
    "$VALIDATE" -k "$version" --strict --no-warn "$W"/built-in/*.yaml >"$W/validate" 2>&1 || { grep -v 'passed' "$W/validate" >&2; fail "schemas of Kubernetes $version"; }
  done
  echo "$(ls "$W/built-in" | wc -l) objects fit the schemas of Kubernetes 1.33 to 1.37"
else
  echo "test.sh: kubernetes-validate is missing, schemas of Kubernetes are not checked: pip install kubernetes-validate" >&2
fi
