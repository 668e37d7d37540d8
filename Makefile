# make demo    see it work            make run     a noded to play with
# make check   all tests              make help    the rest

PREFIX     ?= /usr/local
DESTDIR    ?=
SBINDIR    ?= $(PREFIX)/sbin
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib/noded
MANDIR     ?= $(PREFIX)/share/man
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSCONFDIR ?= /etc

# noded's own default is /usr/local; under another PREFIX the configuration says where its functions are.
CONF = $(if $(filter /usr/local/lib/noded,$(LIBDIR)),cat,sed 's,^#functions = .*,functions = ["$(LIBDIR)/functions"\, "$(SYSCONFDIR)/noded/functions.d"],') etc/noded.conf

MOCHA    = node_modules/.bin/mocha
TSC      = node_modules/.bin/tsc
SOURCES  = $(shell find lib -name '*.ts')
MAN      = man/noded.8 man/nodectl.1 man/noded.conf.5 man/noded-protocol.7 man/noded-functions.7 man/ganeti-noded.8
FUNCTIONS = $(shell find functions -type f)

.PHONY: all packages ganeti-packages check types spec coverage fuzz man-lint bench demo run install uninstall install-ganeti uninstall-ganeti install-ganeti-rpc uninstall-ganeti-rpc ganeti-check clean help

CC      ?= cc
CFLAGS  ?= -O2
CSTRICT  = -std=c11 -Wall -Wextra -Werror
FORKER   = $(if $(shell command -v $(CC)),build/libexec/noded-forker)

all: build/stamp $(FORKER) ## compile; the fork server too, where there is a C compiler

build/libexec/noded-forker: libexec/noded-forker.c
	@mkdir -p $(@D)
	$(CC) $(CSTRICT) $(CFLAGS) -o $@ $<

# What the specs run beside Node; not needed to run noded.
PACKAGES = openssl curl mandoc socat procps util-linux systemd python3 strace gcc libc6-dev clang libclang-rt-14-dev ganeti

# And what a virtual Ganeti cluster needs on top. (Never arping: it removes ganeti.)
GANETI_PACKAGES = ganeti ganeti-3.0 ganeti-haskell-3.0 ganeti-htools-3.0 ganeti-testsuite ganeti-os-noop openssh-server iputils-arping fping socat iproute2 net-tools bc procps

