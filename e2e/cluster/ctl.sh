#!/usr/bin/env bash
# ctl.sh status                     components, pids, memory
# ctl.sh env                        shell lines: KUBECONFIG, PATH with kubectl and helm
# ctl.sh load IMAGE.tar...          imports image archives into every node
# ctl.sh image REF BINARY [args]    makes an image of one binary (with its shared libraries) and loads it
# ctl.sh in-node I -- CMD...        runs a command inside node I (its pid, mount, network and uts namespaces)
# ctl.sh in-net [I] -- CMD...       runs a command of the host in the network of the control plane (or of node I)
# ctl.sh first-process I            the first process of node I, as a number of this machine: its files are below /proc/N/root
# ctl.sh kill COMPONENT [SIGNAL]    signals etcd, kube-apiserver, ..., or containerd/kubelet/kube-proxy as NAME@I
# ctl.sh stop|start COMPONENT       stops (TERM, then KILL) or starts again one part of the control plane or a whole node (nodeI)
# ctl.sh logs COMPONENT             path of a log
# ctl.sh traces [NETNS...]          all that is on this machine because of this state folder, a line each: processes, mounts,
#                                   network namespaces, cgroups; and who still holds the network namespaces given by number
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [ -s "$STATE/kit" ]; then # what the running cluster was started from
  KIT=$(cat "$STATE/kit")
  BIN=$KIT/bin
fi
first_process() { # of node I, as a pid of the host
  local p
  p=$(pid_of "node$1") || die "node$1 is not up"
  tr -d ' \n' <"/proc/$p/task/$p/children"
}
in_node() {
  local i=$1
  shift
  env PATH="$BIN:$KIT/root/usr/sbin:$KIT/root/usr/bin:$PATH" LD_LIBRARY_PATH="$(libraries_of "$KIT")" \
    nsenter -t "$(first_process "$i")" --pid --mount --net --uts -- "$@"
}
nodes() { for f in "$RUN"/node*[0-9].pid; do [ -e "$f" ] && basename "$f" .pid | tr -dc 0-9 && echo; done; }
load() {
  local i f
  for i in $(nodes); do for f; do in_node "$i" ctr -n k8s.io images import "$f"; done; done
}
traces() {
  local p pid net line name d held=" $* " host_net rel
  rel=$(stat -c %m "$(dirname "$STATE")" 2>/dev/null) || rel=/ # a mount's root is named from the top of its file system
  rel=/${STATE#"${rel%/}/"}
  local -A seen_mounts=() seen_nets=()
  host_net=$(readlink "/proc/$$/ns/net")
  for p in /proc/[0-9]*; do
    pid=${p#/proc/}
    [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] && [ "$pid" != "$PPID" ] || continue
    started_at "$pid" >/dev/null || continue
    net=$(readlink "$p/ns/net" 2>/dev/null) || continue
    case $held in *" ${net//[^0-9]/} "*) [ -n "${seen_nets[$net]:-}" ] || { seen_nets[$net]=1; echo "netns ${net//[^0-9]/} held by $pid"; } ;; esac
    line=$(readlink "$p/ns/mnt" 2>/dev/null) || continue
    if [ -z "${seen_mounts[$line]:-}" ]; then
      seen_mounts[$line]=1
      awk -v s="$STATE" -v r="$rel" -v n="$line" 'index($4, r "/") == 1 || index($5, s "/") == 1 || index($0, "=" s "/") {print "mount " $5 " in " n}' "$p/mountinfo" 2>/dev/null || true
    fi
    # Ours by its words, its folder or its cgroup; a container has only the last.
    if grep -qsF -- "$CG/" "$p/cgroup" || [[ $(readlink "$p/cwd" 2>/dev/null)/ = "$STATE"/* ]] || grep -qsF -- "$STATE/" "$p/cmdline"; then
      name=$(tr '\0' ' ' <"$p/cmdline" 2>/dev/null | cut -c1-100)
      echo "process $pid $name"
      if [ "$net" != "$host_net" ] && [ -z "${seen_nets[$net]:-}" ]; then
        seen_nets[$net]=1
        echo "netns ${net//[^0-9]/} of $pid"
      fi
    fi
  done
  for d in /sys/fs/cgroup"$CG" /sys/fs/cgroup/*"$CG"; do [ ! -d "$d" ] || echo "cgroup $d"; done
}
cmd=${1:-status}
shift || true
case $cmd in
status)
  echo "tier: $(cat "$RUN/tier" 2>/dev/null || echo down)"
  for f in "$RUN"/*.pid; do
    [ -e "$f" ] || continue
    n=$(basename "$f" .pid)
    if p=$(pid_of "$n"); then echo "$n $p $(awk '/VmRSS/{print int($2/1024) " MiB"}' "/proc/$p/status")"; else echo "$n dead"; fi
  done
  ;;
env)
  printf 'export KUBECONFIG=%q KUBECACHEDIR=%q HELM_CONFIG_HOME=%q HELM_CACHE_HOME=%q HELM_DATA_HOME=%q\n' "$PKI/admin.kubeconfig" \
    "$STATE/kubecache" "$STATE/helm/config" "$STATE/helm/cache" "$STATE/helm/data"
  # shellcheck disable=SC2016
  printf 'export PATH=%q:$PATH\n' "$BIN"
  ;;
load) load "$@" ;;
image)
  ref=$1 bin=$2
  shift 2
  t=$(mktemp "$STATE/image.XXXXXX.tar")
  TOOL_ROOT=$KIT/root "$BIN/tool" image -o "$t" -t "$ref" -file "$bin=/$(basename "$bin")" -entrypoint "/$(basename "$bin")" "$@"
  load "$t"
  rm -f "$t"
  ;;
in-node)
  i=$1
  shift 2
  in_node "$i" "$@"
  ;;
first-process) first_process "$1" && echo ;;
in-net)
  n=netns
  [ "$1" = -- ] || { n=node$1-netns; shift; }
  shift
  exec nsenter -t "$(pid_of "$n")" --net -- "$@"
  ;;
kill)
  case $1 in
  *@*) # shellcheck disable=SC2016
    in_node "${1#*@}" bash -c 'for p in /proc/[0-9]*; do
        [ "$(cat "$p/comm" 2>/dev/null)" != bash ] || continue
        case " $(tr "\0" " " <"$p/cmdline" 2>/dev/null) " in *" controlplane $1 "* | " $1 -c "*) kill -s "$2" "${p#/proc/}" ;; esac
      done' _ "${1%@*}" "${2:-KILL}"
    ;;
  *) kill -s "${2:-KILL}" "$(pid_of "$1")" ;;
  esac
  ;;
stop) case $1 in node*[0-9]) kill_node "$1" ;; *) stop "$1" ;; esac ;;
start) [ -s "$RUN/$1.cmd" ] || die "no $1"; pid_of "$1" >/dev/null || start_again "$1" ;;
traces) traces "$@" ;;
logs) case $1 in *@*) echo "$STATE/node${1#*@}/${1%@*}.log" ;; *) echo "$LOGS/$1.log" ;; esac ;;
*) die "unknown command $cmd" ;;
esac
