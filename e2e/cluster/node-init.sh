#!/usr/bin/env bash
# node-init.sh KIT STATE I CGROUP   first process of a node: runs in fresh pid, mount, uts and network namespaces; all of it dies with this process.
set -euo pipefail
KIT=$1 STATE=$2 I=$3 CG=$4
N=$STATE/node$I NAME=node$I IP=10.77.0.$((10 + $3)) TRIPLE=$(uname -m)-linux-gnu
exec 9>&-
export PATH=$KIT/bin:$KIT/root/usr/sbin:$KIT/root/usr/bin:$PATH LD_LIBRARY_PATH=$KIT/root/usr/lib/$TRIPLE:$KIT/root/lib/$TRIPLE HOME=$N
export XTABLES_LIBDIR=$KIT/root/usr/lib/$TRIPLE/xtables
mkdir -p "$N/varlib" "$N/varlog" "$N/cgroup"
echo "$NAME" >/proc/sys/kernel/hostname

# A sysfs that shows this network namespace, with the cgroup tree put back on it.
mount --make-rprivate /
mount --rbind /sys/fs/cgroup "$N/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$N/cgroup" /sys/fs/cgroup
umount -l "$N/cgroup"
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$N/varlib" /var/lib
mount --bind "$N/varlog" /var/log
mount --make-rshared /
mkdir -p /run/containerd /run/cni /run/lock /var/lib/kubelet /var/lib/containerd /var/log/pods
ulimit -n 20000 2>/dev/null || true

# The parent cgroup of all pods. Those of an earlier life of this node go first, as they would at a reboot:
# the kubelet waits three seconds for each container that is in the tree but not running.
for d in /sys/fs/cgroup"$CG/$NAME" /sys/fs/cgroup/*"$CG/$NAME"; do
  [ ! -d "$d" ] || find "$d" -depth -mindepth 1 -type d -exec rmdir {} + 2>/dev/null || true
done
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p "/sys/fs/cgroup$CG/$NAME"
  for d in "" "$CG" "$CG/$NAME"; do
    for c in cpu cpuset memory pids io hugetlb; do echo "+$c" >"/sys/fs/cgroup$d/cgroup.subtree_control" 2>/dev/null || true; done
  done
else
  for h in /sys/fs/cgroup/*/; do
    [ -e "$h/tasks" ] || continue
    mkdir -p "$h$CG/$NAME"
    if [ -e "$h/cpuset.cpus" ]; then
      for d in "$CG" "$CG/$NAME"; do
        for f in cpuset.cpus cpuset.mems; do cat "$h/$f" >"$h$d/$f"; done
      done
    fi
  done
fi

cat >/run/containerd.toml <<T
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/e2e-tool:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "$(command -v runc)"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$KIT/root/usr/lib/cni"
    conf_dir = "/run/cni"
T
cat >/run/cni/10-e2e.conflist <<C
{"cniVersion":"1.0.0","name":"e2e","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":"/run/cni/ipam","ranges":[[{"subnet":"10.244.$I.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
C
printf 'nameserver 10.77.0.1\n' >/run/resolv.conf
cat >/run/kubelet.yaml <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: $CG/$NAME
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failSwapOn: false
protectKernelDefaults: false
oomScoreAdj: 0
maxOpenFiles: 20000
enforceNodeAllocatable: ["pods"]
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%", memory.available: "50Mi"}
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/kubelet-$NAME.crt
tlsPrivateKeyFile: $STATE/pki/kubelet-$NAME.key
resolvConf: /run/resolv.conf
clusterDomain: cluster.local
clusterDNS: ["10.77.0.1"]
healthzBindAddress: 127.0.0.1
nodeLeaseDurationSeconds: 20
# Quicker than a real cluster: a changed Secret is in its pods after seconds, a killed container runs again at once.
syncFrequency: 5s
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
nodeStatusUpdateFrequency: 5s
nodeStatusReportFrequency: 10s
maxPods: 110
K
cat >/run/kube-proxy.yaml <<P
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NAME
clientConnection: {kubeconfig: $STATE/pki/kube-proxy.kubeconfig}
clusterCIDR: 10.244.0.0/16
detectLocalMode: ClusterCIDR
bindAddress: 0.0.0.0
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, tcpBeLiberal: false}
P
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

keep() { # name command... : restarted when it ends, as systemd would
  local name=$1
  shift
  while :; do
    "$@" >>"$N/$name.log" 2>&1 </dev/null || echo "== $name ended with $?" >>"$N/$name.log"
    sleep 0.5
  done &
}
keep containerd containerd -c /run/containerd.toml
for ((t = 0; t < 100; t++)); do ctr -a /run/containerd/containerd.sock version >/dev/null 2>&1 && break; sleep 0.1; done
ctr -n k8s.io images ls -q | grep -qx localhost/e2e-tool:1 || ctr -n k8s.io images import "$KIT/tool-image.tar" >>"$N/containerd.log" 2>&1
keep kubelet controlplane kubelet --config=/run/kubelet.yaml --kubeconfig="$STATE/pki/kubelet-$NAME.kubeconfig" --hostname-override="$NAME" \
  --node-ip="$IP" --node-labels="topology.kubernetes.io/zone=zone$I" --v=2
keep kube-proxy controlplane kube-proxy --config=/run/kube-proxy.yaml
wait
