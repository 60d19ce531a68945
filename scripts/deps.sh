#!/usr/bin/env bash
# Sees to it that what the arguments name is there: go, gcc, postgresql, strace,
# pgbackrest, zstd, prometheus, alertmanager, systemd-analyze, chromium, npm. What is missing is
# installed by apt as root or by sudo; else it says what to install, and fails,
# unless the name ends in "?": tests that lack that are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "deps: $*" >&2; }

have_go() {
  command -v go >/dev/null && go list -m >/dev/null # says itself which version it wants
}
have_gcc() { # and the C library's headers: the race detector needs cgo
  command -v gcc >/dev/null && echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1
}
have_postgresql() { # in the order of internal/pgserver
  if [ -n "${PG_BIN:-}" ]; then [ -x "$PG_BIN/initdb" ] && return; fi
  command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
    [ -x "$(pg_config --bindir 2>/dev/null)/initdb" ]
}

have_strace() { command -v strace >/dev/null; }
have_pgbackrest() { command -v pgbackrest >/dev/null; }
have_zstd() { command -v zstd >/dev/null; }
have_prometheus() { command -v prometheus >/dev/null && command -v promtool >/dev/null; }
have_alertmanager() { # Debian calls it by its package's name
  { command -v prometheus-alertmanager || command -v alertmanager; } >/dev/null && command -v amtool >/dev/null
}
have_chromium() { [ -x /usr/bin/chromium ]; }
have_npm() { command -v npm >/dev/null; }
have_systemd-analyze() { command -v systemd-analyze >/dev/null; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
may_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" != 0 ] || return 0
  # At a terminal sudo may ask for the password; elsewhere it must not need one.
  command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }
}
apt_install() {
  say "apt-get install $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Debian's package would make a cluster and start it on port 5432; only the
# programs are wanted. The setting is put back as it was.
install_postgresql() (
  apt_install postgresql-common
  conf=/etc/postgresql-common/createcluster.conf
  as_root cp -p $conf $conf.before-sluice
  trap 'as_root mv $conf.before-sluice $conf' EXIT
  as_root pg_conftool $conf set create_main_cluster off
  apt_install postgresql
)

# Debian's packages of servers start them, now and at each boot; only the programs are wanted.
install_stopped() (
  policy=/usr/sbin/policy-rc.d # is asked whether a server may be started; 101: no
  if [ ! -e $policy ]; then
    trap 'as_root rm $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
  fi
  apt_install "$1"
  ! command -v systemctl >/dev/null || as_root systemctl --quiet disable "$1" >&2
)

missing=()
packages=()
needed=no
for arg in "$@"; do
  what=${arg%\?}
  "have_$what" && continue
  [ "$what" != "$arg" ] || needed=yes
  case $what in
  go) say "please install Go $(awk '$1 == "go" {print $2}' go.mod) or later: https://go.dev/dl/"; exit 1 ;;
  gcc) packages+=(gcc libc6-dev) ;;
  alertmanager) packages+=(prometheus-alertmanager) ;;
  systemd-analyze) packages+=(systemd) ;;
  postgresql | strace | pgbackrest | zstd | prometheus | chromium | npm) packages+=("$what") ;;
  esac
  missing+=("$what")
done
[ ${#missing[@]} -gt 0 ] || exit 0

may_install || { say "please install (Debian, Ubuntu): apt-get install ${packages[*]}"; [ $needed = no ]; exit; }
as_root apt-get update -qq
for what in "${missing[@]}"; do
  case $what in
  gcc) apt_install gcc libc6-dev ;;
  postgresql) install_postgresql ;;
  prometheus) install_stopped prometheus ;;
  alertmanager) install_stopped prometheus-alertmanager ;;
  systemd-analyze) apt_install systemd ;;
  strace | pgbackrest | zstd | chromium | npm) apt_install "$what" ;;
  esac
  "have_$what" || { say "$what is still missing"; exit 1; }
done
