# Everything goes through these targets; `make help` lists them. Set-up is part
# of each of them and takes no time when all is in place.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

export PENSTOCK_CACHE ?= $(HOME)/.cache/penstock
export PENSTOCK_ONNXRUNTIME ?= $(PENSTOCK_CACHE)/lib/libonnxruntime.so

TOOLS := $(PENSTOCK_CACHE)/bin
BUILD := go build -trimpath -ldflags '-s -w'
# A stage has a benchmark when its package has one.
BENCHED = $(sort $(patsubst %/,%,$(dir $(shell grep -rl --include='*_test.go' '^func Benchmark' internal serve))))
BENCH_TARGETS = $(addprefix bench-,$(notdir $(BENCHED)))

.PHONY: help setup build test demo up down status bench generate lint $(BENCH_TARGETS) bench-serve release release-sums release-verify

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## install what tests and demo need into PENSTOCK_CACHE (once)
	@tools/setup

build: ## bin/penstock, bin/penstock-serve, bin/penstock-dev
	CGO_ENABLED=0 $(BUILD) -o bin/penstock ./cmd/penstock
	CGO_ENABLED=1 $(BUILD) -o bin/penstock-serve ./cmd/penstock-serve
	CGO_ENABLED=0 $(BUILD) -o bin/penstock-dev ./cmd/penstock-dev

# -count=1: tests run programs that go's cache of results knows nothing about.
test: setup build lint ## set up, then run all checks and tests; ARGS='-run X' narrows them
	go test -count=1 -timeout 20m $(ARGS) ./...
	go test -count=1 -tags turbojpeg $(ARGS) ./serve/turbojpeg ./serve/resample

demo: setup build ## the whole loop once; DATA=folder for real images, KEEP=1 leaves the stack up, WAY=terminal
	bin/penstock-dev demo $(if $(DATA),--data '$(DATA)') $(if $(WAY),--way '$(WAY)') $(if $(KEEP),--keep)

up: setup build ## start the local stack
	bin/penstock-dev up

status: build ## what of the local stack lives
	bin/penstock-dev status

down: build ## end the local stack, and the one that a demo with KEEP=1 left
	bin/penstock-dev down
	@[[ ! -d .penstock/demo/stack ]] || bin/penstock-dev down --dir .penstock/demo/stack

bench: $(BENCH_TARGETS) bench-serve ## every benchmark; bench-STAGE runs one; tables and .penstock/bench/STAGE.json

$(BENCH_TARGETS): bench-%: setup
	@go run ./tests/bench --stage $* --out .penstock/bench/$*.json $(addprefix ./,$(filter %/$*,$(BENCHED)))

bench-serve: setup ## the server beside bare ONNX Runtime and its peers; ARGS='-duration 2.5s' takes 12 minutes on two cores, '-duration 1s -models xray' less
	@go run ./tests/bench serve --out .penstock/bench/serve.json --docs docs/serving.md $(ARGS)

generate: ## write action.yml files and the commands' documentation
	go generate ./...

lint: setup ## vet, staticcheck, gofumpt, actionlint; generated files must be fresh
	go vet ./...
	$(TOOLS)/staticcheck ./...
	@stale=$$($(TOOLS)/gofumpt -l .); [[ -z $$stale ]] || { echo "run gofumpt -w on: $$stale" >&2; exit 1; }
	@[[ ! -d .github/workflows ]] || $(TOOLS)/actionlint
	@tools/check-generated

release: ## archives and SBOMs for VERSION into dist/; PROGRAMS='toolkit serve'
	tools/release build '$(VERSION)' $(PROGRAMS)

release-sums release-verify: release-%: ## sums of dist/; verify compares with actions/setup/release
	tools/release $* '$(VERSION)'
