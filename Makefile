# directord. `make help` lists the targets; V=1 shows the commands.
VERSION := 0.1.0
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
CC ?= cc
CFLAGS ?= -O2 -g
PYTHON ?= /usr/bin/python3
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
Q := $(if $(V),,@)
MAKEFLAGS += --no-print-directory

PACKAGES := gcc make pkg-config libuv1-dev node-llhttp libcjson-dev libpq-dev libyaml-dev uuid-dev \
    uthash-dev libsystemd-dev check postgresql tzdata python3 python3-pytest python3-yaml \
    python3-psycopg2
BENCH_PACKAGES := wrk
LINT_PACKAGES := clang clang-format clang-tidy libclang-rt-dev shellcheck

# --- flags ---------------------------------------------------------------------------------------------------
LIBS := libuv libcjson libpq yaml-0.1 uuid libsystemd
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
    -Wwrite-strings -Wformat=2 -Wundef $(if $(CI),-Werror)
HARDENING := -fstack-protector-strong -fPIE $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
SANITIZER := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
# Asked once, and only when something is compiled: on a fresh machine there is no pkg-config yet.
LIB_CFLAGS = $(eval LIB_CFLAGS := $(shell pkg-config --cflags $(LIBS)))$(LIB_CFLAGS)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DDIRECTORD_VERSION='"$(VERSION)"' \
    -DDIRECTORD_SYSCONFDIR='"$(SYSCONFDIR)"' -I. -I$(BUILD) $(WARNINGS) \
    $(HARDENING) $(SANITIZER) $(LIB_CFLAGS) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(SANITIZER) $(LDFLAGS)
LDLIBS = $(shell pkg-config --libs $(LIBS)) -pthread -lm
link = $(CC) $(ALL_LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS) -o $@

# llhttp: the library where the system has one, else Debian 12's sources (package node-llhttp), strict.
ifeq ($(shell pkg-config --exists libllhttp 2>/dev/null && echo yes),yes)
LLHTTP_CFLAGS := $(shell pkg-config --cflags libllhttp)
LDLIBS += $(shell pkg-config --libs libllhttp)
else
LLHTTP_CFLAGS := -I/usr/share/include/llhttp
LLHTTP_OBJECTS := $(addprefix $(BUILD)/llhttp/,api.o http.o llhttp.o)
endif

# --- sources: a library a folder, linked in this order, so that arrows can only point down --------------------------
FOLDERS := daemon api scheduler executor store base
LAUNCHER_MAIN := executor/exec_main.c
sources = $(filter-out $(LAUNCHER_MAIN),$(sort $(wildcard $(1)/*.c)))
objects = $(patsubst %.c,$(BUILD)/%.o,$(call sources,$(1)))
ARCHIVES := $(foreach f,$(FOLDERS),$(BUILD)/$(f).a)
MIGRATIONS := $(sort $(wildcard migrations/*.sql))

.PHONY: all
all: $(BUILD)/directord $(BUILD)/directord-exec ## build it (the default)

$(BUILD)/directord: $(ARCHIVES) | $(BUILD)/directord-exec
	@echo "  LINK $@"
	$(Q)$(link)

# The launcher is started with every task that needs it: without libraries, it starts in a third of the time.
$(BUILD)/directord-exec: LDLIBS :=
$(BUILD)/directord-exec: $(LAUNCHER_MAIN:%.c=$(BUILD)/%.o) $(BUILD)/executor.a $(BUILD)/base.a
	@echo "  LINK $@"
	$(Q)$(link)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter api/% tests/bench/bare_http.c,$<),$(LLHTTP_CFLAGS)) -MMD -MP -c $< -o $@

# Quiet about warnings: these are not our sources.
$(BUILD)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) -std=gnu11 $(LLHTTP_CFLAGS) -DLLHTTP_STRICT_MODE=1 $(HARDENING) $(SANITIZER) $(CFLAGS) -w -c $< -o $@

# What belongs into a folder's library besides its own sources.
more_api := $(LLHTTP_OBJECTS)
more_store := $(BUILD)/migrations.o
define archive_rule
$(BUILD)/$(1).a: $(call objects,$(1)) $(more_$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)$(AR) rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive_rule,$(f))))

$(BUILD)/migrations.c: $(MIGRATIONS) migrations/embed.sh
	@mkdir -p $(@D)
	$(Q)sh migrations/embed.sh $(MIGRATIONS) > $@.new && mv $@.new $@
$(BUILD)/migrations.o: $(BUILD)/migrations.c
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

# --- tests -----------------------------------------------------------------------------------------------------------
# tests/unit/FOLDER/test_NOUN.c is a program of its own, linked with its folder and those below it.
UNIT := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/*/test_*.c)))
NEXT_DRIVER := $(BUILD)/tests/unit/scheduler/next_driver
below_store := base
below_executor := base
below_scheduler := executor store base
below_api := scheduler $(below_scheduler)
below_daemon := api $(below_api)

