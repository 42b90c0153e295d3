# ngx_http_vaani_module: see "make help"

NGINX_DEV = /usr/share/nginx/src
NGINX = /usr/sbin/nginx
REDIS_SERVER = /usr/bin/redis-server

CC = gcc
WARNINGS = -Wall -Wextra -Werror
CFLAGS = -O2 -g

BUILD = $(CURDIR)/build
MODULE = $(BUILD)/ngx_http_vaani_module.so

SOURCES = $(wildcard config config.make *.c src/*/*.[ch] src/core/*.lua) \
	src/http/status.html tools/lua2c tools/page2c

# whatever is written in C, the tests and the benchmark too

C_SOURCES = $(wildcard *.c src/*/*.c t/unit/*.c t/fuzz/*.c t/foreign/*.c \
	bench/*.c bench/*/*.c bench/*/*/*.c)
C_HEADERS = $(wildcard src/*/*.h t/*.h t/*/*.h bench/*/*.h)

all: module tool

include t/Makefile.inc


# ---- packages ------------------------------------------------------------

deps-run:
	@tools/install-deps gcc make libc6-dev nginx nginx-dev libhiredis-dev \
		libcjson-dev libssl-dev redis-server

deps-test: deps-run deps-browser deps-examples
	@tools/install-deps libcmocka-dev clang libclang-rt-14-dev valgrind \
		dpkg-dev curl nghttp2-client libpcre2-dev zlib1g-dev libssl-dev \
		openssl prometheus libio-socket-ssl-perl


# ---- the module, for the packaged nginx ----------------------------------

module: deps-run $(MODULE)

$(MODULE): $(SOURCES)
	@tools/build-module $(NGINX_DEV) $(BUILD)/nginx-dev "$(CC)" \
		"$(CFLAGS) $(WARNINGS)"
	@# an nginx may have the old one loaded: it keeps that file
	@cp $(BUILD)/nginx-dev/objs/ngx_http_vaani_module.so $@.new
	@mv $@.new $@


# ---- the tool that looks into a spool ------------------------------------

TOOL = $(BUILD)/vaani-spool

tool: deps-run $(TOOL)

$(TOOL): $(wildcard src/tool/*.[ch]) $(wildcard src/core/*.[ch]) \
	src/spool/vaani_journal.c src/spool/vaani_journal.h \
	$(BUILD)/unit/vaani_transition_script.c
	$(CC) -std=gnu99 $(CFLAGS) $(WARNINGS) -Isrc/core -o $@ \
		$(filter %.c,$^) -lhiredis -lcjson -lcrypto


# ---- see it work ---------------------------------------------------------

run: module
	@examples/demo --module $(MODULE) --nginx $(NGINX) \
		--redis-server $(REDIS_SERVER)

demo: module
	@examples/demo --module $(MODULE) --nginx $(NGINX) \
		--redis-server $(REDIS_SERVER) --once


# ---- the package for Debian ----------------------------------------------

DEB = $(BUILD)/deb

deps-deb:
	@tools/install-deps build-essential debhelper dpkg-dev nginx nginx-dev \
		libhiredis-dev libcjson-dev libssl-dev

deb: deps-deb
	@tools/build-deb $(DEB)


# ---- for editors, and for those who write code -----------------------------

COMPILE_COMMANDS = $(CURDIR)/compile_commands.json

compile_commands.json: module
	@tools/compile-commands $(BUILD)/nginx-dev $(C_SOURCES) > $(COMPILE_COMMANDS).new
	@mv $(COMPILE_COMMANDS).new $(COMPILE_COMMANDS)

style:
	@tools/style $(C_SOURCES) $(C_HEADERS)


# ---- other ---------------------------------------------------------------

clean:
	rm -rf $(BUILD)

help:
	@echo "make               build build/ngx_http_vaani_module.so, vaani-spool"
	@echo "make run           build, start Redis and nginx, show a call arrive"
	@echo "make demo          the same, and end"
	@echo "make deb           build the package for Debian, in build/deb"
	@echo "make test          build and run all the tests"
	@echo "make test-asan     the same in an nginx with AddressSanitizer, UBSan"
	@echo "make test-unit     only the unit tests of src/core"
	@echo "make test-nginx    only the tests with nginx and Redis"
	@echo "make test-valgrind an end-to-end run under valgrind"
	@echo "make test-deb      what is in the package, what installing it does"
	@echo "make test-matrix   with the packages of other releases of Debian"
	@echo "make test-faults   everything that can break, for long"
	@echo "make soak          a million events: memory and descriptors stay flat"
	@echo "make bench         the endpoint beside others that do the same job"
	@echo "make bench-profile what the CPU of an event consists of, by callgrind"
	@echo "make bench-json    how fast bodies are validated"
	@echo "make bench-spool   what the spool costs"
	@echo "make bench-memory  what calls and events take, in bytes"
	@echo "make fuzz          fuzz src/core and the journal, FUZZ_SECONDS=60 each"
	@echo "make coverage      what the unit tests reach of src/core, the journal"
	@echo "make analyze       clang's analyzer, cppcheck, shellcheck"
	@echo "make style         what of the C isn't in nginx's style"
	@echo "make compile_commands.json"
	@echo "                   how each file is compiled, for editors and clangd"
	@echo "make clean         remove build/"

.PHONY: all deps-run deps-test deps-deb module tool run demo deb clean \
	help style compile_commands.json
