#!/usr/bin/env bash
# Builds versitygw, a real S3 server, for the tests, and prints where it is. Without it
# those that need one say so and are skipped. It takes minutes, once.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v1.8.0
bin=$PWD/.cache/bin/versitygw-$version
if [ ! -x "$bin" ]; then
  mkdir -p "${bin%/*}"
  tmp=$(mktemp -d "${bin%/*}/.versitygw.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  GOBIN=$tmp go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
  mv "$tmp/versitygw" "$bin"
fi
echo "$bin"