define unit_rule
$(filter $(BUILD)/tests/unit/$(1)/%,$(UNIT) $(NEXT_DRIVER)): %: %.o $(foreach f,$(1) $(below_$(1)),$(BUILD)/$(f).a)
	@echo "  LINK $$@"
	$(Q)$$(link) $$(shell pkg-config --libs check)
endef
$(foreach f,$(FOLDERS),$(eval $(call unit_rule,$(f))))

# tests/fuzz/fuzz_NOUN.c is one too. Its main comes from replay.c, which runs tests/fuzz/corpus/NOUN once, or from
# libFuzzer, which looks for more.
FUZZERS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_MAIN := $(BUILD)/tests/fuzz/replay.o
FUZZ_SECONDS ?= 60
$(FUZZERS): %: %.o $(FUZZ_MAIN) $(ARCHIVES)
	@echo "  LINK $@"
	$(Q)$(link)

.SECONDARY: $(UNIT:=.o) $(FUZZERS:=.o) $(NEXT_DRIVER).o

# A make of its own for each step: what the first installs, the next one finds.
.PHONY: test unit fuzz-replay integration fuzz fuzz-run
test: ## install what is missing, build, and run all tests
	$(Q)$(MAKE) deps
	$(Q)$(MAKE) unit
	$(Q)$(MAKE) fuzz-replay
	$(Q)$(MAKE) integration

unit: $(UNIT) $(BUILD)/directord-exec ## the unit tests
	$(Q)failed=; for t in $(UNIT); do CK_DEFAULT_TIMEOUT=120 $$t || failed="$$failed $$t"; done; \
	test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

