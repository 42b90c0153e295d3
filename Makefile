# ngx_http_vaani_module: see "make help"

# Neither make nor nginx's configure can handle a path with a blank in it, and
# "rm -rf /x/our copy/build" would remove "/x/our". Therefore this check comes
# first:

ODD := \# $$ % & * ( ) ; < > ? [ ] \ ^ ` { | } ! : " '

check_path = $(if $(filter-out 1,$(words [$($1)]))$(strip \
	$(foreach character,$(ODD),$(findstring $(character),$($1)))),$(error \
	$1 is "$($1)": the path must not have blanks or any of $(ODD)))

$(call check_path,CURDIR)

NGINX_DEV = /usr/share/nginx/src
NGINX = /usr/sbin/nginx
REDIS_SERVER = /usr/bin/redis-server

CC = gcc
WARNINGS = -Wall -Wextra -Werror
CFLAGS = -O2 -g

VERSION = $(shell tools/set-version)

BUILD = $(CURDIR)/build
MODULE = $(BUILD)/ngx_http_vaani_module.so

# for "make install"; DESTDIR is prepended to all of them

PREFIX = /usr/local
MODULES_DIR = $(PREFIX)/lib/nginx/modules

$(foreach path,BUILD NGINX_DEV DESTDIR PREFIX MODULES_DIR,$(call \
	check_path,$(path)))

# prerequisites of all builds; with "DEPS=", packages are not checked

DEPS = deps-build

# "make clean" and "make deb" empty a directory only if it has our mark

ifneq ($(filter-out clean help version style,$(or $(MAKECMDGOALS),all)),)
$(shell tools/build-dir make $(BUILD))
endif

SOURCES = VERSION $(wildcard config config.make *.c src/*/*.[ch] src/*/*/*.[ch] \
	src/core/*.lua) \
	src/http/status/status.html tools/lua2c tools/page2c

# It changes when nginx, a library, the compiler or its options change.

STAMP = $(BUILD)/stamp

# for all C code, including the tests and the benchmark

C_SOURCES = $(wildcard *.c src/*/*.c src/*/*/*.c t/*/*.c t/*/*/*.c \
	bench/*.c bench/*/*.c bench/*/*/*.c)
