# Every target is something that a person could type. "make help" lists them.
SHELL       = bash
.SHELLFLAGS = -o pipefail -ec

PREFIX   ?= /usr/local
FUZZTIME ?= 30s
COUNT    ?= 6

VERSION  := $(or $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null)),unknown)
REVISION := $(or $(shell git rev-parse --verify -q HEAD 2>/dev/null),unknown)
# Of the sources: what is built of the same ones is the same.
EPOCH    := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
BRANCH   := $(or $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null),unknown)
V         = github.com/prometheus/common/version
LDFLAGS   = -s -w -X $V.Version=$(VERSION) -X $V.Revision=$(REVISION) -X $V.Branch=$(BRANCH)
# No -buildvcs: the flags above say it already, and it fails in a clone that another user owns.
BUILD     = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL      = go tool -modfile=.tools/go.mod
# go test, with a last line that says what was skipped. After a "--" comes another one.
TESTRUN   = mkdir -p build && go build -buildvcs=false -o build/testrun ./cmd/promspool/internal/testrun && build/testrun
# What needs other programs or takes long. "go test ./..." skips these packages.
BROWSER   = -count=1 -timeout 10m ./cmd/promspool/browsertest
PEERS     = -count=1 -timeout 15m ./cmd/promspool/peertest
TORTURE   = -count=1 -timeout 15m -v ./cmd/promspool/torture
QUICK     = $$(go list ./... | grep -vE '/cmd/promspool/(browsertest|peertest|torture)$$')
# With CI=true the real programs that tests talk to are installed first, and a test must not skip for want of one.
CI_ONLY   = $(if $(filter true,$(CI)),.ci/packages && export PROMSPOOL_TEST_NO_SKIP=1 &&)
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64

.PHONY: build run test test-all test-browser screenshots test-peers test-torture race torture lint vet format staticcheck portable vuln fuzz bench bench-peers conformance man completions install packages test-packages dist clean help

build: ## build ./promspool, a static binary
	$(BUILD) -o promspool ./cmd/promspool

run: build ## build, then run the agent on ./spool
	mkdir -p spool && ./promspool --web.listen-address=127.0.0.1:9091 --spool.directory=./spool

test: ## run the quick tests, or with CI=true all; the last line says what was skipped
ifeq ($(CI),true)
test: test-all
else
	$(TESTRUN) -timeout 10m ./...
endif

test-all: ## run the quick tests, then those with Chromium, with other programs, and the torture
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) -timeout 10m $(QUICK) -- $(BROWSER) -- $(PEERS) -- $(TORTURE)

test-browser: ## run the tests that drive Chromium
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(BROWSER)

screenshots: ## take the pictures of the page in docs/img, of made-up data
	mkdir -p docs/img
	PROMSPOOL_TEST_ALL=1 PROMSPOOL_SCREENSHOTS=$(CURDIR)/docs/img go test -count=1 -run '^TestScreenshots$$' ./cmd/promspool/browsertest

test-peers: ## run the tests with other programs, such as Prometheus and Pushgateway, and of the examples and documents
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(PEERS)

test-torture: ## run the short form of the torture
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(TORTURE)

race: ## run the quick tests under the race detector
	$(CI_ONLY) $(TESTRUN) -race -timeout 10m $(QUICK)

torture: ## the long form of the tests of power cuts, kills, faults and floods: about half an hour, as root
	PROMSPOOL_TORTURE=long go test -count=1 -timeout 2h -v ./cmd/promspool/torture

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

build/promspool.1: build # and what else the program says of itself
	mkdir -p build
	SOURCE_DATE_EPOCH=$(EPOCH) ./promspool --help-man >build/promspool.1
	./promspool --completion-script-bash >build/promspool.bash
	./promspool --completion-script-zsh >build/_promspool
.PHONY: build/promspool.1

man: build/promspool.1 ## write the manual page into build/

completions: build/promspool.1 ## write the completions for bash and zsh into build/

# FOR_GOARCH is what the packages are for; make would pass a GOARCH on to all that it runs.
install: build/promspool.1 ## install everything below DESTDIR and PREFIX
	$(if $(FOR_GOARCH),GOOS=linux GOARCH=$(FOR_GOARCH) $(BUILD) -o build/promspool ./cmd/promspool,cp promspool build/promspool)
	install -D -m 755 build/promspool $(DESTDIR)$(PREFIX)/bin/promspool
	install -D -m 644 systemd/promspool.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/promspool.conf
	install -D -m 644 systemd/promspool.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/promspool.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/*.service systemd/*.socket systemd/*.timer
	sed -i 's|/usr/bin/promspool|$(PREFIX)/bin/promspool|' $(DESTDIR)$(PREFIX)/lib/systemd/system/promspool*.service
	install -D -m 644 build/promspool.1 $(DESTDIR)$(PREFIX)/share/man/man1/promspool.1
	gzip -9nf $(DESTDIR)$(PREFIX)/share/man/man1/promspool.1
	install -D -m 644 build/promspool.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/promspool
	install -D -m 644 build/_promspool $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_promspool
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/promspool README.md DESIGN.md CHANGELOG.md SECURITY.md
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/promspool/docs docs/*.md
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/promspool/copyright
	cp -R examples $(DESTDIR)$(PREFIX)/share/doc/promspool/
	test -e $(DESTDIR)/etc/default/promspool || install -D -m 644 .nfpm/default $(DESTDIR)/etc/default/promspool
	install -d $(DESTDIR)/etc/promspool/jobs

packages: ## build .deb and .rpm for each architecture of Linux into dist/
	for arch in amd64 arm64; do .nfpm/build $$arch; done

test-packages: ## build the packages twice, compare, and install, run, upgrade and remove them in a root of their own
	.ci/test-packages

dist: ## build for each platform into dist/, with packages and checksums
	rm -rf dist
	$(MAKE) packages
	for p in $(PLATFORMS); do GOOS=$${p%/*} GOARCH=$${p#*/} $(BUILD) -o dist/promspool-$(VERSION)-$${p/\//-} ./cmd/promspool; done
	cd dist && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS

clean: ## remove what the other targets have built
	rm -rf promspool build dist bench.txt

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile
