#!/usr/bin/env bash
# up.sh api | controllers | node    brings the cluster to that tier; a second call is a no-op
#   api          etcd + kube-apiserver on host loopback (no root needed)
#   controllers  + kube-controller-manager + kube-scheduler (no root needed)
#   node         all of it inside a network namespace of its own, + CoreDNS, + E2E_NODES nodes
#                (containerd, runc, kubelet, kube-proxy, each in its own pid, mount and network namespace; root)
# Prints the KUBECONFIG path. The API is on 127.0.0.1 of the host in every tier.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
TIER=${1:-node}
NODES=${E2E_NODES:-1}
case $TIER in api | controllers | node) ;; *) die "usage: up.sh api|controllers|node" ;; esac
PATH=$PATH:/usr/sbin:/sbin
for c in flock:util-linux setsid:util-linux sha256sum:coreutils; do need "${c%:*}" "${c#*:}"; done
if [ "$TIER" = node ]; then
  for c in unshare:util-linux nsenter:util-linux ip:iproute2; do need "${c%:*}" "${c#*:}"; done
  [ "$(id -u)" = 0 ] || die "the node tier needs root; up.sh api and up.sh controllers do not"
  unshare --mount --uts --pid --fork --net true 2>/dev/null || die "the node tier needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which root does not have here; up.sh api and up.sh controllers do not"
