# CI runs targets of this file, some of them, and the quickstart (.ci/run).
# make on its own lists them.

# The modules of the workspace, as patterns for the go command: ./... alone
# stops at the border of the root module.
MODULES  = $(shell go list -m -f '{{.Dir}}')
PACKAGES = $(addsuffix /...,$(MODULES))

TESTFLAGS ?=
# A duration for each fuzz target, or a number of executions such as 10000000x.
FUZZTIME  ?= 30s
# When set (10000000x), the targets of pure decoders run that many executions;
# those that FUZZBYTIME matches, as PACKAGE.TARGET, still run for FUZZTIME.
FUZZEXECS ?=
FUZZBYTIME ?= internal/handshake|internal/session|[Kk]eystore
# Which targets to run: a regular expression for PACKAGE.TARGET.
FUZZ      ?= .
BENCH     ?= .
BENCHTIME ?= 1s
# Which experiments to run, and what their chance begins with.
EXPERIMENT ?= .
SEED       ?= 1
# Flags of what make e2e runs.
E2E        ?=

# The packages whose statements must be covered, and to how many per cent.
COVER_MIN   ?= 90
COVER_GATED ?= frame identity internal/atomicfile internal/handshake internal/session internal/kad dht registry

# GOOS/GOARCH pairs that must build beside the machine's own.
PLATFORMS = windows/amd64 darwin/arm64 freebsd/amd64 linux/arm64

GOLANGCI_VERSION    = v2.15.0
STATICCHECK_VERSION = v0.8.2
# The version is part of the name, so that a new one is installed when it is
# raised here, and an old one is never mistaken for it.
GOLANGCI    = bin/golangci-lint-$(GOLANGCI_VERSION)
STATICCHECK = bin/staticcheck-$(STATICCHECK_VERSION)

.DEFAULT_GOAL := help
.PHONY: commands e2e sim experiments-links experiments-sessions help test lint fmt-check vet fuzz bench bench-quick scale microbench experiments cover build-all generate tidy check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -count=1: the tests that ask the go command about the tree read files which
# the test cache doesn't know of, and would go on passing from it.
test: ## run all tests of all modules under the race detector
	go test -race -count=1 $(TESTFLAGS) $(PACKAGES)

lint: fmt-check vet ## check formatting, vet, and run the linters of .golangci.yml
	@if $(MAKE) --no-print-directory $(GOLANGCI); then \
		for dir in $(MODULES); do \
			echo "golangci-lint $$dir"; \
			(cd "$$dir" && "$(CURDIR)/$(GOLANGCI)" run --config "$(CURDIR)/.golangci.yml" ./...) || exit 1; \
		done; \
	else \
		echo "golangci-lint $(GOLANGCI_VERSION) can't be had: staticcheck instead, without the rules of .golangci.yml"; \
		$(MAKE) --no-print-directory $(STATICCHECK) && $(STATICCHECK) $(PACKAGES); \
	fi

fmt-check:
	@out=$$(gofmt -l $(MODULES)); if [ -n "$$out" ]; then echo "not formatted, run gofmt -w on:"; echo "$$out"; exit 1; fi

vet:
	go vet $(PACKAGES)

$(GOLANGCI):
	GOBIN="$(CURDIR)/bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv bin/golangci-lint $@

$(STATICCHECK):
	GOBIN="$(CURDIR)/bin" go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	mv bin/staticcheck $@

fuzz: ## run every fuzz target; FUZZTIME=30s, FUZZEXECS=10000000x, FUZZ=regexp
	@FUZZTIME='$(FUZZTIME)' FUZZEXECS='$(FUZZEXECS)' FUZZBYTIME='$(FUZZBYTIME)' FUZZ='$(FUZZ)' .ci/fuzz $(PACKAGES)

# What is measured, and how: go run ./compare -h, in benchmarks.
bench: ## measure beside TLS, libp2p and WireGuard, half an hour; writes benchmarks/results
	cd benchmarks && go run ./compare

bench-quick: ## the same in a minute, and fail when a ratio falls through its floor
	cd benchmarks && go run ./compare -quick -floors floors.json

scale: ## measure what 10,000 sessions and 1,000 circuits cost, eight minutes; writes docs/scale
	cd benchmarks && go run ./scale -markdown ../docs/SCALE.md

microbench: ## run the benchmarks of all modules; BENCH=regexp, BENCHTIME=1s
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(PACKAGES)

sim: ## simulate the DHT with 10,000 nodes, liars and churn, some minutes; draws docs/dht
	cd benchmarks && go run ./sim -seed $(SEED)

# Built and not run by go, which would not hand signals on.
e2e: ## run the programs in networks of their own, as root, half an hour; E2E='-quick', E2E=-help
	@go build -o bin/e2e ./examples/e2e
	@exec bin/e2e $(E2E)

# A line for each figure, and whatever explains a failure.
experiments: ## measure what sessions promise, and draw docs/experiments; EXPERIMENT=regexp, SEED=1
	@$(MAKE) --no-print-directory experiments-links
	@[ '$(EXPERIMENT)' != . ] || $(MAKE) --no-print-directory experiments-sessions
	@[ '$(EXPERIMENT)' != . ] || { echo '# benchmarks/privacy' && cd benchmarks && go run ./privacy; }

experiments-links:
	@cd benchmarks && ../.ci/shown go test -count=1 -timeout 60m -v -run '$(EXPERIMENT)' ./experiments -experiments -seed $(SEED)

experiments-sessions:
	@.ci/shown go test -count=1 -timeout 60m -v -run 'TestSchedules|TestBothEnds|TestHostileSender|TestSessionsInGrace|TestSecrecy' \
		./internal/session -schedules 1000 -realschedules 50 -rounds 10000 -hostileops 1000000

cover: ## print each package's coverage; fail where it must be 90 % and isn't
	@COVER_MIN='$(COVER_MIN)' COVER_GATED='$(COVER_GATED)' .ci/cover

build-all: ## build for the browser and for every platform we promise
	go build $(PACKAGES)
	GOOS=js GOARCH=wasm go build ./mesh
	@for p in $(PLATFORMS); do \
		echo "GOOS=$${p%/*} GOARCH=$${p#*/} go build ./..."; \
		GOOS=$${p%/*} GOARCH=$${p#*/} go build ./... || exit 1; \
		(cd examples && GOOS=$${p%/*} GOARCH=$${p#*/} go build -o /dev/null ./meshrelay ./meshvpn ./meshchat ./meshlocal) || exit 1; \
	done

commands: ## write the pages of the programs' commands, docs/commands
	find docs/commands -name '*.md' ! -name README.md -delete
	@for p in meshrelay meshvpn meshchat meshlocal; do (cd examples && go run ./$$p docs ../docs/commands) || exit 1; done

generate: ## run go generate in all modules
	go generate $(PACKAGES)

tidy: ## run go mod tidy in all modules
	@for dir in $(MODULES); do echo "go mod tidy $$dir"; (cd "$$dir" && go mod tidy) || exit 1; done

check: ## fail when go generate or go mod tidy would change a file
	@before=$$(git status --porcelain; git diff HEAD); go generate $(PACKAGES) || exit 1; \
	if [ "$$before" != "$$(git status --porcelain; git diff HEAD)" ]; then \
		echo "go generate changed files: commit what it writes"; git status --short; exit 1; \
	fi
	@for dir in $(MODULES); do echo "go mod tidy -diff $$dir"; (cd "$$dir" && go mod tidy -diff) || exit 1; done
