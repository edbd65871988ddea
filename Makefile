# ocean_enrich: build, install and test with PGXS
#
#	make && make install	with PG_CONFIG=... for another server
#	make installcheck		run the tests on a running server with the extension
#	make lint				check the rules of this source tree
#	make warnings			compile with gcc and clang, warnings are errors
#	make coverage			measure how much of src/ the tests cover
#	make analyze			check the C and the spelling with several tools
#	make dist				make the release for PGXN, if META.json is valid:
#							build/ocean_enrich-VERSION.zip
#	make deb				make and test packages for Debian, in build/packages
#
# test/run.sh builds everything and tests it on private servers instead.

# No LLVM bitcode: nothing here is worth inlining, and a build must not depend
# on whether the server's clang is installed.
override with_llvm = no

EXTENSION = ocean_enrich
MODULE_big = ocean_enrich
DATA = sql/ocean_enrich--1.0.sql
OBJS = \
	src/ocean_enrich.o \
	src/core/answer.o \
	src/core/breaker.o \
	src/core/buffer.o \
	src/core/canonical.o \
	src/core/endpoint.o \
	src/core/error.o \
	src/core/foreign.o \
	src/core/http.o \
	src/core/json.o \
	src/core/pace.o \
	src/core/policy.o \
	src/core/request.o \
	src/base/at_commit.o \
	src/base/client.o \
	src/base/errors.o \
	src/base/log_secrets.o \
	src/base/process.o \
	src/base/rights.o \
	src/base/statement.o \
	src/base/text.o \
	src/shared/channel.o \
	src/shared/contact.o \
	src/shared/enqueue.o \
	src/shared/ledger.o \
	src/shared/library_version.o \
	src/shared/message.o \
	src/shared/queue_news.o \
	src/shared/request_body.o \
	src/shared/settings.o \
	src/shared/sync_notes.o \
	src/shared/token.o \
	src/session/budget_triggers.o \
	src/session/call.o \
	src/session/estimate.o \
	src/session/forget.o \
	src/session/functions.o \
	src/session/person.o \
	src/session/progress.o \
	src/session/read_ahead.o \
	src/session/read_ahead_plan.o \
	src/session/receive_webhook.o \
	src/session/wait.o \
	src/worker/access.o \
	src/worker/admission.o \
	src/worker/budget.o \
	src/worker/job.o \
	src/worker/launcher.o \
	src/worker/ledger_transaction.o \
	src/worker/queue_cursor.o \
	src/worker/record.o \
	src/worker/serve_queue.o \
	src/worker/upkeep.o \
	src/worker/verdict.o \
	src/worker/wire.o \
	src/worker/worker.o \
	src/sync/applier.o \
	src/sync/apply.o \
	src/sync/apply_changed.o \
	src/sync/apply_rows.o \
	src/sync/apply_settled.o \
	src/sync/definition.o \
	src/sync/functions.o \
	src/sync/triggers.o

PG_CONFIG ?= pg_config

# The server's headers are system headers here, so that -Wextra ignores them.
# Packages are built for each server in a separate folder, with VPATH=tree; PGXS
# then sets srcdir.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(shell $(PG_CONFIG) --includedir-server) \
	$(shell pkg-config --cflags libcurl json-c libidn2)

# Every SQL-callable function has the argument "fcinfo", used or not.  Some
# differences between server versions are only warnings without the last one.
override PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter \
	-Werror=incompatible-pointer-types

# The server passes its own compiler's flags on, some of which clang lacks.
CLANG_CFLAGS = -Wno-unknown-warning-option -Wno-ignored-optimization-argument
ifneq (,$(findstring clang,$(CC)))
override PG_CFLAGS += $(CLANG_CFLAGS)
endif

# libunistring has no file for pkg-config.
SHLIB_LINK = $(shell pkg-config --libs libcurl json-c libidn2) -lunistring

