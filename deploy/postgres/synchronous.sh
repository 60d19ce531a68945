#!/usr/bin/env bash
# Waits until the three nodes stream, then lets every commit wait for two of them, and makes the load's tables. It may
# run again: each step is what it was.
set -euo pipefail

ask() { psql -v ON_ERROR_STOP=1 -Atc "$1"; }

streaming="SELECT count(DISTINCT application_name) FROM pg_stat_replication WHERE state = 'streaming' AND application_name IN ('a', 'b', 'c')"
until [ "$(ask "$streaming")" = 3 ]; do
  echo "synchronous: waiting until the three nodes stream"
  sleep 1
done
ask "ALTER SYSTEM SET synchronous_standby_names = 'ANY 2 (a, b, c)'"
ask "SELECT pg_reload_conf()"
[ -n "$(ask "SELECT to_regclass('pgbench_accounts')")" ] || pgbench --initialize --scale=10 --quiet