define need
	@missing=; for p in $(1); do \
	  dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] || if [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
	  echo "Debian packages that are needed:$$missing"; exit 1; \
	fi
endef

packages: ## Debian packages that the specs need; installs them as root
	$(call need,$(PACKAGES))

ganeti-packages: ## those of a virtual Ganeti cluster
	$(call need,$(GANETI_PACKAGES))

# npm writes this file last; without it, or with an older one, packages are missing.
node_modules/.package-lock.json: package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

build/stamp: node_modules/.package-lock.json tsconfig.json tsconfig.build.json $(SOURCES)
	rm -rf build/lib
	$(TSC) -p tsconfig.build.json
	@touch $@

# In a make of its own: the C compiler may have come only now.
check: packages ## types, then all specs with the coverage floors, then the man pages
	$(MAKE) --no-print-directory types coverage man-lint

types: node_modules/.package-lock.json ## does it compile
	$(TSC) --noEmit -p tsconfig.json

spec: node_modules/.package-lock.json $(FORKER) ## all specs, without coverage
	$(MOCHA)

# The core is covered whole; everything else has a floor. (spawner.ts has types only. Compiled programs count for their sources.)
coverage: node_modules/.package-lock.json $(FORKER) ## all specs, and what they reach
	rm -rf coverage
	node_modules/.bin/c8 --all --exclude-after-remap --include 'lib/**' --exclude lib/call/spawner.ts --reporter text --reporter json-summary --check-coverage --lines 90 --branches 90 $(MOCHA)
	node_modules/.bin/c8 report --all --exclude-after-remap --include 'lib/call/**' --include lib/rpc/protocol.ts --exclude lib/call/spawner.ts --reporter text-summary --check-coverage --lines 100 --branches 100

# A minute of what the specs do for ten seconds.
fuzz: packages node_modules/.package-lock.json ## a fuzzer on the fork server's frame parser, for a minute
	NODED_SPEC_FUZZ_SECONDS=60 $(MOCHA) --no-config --require ts-node/register --extension ts --forbid-pending spec/libexec/forker-fuzz.spec.ts

man-lint: ## the man pages, as mandoc sees them
	mandoc -T lint -W warning $(MAN)

bench: all ## figures against peers: bench/README.md
	node --require ts-node/register bench/run.ts $(BENCH)

demo: all ## certificates, a noded over TLS, a call that is waited for twice
	doc/demo

run: all ## a noded in the foreground, plain HTTP on 127.0.0.1:1811
	mkdir -p build/run && chmod 700 build/run
	bin/noded --no-ssl --run-dir build/run/noded --functions functions

install: all ## PREFIX=/usr/local DESTDIR=
	install -d $(DESTDIR)$(LIBDIR)/bin $(DESTDIR)$(LIBDIR)/functions $(DESTDIR)$(LIBDIR)/node_modules $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR)
	rm -rf $(DESTDIR)$(LIBDIR)/lib $(DESTDIR)$(LIBDIR)/node_modules/*
	cp -R build/lib $(DESTDIR)$(LIBDIR)/lib
	npm ls --omit=dev --all --parseable 2>/dev/null | sed -n 's,^$(CURDIR)/,,p' | tar -cf - -T - | tar -xf - -C $(DESTDIR)$(LIBDIR)
	install -m 644 package.json LICENSE $(DESTDIR)$(LIBDIR)
	install -m 755 bin/noded bin/nodectl bin/ganeti-noded $(DESTDIR)$(LIBDIR)/bin
	$(if $(FORKER),install -d $(DESTDIR)$(LIBDIR)/libexec && install -m 755 $(FORKER) $(DESTDIR)$(LIBDIR)/libexec)
	install -d $(DESTDIR)$(LIBDIR)/libexec/noded_ganeti
	install -m 755 libexec/noded-ganeti $(DESTDIR)$(LIBDIR)/libexec
	install -m 644 libexec/noded_ganeti/*.py $(DESTDIR)$(LIBDIR)/libexec/noded_ganeti
	for f in $(FUNCTIONS); do case $$f in *.toml) m=644;; *) m=755;; esac; install -m $$m $$f $(DESTDIR)$(LIBDIR)/functions; done
	ln -sfr $(DESTDIR)$(LIBDIR)/bin/noded $(DESTDIR)$(SBINDIR)/noded
	ln -sfr $(DESTDIR)$(LIBDIR)/bin/nodectl $(DESTDIR)$(BINDIR)/nodectl
	for p in $(MAN); do d=$(DESTDIR)$(MANDIR)/man$${p##*.}; install -d $$d && install -m 644 $$p $$d; done
	install -d $(DESTDIR)$(UNITDIR) && sed 's,@PREFIX@,$(PREFIX),' etc/noded.service > $(DESTDIR)$(UNITDIR)/noded.service && chmod 644 $(DESTDIR)$(UNITDIR)/noded.service
	install -d -m 755 $(DESTDIR)$(SYSCONFDIR)/noded $(DESTDIR)$(SYSCONFDIR)/noded/functions.d
	[ -e $(DESTDIR)$(SYSCONFDIR)/noded/noded.conf ] || $(CONF) > $(DESTDIR)$(SYSCONFDIR)/noded/noded.conf

uninstall: ## all of that but /etc/noded
	@[ "$$(readlink $(HERE))" != $(OURS) ] || $(MAKE) --no-print-directory uninstall-ganeti
	rm -rf $(DESTDIR)$(LIBDIR)
	rm -f $(DESTDIR)$(SBINDIR)/noded $(DESTDIR)$(BINDIR)/nodectl $(DESTDIR)$(UNITDIR)/noded.service
	for p in $(notdir $(MAN)); do rm -f $(DESTDIR)$(MANDIR)/man$${p##*.}/$$p; done

# The package's program steps aside, and dpkg knows: an upgrade of Ganeti replaces the one that stepped aside. With
# DESTDIR, that is a root with a dpkg of its own. Either may have been broken off before: dpkg-divert(1) notes a
# diversion before it renames, so the file may be on the wrong side of one.
GANETI_NODED = /usr/sbin/ganeti-noded
OURS         = $(LIBDIR)/bin/ganeti-noded
HERE         = $(DESTDIR)$(GANETI_NODED)
ASIDE        = $(DESTDIR)$(GANETI_NODED).distrib
DIVERT       = dpkg-divert --quiet $(if $(DESTDIR),--root=$(DESTDIR)) --local --rename --divert $(GANETI_NODED).distrib
is_there     = [ -e $1 ] || [ -L $1 ]

install-ganeti: install ## noded in the place of Ganeti's node daemon; a running one goes on until it is restarted
	@[ "$$(readlink $(HERE))" != $(OURS) ] || rm $(HERE)
	$(DIVERT) --add $(GANETI_NODED)
	@{ $(call is_there,$(ASIDE)); } || ! { $(call is_there,$(HERE)); } || mv $(HERE) $(ASIDE)
	ln -sfn $(OURS) $(HERE)

uninstall-ganeti: ## Ganeti's node daemon in its place again; a running noded goes on until it is restarted
	@[ "$$(readlink $(HERE))" != $(OURS) ] || rm $(HERE)
	$(DIVERT) --remove $(GANETI_NODED)
	@{ $(call is_there,$(HERE)); } || ! { $(call is_there,$(ASIDE)); } || mv $(ASIDE) $(HERE)

install-ganeti-rpc: ## on Ganeti's master candidates: its RPC client calls noded in slices (contrib/ganeti); DESTDIR=
	$(MAKE) --no-print-directory -C contrib/ganeti install

uninstall-ganeti-rpc: ## that again
	$(MAKE) --no-print-directory -C contrib/ganeti uninstall

# ../shared/accept beside the checkout has Ganeti's acceptance scripts.
ACCEPT ?= ../shared/accept

# MODES: which of original, noded and mixed; without any, all.
ganeti-check: ganeti-packages all ## virtual Ganeti clusters as root, of which nothing stays: original, noded, and mixed with the adapter; ACCEPT= MODES=
	.ci/ganeti-check $(ACCEPT) $(MODES)

clean: ## what was built, not what was installed
	rm -rf build coverage

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
