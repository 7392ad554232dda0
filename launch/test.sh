#!/usr/bin/env bash
# Runs the linter and the tests, two files at a time.
#
#   bash launch/test.sh [--all] [ARGUMENT...]
#
# --all adds the long fault and soak runs; other arguments go to pytest, as -n 0 for one at a time.
extras=tests
. "$(dirname "$0")/env.sh"
ruff check .
ruff format --check .
python -m mypy
exec python -m pytest -n 2 --dist loadfile "$@"
