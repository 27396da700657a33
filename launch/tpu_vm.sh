#!/usr/bin/env bash
# Cloud TPU VMs, from nothing to a finished stage, by gcloud (installed and logged in). The short way is `up`:
#
#   launch/tpu_vm.sh up --name=libra --zone=us-east5-b --accelerator=v6e-8 --spot -- \
#       sft --workdir=/mnt/lab/sft --config=configs/qwen3_1p7b_sft.py
#   launch/tpu_vm.sh delete --name=libra --zone=us-east5-b
#
# and step by step:
#
#   launch/tpu_vm.sh create  --name=libra --zone=us-east5-b --accelerator=v6e-8
#   launch/tpu_vm.sh install --name=libra --zone=us-east5-b
#   launch/tpu_vm.sh ssh     --name=libra --zone=us-east5-b -- 'df -h /mnt/lab'
#   launch/tpu_vm.sh run     --name=libra --zone=us-east5-b --detach -- sft --workdir=/mnt/lab/sft
#   launch/tpu_vm.sh logs    --name=libra --zone=us-east5-b --follow
#   launch/tpu_vm.sh status  --name=libra --zone=us-east5-b
#   launch/tpu_vm.sh stop    --name=libra --zone=us-east5-b
#
# actions:
#   create    a TPU VM, and waits until it is ready
#   install   copies the committed files of this checkout (git archive HEAD) to every worker, into ~/libra_jax, and
#             installs them there; ~/libra_jax/COMMIT names the commit; refused while a stage runs there
#   run       starts `libra --distributed STAGE flags` on every worker and prints every worker's log until it has ended;
#             the stage outlives the connection. Exit status: the stage's own, or 3 when the machine was taken away
#   up        create if there is none, install, run; when the machine is taken away: delete, create, install, run again
#   logs      the end of every worker's log
#   status    the machine's state, and every worker's: idle, running, finished, preempted, stopped, failed or lost
#   ssh       a shell command on every worker
#   stop      asks the stage to end (SIGTERM; training saves first)
#   delete    the TPU VM, or the queued resource with all its TPU VMs, and every file that lies only there
#
# flags:
#   --name=NAME          of the TPU VM, and of the queued resource if there is one (needed)
#   --zone=ZONE          where it is (needed)
#   --project=PROJECT    default: gcloud's own
#   --accelerator=TYPE   create, up: v6e-8, v5litepod-16, v5p-64, v4-8, ...
#   --version=RUNTIME    create, up; default: the one that fits the accelerator
#   --spot               create, up: cheaper, may be taken away at any time
#   --queued             create, up: stand in the queue until there is room (a queued resource)
#   --reserved           create, up: from any reservation of the project
#   --reservation=NAME   create, up: from this reservation; queued, by gcloud alpha
#   --slices=N           N slices joined by the data-centre network; queued. Every action needs it, not create alone
#   --wait=MINUTES       create, up: how long to wait until it is ready, default 1440; a queued request ends then too
#   --create_flag=FLAG   create, up: one more flag for gcloud's create, as often as needed: --create_flag=--network=lab
#   --connect_flag=FLAG  one more flag for gcloud's ssh and scp, as often as needed: --connect_flag=--internal-ip
#   --setup=FILE         install, up: a shell script that every worker runs first, each time; to mount storage
#   --worker=N           run, logs, ssh, stop: this worker alone; run then starts `libra STAGE` on its CPUs, which is
#                        for stages that use no accelerator, such as curate and bench
#   --detach             run: do not wait
#   --follow             logs: until the stage has ended
#   --max_restarts=N     up: how often to begin again, default 20
#   --then_delete        up: delete once the stage has finished (not when it failed: its log lies there)
#   --poll=SECONDS       between two looks at the machine's state, default 30
#   --dry_run            print the commands and run nothing; of a loop, one round
#
# With more than one worker, paths in a stage's flags must lie on storage that all of them see: docs/tpu.md.
set -euo pipefail
from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=machine.sh
source launch/machine.sh
exec 3>&1
usage() { sed -n '2,/^set /{/^set /!{s/^# \{0,1\}//;p;}}' launch/tpu_vm.sh; }

action=${1:-}
case "$action" in
  create|install|run|up|logs|status|ssh|stop|delete) shift ;;
  --help|-h) usage; exit 0 ;;
  *) fail "action '$action': expected create, install, run, up, logs, status, ssh, stop or delete; --help says more" ;;
