# Every target works in a fresh clone: it sets up first, which takes no time when nothing changed.
# Paths are relative and each tool is started as a module, so that a checkout may stand anywhere.
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit lint fix reference bench soak torture audit licences sbom dist pictures lock install uninstall clean

python := .venv/bin/python

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s  %s\n", $$1, $$2 }' Makefile

setup: ## Makes .venv with the locked packages and this project; needs git and Python 3.11 or newer.
	@scripts/debian-packages run
	@scripts/setup

demo: ## Shows a small world on loopback: first pass, rotation, retirement. Options: ARGS=--serve
	@scripts/debian-packages run
	@scripts/setup demo
	@if scripts/setup check; then venv=.venv; else venv=.venv-demo; fi; exec $$venv/bin/oidc-mirror demo $(ARGS)

test: setup ## Runs all tests and the coverage gates; tests against radosgw are skipped where it is missing.
	@scripts/debian-packages test
	@scripts/relying-parties
	@scripts/test

test-unit: setup ## Runs the unit tests that start no server, with few examples of each property: for the loop of an edit.
	@scripts/test-unit $(ARGS)

lint: setup ## Checks style, format, types and the direction of imports.
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/lint-imports

fix: setup ## Formats the code and repairs what ruff can repair.
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

reference: setup ## Writes the generated pages of docs/reference; a test says when that is due.
	@OIDC_MIRROR_WRITE_DOCS=1 $(python) -m pytest -q tests/unit/test_reference.py -k generated

bench: setup ## Times the program against the pipeline of curl, jq, git and aws. Options: ARGS=…
	@scripts/debian-packages bench
	@$(python) tests/bench $(ARGS)
	@$(python) tests/bench/new_keys.py

soak: setup ## Runs the daemon for a thousand passes and judges memory, descriptors and timing. Options: ARGS=…
	@$(python) tests/soak $(ARGS)

torture: setup ## Kills, crowds and misleads the program for longer than the tests do. Options: ARGS=…
	@$(python) tests/torture $(ARGS)

audit: setup ## Looks up known vulnerabilities of every locked package; says so when nobody can be asked.
	@$(python) tests/supply audit

licences: setup ## Lists the licence of every package that is shipped; fails on one that nobody accepted.
	@$(python) tests/supply licences

sbom: setup ## Writes the bill of materials of what is shipped (CycloneDX) to build/sbom.json.
	@mkdir -p build
	@$(python) -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json requirements.lock

pictures: setup ## Takes the pictures of the README, with a headless Chromium.
	@$(python) tests/browser/screenshots.py docs/images

dist: setup ## Builds a release into dist: wheel, sdist, kustomize tree, SBOM, this architecture's image, checksums.
	@scripts/dist

# The other locks are held to the versions of the development lock: what is shipped is what was tested.
lock: setup ## Makes the lock files from pyproject.toml, keeping versions that fit. Newest ones: ARGS=--upgrade
	$(python) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		$(ARGS) --extra demo --extra fleet --group dev pyproject.toml -o requirements-dev.lock >/dev/null
	$(python) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		$(ARGS) -c requirements-dev.lock pyproject.toml -o requirements.lock >/dev/null
	$(python) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		$(ARGS) -c requirements-dev.lock --extra demo --group build pyproject.toml -o requirements-demo.lock >/dev/null
	$(python) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		$(ARGS) -c requirements-dev.lock --group build -o requirements-build.lock >/dev/null

install: ## As root: the program into /opt/oidc-mirror, units, user and folders for systemd; starts nothing.
	@scripts/install

uninstall: ## As root: removes what install made; configuration, state and the user stay.
	@scripts/uninstall

clean: ## Removes everything that the other targets made.
	rm -rf .venv .venv-demo build dist tests/relying_parties/node_modules .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find mirror tests -type d -name __pycache__ -prune -exec rm -rf {} +
	! command -v buildah >/dev/null || scripts/test-image remove