fi
[[ $NODES =~ ^[1-9][0-9]?$ ]] || die "E2E_NODES is $NODES; 1 to 99 nodes"
case $STATE/ in /run/* | /var/lib/* | /var/log/* | /proc/* | /sys/* | /dev/*) die "state cannot be in $STATE: a node has a folder of its own there; set E2E_STATE to another place" ;; esac
"$HERE/build.sh" >/dev/null
[ -n "${E2E_STATE:-}" ] || own_folder "$(dirname "$STATE")"
own_folder "$STATE"
mkdir -p "$RUN" "$LOGS"
exec 9>"$STATE/.lock"
flock 9

[ "$TIER" = node ] || NODES=0
WANT="$TIER $NODES"
expected() {
  echo etcd kube-apiserver
  [ "$TIER" = api ] || echo kube-controller-manager kube-scheduler
  [ "$TIER" != node ] || { echo netns forward coredns; for ((i = 1; i <= NODES; i++)); do echo "node$i-netns node$i"; done; }
}
healthy() { local n; for n in $(expected); do pid_of "$n" >/dev/null || return 1; done; }
if [ "$(cat "$RUN/tier" 2>/dev/null)" = "$WANT" ] && healthy; then
  echo "$PKI/admin.kubeconfig"
  exit 0
fi
echo "$KIT" >"$STATE/kit"
E2E_LOCKED=1 "$HERE/down.sh" 9>&- # data in $STATE/etcd and on the nodes survives a change of tier

T0=$(date +%s%N)
took() { say "$* ($((($(date +%s%N) - T0) / 1000000)) ms)"; }
NS=()
ready() { # name URL [seconds]
  "${NS[@]}" "$BIN/tool" wait -pid "$(pid_of "$1")" -timeout "${3:-60}s" -cert "$PKI/admin.crt" -key "$PKI/admin.key" "$2" ||
    { tail -n 20 "$LOGS/$1.log" >&2; die "$1 is not ready"; }
}

[ -s "$STATE/port" ] || "$BIN/tool" freeport >"$STATE/port"
PORT=$(cat "$STATE/port")
NODE_LIST=
for ((i = 1; i <= NODES; i++)); do NODE_LIST+="node$i=10.77.0.$((10 + i)),"; done
"$BIN/tool" pki -dir "$PKI" -server "https://127.0.0.1:$PORT" -node-server "https://10.77.0.1:$PORT" -ips 127.0.0.1,10.77.0.1 -nodes "$NODE_LIST"

ADDRESS=(--bind-address=127.0.0.1 --endpoint-reconciler-type=none)
if [ "$TIER" = node ]; then
  start netns unshare --net -- "$BIN/tool" pause
  sleep 0.1
  NETNS=$(pid_of netns)
  IN_NET=(nsenter -t "$NETNS" --net --)
  NS=("${IN_NET[@]}")
  "${NS[@]}" bash -euc 'ip link set lo up; ip link add br0 type bridge; ip addr add 10.77.0.1/24 dev br0; ip link set br0 up
    echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects; echo 0 >/proc/sys/net/ipv4/conf/br0/send_redirects'
  ADDRESS=(--bind-address=0.0.0.0 --advertise-address=10.77.0.1)
fi

start etcd "$BIN/controlplane" etcd --name e2e --data-dir "$STATE/etcd" --listen-client-urls unix://etcd.sock:0 \
  --advertise-client-urls http://localhost:0 --listen-peer-urls http://127.0.0.1:0 --unsafe-no-fsync --log-level warn \
  --initial-cluster e2e=http://localhost:2380 --initial-advertise-peer-urls http://localhost:2380
ADMISSION=NodeRestriction
EXTRA=()
[ "$TIER" != api ] || EXTRA=(--disable-admission-plugins=ServiceAccount) # no controller makes the accounts
start kube-apiserver "$BIN/controlplane" kube-apiserver --etcd-servers=unix://etcd.sock:0 "${ADDRESS[@]}" --secure-port="$PORT" \
  --cert-dir="$RUN" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
  --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-cluster-ip-range=10.96.0.0/16 \
  --authorization-mode=Node,RBAC --enable-admission-plugins=$ADMISSION "${EXTRA[@]}" --allow-privileged=true \
  --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
  --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key" \
  --enable-aggregator-routing=true --event-ttl=1h --v=1
if [ "$TIER" = node ]; then
  NS=() # the forwarder is the one process of the control plane that stays in the network of the host
  start forward "$BIN/tool" forward "127.0.0.1:$PORT" "$NETNS" "127.0.0.1:$PORT"
  NS=("${IN_NET[@]}")
fi
ready kube-apiserver "https://127.0.0.1:$PORT/readyz"
took "kube-apiserver ready on 127.0.0.1:$PORT"

if [ "$TIER" != api ]; then
  start kube-controller-manager "$BIN/controlplane" kube-controller-manager --kubeconfig="$PKI/controller-manager.kubeconfig" \
    --authentication-kubeconfig="$PKI/controller-manager.kubeconfig" --authorization-kubeconfig="$PKI/controller-manager.kubeconfig" \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/sa.key" --cluster-signing-cert-file="$PKI/ca.crt" \
    --cluster-signing-key-file="$PKI/ca.key" --use-service-account-credentials=true --leader-elect=false --secure-port=0 \
    --cluster-cidr=10.244.0.0/16 --allocate-node-cidrs=false --controllers='*' --pvclaimbinder-sync-period=1s --kube-api-qps=500 --kube-api-burst=1000 --node-monitor-grace-period="${E2E_NODE_GRACE:-40s}"
  start kube-scheduler "$BIN/controlplane" kube-scheduler --kubeconfig="$PKI/scheduler.kubeconfig" --secure-port=0 \
    --authentication-kubeconfig="$PKI/scheduler.kubeconfig" --authorization-kubeconfig="$PKI/scheduler.kubeconfig" --leader-elect=false
fi

if [ "$TIER" = node ]; then
  "$BIN/kubectl" --kubeconfig "$PKI/admin.kubeconfig" apply --server-side -f "$HERE/bootstrap.yaml" >/dev/null
  for ((i = 1; i <= NODES; i++)); do
    start "node$i-netns" unshare --net -- "$BIN/tool" pause
    sleep 0.1
    P=$(pid_of "node$i-netns")
    "${IN_NET[@]}" bash -euc "ip link add n$i type veth peer name eth0 netns $P; ip link set n$i master br0 up; ip route add 10.244.$i.0/24 via 10.77.0.$((10 + i))"
    nsenter -t "$P" --net -- bash -euc "ip link set lo up; ip addr add 10.77.0.$((10 + i))/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.0.1
      echo 1 >/proc/sys/net/ipv4/ip_forward"
    NS=(nsenter -t "$P" --net --)
    start "node$i" unshare --mount --uts --pid --fork --kill-child=KILL --mount-proc -- bash "$HERE/node-init.sh" "$KIT" "$STATE" "$i" "$CG"
    NS=("${IN_NET[@]}")
  done
  cat >"$RUN/Corefile" <<C
cluster.local:53 in-addr.arpa:53 {
    bind 10.77.0.1
    ready 10.77.0.1:8181
    errors
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $PKI/coredns.kubeconfig
        pods verified
        ttl 1
    }
}
.:53 {
    bind 10.77.0.1
    template ANY ANY {
        rcode NXDOMAIN
    }
}
C
  start coredns "$BIN/coredns" -conf "$RUN/Corefile" -quiet
  for ((i = 1; i <= NODES; i++)); do
    "$BIN/kubectl" --kubeconfig "$PKI/admin.kubeconfig" wait --for=create --timeout=60s "node/node$i" >/dev/null
  done
  "$BIN/kubectl" --kubeconfig "$PKI/admin.kubeconfig" wait --for=condition=Ready --timeout=90s node --all >/dev/null ||
    { tail -n 20 "$STATE"/node*/kubelet.log >&2; die "node not Ready"; }
  took "$NODES node(s) Ready"
  ready coredns http://10.77.0.1:8181/ready
fi
if [ "$TIER" != api ]; then # pods can be created only when the default account is there
  "$BIN/kubectl" --kubeconfig "$PKI/admin.kubeconfig" wait --for=create --timeout=60s -n default serviceaccount/default >/dev/null
fi
echo "$WANT" >"$RUN/tier"
took "tier $TIER up"
echo "$PKI/admin.kubeconfig"
