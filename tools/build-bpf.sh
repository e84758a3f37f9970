#!/bin/sh
# Builds bpf/*.bpf.c into build/bpf/*.o where a source is newer. Needs clang >= 14, bpftool, libbpf's headers.
set -eu
cd "$(dirname "$0")/.."
out=build/bpf
mkdir -p "$out"
for source in bpf/*.bpf.c; do
  object="$out/$(basename "$source" .c).o"
  newer=$(find bpf tools/build-bpf.sh -newer "$object" 2>/dev/null | head -1 || true)
  if [ -f "$object" ] && [ -z "$newer" ]; then continue; fi
  # Written aside and renamed: a reader never sees half an object.
  clang -O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-function \
    -idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$object.$$.o"
  # Linking settles the offsets of the knobs in BTF, from which the layouts are generated.
  bpftool gen object "$object.$$" "$object.$$.o"
  rm "$object.$$.o"
  mv "$object.$$" "$object"
  echo "built $object"
done
