#!/usr/bin/env bash
# test.sh    checks the rule files and runs their unit tests with promtool, on a copy where the placeholders are filled in. It also checks
#            that every alert fires in a test, has a runbook, and that rules and dashboard name only metrics of the list below.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
command -v promtool >/dev/null || { echo "test.sh: promtool is missing: apt-get install --no-install-recommends prometheus" >&2; exit 1; }
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
fail() { echo "test.sh: $*" >&2; exit 1; }

mkdir "$W/tests"
sed 's/NAMESPACE/ja4-system/g' "$HERE/operator-rules.yaml" >"$W/operator-rules.yaml"
sed 's/NAMESPACE/shop/g; s/PIPELINE/web/g' "$HERE/pipeline-rules.yaml" >"$W/pipeline-rules.yaml"
cp "$HERE"/tests/*.test.yaml "$W/tests/"

# Placeholders stand in label matchers only, so that filling them in cannot change anything else.
if sed 's/^ *#.*//; s/namespace="NAMESPACE"//g; s/pipeline="PIPELINE"//g' "$HERE"/*-rules.yaml | grep -nE 'NAMESPACE|PIPELINE'; then
  fail "a placeholder outside a label matcher, see above"
fi

promtool check rules --lint=all --lint-fatal "$W"/*-rules.yaml
promtool test rules "$W"/tests/*.test.yaml

alerts=$(sed -n 's/^ *- alert: //p' "$HERE"/*-rules.yaml | sort)
[ "$(uniq -d <<<"$alerts")" = "" ] || fail "two alerts of one name: $(uniq -d <<<"$alerts")"
for alert in $alerts; do
  # A test that expects the alert names it together with "firing" and its labels, or with its annotations.
  grep -qE "labels: ALERTS\{alertname=\"$alert\",alertstate=\"firing\"|runbook_url: docs/runbooks/$alert.md" "$W"/tests/*.test.yaml \
    || fail "no test in which $alert fires"
  [ -s "$ROOT/docs/runbooks/$alert.md" ] || fail "$alert has no runbook: docs/runbooks/$alert.md"
  grep -q "($alert.md)" "$ROOT/docs/runbooks/README.md" || fail "$alert is not in docs/runbooks/README.md"
  grep -q "runbook_url: docs/runbooks/$alert.md" "$HERE"/*-rules.yaml || fail "$alert has another runbook_url than docs/runbooks/$alert.md"
done
for page in "$ROOT"/docs/runbooks/Ja4*.md; do
  grep -qx "$(basename "$page" .md)" <<<"$alerts" || fail "$page is about no alert"
done

# Every metric that rules and dashboard name must be one that a program exports: a constant of a metrics.rs, or of the operator.
names=$(cat "$HERE"/*-rules.yaml "$HERE/grafana-dashboard.json" | grep -v '^ *#' \
  | grep -oE '\b(ja4_operator|sensor|forward|correlator|clickhouse|dashboard|detector)_[a-z0-9_]+(\{|\[|\)| |\|)' | tr -d '{[)| ' | sort -u)
known=$(grep -rhoE '"(ja4_operator|sensor|forward|correlator|clickhouse|dashboard|detector)_[a-z0-9_]+"' \
  "$ROOT"/{sensor-ds,correlator,embedded-clickhouse,dashboard,detector}/src/metrics.rs "$ROOT"/operator/src 2>/dev/null | tr -d '"' | sort -u)
missing_operator=0
for name in $names; do
  base=${name%_bucket}
  base=${base%_sum}
  if ! grep -qxE "$name|$base" <<<"$known"; then
    case $name in
      # Until operator/src/metrics.rs is there, only these are taken for granted.
      ja4_operator_*) grep -q ja4_operator_ <<<"$known" && fail "$name: no program exports it" || missing_operator=1 ;;
      *) fail "$name: no program exports it" ;;
    esac
  fi
done
[ "$missing_operator" = 0 ] || echo "test.sh: the operator's metrics are not checked: operator/src/metrics.rs is not there yet"
echo "$(wc -w <<<"$alerts") alerts, $(wc -w <<<"$names") metrics"
