# shellcheck shell=bash disable=SC2034
# What build.sh, up.sh, down.sh, ctl.sh and smoke.sh share: folders, recorded processes, one line for each failure.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
. "$HERE/versions.env"

say() { printf '%s %s\n' "$(date +%T.%3N)" "$*" >&2; }
die() { say "error: $*"; exit 1; }
unavailable() { say "error: $*"; exit 69; } # this machine lacks something, or it cannot be fetched: EX_UNAVAILABLE of sysexits.h
need() { command -v "$1" >/dev/null || unavailable "$1 is missing; install it (Debian: apt-get install $2), then run this again"; }

# State is this user's alone: it holds the cluster's keys. Two state folders are two clusters, side by side.
STATE=$(realpath -m "${E2E_STATE:-${TMPDIR:-/tmp}/ja4-e2e-$(id -u)/state}")
CACHE=$(realpath -m "${E2E_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp/ja4-e2e-$(id -u)}/.cache}/ja4-platform/e2e}")
KEY=$( (uname -m && cat "$HERE"/versions.env "$HERE"/build.sh "$HERE"/controlplane/*.go "$HERE"/controlplane/go.* "$HERE"/dns/*.go "$HERE"/dns/go.* "$HERE"/tool/*.go "$HERE"/tool/go.mod) | sha256sum | cut -c1-16)
KIT=$CACHE/$KEY # bin/ (controlplane, tool, helm, kubectl) and root/ (unpacked Debian packages)
BIN=$KIT/bin
PKI=$STATE/pki
RUN=$STATE/run
LOGS=$STATE/logs
CG=/ja4-e2e-$(printf %s "$STATE" | sha256sum | cut -c1-8) # parent of the cgroups of every node
export KUBECACHEDIR=$STATE/kubecache # kubectl writes nothing below HOME

own_folder() { # DIR: makes it for this user alone; refuses one that is somebody else's
  mkdir -p -m 0700 "$1" || die "cannot make $1; set E2E_STATE to a folder of your own"
  [ -O "$1" ] || die "$1 belongs to somebody else; set E2E_STATE to a folder of your own"
}
libraries_of() { # KIT: its folder of shared libraries
  echo "$1/root/usr/lib/$(uname -m)-linux-gnu"
}

# A pid file holds "pid starttime": a recycled pid is never signalled.
started_at() { # the 22nd field of stat, counted after the command name, which may hold blanks
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086
  set -- ${line##*) }
  [ "$1" != Z ] && echo "${20}"
}
pid_of() {
  local pid start
  [ -s "$RUN/$1.pid" ] || return 1
  read -r pid start <"$RUN/$1.pid" || return 1
  [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ] && echo "$pid"
}
record() {
  local start
  start=$(started_at "$2") || die "$1 ended at once: $(tail -n 5 "$LOGS/$1.log"); its log is $LOGS/$1.log"
  echo "$2 $start" >"$RUN/$1.pid"
}
start() { # name command...: detached, its command line is kept for ctl.sh start
  local name=$1
  shift
  printf '%q ' "${NS[@]}" "$@" >"$RUN/$name.cmd"
  start_again "$name"
}
start_again() {
  local -a words
  eval "words=($(cat "$RUN/$1.cmd"))"
  (cd "$RUN" && exec setsid "${words[@]}" >>"$LOGS/$1.log" 2>&1 </dev/null 9>&-) &
  record "$1" $!
}
stop() { # name [seconds]
  local pid i limit=$((${2:-10} * 10))
  pid=$(pid_of "$1") || { rm -f "$RUN/$1.pid"; return 0; }
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < limit; i++)); do pid_of "$1" >/dev/null || break; sleep 0.1; done
  if pid=$(pid_of "$1"); then
    say "$1 ignored SIGTERM, killing"
    kill -KILL "$pid" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do pid_of "$1" >/dev/null || break; sleep 0.1; done
  fi
  rm -f "$RUN/$1.pid"
}
# A node's first process takes every process, mount and container of the node with it.
kill_node() { # nodeI
  local p k t
  if p=$(pid_of "$1"); then
    k=$(tr -d ' \n' <"/proc/$p/task/$p/children" || true)
    kill -KILL "$p" 2>/dev/null || true
    for ((t = 0; t < 100; t++)); do started_at "${k:-none}" >/dev/null || break; sleep 0.1; done
  fi
  rm -f "$RUN/$1.pid"
}
