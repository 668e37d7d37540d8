# make demo    see it work            make run     a noded to play with
# make check   the tests              make help    the rest

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

.PHONY: all packages all-packages ganeti-packages ci-packages check check-all types spec coverage coverage-all spec-lists fuzz soak man-lint bench demo run install uninstall install-ganeti uninstall-ganeti install-ganeti-rpc uninstall-ganeti-rpc ganeti-check clean help

CC      ?= cc
CFLAGS  ?= -O2
CSTRICT  = -std=c11 -Wall -Wextra -Werror -pthread
# A compiler without the headers of libc is none.
FORKER  := $(if $(shell echo '\#include <stdio.h>' | $(CC) -E - >/dev/null 2>&1 && echo yes),build/libexec/noded-forker)
NO_FORKER = echo '*** No C compiler: noded-forker, the fork server, is missing. Functions DO NOT OUTLIVE a crash or an upgrade of noded. (Debian: gcc libc6-dev)' >&2

all: build/stamp $(FORKER) ## compile; the fork server too, where there is a C compiler
	$(if $(FORKER),,@$(NO_FORKER))

build/libexec/noded-forker: libexec/noded-forker.c
	@mkdir -p $(@D)
	$(CC) $(CSTRICT) $(CFLAGS) -o $@ $<

# What the specs of `make check` run beside Node; not needed to run noded.
PACKAGES = e2fsprogs openssl curl mandoc socat procps util-linux systemd python3 strace gcc libc6-dev iproute2

# And those of `make check-all`. The compiler's runtime has the compiler's version in its name.
CLANG_RT = $(shell apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$$/libclang-rt-\1-dev/p')
ALL_PACKAGES = $(PACKAGES) clang $(CLANG_RT) ganeti

# And what a virtual Ganeti cluster needs on top. (Never arping: it removes ganeti.)
GANETI_PACKAGES = ganeti ganeti-3.0 ganeti-haskell-3.0 ganeti-htools-3.0 ganeti-testsuite ganeti-os-noop openssh-server iputils-arping fping socat iproute2 net-tools bc procps

define need
	@missing=; for p in $(1); do \
	  dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] || if [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
	  printf 'Debian packages are missing. As root:\n\n    apt install --no-install-recommends%s\n\n' "$$missing"; exit 1; \
	fi
endef

packages: ## Debian packages that make check needs; installs them as root
	$(call need,$(PACKAGES))

all-packages: packages ## and those of make check-all
	$(call need,$(ALL_PACKAGES))

ci-packages: all-packages ganeti-packages ## and all that .ci/run needs
	$(call need,debootstrap)

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

# Each spec file is in one of these two: what has one of these words in its name needs Ganeti or a second compiler, or
# is long.
MORE_SPECS = $(shell find spec -name '*ganeti*.spec.ts' -o -name '*fuzz*.spec.ts' -o -name '*soak*.spec.ts' | sort)
CORE_SPECS = $(filter-out $(MORE_SPECS),$(sort $(shell find spec -name '*.spec.ts')))

# noded as it is installed, with what its coverage needs: programs that specs start count for their sources.
build/check/stamp: node_modules/.package-lock.json tsconfig.json tsconfig.build.json $(SOURCES) $(wildcard bin/*) $(FORKER)
	rm -rf build/check && mkdir -p build/check/libexec
	$(TSC) -p tsconfig.build.json --outDir build/check/lib --declaration false --sourceMap true
	cp -R bin package.json build/check
	ln -s ../../node_modules build/check/node_modules
	for f in $(FORKER) $(wildcard libexec/noded*ganeti); do ln -s ../../../$$f build/check/libexec; done
	@touch $@

C8     = node_modules/.bin/c8 --all --exclude-after-remap --exclude lib/call/spawner.ts --check-coverage
BESIDE = env NODED_SPEC_BUILT=$(CURDIR)/build/check spec/side-by-side

# In a make of its own: the C compiler may have come only now.
check: packages ## types, specs with the coverage floors, man pages: what a change must pass
	$(MAKE) --no-print-directory types coverage man-lint

check-all: all-packages ## that, and all that needs Ganeti, a second compiler or more time
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory coverage-all fuzz soak

types: node_modules/.package-lock.json ## does it compile
	$(TSC) --noEmit -p tsconfig.json

spec: all build/check/stamp ## the specs of make check, without coverage
	$(BESIDE) $(CORE_SPECS)

# The core is covered whole; everything else has a floor, and what is for Ganeti only has it with Ganeti's specs.
# (spawner.ts has types only.)
coverage: all build/check/stamp ## the specs of make check, and what they reach
	rm -rf coverage
	$(C8) --include 'lib/**' --exclude 'lib/**/*ganeti*' --reporter text --reporter json-summary --lines 90 --branches 90 $(BESIDE) $(CORE_SPECS)
	$(subst /c8 ,/c8 report ,$(C8)) --include 'lib/call/**' --include lib/rpc/protocol.ts --reporter text-summary --lines 100 --branches 100

coverage-all: all build/check/stamp ## the specs of make check-all that make check has not, on top of its coverage
	$(C8) --clean=false --include 'lib/**' --reporter text --reporter json-summary --lines 90 --branches 90 $(BESIDE) $(MORE_SPECS)

spec-lists: ## which spec files are in make check, and which in make check-all only
	@printf 'check %s\n' $(CORE_SPECS)
	@printf 'check-all %s\n' $(MORE_SPECS)

# A minute of what the specs do for ten seconds.
fuzz: node_modules/.package-lock.json ## a fuzzer on the fork server's frame parser, for a minute
	NODED_SPEC_FUZZ_SECONDS=60 $(MOCHA) spec/libexec/forker-fuzz.spec.ts

# A hundred crashes each instead of the twenty of make check.
soak: build/check/stamp ## noded and its fork server, killed again and again
	NODED_SPEC_KILLS=100 NODED_SPEC_JOINT_KILLS=200 SPEC_BATCH=1 $(BESIDE) spec/e2e/crash.spec.ts spec/e2e/forker-crashes.spec.ts

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
	npm ls --omit=dev --all --parseable 2>/dev/null | sed -n 's,^$(CURDIR)/,,p' | grep -v -e ^node_modules/@types/ -e ^node_modules/undici-types | tar -cf - -T - | tar -xf - -C $(DESTDIR)$(LIBDIR)
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
