#!/usr/bin/env bash
# Runs the linter and the tests; --all adds the long fault and soak runs, other words go to pytest.
. "$(dirname "$0")/env.sh"
ruff check .
ruff format --check .
exec python -m pytest "$@"
