# "make help" lists the targets.
SHELL       = bash
.SHELLFLAGS = -o pipefail -ec

PREFIX   ?= /usr/local
OUTPUT   ?= promspool
FUZZTIME ?= 30s
COUNT    ?= 6

VERSION  := $(or $(shell .nfpm/version 2>/dev/null),unknown)
REVISION := $(or $(shell git rev-parse --verify -q HEAD 2>/dev/null),unknown)
# The time of the sources, for reproducible builds.
EPOCH    := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
BRANCH   := $(or $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null),unknown)
V         = github.com/prometheus/common/version
LDFLAGS   = -s -w -X $V.Version=$(VERSION) -X $V.Revision=$(REVISION) -X $V.Branch=$(BRANCH)
# No -buildvcs: LDFLAGS has the same facts, and it fails in a clone that another user owns.
BUILD     = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL      = go tool -modfile=.tools/go.mod
# go test with a final line that lists skipped tests. "--" separates several runs.
TESTRUN   = mkdir -p build && go build -buildvcs=false -o build/testrun ./cmd/promspool/internal/testrun && build/testrun
# Packages that need other programs or much time. "go test ./..." skips them.
BROWSER   = -count=1 -timeout 10m ./cmd/promspool/browsertest
PEERS     = -count=1 -timeout 15m ./cmd/promspool/peertest
TORTURE   = -count=1 -timeout 15m -v ./cmd/promspool/torture
QUICK     = $$(go list ./... | grep -vE '/cmd/promspool/(browsertest|peertest|torture)$$')
# With CI=true the programs for the tests are installed first, and a test must not be skipped for a missing one.
CI_ONLY   = $(if $(filter true,$(CI)),.ci/packages && export PROMSPOOL_TEST_NO_SKIP=1 &&)
# Programs that Debian has not or only in older versions.
CI_PEERS  = $(if $(filter true,$(CI)),$(MAKE) peers &&)
PEER      = CGO_ENABLED=0 nice -n 10 go build -modfile=$< -trimpath -buildvcs=false -ldflags '-s -w' -o $@
PLATFORMS = linux-amd64 linux-arm64 linux-armv7 darwin-amd64 darwin-arm64 freebsd-amd64

.PHONY: build run test test-all test-browser screenshots test-peers test-torture peers race torture lint vet format staticcheck portable scripts yaml words vuln fuzz bench bench-peers conformance man completions docs install packages test-packages dist test-dist test-container test-deploy test-ansible release-check clean help

build: ## build ./promspool, a static binary
	$(BUILD) -o $(OUTPUT) ./cmd/promspool

run: build ## build and run an agent on ./spool
	mkdir -p spool && ./promspool serve --web.listen-address=127.0.0.1:9091 --spool.directory=./spool

test: ## run the quick tests, or all with CI=true; list skipped tests
ifeq ($(CI),true)
test: test-all
else
	$(TESTRUN) -timeout 10m ./...
endif

test-all: ## run the quick tests, test-browser, test-peers and test-torture
	$(CI_PEERS) $(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) -timeout 10m $(QUICK) -- $(BROWSER) -- $(PEERS) -- $(TORTURE)

test-browser: ## run the tests of the page, with Chromium
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(BROWSER)

screenshots: ## take the pictures of the page in docs/img, with made-up data
	mkdir -p docs/img
	PROMSPOOL_TEST_ALL=1 PROMSPOOL_SCREENSHOTS=$(CURDIR)/docs/img go test -count=1 -run '^TestScreenshots$$' ./cmd/promspool/browsertest

peers: $(addprefix build/peers/,prometheus pushgateway otelcol vmagent victoria-metrics) ## build the newest Prometheus, Pushgateway, VictoriaMetrics and OpenTelemetry collector for test-peers, in some minutes the first time

build/peers/prometheus: .tools/prometheus/go.mod
	$(PEER) -tags remove_all_sd github.com/prometheus/prometheus/cmd/prometheus

build/peers/pushgateway: .tools/pushgateway/go.mod
	$(PEER) github.com/prometheus/pushgateway

build/peers/vmagent build/peers/victoria-metrics: .tools/victoriametrics/go.mod
	$(PEER) github.com/VictoriaMetrics/VictoriaMetrics/app/$(@F)

# The collector is put together by a program of its own, in that module.
build/peers/otelcol: .tools/otelcol/go.mod .tools/otelcol/main.go
	cd $(<D) && CGO_ENABLED=0 nice -n 10 go build -tags remove_all_sd -trimpath -buildvcs=false -ldflags '-s -w' -o $(CURDIR)/$@ .

