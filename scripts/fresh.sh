#!/usr/bin/env bash
# Fails if generated files or go.mod are not what their sources say. What is
# not committed yet does not matter; what 'go generate' changes does.
set -euo pipefail
cd "$(dirname "$0")/.."
go mod tidy -diff
(cd deploy/validate && go mod tidy -diff)
before=$(git status --porcelain; git diff)
go generate ./...
after=$(git status --porcelain; git diff)
if [ "$before" != "$after" ]; then
  git --no-pager diff --stat
  echo "fresh: 'make generate' changes these files; commit the result" >&2
  exit 1
fi