C_HEADERS = $(wildcard src/*/*.h src/*/*/*.h t/*.h t/*/*.h bench/*/*.h)

all: module tool

include t/Makefile.inc


# ---- packages ------------------------------------------------------------

# Without apt-get, the tool checks for the packages' contents, by these.

INSTALL_DEPS = CC="$(CC)" NGINX=$(NGINX) NGINX_DEV=$(NGINX_DEV) \
	REDIS_SERVER=$(REDIS_SERVER) tools/install-deps

deps-build:
	@$(INSTALL_DEPS) gcc make libc6-dev nginx nginx-dev libhiredis-dev \
		libssl-dev

# for targets that run Redis

deps-run: deps-build
	@$(INSTALL_DEPS) redis-server

# the unit tests and the fuzzers need neither nginx nor Redis

deps-unit:
	@tools/install-deps gcc make libc6-dev libcmocka-dev libcjson-dev \
		libhiredis-dev clang libclang-rt-14-dev

deps-test: deps-run deps-unit deps-browser deps-examples deps-markdown
	@tools/install-deps valgrind dpkg-dev git curl nghttp2-client libpcre2-dev \
		zlib1g-dev libssl-dev openssl prometheus libio-socket-ssl-perl strace


# ---- the module, for the packaged nginx ----------------------------------

module: $(MODULE)

$(STAMP): FORCE | $(DEPS)
	@tools/build-stamp $@ "$(CC)" $(NGINX_DEV) "$(CFLAGS) $(WARNINGS)"

$(MODULE): $(SOURCES) $(STAMP) | $(DEPS)
	@NGINX=$(NGINX) tools/build-module $(NGINX_DEV) $(BUILD)/nginx-dev \
		"$(CC)" "$(CFLAGS) $(WARNINGS)"
	@# an nginx may have the old one loaded: it keeps that file
	@cp $(BUILD)/nginx-dev/objs/ngx_http_vaani_module.so $@.new
	@mv $@.new $@


# ---- the tool for the files of a spool -----------------------------------

TOOL = $(BUILD)/vaani-spool

tool: $(TOOL)

$(TOOL): $(wildcard src/tool/*.[ch]) $(wildcard src/core/*.[ch]) \
	src/spool/vaani_journal.c src/spool/vaani_journal.h \
	$(BUILD)/unit/vaani_transition_script.c \
	$(BUILD)/unit/vaani_spool_version.c $(STAMP) | $(DEPS)
	$(CC) -std=gnu99 $(CFLAGS) $(WARNINGS) -Isrc/core -o $@ \
		$(filter %.c,$^) -lhiredis -lssl -lcrypto

$(BUILD)/unit/vaani_spool_version.c: VERSION
	@mkdir -p $(@D)
	@{ echo 'extern const char  vaani_spool_version[];'; \
		echo 'const char  vaani_spool_version[] = "$(VERSION)";'; } > $@


# ---- see it work ---------------------------------------------------------

run: deps-run module
	@examples/demo --module $(MODULE) --nginx $(NGINX) \
		--redis-server $(REDIS_SERVER)

demo: deps-run module
	@examples/demo --module $(MODULE) --nginx $(NGINX) \
		--redis-server $(REDIS_SERVER) --once


# ---- the package for Debian ----------------------------------------------

DEB = $(BUILD)/deb

deps-deb:
	@tools/install-deps build-essential debhelper dpkg-dev nginx nginx-dev \
		libhiredis-dev libssl-dev

deb: deps-deb
	@tools/build-deb $(DEB)

# for the releases of docs/install.md; "make deb-all DEB_SUITES=trixie" builds one

DEB_SUITES = bookworm trixie sid

deb-all:
	@tools/install-deps mmdebstrap
	@tools/deb-all $(BUILD)/deb-all $(DEB_SUITES)


# ---- installation without a package --------------------------------------

# The user who installs may not be the one who builds. Therefore this target
# installs no packages.

DOC_DIR = $(PREFIX)/share/doc/ngx_http_vaani_module
MAN_DIR = $(PREFIX)/share/man
COMPLETIONS_DIR = $(PREFIX)/share/bash-completion/completions

INSTALLED = $(MODULES_DIR)/$(notdir $(MODULE)) $(PREFIX)/sbin/vaani-spool \
	$(PREFIX)/bin/vaani-call $(MAN_DIR)/man1/vaani-call.1 \
	$(PREFIX)/bin/vaani-calls $(MAN_DIR)/man1/vaani-calls.1 \
	$(COMPLETIONS_DIR)/vaani-calls \
	$(patsubst man/%,$(MAN_DIR)/man8/%,$(wildcard man/*.8))

install: $(MODULE) $(TOOL)
	install -d $(DESTDIR)$(MODULES_DIR) $(DESTDIR)$(PREFIX)/sbin \
		$(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(MAN_DIR)/man1 \
		$(DESTDIR)$(MAN_DIR)/man8 $(DESTDIR)$(DOC_DIR) \
		$(DESTDIR)$(COMPLETIONS_DIR)
	@# an nginx may have the old one loaded: it keeps that file
	install -m 644 $(MODULE) $(DESTDIR)$(MODULES_DIR)/$(notdir $(MODULE)).new
	mv $(DESTDIR)$(MODULES_DIR)/$(notdir $(MODULE)).new \
		$(DESTDIR)$(MODULES_DIR)/$(notdir $(MODULE))
	install -m 755 $(TOOL) $(DESTDIR)$(PREFIX)/sbin
	install -m 755 bin/vaani-call bin/vaani-calls $(DESTDIR)$(PREFIX)/bin
	install -m 644 completions/vaani-calls.bash \
		$(DESTDIR)$(COMPLETIONS_DIR)/vaani-calls
	install -m 644 man/*.8 $(DESTDIR)$(MAN_DIR)/man8
	pod2man --utf8 --section=1 --name=VAANI-CALL \
		--center=ngx_http_vaani_module --release=$(VERSION) bin/vaani-call \
		$(DESTDIR)$(MAN_DIR)/man1/vaani-call.1
	pod2man --utf8 --section=1 --name=VAANI-CALLS \
		--center=ngx_http_vaani_module --release=$(VERSION) bin/vaani-calls \
		$(DESTDIR)$(MAN_DIR)/man1/vaani-calls.1
	cp -rL README.md CHANGELOG.md CONTRIBUTING.md LICENSE docs examples \
		$(DESTDIR)$(DOC_DIR)
	@# the commands of examples/README.md make these
	find $(DESTDIR)$(DOC_DIR)/examples -depth \( -name node_modules -o \
		-name __pycache__ -o -name .gitignore \) -exec rm -r {} +
	@echo "nginx.conf: load_module $(MODULES_DIR)/$(notdir $(MODULE));"

uninstall:
	rm -f $(INSTALLED:%=$(DESTDIR)%)
	@if [ -f $(DESTDIR)$(DOC_DIR)/LICENSE ]; then \
		rm -rf $(DESTDIR)$(DOC_DIR); \
	fi


# ---- for editors, and for contributors -------------------------------------

COMPILE_COMMANDS = $(CURDIR)/compile_commands.json

compile_commands.json: module
	@tools/compile-commands $(BUILD)/nginx-dev $(C_SOURCES) > $(COMPILE_COMMANDS).new
	@mv $(COMPILE_COMMANDS).new $(COMPILE_COMMANDS)

# A tarball that builds and tests without git, and a look at whether it does.

DIST = $(BUILD)/dist
DISTCHECK_TESTS = t/project/version.t t/project/layers.t t/http/answers.t

dist:
	@tools/dist $(DIST)

distcheck: deps-run
	@tarball=$$(tools/dist $(DIST)) && \
		tools/distcheck "$$tarball" $(DISTCHECK_TESTS)

# "make version V=1.0.0" sets it wherever it stands, DATE=2026-12-01 as of that day

version:
	@tools/set-version $(V) $(if $(V),$(DATE))

style:
	@tools/style $(C_SOURCES) $(C_HEADERS)


# ---- other ---------------------------------------------------------------

clean:
	@tools/build-dir $(if $(filter-out clean,$(MAKECMDGOALS)),empty,remove) \
		$(BUILD)

FORCE:

help:
	@echo "make               build build/ngx_http_vaani_module.so, vaani-spool"
	@echo "make tool          build only vaani-spool"
	@echo "make run           build, start Redis and nginx, play a call, wait"
	@echo "make demo          the same, and exit after the call"
	@echo "make deb           build the Debian package in build/deb"
	@echo "make deb-all       the same for several Debian releases in build/deb-all"
	@echo "make install       install module, tools, manuals; PREFIX=, DESTDIR=,"
	@echo "                   MODULES_DIR=; \"make uninstall\" removes them"
	@echo "make test          build and run all tests"
	@echo "make test-asan     the same in an nginx with AddressSanitizer and UBSan"
	@echo "make test-unit     unit tests only"
	@echo "make test-nginx    tests with nginx and Redis only"
	@echo "make test-valgrind end-to-end test under valgrind"
	@echo "make test-deb      test the contents and the installation of the package"
	@echo "make test-image    build and run the container images with buildah"
	@echo "make test-matrix   test with the packages of other Debian releases"
	@echo "make test-flavour  test with the nginx or fork in NGINX_SOURCE=DIR"
	@echo "make test-model    check the model of the kept events with spin"
	@echo "make test-topology test all failures of clusters and Sentinels once"
	@echo "make test-faults   test all failures with more load and for longer"
	@echo "make soak          send a million events, check memory and descriptors"
	@echo "make bench         compare with endpoints in other languages"
	@echo "make bench-profile CPU instructions per event, by callgrind"
	@echo "make bench-json    speed of validation"
	@echo "make bench-spool   cost of the spool"
	@echo "make bench-cluster cost and throughput of a Redis Cluster"
	@echo "make bench-memory  memory and disk space of calls and events"
	@echo "make fuzz          fuzz src/core and the journal, FUZZ_SECONDS=60 each"
	@echo "make coverage      line and branch coverage of the unit tests"
	@echo "make analyze       run clang's analyzer, cppcheck and shellcheck"
	@echo "make style         check the C sources for nginx's style"
	@echo "make screenshots   take the pictures in docs/images again"
	@echo "make dist          the tarball of a release, in build/dist"
	@echo "make distcheck     unpack it elsewhere, build, test, install"
	@echo "make version       print the version; V=1.0.0 sets it in all files"
	@echo "make compile_commands.json"
	@echo "                   compilation database for editors and clangd"
	@echo "make clean         remove build/"

.PHONY: all deps-build deps-run deps-unit deps-test deps-deb module tool run demo deb deb-all install \
	uninstall clean help version dist distcheck style compile_commands.json FORCE
