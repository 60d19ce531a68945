#!/usr/bin/env bash
# Builds Jaeger, which shows traces, for the tests and for those who look at Sluice's, and prints
# where it is: one process that keeps the traces in memory. Its pages are not in the module, its
# query API is. It takes minutes, once; tests that need it say so without it, and are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v1.76.0
bin=$PWD/.cache/bin/jaeger-$version
if [ ! -x "$bin" ]; then
  mkdir -p "${bin%/*}"
  tmp=$(mktemp -d "${bin%/*}/.jaeger.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  # Our own tags (GOFLAGS) are not Jaeger's.
  GOFLAGS= GOBIN=$tmp CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "github.com/jaegertracing/jaeger/cmd/all-in-one@$version" >&2
  mv "$tmp/all-in-one" "$bin"
fi
echo "$bin"
