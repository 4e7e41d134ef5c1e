# Build, test and install libtktrot. `make` alone builds everything.

CARGO   ?= cargo
CC      ?= cc
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
SHARE   ?= $(PREFIX)/share
UNITS   ?= $(PREFIX)/lib/systemd/system
SYSUSERS ?= $(PREFIX)/lib/sysusers.d
TARGET  := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
MAJOR   := $(firstword $(subst ., ,$(VERSION)))

CFLAGS   ?= -O2 -g
WARNINGS := -std=gnu11 -Wall -Wextra -Werror
# C programs find the library that was built beside them, under its soname.
C_DIR    := $(TARGET)/c
C_LINK   := -L$(C_DIR)/lib -ltktrot -Wl,-rpath,'$$ORIGIN/lib' -lssl -lcrypto -pthread

PROGRAMS := $(patsubst examples/%.c,$(C_DIR)/%,$(wildcard examples/*.c)) \
            $(patsubst c-tests/%.c,$(C_DIR)/%,$(wildcard c-tests/*.c)) \
            $(patsubst c-tests/servers/%.c,$(C_DIR)/servers/%,$(wildcard c-tests/servers/*.c)) \
            $(C_DIR)/servers/module/host $(C_DIR)/servers/module/tls.so \
            $(C_DIR)/faults/faults.so $(C_DIR)/confined/allow $(C_DIR)/confined/confines_itself \
            $(C_DIR)/differential/bare $(C_DIR)/differential/linked

# The shim whose writers die where a test says has a directory of its own, so
# that it and the other do not replace each other.
KILL_POINTS := -p tktrot-preload --features kill-points --target-dir $(TARGET)/kill-points

# The C tests once more, with sanitizers; the library in them is as it is. Those with threads once
# more, with ThreadSanitizer, which goes with no other.
ASAN_DIR  := $(TARGET)/c-asan
SANITIZE  := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN_DIR  := $(TARGET)/c-tsan
TSANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
THREADED  := api exits primed turnover upheaval
SANITIZED := $(patsubst c-tests/%.c,$(ASAN_DIR)/%,$(wildcard c-tests/*.c)) $(ASAN_DIR)/defects \
             $(THREADED:%=$(TSAN_DIR)/%) $(TSAN_DIR)/defects

# Builds other TLS libraries, below $(TARGET)/tls, and runs the C tests and the benchmark with them.
TLS_LIBRARIES := $(CARGO) run --quiet --locked --manifest-path checks/tls-libraries/Cargo.toml \
                 --target-dir $(TARGET)/tls/runner --

.PHONY: all libraries programs kill-points sanitize sanitize-all helgrind sanitize-rust \
        deps demo quick test built-for-tests built-tests \
        computing-tests waiting-tests program-tests fleet-tests test-tools test-tls check-tls test-musl openssl-1.1.1 \
        portable test-portable test-distributions check-distributions test-valkey install-portable \
        models miri mutants mutants-quick fuzz seeds soak deny lint bench costs bench-baseline install header symbols \
        clean

all: libraries programs

# The libraries and the program, at once: each choice of packages has other features, and would compile
# the library anew.
SHIPPED := -p tktrot -p tktrot-preload -p tktrot-cli

libraries:
	@$(CARGO) build --release --quiet $(SHIPPED)

programs: $(PROGRAMS)

# What a program was made of, for tests, which take none that is older (testbed/src/artifacts.rs).
RECORD = @echo '$@: $^' > $(basename $@).d

$(C_DIR)/%: examples/%.c include/tktrot.h | $(C_DIR)/lib
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< $(C_LINK)
	$(RECORD)

$(C_DIR)/%: c-tests/%.c $(wildcard c-tests/*.h) include/tktrot.h | $(C_DIR)/lib
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< $(C_LINK)
	$(RECORD)

# Servers that know nothing of libtktrot: the shim is for them.
SERVER_HEADERS := $(wildcard c-tests/servers/*.h)

$(C_DIR)/servers/%: c-tests/servers/%.c $(SERVER_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< -lssl -lcrypto -ldl -pthread
	$(RECORD)

# One whose TLS is in a module, and the module; the server itself has no TLS library.
$(C_DIR)/servers/module/%: c-tests/servers/module/%.c $(SERVER_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< -ldl
	$(RECORD)

$(C_DIR)/servers/module/%.so: c-tests/servers/module/%.c $(SERVER_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -shared -fPIC -o $@ $< -lssl -lcrypto
	$(RECORD)

# What makes calls of the shim fail, for tests/faults.
$(C_DIR)/faults/%.so: c-tests/faults/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -shared -fPIC -o $@ $< -ldl -pthread
	$(RECORD)

# What lets a server make certain system calls only, for tests/confined; and one that confines itself.
$(C_DIR)/confined/%: c-tests/confined/%.c $(SERVER_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< -lseccomp -lssl -lcrypto
	$(RECORD)

# Everything that a server does, without the library and with it (tests/differential.rs).
DIFFERENTIAL := $(wildcard c-tests/differential/*.c)

$(C_DIR)/differential/bare: $(DIFFERENTIAL) c-tests/differential/differential.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $(DIFFERENTIAL) -lssl -lcrypto -lm -pthread
	$(RECORD)

$(C_DIR)/differential/linked: $(DIFFERENTIAL) c-tests/differential/differential.h include/tktrot.h | $(C_DIR)/lib
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -DLINKED -Iinclude -o $@ $(DIFFERENTIAL) -L$(C_DIR)/lib -ltktrot \
	    -Wl,-rpath,'$$ORIGIN/../lib' -lssl -lcrypto -lm -pthread
	$(RECORD)

sanitize: $(SANITIZED)

$(ASAN_DIR)/%: c-tests/%.c $(wildcard c-tests/*.h) include/tktrot.h | $(ASAN_DIR)/lib
	$(CC) $(SANITIZE) $(WARNINGS) -Iinclude -o $@ $< $(C_LINK)
	$(RECORD)

$(TSAN_DIR)/%: c-tests/%.c $(wildcard c-tests/*.h) include/tktrot.h | $(TSAN_DIR)/lib
	$(CC) $(TSANITIZE) $(WARNINGS) -Iinclude -o $@ $< $(C_LINK)
	$(RECORD)

# What shows that the sanitizers see something.
$(ASAN_DIR)/defects: checks/sanitizers/defects.c | $(ASAN_DIR)/lib
	$(CC) $(SANITIZE) $(WARNINGS) -o $@ $< -pthread
	$(RECORD)

$(TSAN_DIR)/defects: checks/sanitizers/defects.c | $(TSAN_DIR)/lib
	$(CC) $(TSANITIZE) $(WARNINGS) -o $@ $< -pthread
	$(RECORD)

# The same without any sanitizer, for valgrind.
$(C_DIR)/defects: checks/sanitizers/defects.c | $(C_DIR)/lib
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< -pthread
	$(RECORD)

# Helgrind over a C test with threads, and the library's unit tests with a sanitizer inside; the
# latter need a nightly compiler and its rust-src. Half an hour, so not in `make test`.
sanitize-all: helgrind sanitize-rust

helgrind: programs $(C_DIR)/defects
	@checks/sanitizers/run helgrind $(C_DIR)

sanitize-rust:
	@checks/sanitizers/run rust

# A link, not a copy: relinking the library must not leave an old one behind.
$(C_DIR)/lib $(ASAN_DIR)/lib $(TSAN_DIR)/lib: libraries
	@mkdir -p $@
	@ln -sf ../../release/libtktrot_preload.so $@/libtktrot_preload.so
	@ln -sf ../../release/libtktrot.so $@/libtktrot.so
	@ln -sf ../../release/libtktrot.so $@/libtktrot.so.$(MAJOR)

# Installs what is missing, on Debian; elsewhere says what to install.
deps:
	@tools/deps

# A stock nginx with and without the shim, driven by a real client, in a minute.
demo: deps all
	@$(CARGO) run --release --quiet -p testbed --bin demo

# The shim for tests/killed_writers.rs.
kill-points:
	@$(CARGO) build --quiet $(KILL_POINTS)

# The library that tests/tls_libraries.rs needs beside the system's; fetched and built once.
openssl-1.1.1: $(C_DIR)/lib
	@$(TLS_LIBRARIES) build system openssl-1.1.1

# What the C tests load for musl, where they run with the OpenSSL for that, too.
ifneq ($(if $(TLS),$(filter %-musl,$(TLS)),all),)
FOR_MUSL = @tools/deps musl && tools/musl
endif

# The C tests with every TLS library, which takes a while to build, and whether the bench works with
# those that it is for; then the table in docs/servers.md. Some only, without the table:
#   make test-tls TLS="openssl-4.0 boringssl"
test-tls: $(C_DIR)/lib
	@tools/deps
	@tools/deps tls
	$(FOR_MUSL)
	@$(TLS_LIBRARIES) test $(TLS)

# The same for CI: it writes nothing, and fails where the table that is there is another.
check-tls: $(C_DIR)/lib
	@tools/deps
	@tools/deps tls
	$(FOR_MUSL)
	$(CARGO) test --quiet --locked --manifest-path checks/tls-libraries/Cargo.toml --target-dir $(TARGET)/tls/runner
	@$(TLS_LIBRARIES) check $(TLS)

# Every test there is, but for those of test-tls and test-musl. Three lanes, side by side: one
# computes (valgrind above all), the others, of the library and of the program, mostly wait for
# servers; then fleets of hosts.
# What they need is built side by side, too: either half has stretches with work for one core.
test: deps
	@$(MAKE) --no-print-directory --jobs=2 built-for-tests built-tests
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target \
	    computing-tests waiting-tests program-tests
	@$(MAKE) --no-print-directory fleet-tests

built-for-tests: all costs kill-points sanitize openssl-1.1.1

built-tests:
	$(CARGO) test --workspace --quiet --no-run
	$(CRASH) --no-run

# Always the whole workspace, of which tests are chosen by name: a choice of packages has other
# features, and would compile everything once more.
TEST := MAKEFLAGS= $(CARGO) test --workspace --quiet --no-fail-fast

# The library in this one dies where the test says.
CRASH := $(TEST) --features tktrot/kill-points --test crash

names = $(basename $(notdir $(wildcard $(1)/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard $(1)/*/main.rs)))