esac
zone="" project="" detach="" follow="" then_delete="" max_restarts=20
while [ $# -gt 0 ]; do
  case "$1" in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot) spot=yes ;;
    --queued) queued=yes ;;
    --reserved) reserved=yes ;;
    --reservation=*) reservation=${1#*=} queued=yes ;;
    --slices=*) slices=${1#*=} ;;
    --wait=*) wait=${1#*=} ;;
    --create_flag=--*) create_flags+=("${1#*=}") ;;
    --connect_flag=--*) connect_flags+=("${1#*=}") ;;
    --setup=*) setup=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --detach) detach=yes ;;
    --follow) follow=yes ;;
    --max_restarts=*) max_restarts=${1#*=} ;;
    --then_delete) then_delete=yes ;;
    --poll=*) poll=${1#*=} ;;
    --dry_run) dry_run=yes ;;
    --) shift; break ;;
    *) fail "flag '$1' is not known; --help lists them, and what a stage gets stands after --" ;;
  esac
  shift
done
[ -n "$name" ] || fail "--name is needed: the name of the TPU VM"
[ -n "$zone" ] || fail "--zone is needed, such as --zone=us-east5-b"
whole_number() { case "$2" in ''|*[!0-9]*) fail "$1=$2: expected a whole number, such as $1=$3" ;; esac; }
whole_number --slices "$slices" 2
whole_number --wait "$wait" 60
whole_number --poll "$poll" 30
whole_number --max_restarts "$max_restarts" 20
[ "$worker" = all ] || whole_number --worker "$worker" 0
if [ -n "$setup" ]; then
  [ "${setup#/}" != "$setup" ] || setup=$from/$setup
  [ -r "$setup" ] || fail "--setup=$setup: no such file; give a shell script that every worker can run"
fi
[ "$slices" -ge 1 ] || fail "--slices=$slices: expected 1 or more"
[ "$slices" = 1 ] || queued=yes
[ -z "$spot" ] || [ -z "$reserved$reservation" ] || fail "--spot and a reservation exclude each other; give one of them"
case "$action" in
  create|up)
    [ -n "$accelerator" ] || fail "--accelerator is needed, such as --accelerator=v6e-8"
    if [ -z "$version" ]; then
      case "$accelerator" in
        v6e-*) version=v2-alpha-tpuv6e ;;
        v5p-*) version=v2-alpha-tpuv5 ;;
        v5litepod-*) version=v2-alpha-tpuv5-lite ;;
        v4-*) version=tpu-ubuntu2204-base ;;
        *) fail "--accelerator=$accelerator: no runtime is known for it; give one by --version" ;;
      esac
    fi ;;
esac
case "$action" in
  run|up) [ $# -gt 0 ] || fail "$action needs a stage and its flags after --, such as: -- sft --workdir=/mnt/lab/sft" ;;
  ssh) [ $# -gt 0 ] || fail "ssh needs a shell command after --, such as: -- 'df -h'" ;;
  *) [ $# -eq 0 ] || fail "$action takes nothing after --, but got: $*" ;;
esac
[ "$action" != up ] || [ "$worker" = all ] || fail "--worker=$worker: up starts the stage on every worker; leave it out"
if [ -z "$dry_run" ]; then
  command -v gcloud >/dev/null || fail "no gcloud on the PATH; install the Google Cloud CLI, then: gcloud auth login"
fi
where=(--zone="$zone")
[ -z "$project" ] || where+=(--project="$project")

follower="" scratch=$(mktemp -d -t libra_jax.XXXXXX)
finish() {
  [ -z "$follower" ] || { kill -TERM -- "-$follower" 2>/dev/null || true; }
  rm -rf "$scratch"
}
trap finish EXIT
trap 'say "no longer watching; what was started goes on: see the actions logs, status, stop, delete"; exit 130' INT TERM

start() {
  local stage=(.venv/bin/libra --distributed "$@")
  [ "$worker" = all ] || stage=(env JAX_PLATFORMS=cpu .venv/bin/libra "$@")
  ask start "$(date +%s).$$" "${stage[@]}"
}

# Prints the logs until the stage has ended everywhere, or the machine is no longer READY.
watch() {
  local next=$((SECONDS + poll))
  connect ssh "$name" --command="libra_jax/launch/on_worker.sh follow"
  if [ -n "$dry_run" ]; then do_it "${command[@]}"; return; fi
  set -m  # a process group of its own, which can be ended as a whole
  "${command[@]}" </dev/null &
  follower=$!
  set +m
  while kill -0 "$follower" 2>/dev/null; do
    sleep 1
    [ "$SECONDS" -ge "$next" ] || continue
    next=$((SECONDS + poll))
    case "$(look)" in
      READY|UNKNOWN) ;;
      *) kill -TERM -- "-$follower" 2>/dev/null || true; break ;;
    esac
  done
  wait "$follower" 2>/dev/null || true
  follower=""
}

