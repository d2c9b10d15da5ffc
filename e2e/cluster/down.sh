#!/usr/bin/env bash
# down.sh [--wipe]   stops everything that up.sh started; --wipe also removes the data.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in '' | --wipe) ;; *) die "usage: down.sh [--wipe]" ;; esac
[ -d "$STATE" ] || exit 0
if [ -z "${E2E_LOCKED:-}" ]; then
  exec 9>"$STATE/.lock"
  flock 9
fi
shopt -s nullglob
rm -f "$RUN/tier"
for f in "$RUN"/node*[0-9].pid; do kill_node "$(basename "$f" .pid)"; done
for n in coredns kube-scheduler kube-controller-manager forward kube-apiserver etcd; do stop "$n"; done
for f in "$RUN"/*netns.pid; do stop "$(basename "$f" .pid)"; done
rm -f "$RUN"/*.cmd
for ((t = 0; t < 50; t++)); do # a killed process leaves its cgroup a moment later
  left=
  for d in /sys/fs/cgroup"$CG" /sys/fs/cgroup/*"$CG"; do
    [ -d "$d" ] || continue
    find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ ! -d "$d" ] || left=1
  done
  [ -n "$left" ] || break
  sleep 0.1
done
[ -z "$left" ] || say "warning: cgroups of $CG are still busy; ctl.sh traces names who is in them"
if [ "${1:-}" = --wipe ]; then
  if [ -z "${E2E_LOCKED:-}" ]; then flock -u 9; fi
  rm -rf "$STATE"
fi