COMPUTING := models c_programs differential sanitizers tls_libraries hammer instructions
WAITING   := $(filter-out crash $(COMPUTING),$(call names,tests))
# Fleets of hosts: what is counted in seconds, they do in seconds only on a machine that does little
# else.
FLEET     := fleet many_agents
PROGRAM   := $(filter-out $(FLEET) $(WAITING),$(call names,cli/tests)) $(call names,fleet/tests) \
             $(call names,checks/fuzz/targets/tests)
# What tests only what tests with.
TOOLS     := $(call names,testbed/tests)

computing-tests:
	$(TEST) $(COMPUTING:%=--test %)
	$(CRASH)

waiting-tests:
	$(TEST) --lib $(WAITING:%=--test %)
	$(TEST) --doc

program-tests:
	$(TEST) --bins $(PROGRAM:%=--test %)

fleet-tests:
	$(TEST) $(FLEET:%=--test %)

# Whether the means of testing work: the fixtures, the benchmark, the deliberate bugs.
test-tools: deps
	@$(MAKE) --no-print-directory costs
	$(TEST) $(TOOLS:%=--test %)

# For the time between two lines: the library's unit tests, days of rotation on a virtual clock, and
# what the callback promises to libssl, with what was compiled for the tests.
QUICK_DIR := $(TARGET)/quick

