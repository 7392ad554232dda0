#!/usr/bin/env bash
# Makes the environment .venv, or completes it, with what training needs.
#
#   bash launch/env.sh && source .venv/bin/activate
#
# PYTHON=python3.12 chooses the Python. The other scripts source this file: it goes to the repository
# root, installs the extras of pyproject.toml that they name in $extras, unless they are installed
# and pyproject.toml has not changed since, and activates the environment.
set -euo pipefail
case ${1:-} in
  --help)  # the comment that the script begins with
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac
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

extras=${extras:-train,data}
installed="$extras of pyproject.toml $(cksum <pyproject.toml)"
if ! grep -qsxF "$installed" .venv/.installed; then
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    if command -v uv >/dev/null; then
      uv venv --quiet --allow-existing --python "$python" .venv
    else
      "$python" -m venv .venv
    fi
  fi
  echo "Setting up .venv with $(.venv/bin/python --version) for $extras ..."
  if command -v uv >/dev/null; then
    uv pip install --quiet --python .venv/bin/python -e ".[$extras]"
  else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$extras]"
  fi
  echo "$installed" >>.venv/.installed
fi
# shellcheck source=/dev/null
. .venv/bin/activate
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  echo "Activate it: source .venv/bin/activate"
fi