# The tests do not depend on each other, so they run in the order of their names.
# expected/ is at top level, where every version of pg_regress finds it; the
# isolation tester needs --outputdir for that.
REGRESS := $(sort $(basename $(notdir $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --load-extension=ocean_enrich
ISOLATION := $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=ocean_enrich
TAP_TESTS = 1
PROVE_TESTS = $(sort $(wildcard test/t/*/*.pl))
override PROVE_FLAGS += -I test/lib -I test/chaos

# pg_regress and the isolation tester need the API: our sandbox.
REGRESS_PREP = sandbox-running

EXTRA_CLEAN = build

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The headers of PostgreSQL 15 are not C23, the default of gcc 15 and later.
ifeq ($(MAJORVERSION),15)
override CFLAGS += -std=gnu17
endif

# Few enough files to rebuild all of them whenever a header changes.
$(OBJS): $(wildcard $(srcdir)/src/*/*.h)

# Needed for builds outside the tree.  By their full names, or make would find the
# folders of the tree.
OBJ_FOLDERS = $(addprefix $(CURDIR)/,$(patsubst %/,%,$(sort $(dir $(OBJS)))))
$(OBJS): | $(OBJ_FOLDERS)
$(OBJ_FOLDERS):
	mkdir -p $@

SANDBOX = test/sandbox/build/ocean-sandbox
SANDBOX_PORT_FILE = build/sandbox.port
SANDBOX_URL = http://127.0.0.1:$(shell cat $(SANDBOX_PORT_FILE) 2> /dev/null)

# The settings are those of the session, so the environment can pass them to an
# installed server as it is.  The port is read when the sandbox, a prerequisite, is
# already running.
installcheck: private export OCEAN_SANDBOX_URL = $(SANDBOX_URL)
installcheck: private export PGOPTIONS = \
	-c ocean_enrich.api_url=$(SANDBOX_URL) \
	-c ocean_enrich.api_token=sandbox-token \
	-c ocean_enrich.rate_limit=0 \
	-c ocean_enrich.daily_limit=0 \
	-c ocean_enrich.concurrency=1

.PHONY: sandbox sandbox-running
sandbox:
	$(MAKE) -C test/sandbox

# Starts the sandbox on a free port; it exits with this make.
sandbox-running: sandbox
	@mkdir -p build && rm -f $(SANDBOX_PORT_FILE)
	@$(SANDBOX) --port 0 --port-file $(SANDBOX_PORT_FILE) \
		--until-pid $$PPID > build/sandbox.log 2>&1 < /dev/null & \
	for try in $$(seq 100); do \
		test -s $(SANDBOX_PORT_FILE) && exit 0; sleep 0.1; \
	done; \
	echo "the sandbox did not start, see build/sandbox.log" >&2; exit 1

.PHONY: lint coverage analyze warnings dist deb
lint:
	./test/lint.sh

coverage:
	./test/coverage.sh

analyze:
	./test/analyze.sh

RELEASE = $(EXTENSION)-$(shell sed -n 's/^   "version": "\(.*\)",$$/\1/p' META.json)
dist:
	perl test/packages/check_release.pl
	mkdir -p build
	git archive --format=zip --prefix=$(RELEASE)/ --output=build/$(RELEASE).zip HEAD

deb:
	./test/packages/run.sh

# Everything by each compiler, in separate folders.
WARNING_COMPILERS = gcc clang
.PHONY: $(WARNING_COMPILERS:%=warnings-%)
warnings: $(WARNING_COMPILERS:%=warnings-%)

define warnings_of
build/warnings/$(1)/%.o: %.c $$(wildcard src/*/*.h)
	@mkdir -p $$(@D)
	$(1) $$(CFLAGS) $$(CPPFLAGS) -Werror $(2) -c $$< -o $$@

warnings-$(1): $(OBJS:%=build/warnings/$(1)/%)
	$$(MAKE) -C test/sandbox CC=$(1) CFLAGS="-O2 -g -Werror" \
		BUILD=$$(CURDIR)/build/warnings/$(1)/sandbox
	$$(MAKE) -C test/unit CC=$(1) BUILD=$$(CURDIR)/build/warnings/$(1)/unit
endef
$(eval $(call warnings_of,gcc,))
$(eval $(call warnings_of,clang,$(CLANG_CFLAGS)))
