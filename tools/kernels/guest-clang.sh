#!/bin/sh
# The guest's clang: the machine outside compiles (compiler.ts) what is in bpf/ of the current folder, or comes by standard input.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ ! -d bpf ] || cp -r bpf "$work"
case " $* " in *' - '*) cat >"$work/stdin" ;; esac
(cd "$work" && tar -cf request -- *)
exec 3<>/dev/vport0p1
{
	echo "$(stat -c %s "$work/request") $*"
	cat "$work/request"
} >&3
read -r code size <&3
if [ "$code" != 0 ]; then
	head -c "$size" <&3 >&2
	exit 1
fi
while [ "$1" != -o ]; do shift; done
head -c "$size" <&3 >"$2"