quick:
	$(CARGO) test --quiet -p tktrot --lib --test keyring
	@$(CARGO) build --quiet -p tktrot
	@mkdir -p $(QUICK_DIR)
	@ln -sf ../debug/libtktrot.so $(QUICK_DIR)/libtktrot.so.$(MAJOR)
	@for name in contract scope api; do \
	    $(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $(QUICK_DIR)/$$name c-tests/$$name.c \
	        $(QUICK_DIR)/libtktrot.so.$(MAJOR) -Wl,-rpath,'$$ORIGIN' -lssl -lcrypto -pthread && \
	    rings=$$(mktemp -d /dev/shm/quick-XXXXXX) && \
	    { TKTROT_DIR=$$rings C_TESTS_BRIEF=1 $(QUICK_DIR)/$$name >$(QUICK_DIR)/$$name.log 2>&1; \
	        status=$$?; rm -rf $$rings; } && \
	    [ $$status -eq 0 ] || { cat $(QUICK_DIR)/$$name.log; exit 1; }; \
	done

# nginx and HAProxy under one ring, for so many minutes, while workers are killed, stopped, starved
# and reloaded (docs/reliability.md): make soak MINUTES=10, with SEED=n as before, HANDSHAKES=n at most.
MINUTES ?= 1

soak: deps all
	@$(CARGO) run --release --quiet -p testbed --bin soak -- --minutes "$(MINUTES)" \
	    --handshakes "$(HANDSHAKES)" --seed "$(SEED)"

# Every order in which processes can meet in a ring (docs/models.md). Further: LOOM_MAX_PREEMPTIONS=3
models:
	$(TEST) --test models -- --nocapture

# What of the library calls no C but to map memory, in Miri; takes a nightly toolchain with its
# components miri and rust-src. A directory of its own: everything is compiled otherwise. Left out are
# files, TLS libraries, robust mutexes and madvise(2), which Miri has not, and days of virtual time.
MIRI := -Zmiri-strict-provenance -Zmiri-disable-isolation
MIRI_TEST := $(CARGO) +nightly miri test --target-dir $(TARGET)/miri
NOT_IN_MIRI := --skip keyrings:: --skip process:: --skip program:: --skip tls:: --skip capi:: --skip log:: --skip thread:: \
               --skip the_boot_clock --skip ring::asks:: --skip ring::stats:: --skip ring::removal:: --skip ring::view:: \
               --skip the_lock_of_a_dead_writer
DAYS := --skip an_interval_that_grows_twice --skip every_ticket_opens_for_its_lifetime

miri:
	MIRIFLAGS="$(MIRI)" $(MIRI_TEST) --lib -- $(NOT_IN_MIRI)
	@# Its clocks and generators are of processes that never end, and never freed.
	MIRIFLAGS="$(MIRI) -Zmiri-ignore-leaks" $(MIRI_TEST) --test keyring -- $(DAYS)

# Library and shim for musl (Alpine), with rustup's target and Debian's musl-tools, which are
# installed where they are missing.
test-musl: all
	@tools/deps
	@tools/deps musl
	@tools/musl
	@$(TLS_LIBRARIES) build openssl-3.5-musl
	$(TEST) --test servers -- --ignored musl::

# What is shipped, so that it loads with every glibc from 2.17 on, in target/portable/release
# (tools/portable). The program has an OpenSSL of its own inside.
portable: deps
	@tools/deps portable
	@tools/portable

# Whether that is like the usual build but for what it needs.
test-portable: all portable
	$(TEST) --test symbols -- --ignored

# That one set of binaries with the servers of three releases of Debian, each in a root directory of
# its own (tools/distributions, which downloads them); then the table in docs/servers.md. Takes root.
test-distributions: all portable
	@tools/deps distributions
	@tools/distributions
	TKTROT_WRITE_TABLE=1 $(TEST) --test servers -- --ignored distributions::

# The same, but it writes nothing, and fails where the table that is there is another.
check-distributions: all portable
	@tools/deps distributions
	@tools/distributions
	$(TEST) --test servers -- --ignored distributions::

# The agent's tests and the fleet scenarios that take a Redis, with Debian 13's Valkey in its place
# (tools/valkey, which downloads it). Takes root, as all fleet scenarios do.
test-valkey: all
	REDIS_SERVER="$$(tools/valkey)" && export REDIS_SERVER && test -n "$$REDIS_SERVER" && \
	$(CARGO) test --quiet -p tktrot-agent --lib redis:: && \
	$(CARGO) test --quiet -p tktrot-cli --test fleet redis::

# Fuzz targets (docs/fuzzing.md), each for so many seconds, with cargo-fuzz and a nightly compiler:
#   make fuzz SECONDS=300 FUZZ="wire node"
# New inputs go to target/fuzz/corpus, and are where the next run begins, beside checks/fuzz/corpus.
# Memory is bounded: what reads bytes of others must not let them decide how much that takes.
SECONDS ?= 60
FUZZ    ?= $(basename $(notdir $(wildcard checks/fuzz/fuzz_targets/*.rs)))

fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
	    echo "make fuzz: there is no cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 1; }
	@mkdir -p $(FUZZ:%=$(TARGET)/fuzz/corpus/%) $(TARGET)/fuzz/found
	@for target in $(FUZZ); do \
	    $(CARGO) +nightly fuzz run --fuzz-dir checks/fuzz --target-dir $(TARGET)/fuzz/build $$target \
	        $(TARGET)/fuzz/corpus/$$target checks/fuzz/corpus/$$target -- \
	        -max_total_time=$(SECONDS) -timeout=30 -malloc_limit_mb=64 -rss_limit_mb=1024 \
	        -artifact_prefix=$(TARGET)/fuzz/found/$$target- -print_final_stats=1 || exit 1; \
	done

# Writes the first inputs of fuzz targets that are not there yet.
seeds:
	TKTROT_WRITE_SEEDS=1 $(CARGO) test --quiet -p fuzz-targets every_seed

# Deliberate bugs, in a copy of this tree, each with the test that sees it (checks/mutants):
#   make mutants, make mutants MUTANTS="lengthened-key empty-slot-matched"
mutants:
	@checks/mutants/run $(MUTANTS)

# Those of them that a unit test of the library sees, which is what CI has time for.
mutants-quick:
	@checks/mutants/run --quick

# Licences, sources and known vulnerabilities of what is depended on, as deny.toml says. It needs
# `cargo install cargo-deny --locked`, and the list of vulnerabilities: DENY=--offline takes the one
# that was fetched last. tests/dependencies.rs looks at the rest without either. The TLS libraries that
# `make test-tls` builds are nobody's dependencies.
deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || { \
	    echo "make deny: there is no cargo-deny: cargo install cargo-deny --locked" >&2; exit 1; }
	@for manifest in "Cargo.toml --workspace" checks/fuzz/Cargo.toml checks/tls-libraries/Cargo.toml; do \
	    echo "$$manifest"; \
	    $(CARGO) deny --manifest-path $$manifest --config $(CURDIR)/deny.toml $(DENY) check || exit 1; \
	done

# What libtktrot costs, beside OpenSSL's own keys, and which goals are met; docs/performance.md.
# Options: make bench BENCH="--rounds 100 --only handshakes", make bench BENCH=--quick
# With another OpenSSL, which is built first: make bench TLS=openssl-1.1.1 (or 3.5, 4.0)
COSTS := $(RELEASE)/costs

bench: costs
ifdef TLS
	@$(TLS_LIBRARIES) bench $(TLS) $(BENCH)
else
	@$(COSTS) $(BENCH)
endif

# With all that is shipped, for the same choice of features.
costs: all
	@$(CARGO) build --release --quiet $(SHIPPED) -p tktrot-benches

# Writes the instruction counts anew that tests/instructions.rs compares with.
bench-baseline: costs
	@$(COSTS) --write-baseline

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --lib --test crash --features tktrot-preload/kill-points -- -D warnings
	cd checks/tls-libraries && $(CARGO) fmt --all --check
	$(CARGO) clippy --manifest-path checks/tls-libraries/Cargo.toml --target-dir $(TARGET)/tls/runner \
	    --all-targets -- -D warnings
	cd checks/fuzz && $(CARGO) fmt --all --check

# Into DESTDIR, for PREFIX (and BINDIR, LIBDIR, SHARE, UNITS, SYSUSERS, for distributions that have
# their own). The agent has two units: one with the usual settings, and one for each of several rings.
INSTALLED ?= libraries

# Whatever the umask, all can read what is installed.
install: $(INSTALLED)
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 644 include/tktrot.h $(DESTDIR)$(PREFIX)/include/
	install -m 755 $(RELEASE)/libtktrot.so $(DESTDIR)$(LIBDIR)/libtktrot.so.$(VERSION)
	ln -sf libtktrot.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libtktrot.so.$(MAJOR)
	ln -sf libtktrot.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libtktrot.so
	install -m 644 $(RELEASE)/libtktrot.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(RELEASE)/libtktrot_preload.so $(DESTDIR)$(LIBDIR)/
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SHARE)/man/man1 \
	    $(DESTDIR)$(SHARE)/bash-completion/completions $(DESTDIR)$(SHARE)/zsh/site-functions \
	    $(DESTDIR)$(SHARE)/fish/vendor_completions.d
	install -m 755 $(RELEASE)/tktrot $(DESTDIR)$(BINDIR)/
	umask 022 && $(RELEASE)/tktrot man $(DESTDIR)$(SHARE)/man/man1
	umask 022 && $(RELEASE)/tktrot completions bash > $(DESTDIR)$(SHARE)/bash-completion/completions/tktrot
	umask 022 && $(RELEASE)/tktrot completions zsh > $(DESTDIR)$(SHARE)/zsh/site-functions/_tktrot
	umask 022 && $(RELEASE)/tktrot completions fish > $(DESTDIR)$(SHARE)/fish/vendor_completions.d/tktrot.fish
	umask 022 && sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    dist/tktrot.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/tktrot.pc
	install -d $(DESTDIR)$(UNITS) $(DESTDIR)$(SYSUSERS)
	umask 022 && sed -e 's|@BINDIR@|$(BINDIR)|' -e 's|@SETTINGS@|/etc/tktrot/tktrot.toml|g' \
	    dist/systemd/tktrot-agent.service.in > $(DESTDIR)$(UNITS)/tktrot-agent.service
	umask 022 && sed -e 's|@BINDIR@|$(BINDIR)|' -e 's|@SETTINGS@|/etc/tktrot/%i.toml|g' \
	    dist/systemd/tktrot-agent.service.in > $(DESTDIR)$(UNITS)/tktrot-agent@.service
	install -m 644 dist/systemd/tktrot.sysusers.conf $(DESTDIR)$(SYSUSERS)/tktrot.conf

# The portable build instead.
install-portable: portable
	$(MAKE) --no-print-directory install RELEASE=$(TARGET)/portable/release INSTALLED=

clean:
	$(CARGO) clean

# Writes include/tktrot.h anew.
header:
	TKTROT_WRITE_HEADER=1 $(CARGO) test --quiet --test header

# Writes the lists of exported names anew.
symbols:
	TKTROT_WRITE_SYMBOLS=1 $(CARGO) test --quiet --test symbols exports
