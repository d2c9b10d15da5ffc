#!/usr/bin/env bash
# sync.sh    copies into the charts what other folders own: Helm cannot read a file outside of a chart. `--check` copies nothing and fails
#            when a copy differs.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FILES="$ROOT/charts/ja4-platform/files"
check=${1:-}
status=0
one() { # source name
  if [ "$check" = --check ]; then
    cmp -s "$1" "$FILES/$2" || { echo "sync.sh: charts/ja4-platform/files/$2 differs from ${1#"$ROOT"/}: run charts/sync.sh" >&2; status=1; }
  else
    install -D -m 644 "$1" "$FILES/$2"
  fi
}
one "$ROOT/crds/ja4pipelines.yaml" ja4pipelines.yaml
one "$ROOT/operator/monitoring/operator-rules.yaml" operator-rules.yaml
one "$ROOT/operator/monitoring/grafana-dashboard.json" grafana-dashboard.json
exit $status
