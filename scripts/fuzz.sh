#!/usr/bin/env bash
# Runs each fuzz target of the packages for a time: scripts/fuzz.sh 10s ./...
# (go test -fuzz takes one target of one package only.)
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift
for package in $(go list "$@"); do
  for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
    echo "$package $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
  done
done
