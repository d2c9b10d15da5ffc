#!/usr/bin/env bash
# flat.sh    writes install.yaml: the chart ja4-platform with its defaults in the namespace ja4-system, for `kubectl apply --server-side`.
#            `--check` writes nothing and fails when the file differs. HELM names another program than that of the path.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HELM=${HELM:-$(command -v helm || ls -t "$HOME"/.cache/ja4-platform/e2e/*/bin/helm 2>/dev/null | head -n 1 || true)}
[ -x "$HELM" ] || { echo "flat.sh: helm is missing: install Helm 4, or set HELM" >&2; exit 1; }
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
{
  cat <<'YAML'
# The operator with its defaults, written by charts/flat.sh from charts/ja4-platform: kubectl apply --server-side -f install.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: ja4-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
YAML
  "$HELM" template ja4 "$ROOT/charts/ja4-platform" --namespace ja4-system --skip-tests --kube-version 1.36.0
} >"$W/install.yaml"
if [ "${1:-}" = --check ]; then
  cmp -s "$W/install.yaml" "$ROOT/install.yaml" || { echo "flat.sh: install.yaml is not what the chart says: run charts/flat.sh" >&2; exit 1; }
else
  cp "$W/install.yaml" "$ROOT/install.yaml"
fi
