# Sourced by the commands beside it: their options, and how they call the cloud.
# shellcheck shell=bash disable=SC2034  # what parse sets is read by the commands
set -euo pipefail
script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$script")/../.."

# Where the code lies on the workers, below their home directory.
code=rin-diffussm-jax

# What parse sets.
name='' zone='' project='' type='' version='' mount='' worker=''
spot='' detach='' dry_run='' words=()

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# parse "REQUIRED ..." "OPTIONAL ..." "SWITCH ..." ARGUMENT...: sets a variable for each
# --option=value, 'yes' for each --switch, and words to what follows --. Every command takes
# --project, --dry_run and --help.
parse() {
  local required=$1 values=" $1 $2 project " switches=" $3 dry_run " option
  shift 3
  while [ $# -gt 0 ]; do
    option=${1%%=*} option=${option#--}
    case $1 in
      --help)  # the comment that the command begins with
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$script"
        exit
        ;;
      --)
        shift
        words=("$@")
        break
        ;;
      --*=*)
        [[ $values == *" $option "* ]] || fail "unknown option --$option: see --help"
        printf -v "$option" %s "${1#*=}"
        ;;
      --*)
        [[ $values != *" $option "* ]] || fail "--$option wants a value: --$option=..."
        [[ $switches == *" $option "* ]] || fail "unknown option --$option: see --help"
        printf -v "$option" yes
        ;;
      *) fail "unexpected argument '$1': options are given as --name=value, a command after --" ;;
    esac
    shift
  done
  for option in $required; do
    [ -n "${!option}" ] || fail "--$option is missing: see --help"
  done
}

# The arguments as words of a shell command.
quoted() {
  local word separator='' quote="'\\''"
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@%+,-]*) word="'${word//\'/$quote}'" ;;
    esac
    printf '%s%s' "$separator" "$word"
    separator=' '
  done
}

# gcloud compute tpus ARGUMENT..., or the command itself in a dry run.
tpus() {
  local command=(gcloud compute tpus "$@" --zone="$zone" ${project:+"--project=$project"})
  if [ -n "$dry_run" ]; then
    printf '%s\n' "$(quoted "${command[@]}")"
  else
    "${command[@]}"
  fi
}

# on WORKER COMMAND: runs a shell command on one worker, or on all at once.
on() {
  tpus tpu-vm ssh "$name" --worker="$1" --command="$2"
}

state() {
  tpus queued-resources describe "$name" --format='value(state.state)'
}

# Waits in the queue until the workers are there.
await_active() {
  local current='' last=''
  while [ "$current" != ACTIVE ]; do
    current=$(state)
    if [ -n "$dry_run" ]; then
      printf '%s\n' "$current"
      return
    fi
    [ "$current" = "$last" ] || echo "$name is $current"
    last=$current
    case $current in
      ACTIVE) ;;
      FAILED | SUSPEND*) fail "$name is $current: launch/tpu/resume.sh requests it anew" ;;
      *) sleep "${POLL_SECONDS:-30}" ;;
    esac
  done
}
