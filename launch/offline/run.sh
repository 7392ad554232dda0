#!/usr/bin/env bash
# Spends a given time on a GPU in order of worth, and stops: versions, a benchmark, FID of real
# images, then the CIFAR-10 row of RIN, trained, exported and scored. No network is needed.
#   bash run.sh --minutes=9 [--work=hour] [--out=hour/out] [--python=python3] [FLAG ...]
# In a bundle of pack.sh it first joins the parts that are beside it and installs the wheels into a
# virtual environment that sees the packages of --python, its jax above all. In a checkout, where
# the environment is on, it takes the data and weights that are given:
#   bash launch/offline/run.sh --minutes=60 --train=data/cifar10.npz --test=data/cifar10_test.npz \
#     --inception=inception.npz
# The same command goes on with what is left. Other flags are those of launch.offline.hour:
# --stages=versions,benchmark,fid,train, --score_minutes=1.5, --part_mib=60, --tiny.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

minutes='' work=hour python=python3 words=()
for argument; do
  case $argument in
    --minutes=*) minutes=${argument#*=} ;;
    --work=*) work=${argument#*=} ;;
    --python=*) python=${argument#*=} ;;
    --help)  # the comment that this begins with
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    *) words+=("$argument") ;;
  esac
done
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--minutes is '$minutes': give a number, as --minutes=9"
command -v "$python" >/dev/null || fail "--python is $python, which is not here: give another"

# The limit holds for all of it, whatever a stage is in the middle of; 3 s of it are for the end.
if [ -z "${HOUR_END:-}" ]; then
  HOUR_END=$("$python" -c "import time; print(time.time() + 60 * $minutes - 3)")
  export HOUR_END
  exec timeout --kill-after=5 "${minutes}m" bash "$0" "$@"
fi

mkdir -p "$work"
if [ -f "$here/hour.py" ]; then
  code=$(cd "$here/../.." && pwd)
else
  pieces=$work/pieces code=$work/pieces/code venv=$work/venv
  "$python" "$here/parts.py" "$here" "$pieces"
  for piece in code wheels; do
    [ -d "$pieces/$piece" ] || fail "the parts of $piece are not all here: copy them beside run.sh"
  done
  if [ ! -f "$venv/.installed" ] || ! cmp -s "$venv/.installed" "$pieces/wheels/.piece"; then
    rm -rf "$venv"
    "$python" -m venv --system-site-packages --without-pip "$venv"
    # Where --python is of a virtual environment itself, its packages are not the system's.
    "$python" -c '
import sys
for path in sys.path:
    if path.endswith("-packages"):
        print(f"import site; site.addsitedir({path!r})")
' >"$(echo "$venv"/lib/python*/site-packages)/outer.pth"
    "$venv/bin/python" "$(echo "$pieces"/wheels/pip-*.whl)/pip" --quiet install --no-index \
      --disable-pip-version-check --find-links="$pieces/wheels" \
      --requirement="$pieces/wheels/requirements.txt" ||
      fail "a package is missing: pack anew, with --have=FILE, what 'pip freeze' prints here"
    cp "$pieces/wheels/.piece" "$venv/.installed"
  fi
  python=$venv/bin/python
  words+=("--pieces=$pieces")
  # Programs of an earlier hour, if the bundle has them; see pack.py.
  export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$work/cache}
  [ ! -d "$pieces/cache" ] || [ -d "$work/cache" ] || cp -r "$pieces/cache" "$work/cache"
fi
export PYTHONPATH=$code${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m launch.offline.hour --minutes="$minutes" --end="$HOUR_END" --work="$work" \
  "${words[@]}"
