# The modules of this repository; tools/ has no code of its own.
MODULES := $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path './tools/*' -not -path '*/testdata/*'))
TOOL    := go tool -modfile=$(CURDIR)/tools/go.mod

# The race detector needs a C compiler.
RACE    := $(if $(shell command -v cc || command -v gcc || command -v clang),-race)
TIMEOUT ?= 15m

# At its end a program with the race detector waits a second for reports of other threads: a tenth will do.
export GORACE := atexit_sleep_ms=100

# -modfile and go.work exclude each other.
export GOWORK := off

# A checkout that belongs to another user has no readable version.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

each_module = @set -e; for module in $(MODULES); do echo "[$$module] $(strip $(1))"; (cd $$module && $(1)); done

# Not by go run, which does not pass on the signal of a build that is cancelled.
with_postgres = @go build -o bin/withpostgres ./internal/testdb/cmd/withpostgres && exec bin/withpostgres -- $(MAKE) --no-print-directory $(1) </dev/null

.PHONY: help test lint fmt bench soak microbench fuzz chaos vuln

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

test: lint ## check everything, then run all tests on a private PostgreSQL
	$(if $(RACE),,@echo "no C compiler: the tests run without the race detector")
	$(call with_postgres,go-test)

# Not from the cache, which does not see that a file of another module has changed, such as docs/alerts.yaml.
# Most tests wait, for leases, polls and processes: more of them at a time than there are cores.
.PHONY: go-test
go-test:
	$(call each_module,go test -count=1 $(RACE) -parallel 8 -timeout $(TIMEOUT) ./...)

lint: ## formatting, go vet, staticcheck, go mod tidy
	@unformatted=$$($(TOOL) gofumpt -l .) && if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	$(call each_module,go vet ./...)
	$(call each_module,$(TOOL) staticcheck ./...)
	$(call each_module,go mod tidy -diff)

fmt: ## format the code
	@$(TOOL) gofumpt -w .

bench: ## compare with other libraries for an hour, write docs/performance.md
	@cd bench && go run . -docs ../docs -save ../docs/performance/figures.json

soak: ## half an hour of steady mixed load: fails when something grows, writes docs/soak.md
	@cd bench && go run ./soak -docs ../docs

microbench: ## run the micro-benchmarks on a private PostgreSQL
	$(call with_postgres,go-bench)

.PHONY: go-bench
go-bench:
	$(call each_module,go test -run '^$$' -bench . -benchmem -timeout 0 ./...)

FUZZTIME ?= 60s

# Inputs are minimised only a little: by default a minute goes into the first one that is new.
fuzz: ## fuzz each parser for a minute
	@set -e; for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$package/*_test.go | cut -d' ' -f2); do \
			echo "$$package $$target"; \
			(cd $$package && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x .); \
		done; \
	done

chaos: ## do every fault with its full count for half an hour, write docs/reliability.md
	@mkdir -p bin && go build -o bin/chaos ./internal/chaos/cmd/chaos && exec bin/chaos -write docs/reliability.md

vuln: ## known vulnerabilities; needs vuln.go.dev
	$(call each_module,$(TOOL) govulncheck ./...)
