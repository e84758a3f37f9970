#!/bin/sh
# Runs the project's Node: the system's where it is new enough, else the one that tools/setup.sh brought.
here=$(cd "$(dirname "$0")/.." && pwd)
exec "$(cat "$here/.moat/node")" "$@"
