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
  # Its go.mod replaces a module, which 'go install' refuses: it is built where it was downloaded
  # to. Our own tags (GOFLAGS) are not Jaeger's.
  export GOFLAGS=
  module=$(cd "$tmp" && go mod download -json "github.com/jaegertracing/jaeger@$version" | sed -n 's/^\s*"Dir": "\(.*\)",\?$/\1/p')
  (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tmp/jaeger" ./cmd/all-in-one) >&2
  mv "$tmp/jaeger" "$bin"
fi
echo "$bin"