test-peers: ## run the tests with Prometheus, Pushgateway and others, and of examples and documents
	$(CI_PEERS) $(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(PEERS)

test-torture: ## run short tests of power cuts, kills, disk errors and floods
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(TORTURE)

race: ## run the quick tests with the race detector
	$(CI_ONLY) $(TESTRUN) -race -timeout 10m $(QUICK)

torture: ## run the long form of test-torture: half an hour, as root
	PROMSPOOL_TORTURE=long go test -count=1 -timeout 2h -v ./cmd/promspool/torture

lint: vet format staticcheck portable scripts yaml ## vet, format, staticcheck, portable, scripts and yaml

vet: ## run go vet
	go vet ./...

format: ## fail if gofumpt would change a file (change them: go tool -modfile=.tools/go.mod gofumpt -w .)
	$(TOOL) gofumpt -d .

staticcheck: ## run staticcheck with all its checks
	$(TOOL) staticcheck -checks all ./...

portable: ## run go vet for macOS and FreeBSD
	GOOS=darwin go vet ./... && GOOS=freebsd go vet ./...

scripts: ## run shellcheck on every shell script
	git grep -l --untracked -E '^#!(/bin/|/usr/bin/env )(ba)?sh$$' | xargs shellcheck

yaml: ## run yamllint on every YAML file
	git ls-files --cached --others --exclude-standard '*.yml' '*.yaml' .yamllint | xargs yamllint --strict

words: ## count phrases in documents and sources that the style advises against
	.ci/words

vuln: ## check for known vulnerabilities
	.ci/vuln

fuzz: ## run each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

bench: ## run the benchmarks COUNT times, into bench.txt (compare two: go tool -modfile=.tools/go.mod benchstat OLD NEW)
	go test -run '^$$' -bench . -benchmem -count $(COUNT) ./filestore ./ingest ./exporter | tee bench.txt

bench-peers: ## compare with Pushgateway, the newest after "make peers", and node_exporter, if the harness is available
	.ci/bench-peers $(BENCHFLAGS)

conformance: build ## run the black-box suites, if they are available
	.ci/conformance

build/promspool.1: build # and the completions
	mkdir -p build
	SOURCE_DATE_EPOCH=$(EPOCH) ./promspool --help-man >build/promspool.1
	./promspool --completion-script-bash >build/promspool.bash
	./promspool --completion-script-zsh >build/_promspool
.PHONY: build/promspool.1

man: build/promspool.1 ## write the manual page to build/

completions: build/promspool.1 ## write the completions for bash and zsh to build/

docs: ## write docs/flags.md and docs/metrics.md from the program
	PROMSPOOL_UPDATE=1 go test -count=1 -run 'TestFlagsPage|TestMetricsPage' ./cmd/promspool

# FOR_GOARCH is the architecture of a package; make would pass GOARCH on to every command.
install: build/promspool.1 ## install program, units, manual and documents below DESTDIR and PREFIX
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
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/promspool README.md CONTRIBUTING.md DESIGN.md CHANGELOG.md SECURITY.md
	cp -R docs $(DESTDIR)$(PREFIX)/share/doc/promspool/
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/promspool/copyright
	cp -R examples $(DESTDIR)$(PREFIX)/share/doc/promspool/
	chmod -R u=rwX,go=rX $(DESTDIR)$(PREFIX)/share/doc/promspool
	test -e $(DESTDIR)/etc/default/promspool || install -D -m 644 .nfpm/default $(DESTDIR)/etc/default/promspool
	install -d $(DESTDIR)/etc/promspool/jobs

packages: ## build .deb and .rpm for each architecture of Linux into dist/
	for arch in amd64 arm64 armv7; do .nfpm/build $$arch; done

test-packages: ## install, run, upgrade and remove the packages in a root of their own
	.ci/test-packages

test-deploy: ## render the kustomization and the Helm chart of the examples, and check them
	cd .tools/deploy && go vet ./... && go test -count=1 ./...

test-ansible: ## run ansible-lint on the role of the examples, and the role in a root of its own
	.ci/test-ansible

dist: ## build a release into dist/: tarballs, packages, SBOMs and checksums
	.nfpm/dist $(VERSION) $(PLATFORMS)

test-dist: ## build the release twice, compare, and try what is in it; lintian and rpmlint look at the packages
	.ci/test-dist

test-container: ## build the container image for two architectures, and run it with bubblewrap
	.ci/test-container

release-check: ## check that version, tag, changelog and documents agree
	.ci/release-check

clean: ## delete the output of the other targets
	rm -rf promspool build dist bench.txt

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile
