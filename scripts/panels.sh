#!/usr/bin/env bash
# Draws every panel of the dashboards, from what a Prometheus answers, with Grafana's own libraries: a
# picture of each dashboard. For those who change a dashboard, and want to see it without a Grafana.
#
#   scripts/panels.sh --prometheus http://127.0.0.1:9090 --last 15m --out /tmp/panels
#
# test/panels/panels.mjs has the other options.
set -euo pipefail
cd "$(dirname "$0")/.."

# What it needs is some hundreds of MiB: it lies where no Go tool, and no Grafana that reads dashboards/, looks.
dir=$PWD/.cache/panels
mkdir -p "$dir"
cp test/panels/{package.json,package-lock.json,.npmrc,*.mjs,*.jsx} "$dir"
if ! cmp -s "$dir/package-lock.json" "$dir/installed"; then
  (cd "$dir" && npm ci)
  cp "$dir/package-lock.json" "$dir/installed"
fi
exec node "$dir/panels.mjs" --dashboards "$PWD/dashboards" "$@"
