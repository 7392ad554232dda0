# Sourced by the other scripts: goes to the repository root and activates .venv, which it makes and
# fills if it is not there, or if pyproject.toml has changed since.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "error: no Python 3.11 or newer found: install one, or name it with PYTHON=..." >&2
  return 2
}

if [ "$(cat .venv/.installed 2>/dev/null)" != "$(cksum <pyproject.toml)" ]; then
  python=$(find_python)
  echo "Setting up .venv with $("$python" --version) ..."
  if command -v uv >/dev/null; then
    uv venv --quiet --allow-existing --python "$python" .venv
    uv pip install --quiet --python .venv/bin/python -e '.[tests]'
  else
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[tests]'
  fi
  cksum <pyproject.toml >.venv/.installed
fi
# shellcheck source=/dev/null
. .venv/bin/activate
