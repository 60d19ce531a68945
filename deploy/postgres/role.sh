#!/usr/bin/env bash
# Runs once, when the server's data directory is made: the role of the nodes, and their way in.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -v password="$SLUICE_PASSWORD" <<'SQL'
CREATE ROLE sluice LOGIN REPLICATION PASSWORD :'password';
SQL
echo "host replication sluice all scram-sha-256" >>"$PGDATA/pg_hba.conf"