# Sets `workers` to the lines of on_worker.sh state, and `outcome` to what they come to; unknown if one did not answer.
read_outcome() {
  local states
  outcome=unknown workers=""
  if [ -n "$dry_run" ]; then ask state; outcome=finished; return; fi
  connect ssh "$name" --command="libra_jax/launch/on_worker.sh state"
  workers=$("${command[@]}") || return 0
  states=$(sed -n 's/^[^ ]*: \([^|]*\) |.*/\1/p' <<<"$workers" | sort -u)
  for outcome in running stopped preempted lost; do
    ! grep -qx "$outcome" <<<"$states" || return 0
  done
  outcome=$(grep -m 1 '^failed' <<<"$states" || true)
  [ -n "$outcome" ] || outcome=${states:-unknown}
}

# Watches the stage until it has ended and sets `outcome`: finished, stopped, preempted, lost or failed STATUS.
settle() {
  local unanswered=0
  while :; do
    watch
    read_outcome
    case "$outcome" in
      finished|stopped) return ;;
      "failed 2") ! lost 1 || outcome=lost; return ;;  # as a rule a stage's own refusal of its flags or inputs
      # The signal, or other workers' end, may come before Google tells that the machine is taken away.
      preempted|lost|failed*) ! lost 4 || outcome=lost; return ;;
    esac
    if lost 1; then outcome=lost; return; fi
    unanswered=$((unanswered + 1))
    [ "$outcome" != running ] || unanswered=0
    [ "$unanswered" -lt 10 ] || fail "$name is READY, but its workers do not answer; the stage may still run;" \
      "try: gcloud compute tpus tpu-vm ssh $name --zone=$zone"
    say "the connection ended before the stage; connecting again"
    sleep "$poll"
  done
}

# One round of `up`: true when the stage has finished, false when the machine was taken away or could not be had.
attempt() {
  local want=".venv/bin/libra --distributed $*"
  outcome=""
  machine=$(look)
  if [ -n "$dry_run" ]; then echo "# if there is no machine yet:"; machine=ABSENT; fi
  case "$machine" in
    READY|ABSENT|PREEMPTED|TERMINATED|FAILED|SUSPENDED) ;;
    *) wait_ready || true ;;
  esac
  case "$machine" in
    READY)
      read_outcome
      [ "$outcome" != running ] || grep -qF "| $want" <<<"$workers" || fail "$name runs another stage; see the action" \
        "status, or end it by the action stop" ;;
    ABSENT) create || { [ "$restarts" != 0 ] || no_machine; return 1; } ;;
    *)
      say "$name is $machine"
      delete && create || return 1 ;;
  esac
  if [ "$outcome" = running ]; then
    say "the stage is running already; watching it"
  elif ! { install && start "$@"; }; then
    ! lost 1 || return 1
    fail "installing or starting failed on a machine that is READY; gcloud's words are above"
  fi
  settle
  case "$outcome" in
    finished) return 0 ;;
    preempted|lost) say "the stage was cut short; $name is $machine"; return 1 ;;
    stopped) fail "the stage was asked to stop; the same command goes on where it stopped" ;;
    *) say "the stage failed with exit status ${outcome#failed }; $name still runs and costs: see logs and delete"
       exit "${outcome#failed }" ;;
  esac
}
no_machine() {
  fail "$name is $machine, not READY; gcloud's words are above; where there is no room, --queued waits for it;" \
    "a request that FAILED goes by the action delete"
}

case "$action" in
  create) create || no_machine ;;
  install) install || fail "installing failed; gcloud's words are above" ;;
  run)
    start "$@" || fail "starting failed; gcloud's words are above; before the first run comes the action install"
    [ -z "$detach" ] || exit 0
    settle
    case "$outcome" in
      finished) ;;
      failed*) say "the stage failed with exit status ${outcome#failed }"; exit "${outcome#failed }" ;;
      *) say "the stage was cut short ($outcome); the same command goes on where it stopped; up does this by itself"
         exit 3 ;;
    esac ;;
  up)
    restarts=0
    until attempt "$@"; do
      restarts=$((restarts + 1))
      [ "$restarts" -le "$max_restarts" ] || fail "the stage has not finished after --max_restarts=$max_restarts;" \
        "what it saved is kept: the same command goes on from there"
      pause=$((poll * restarts < 900 ? poll * restarts : 900))
      say "beginning again in $pause s (restart $restarts of at most $max_restarts)"
      sleep "$pause"
    done
    if [ -n "$dry_run" ]; then
      echo "# when the machine was taken away, before all of the above again${then_delete:+, and in the end}:"
      delete
    elif [ -n "$then_delete" ]; then
      delete
    else
      say "the stage has finished; $name still runs and costs: launch/tpu_vm.sh delete --name=$name --zone=$zone"
    fi ;;
  logs) if [ -n "$follow" ]; then watch; else ask logs; fi ;;
  status)
    machine=$(look)
    [ -n "$dry_run" ] || echo "$name is $machine"
    [ "$machine" != READY ] || ask state ;;
  ssh) on_workers "$*" ;;
  stop) ask stop ;;
  delete) delete ;;
esac
