# Every target is something that a person could type. "make help" lists them.
SHELL       = bash
.SHELLFLAGS = -o pipefail -ec

PREFIX   ?= /usr/local
FUZZTIME ?= 30s
COUNT    ?= 6

VERSION  := $(or $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null)),unknown)
REVISION := $(or $(shell git rev-parse --verify -q HEAD 2>/dev/null),unknown)
BRANCH   := $(or $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null),unknown)
V         = github.com/prometheus/common/version
LDFLAGS   = -s -w -X $V.Version=$(VERSION) -X $V.Revision=$(REVISION) -X $V.Branch=$(BRANCH)
# No -buildvcs: the flags above say it already, and it fails in a clone that another user owns.
BUILD     = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL      = go tool -modfile=.tools/go.mod
# With CI=true the real programs that tests talk to are installed first, and a test must not skip for want of one.
CI_ONLY   = $(if $(filter true,$(CI)),.ci/packages && PROMSPOOL_TEST_NO_SKIP=1)
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64

.PHONY: build run test race lint vet format staticcheck portable vuln fuzz bench bench-peers conformance install dist clean help

build: ## build ./promspool, a static binary
	$(BUILD) -o promspool ./cmd/promspool

run: build ## build, then run the agent on ./spool
	mkdir -p spool && ./promspool --web.listen-address=127.0.0.1:9091 --spool.directory=./spool

test: ## run the tests
	$(CI_ONLY) go test ./...

race: ## run the tests under the race detector
	$(CI_ONLY) go test -race ./...

lint: vet format staticcheck portable ## vet, format, staticcheck and portable

vet: ## run go vet
	go vet ./...

format: ## fail if gofumpt would change a file (to let it: go tool -modfile=.tools/go.mod gofumpt -w .)
	$(TOOL) gofumpt -d .

staticcheck: ## run staticcheck with all its checks
	$(TOOL) staticcheck -checks all ./...

portable: ## vet as the other systems would compile it
	GOOS=darwin go vet ./... && GOOS=freebsd go vet ./...

vuln: ## look for known vulnerabilities
	.ci/vuln

fuzz: ## run each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

bench: ## run the benchmarks COUNT times, into bench.txt (compare two: go tool -modfile=.tools/go.mod benchstat OLD NEW)
	go test -run '^$$' -bench . -benchmem -count $(COUNT) ./filestore ./ingest ./exporter | tee bench.txt

bench-peers: ## run side by side with Debian's Pushgateway and node_exporter, where the harness is at hand
	.ci/bench-peers $(BENCHFLAGS)

conformance: build ## run the black-box suites, where they are at hand
	.ci/conformance

install: build ## install binary and units below DESTDIR and PREFIX
	install -D -m 755 promspool $(DESTDIR)$(PREFIX)/bin/promspool
	install -D -m 644 systemd/promspool.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/promspool.conf
	install -D -m 644 systemd/promspool.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/promspool.conf
	install -D -m 644 systemd/promspool.service $(DESTDIR)$(PREFIX)/lib/systemd/system/promspool.service
	sed -i 's|/usr/bin/promspool|$(PREFIX)/bin/promspool|' $(DESTDIR)$(PREFIX)/lib/systemd/system/promspool.service

dist: ## build for each platform into dist/
	for p in $(PLATFORMS); do GOOS=$${p%/*} GOARCH=$${p#*/} $(BUILD) -o dist/promspool-$(VERSION)-$${p/\//-} ./cmd/promspool; done

clean: ## remove what the other targets have built
	rm -rf promspool dist bench.txt

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile
