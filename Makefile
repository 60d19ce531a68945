# make demo and make test are the two commands that a fresh machine with Go and
# git needs; the rest is for those who change Sluice. 'make help' lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The version comes from here, so that a build works outside of git as well.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
# What the client of Google's storage would need to speak gRPC, which nobody asks it to do here: as much code as all of the rest, initialized at each
# start, of which each file that is restored pays two.
export GOFLAGS := $(strip $(GOFLAGS) -tags=disable_grpc_modules)
# The race detector forgets what it knew of a large block, when one is allocated, by mapping fresh memory over it, and each page of that is a fault later
# on. The tests allocate segments all the time: overwriting is three times as fast for the enumerations of crashes, most of it time of the system's.
export GORACE := $(strip $(GORACE) clear_shadow_mmap_threshold=16777216)
# Two packages at once: each runs a PostgreSQL or several. Those that take longest come first, so that none of them is left for the end.
# A new cluster costs PostgreSQL a second of CPU or more each time: the tests' servers are copies of one that was made once, with identifiers of their own.
TEST := PG_TEMPLATES=$(CURDIR)/.cache/initdb go test -race -shuffle=on -p 2 -timeout 30m

GOLANGCI_LINT_VERSION := v2.15.0
LINT := .cache/bin/golangci-lint-$(GOLANGCI_LINT_VERSION)

CYCLES ?= 60
ROUNDS ?= 200
SEGSIZE ?= 16
CALM ?= 20m
PROMETHEUS ?= http://127.0.0.1:9090
LAST ?= 15m
OUT ?= /tmp/panels
FUZZTIME ?= 10s
ONLY ?=
REPORT ?=
PKG ?= ./...
MAJORS ?= 13 14 16 17 18

.PHONY: help
help: ## lists these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: ## bin/sluice
	@scripts/deps.sh go
	$(BUILD) -o bin/sluice ./cmd/sluice

.PHONY: demo
demo: build ## kills a primary under load, and counts what its replacement has
	@scripts/deps.sh postgresql
	bin/sluice demo

.PHONY: test
test: ## every test, with the race detector (PKG=./internal/wal/ for one package)
	@scripts/deps.sh go gcc postgresql 'strace?' 'pgbackrest?' 'prometheus?' 'alertmanager?'
	@scripts/versitygw.sh >/dev/null || echo "test: no S3 server, the tests that need one are skipped" >&2
	$(TEST) $(if $(filter ./...,$(PKG)),./test/e2e ./test/durability ./cmd/sluice) $(PKG)

.PHONY: test-majors
test-majors: ## the tests of PKG on other versions of PostgreSQL (MAJORS="13 18")
	@scripts/deps.sh go gcc postgresql
	for major in $(MAJORS); do \
		bin=$$(scripts/pg-matrix.sh $$major); echo "PostgreSQL $$major"; \
		PG_BIN=$$bin $(TEST) -count=1 $(PKG); \
	done

.PHONY: durability
durability: ## kills, promotions and restores under load (CYCLES=600 SEGSIZE=1)
	@scripts/deps.sh go gcc postgresql
	go test ./test/durability -count=1 -v -timeout 0 -run 'TestDurability$$' -cycles $(CYCLES) -segsize $(SEGSIZE)

# Jaeger takes minutes of building, which every run of the tests would pay on a fresh machine: they look at its traces where it is there
# already, and here always.
.PHONY: observe
observe: ## five faults, each found by its alert; prints where to look (OBSERVE_KEEP=1: and goes on running)
	@scripts/deps.sh go gcc postgresql prometheus alertmanager
	@scripts/versitygw.sh >/dev/null
	@scripts/jaeger.sh >/dev/null
	go test ./test/observe -count=1 -v -timeout 0 -run 'TestStuckShutdown|TestEachFaultFiresItsAlertAndNothingElse$$' -observe

.PHONY: panels
panels: ## draws each dashboard, from a Prometheus that runs (PROMETHEUS=http://127.0.0.1:9090 LAST=15m OUT=/tmp/panels)
	@scripts/deps.sh chromium npm
	scripts/panels.sh --prometheus $(PROMETHEUS) --last $(LAST) --out $(OUT)

.PHONY: calm
calm: ## load and a rolling restart, in which no alert fires (CALM=20m)
	@scripts/deps.sh go gcc postgresql prometheus alertmanager
	@scripts/versitygw.sh >/dev/null
	go test ./test/observe -count=1 -v -timeout 0 -run 'TestNothingFiresWithoutFaults$$' -calm $(CALM)

.PHONY: recreate
recreate: ## deletes a timeline and makes it again, under load (ROUNDS=200)
	@scripts/deps.sh go gcc postgresql
	go test ./test/e2e -count=1 -v -timeout 0 -run 'TestNothingOfAnOldLifeIsSeenInANewOne$$' -recreations $(ROUNDS)

.PHONY: nodes
nodes: ## three nodes, restarted one after the other, killed, and cut off from object storage, under load (ROUNDS=200)
	@scripts/deps.sh go gcc postgresql
	go test ./test/e2e -count=1 -v -timeout 0 -run 'TestThreeNodes$$|TestNodeThatCannotUploadIsReplaced$$' -restarts $(ROUNDS) -stuck

.PHONY: notices
notices: ## leaves out each statement that tells of a change; a test has to fail (ONLY='keeper/sink' REPORT=/tmp/notices)
	@scripts/deps.sh go gcc postgresql
	go test ./test/notices -count=1 -v -timeout 0 -run 'TestNothingIsToldInVain$$' -leave-out -only '$(ONLY)' -report '$(REPORT)'

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	@scripts/deps.sh go
	scripts/fuzz.sh $(FUZZTIME) $(PKG)

.PHONY: bench
bench: ## beside pg_receivewal, in one run; then Go's benchmarks
	@scripts/deps.sh go postgresql 'zstd?'
	@scripts/versitygw.sh >/dev/null || echo "bench: no S3 server, nothing is measured with one" >&2
	go test ./test/bench -count=1 -v -timeout 0 -compare all
	go test -run '^$$' -bench . -benchmem -timeout 0 $(PKG)

.PHONY: deploy-check
deploy-check: build ## deploy/ against the parsers that will read it
	@scripts/deps.sh 'prometheus?' 'alertmanager?' 'systemd-analyze?'
	cd deploy/validate && go test -count=1 ./...

.PHONY: lint
lint: $(LINT) ## golangci-lint, pinned
	$(LINT) run
	$(LINT) run --build-tags=faults ./internal/keeper
	cd deploy/validate && $(abspath $(LINT)) run

$(LINT):
	@scripts/deps.sh go
	@mkdir -p $(@D)
	GOBIN=$(abspath $(@D)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(@D)/golangci-lint $@

.PHONY: generate
generate: ## writes what is generated
	go generate ./...

.PHONY: fresh
fresh: ## fails if something generated, or go.mod, is stale
	@scripts/fresh.sh

.PHONY: check
check: lint fresh test deploy-check demo ## all that CI checks
