#!/usr/bin/env bash
# Goes on with a command, as after the loss of a spot slice: requests the slice anew if it is gone,
# sets it up, and runs the command, which must be one that continues, as launch.train does.
#
#   bash launch/tpu/resume.sh --name=rin --zone=us-central1-a --type=v5litepod-16 --spot -- \
#     python -m launch.train --config=configs/rin/imagenet64.py --workdir=/mnt/runs/r --distributed
#
# Where the command still runs, it says so, ends with status 1 and changes nothing.
#
# --name=NAME --zone=ZONE --type=TYPE --version=VERSION --spot   as given to create.sh
# --mount=COMMAND    as given to setup.sh
# --project=PROJECT  otherwise that of the gcloud configuration
# --dry_run          prints the cloud commands for a slice that is gone
. "$(dirname "$0")/common.sh"
parse "name zone type" "version mount" "spot" "$@"
[ ${#words[@]} -gt 0 ] || fail "the command is missing: give it after --"

same=(--name="$name" --zone="$zone" ${project:+"--project=$project"} ${dry_run:+--dry_run})
current=$(state)
if [ -n "$dry_run" ]; then
  printf '%s\n' "$current"
  current=SUSPENDED
fi
case $current in
  ACTIVE) ;;
  FAILED | SUSPEND*)
    bash launch/tpu/delete.sh "${same[@]}"
    bash launch/tpu/create.sh "${same[@]}" --type="$type" ${version:+"--version=$version"} \
      ${spot:+--spot}
    ;;
  *) await_active ;;  # requested already
esac
if [ "$current" != ACTIVE ]; then
  bash launch/tpu/setup.sh "${same[@]}" ${mount:+"--mount=$mount"}
fi
bash launch/tpu/run.sh "${same[@]}" --detach -- "${words[@]}"
