#!/usr/bin/env bash
# Runs a command on all workers, in the code that setup.sh copied, with its environment.
#
#   bash launch/tpu/run.sh --name=rin --zone=us-central1-a --detach -- \
#     python -m launch.train --config=configs/rin/imagenet64.py --workdir=/mnt/runs/r --distributed
#   bash launch/tpu/run.sh --name=rin --zone=us-central1-a -- pkill -TERM -f '[l]aunch.train'
#
# The second stops the first. Without --detach the command ends with the connection.
#
# --name=NAME        as given to create.sh
# --zone=ZONE        as given to create.sh
# --detach           goes on when the connection ends, one such command at a time; see watch.sh
# --project=PROJECT  otherwise that of the gcloud configuration
# --dry_run          prints the cloud commands
. "$(dirname "$0")/common.sh"
parse "name zone" "" "detach" "$@"
[ ${#words[@]} -gt 0 ] || fail "the command is missing: give it after --"

line=$(quoted "${words[@]}")
if [ -z "$detach" ]; then
  on all "cd $code && . .venv/bin/activate && $line"
  exit
fi
# All are asked before any starts: half of a pod would wait for the other half.
on all "cd $code || exit; flock --nonblock train.lock true || \
{ echo \"error: \$(hostname) still runs a command\" >&2; exit 1; }"
# flock execs the command, whose end, however it comes, frees the lock.
on all "cd $code && . .venv/bin/activate && \
{ setsid flock --nonblock --no-fork train.lock $line >>train.log 2>&1 </dev/null & }"
