#!/usr/bin/env bash
# Copies this checkout to all workers (but for what git ignores) and installs it there, with JAX for
# TPUs. Call it again after changing the code.
#
#   bash launch/tpu/setup.sh --name=rin --zone=us-central1-a \
#     --mount='sudo apt-get install -y nfs-common && sudo mkdir -p /mnt/runs &&
#              sudo mount 10.0.0.2:/share /mnt/runs && sudo chmod 777 /mnt/runs'
#
# --name=NAME        as given to create.sh
# --zone=ZONE        as given to create.sh
# --mount=COMMAND    first run on every worker: mounts what holds the data and --workdir
# --project=PROJECT  otherwise that of the gcloud configuration
# --dry_run          prints the cloud commands
. "$(dirname "$0")/common.sh"
parse "name zone" "mount" "" "$@"

archive=build/$code.tar.gz
if [ -z "$dry_run" ]; then
  mkdir -p build
  git ls-files -z --cached --others --exclude-standard | tar -czf "$archive" --null -T -
fi
tpus tpu-vm scp "$archive" "$name:" --worker=all
if [ -n "$mount" ]; then
  on all "$mount"
fi
# The workers' own Python may be older than ours: uv fetches one.
on all "set -e; mkdir -p $code; tar -xzf $code.tar.gz -C $code; cd $code; \
export PATH=\"\$HOME/.local/bin:\$PATH\"; \
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh; \
uv venv --quiet --allow-existing --python 3.11 .venv; \
uv pip install --quiet --python .venv/bin/python -e '.[train,data]' 'jax[tpu]'"
