# Larder's tasks. Nothing but Go is needed for `make run`; `make test` installs the S3 clients that it tests with (scripts/install-clients.sh).

GO    ?= go
CACHE := $(CURDIR)/.cache
VENV  := $(CACHE)/venv
# What clients are tested with is on the PATH of the tests, before what the machine has.
TESTPATH := $(VENV)/bin:$(PATH)
UNITS = $(shell $(GO) list ./... | grep -v '/integration')

.DEFAULT_GOAL := build
.PHONY: build run dev check test clients units mutations integration bench soak fuzz clean

build: ## the program, as bin/larder
	$(GO) build -o bin/larder ./cmd/larder

run: build ## one node: S3 on 127.0.0.1:9000, data in ./larder-data
	./bin/larder serve --data ./larder-data --s3 127.0.0.1:9000

dev: build ## five processes, one realm: S3 on 127.0.0.1:9000 to 9004, data in ./larder-data/dev
	./bin/larder dev --nodes 5 --data ./larder-data/dev

check: ## what a change must pass before it is looked at
	@bad=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -run 'TestLayers|TestPure' .
	$(GO) test -race -short -timeout 20m ./...

test: clients units mutations integration ## everything, with the clients installed first

clients: ## aws, boto3, rclone, restic, s3cmd
	./scripts/install-clients.sh $(VENV)

units:
	$(GO) test -timeout 20m -skip '^TestMutations$$' $(UNITS)

# Builds the register's state machines once for each rule that is left out, and looks for the test that notices.
mutations:
	$(GO) test -timeout 30m -run '^TestMutations$$' ./past/register

# One package at a time: each runs several processes already.
integration:
	PATH="$(TESTPATH)" $(GO) test -p 1 -timeout 30m ./integration/...

bench: build ## the benchmarks of all packages, then the S3 table of docs/figures.md
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 200ms $(UNITS)
	GO="$(GO)" ./scripts/bench.sh bin/larder

soak: clients fuzz ## hours: every fuzz target for FUZZTIME (1m), then the long forms of the tests
	PATH="$(TESTPATH)" LARDER_SOAK=1 $(GO) test -p 1 -count 1 -timeout 6h ./...

fuzz:
	./scripts/fuzz.sh

clean:
	rm -rf bin .cache