fuzz-replay: $(FUZZERS) ## the parsers on the inputs that fuzzing has found so far
	$(Q)set -e; for f in $(FUZZERS); do $$f tests/fuzz/corpus/$${f##*/fuzz_}/*; done

# The driver is what test_next_oracle.py asks.
CRASHING := $(BUILD)/crashing
PYTEST = DIRECTORD=$(abspath $(BUILD)/directord) DIRECTORD_CRASHING=$(abspath $(CRASHING)/directord) BUILD=$(BUILD) \
    $(PYTHON) -m pytest -q -p no:cacheprovider
integration: $(BUILD)/directord $(BUILD)/directord-exec $(NEXT_DRIVER) crashing ## the tests that drive the daemon from outside
	$(Q)$(PYTEST) tests/integration

# The program with crash points in it, see base/crash_point.h.
.PHONY: crashing
crashing:
	$(Q)$(MAKE) BUILD=$(CRASHING) CPPFLAGS="$(CPPFLAGS) -DDIRECTORD_CRASH_POINTS" all

.PHONY: torture torture-random torture-replies torture-crashes
torture: ## kill daemons, server and connections for TORTURE_SECONDS (600), then check what is left
	$(Q)$(MAKE) deps
	$(Q)$(MAKE) torture-random
torture-random: $(BUILD)/directord
	$(Q)DIRECTORD=$(abspath $(BUILD)/directord) $(PYTHON) tests/torture/torture.py
torture-replies: $(BUILD)/directord ## break every single request to PostgreSQL, one in a daemon's life
	$(Q)DIRECTORD=$(abspath $(BUILD)/directord) $(PYTHON) tests/torture/replies.py
torture-crashes: $(BUILD)/directord crashing ## crash at every crash point, the first times and later
	$(Q)TORTURE_ALL=1 $(PYTEST) tests/integration/test_crash_points.py

fuzz: ## fuzz each parser for FUZZ_SECONDS (60)
	$(Q)$(MAKE) lint-deps
	$(Q)$(MAKE) BUILD=$(BUILD)/fuzz CC=clang SANITIZE=fuzzer,address,undefined FUZZ_MAIN= fuzz-run
fuzz-run: $(FUZZERS)
	$(Q)set -e; for f in $(FUZZERS); do \
	    noun=$${f##*/fuzz_}; found=$(BUILD)/found/$$noun; mkdir -p $$found; echo "  FUZZ $$noun"; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -print_final_stats=1 \
	        -artifact_prefix=$(BUILD)/$$noun- $$found tests/fuzz/corpus/$$noun; \
	done

# --- bench -----------------------------------------------------------------------------------------------------------
# The yardsticks are programs of their own; bench.py runs them beside the daemon. docs/performance.md explains the lines.
YARDSTICKS := $(addprefix $(BUILD)/tests/bench/,bare_http sql_yardstick spawn_yardstick heavy.so)
$(BUILD)/tests/bench/bare_http: $(LLHTTP_OBJECTS)
$(BUILD)/tests/bench/sql_yardstick: $(BUILD)/store.a $(BUILD)/base.a
$(filter-out %.so,$(YARDSTICKS)): %: %.o
	@echo "  LINK $@"
	$(Q)$(link)
.SECONDARY: $(YARDSTICKS:=.o)
$(BUILD)/tests/bench/%.so: tests/bench/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -fPIC -shared $(WARNINGS) $(CFLAGS) $< -o $@

.PHONY: bench bench-run bench-peers
bench: ## measure everything, each beside a yardstick; bench-LINE measures one line (BENCH_SECONDS, BENCH_ROUNDS, BENCH_FULL)
	$(Q)$(MAKE) deps bench-deps
	$(Q)$(MAKE) bench-run
bench-%:
	$(Q)$(MAKE) deps bench-deps
	$(Q)$(MAKE) bench-run BENCH_LINES=$*
bench-peers: $(BUILD)/peers/node_modules ## the engine beside graphile-worker and pg-boss (npm installs them below the build)
	$(Q)$(MAKE) deps bench-deps
	$(Q)$(MAKE) bench-run BENCH_LINES=peers
bench-run: $(BUILD)/directord $(YARDSTICKS)
	$(Q)BUILD=$(BUILD) DIRECTORD=$(abspath $(BUILD)/directord) $(PYTHON) tests/bench/bench.py $(BENCH_LINES)
$(BUILD)/peers/node_modules: $(wildcard tests/bench/peers/*)
	@mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm install --no-fund --no-audit
	@touch $@

# --- lint ------------------------------------------------------------------------------------------------------------
SOURCES := $(foreach f,$(FOLDERS),$(wildcard $(f)/*.c))
HEADERS := $(foreach f,$(FOLDERS),$(wildcard $(f)/*.h))
TESTS := $(wildcard tests/*/*.[ch] tests/*/*/*.[ch])

.PHONY: format lint checks tidy
format: ## lay out the sources as .clang-format says
	$(Q)clang-format -i $(SOURCES) $(HEADERS) $(TESTS)

lint: ## install what is missing, and check what tests cannot: layout, doors, habits, clang-tidy
	$(Q)$(MAKE) deps lint-deps
	$(Q)$(MAKE) checks
checks: docs-check tidy
	$(Q)clang-format --dry-run -Werror $(SOURCES) $(HEADERS) $(TESTS)
	$(Q)tests/lint/doors.sh
	$(Q)tests/lint/habits.sh
	$(Q)shellcheck .ci/run $(wildcard */*.sh */*/*.sh)
	@echo "  LINT each header compiles alone"
	$(Q)set -e; for h in $(HEADERS); do \
	    echo "#include \"$$h\"" | $(CC) $(ALL_CFLAGS) -Werror -fsyntax-only -xc -; \
	done

tidy: $(SOURCES:%.c=$(BUILD)/%.tidy)
# By way of the object, the stamp knows the headers. analyzer.h speaks of what base/error.c defines. To standard error
# goes only how many warnings there were in the headers of others.
$(BUILD)/%.tidy: %.c $(BUILD)/%.o .clang-tidy
	@echo "  TIDY $<"
	$(Q)clang-tidy --quiet $< -- $(if $(filter base/error.c,$<),,-include tests/lint/analyzer.h) \
	    $(ALL_CFLAGS) $(LLHTTP_CFLAGS) 2> $@.log || { cat $@.log; exit 1; }
	@touch $@

# --- from a fresh clone to a running daemon --------------------------------------------------------------------------
# Packages of the list that are not installed yet.
missing = $$(for p in $(1); do dpkg-query -W -f '$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q ^ii || echo $$p; done)

.PHONY: deps lint-deps bench-deps
deps: ## install what is missing to build, run and test (Debian; docs/dependencies.md says what for)
	$(Q)missing="$(call missing,$(PACKAGES))"; $(install_missing)
lint-deps: deps ## install what is missing for `make lint` and `make fuzz`
	$(Q)missing="$(call missing,$(LINT_PACKAGES))"; $(install_missing)
bench-deps: deps ## install what is missing for `make bench`
	$(Q)missing="$(call missing,$(BENCH_PACKAGES))"; $(install_missing)
define install_missing
test -z "$$missing" || { \
    command -v apt-get >/dev/null || { echo "Not installed:" $$missing; exit 1; }; \
    echo "Installing" $$missing; \
    $(SUDO) apt-get -qq update && \
    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; }
endef

# The state lies in .state, unless PostgreSQL's user, who runs the private server where we are root, cannot get there, or
# its socket's path is too long.
.PHONY: run
run: ## install what is missing, build, and run in the foreground
	$(Q)$(MAKE) deps
	$(Q)$(MAKE) $(if $(V),,-s) $(BUILD)/directord
	$(Q)state="$(CURDIR)/.state"; \
	if [ -z "$$DIRECTOR_STATE_DIR" ] && [ $${#state} -le 80 ] && \
	    { [ $$(id -u) != 0 ] || runuser -u postgres -- test -x "$(CURDIR)"; }; then \
	    export DIRECTOR_STATE_DIR="$$state"; \
	fi; \
	export DIRECTOR_WORKFLOWS_DIR="$${DIRECTOR_WORKFLOWS_DIR:-$(CURDIR)/workflows.d}"; \
	exec $(BUILD)/directord

# --- installation ----------------------------------------------------------------------------------------------------
BINDIR := $(DESTDIR)$(PREFIX)/bin
LIBEXECDIR := $(DESTDIR)$(PREFIX)/libexec/directord
DOCDIR := $(DESTDIR)$(PREFIX)/share/doc/directord
MANDIR := $(DESTDIR)$(PREFIX)/share/man
SYSUSERSDIR := $(DESTDIR)$(PREFIX)/lib/sysusers.d
CONFDIR := $(DESTDIR)$(SYSCONFDIR)/directord
DOCS := $(wildcard *.md LICENSE docs/*.md)
EXAMPLES := $(wildcard workflows.d/*.yml)
with_paths = sed -e 's,/usr/local/,$(PREFIX)/,' -e 's,/etc/,$(SYSCONFDIR)/,'

.PHONY: install uninstall
install: $(BUILD)/directord $(BUILD)/directord-exec ## install below DESTDIR and PREFIX; what is in /etc already is left alone
	install -D -m 755 $(BUILD)/directord $(BINDIR)/directord
	install -D -m 755 $(BUILD)/directord-exec $(LIBEXECDIR)/directord-exec
	install -d $(DESTDIR)$(UNITDIR) $(MANDIR)/man5 $(MANDIR)/man8
	$(with_paths) systemd/directord.service > $(DESTDIR)$(UNITDIR)/directord.service
	$(with_paths) docs/directord.8 > $(MANDIR)/man8/directord.8
	install -m 644 docs/directord.conf.5 $(MANDIR)/man5
	install -D -m 644 systemd/directord.sysusers $(SYSUSERSDIR)/directord.conf
	test -e $(CONFDIR)/directord.conf || install -D -m 644 systemd/directord.conf $(CONFDIR)/directord.conf
	test -e $(CONFDIR)/workflows.d || install -D -m 644 -t $(CONFDIR)/workflows.d $(EXAMPLES)
	install -D -m 644 -t $(DOCDIR) $(DOCS)
	install -D -m 644 -t $(DOCDIR)/examples $(EXAMPLES)
	@test -n "$(DESTDIR)" || echo "Now: systemd-sysusers && systemctl daemon-reload && systemctl enable --now directord"

uninstall: ## remove what install has put there, but not /etc/directord and the state
	rm -f $(BINDIR)/directord $(DESTDIR)$(UNITDIR)/directord.service $(SYSUSERSDIR)/directord.conf
	rm -f $(MANDIR)/man5/directord.conf.5 $(MANDIR)/man8/directord.8
	rm -rf $(LIBEXECDIR) $(DOCDIR)

# --- the rest --------------------------------------------------------------------------------------------------------
# All lists of the settings are made of what the program says.
settings = $(BUILD)/directord --help | awk -v format=$(1) -f docs/settings.awk

.PHONY: docs docs-check
docs: $(BUILD)/directord ## write the lists of the settings anew
	$(Q)$(call settings,markdown) > docs/settings.md
	$(Q)$(call settings,man) > docs/directord.conf.5
	$(Q)$(call settings,conf) > systemd/directord.conf
docs-check: $(BUILD)/directord ## are the lists of the settings those of the program?
	$(Q)$(call settings,markdown) | diff -u docs/settings.md -
	$(Q)$(call settings,man) | diff -u docs/directord.conf.5 -
	$(Q)$(call settings,conf) | diff -u systemd/directord.conf -

.PHONY: dist
dist: ## a tar file of the last commit
	@mkdir -p $(BUILD)
	git archive --prefix=directord-$(VERSION)/ -o $(BUILD)/directord-$(VERSION).tar.gz HEAD

.PHONY: clean
clean: ## remove what was built; not .state
	rm -rf $(BUILD)

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | sort | expand -t 14

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
