#!/usr/bin/env bash
# What launch/tpu_vm.sh asks of one worker. It comes to the worker with the rest of the code; nobody types it by hand.
#
#   on_worker.sh install               makes .venv beside the code, with libra_jax[tpu]
#   on_worker.sh start TOKEN COMMAND   starts a command that outlives the connection; the same TOKEN again does nothing
#   on_worker.sh follow                prints the log as it grows until the command has ended
#   on_worker.sh logs                  prints the end of the log
#   on_worker.sh state                 prints a line: WORKER: STATE | COMMIT | COMMAND
#   on_worker.sh stop                  asks the command to end (SIGTERM: training saves first)
#
# STATE is idle (never started), running, finished, preempted (ended by SIGTERM), stopped (the same, by stop),
# failed STATUS, or lost (the machine went down under it).
#
# ~/libra_run holds: log (and log.1, the run before), command, token, pid, lock, which is held for as long as any
# process of the run lives, and status, which is written only when the command has ended by itself.
set -euo pipefail
run=~/libra_run
code=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
worker=$(hostname)
mkdir -p "$run"

fail() { echo "$worker: error: $*" >&2; exit 2; }

state() {
  if [ ! -e "$run/token" ]; then echo idle; return; fi
  if ! flock -n "$run/lock" true; then echo running; return; fi
  if [ ! -e "$run/status" ]; then echo lost; return; fi
  local status
  status=$(cat "$run/status")
  if [ "$status" = 143 ]; then  # 128 + 15, SIGTERM: of training, which has saved, too
    if [ -e "$run/stopped" ]; then echo stopped; else echo preempted; fi
  elif [ "$status" = 0 ]; then
    echo finished
  else
    echo "failed $status"
  fi
}

case "${1:-}" in
  install)
    cd "$code"
    # The images' own Python is 3.10; uv brings one that is new enough.
    python3 -m pip install --quiet --user uv
    ~/.local/bin/uv venv --quiet --allow-existing --python 3.12 .venv
    ~/.local/bin/uv pip install --quiet --python .venv/bin/python -e ".[tpu]"
    .venv/bin/libra --help >/dev/null
    echo "$worker: installed $(cat COMMIT)" ;;
  start)
    token=$2
    shift 2
    # gcloud repeats a command whose connection broke; the stage must not start twice.
    [ "$(cat "$run/token" 2>/dev/null)" != "$token" ] || exit 0
    exec 9>"$run/lock"
    flock -n 9 || fail "a stage is running here: $(cat "$run/command"); wait for it, or end it by the action stop"
    rm -f "$run/status" "$run/stopped"
    [ ! -e "$run/log" ] || mv "$run/log" "$run/log.1"
    echo "$*" | tr '\n' ' ' >"$run/command"
    : >"$run/log"
    setsid "${BASH_SOURCE[0]}" supervise "$@" >"$run/log" 2>&1 </dev/null &
    echo $! >"$run/pid"
    echo "$token" >"$run/token"
    echo "$worker: started" ;;
  supervise)  # for start alone: runs the command and notes how it ended
    shift
    cd "$code"
    trap : TERM  # the command gets the signal too, and may take its time to save
    status=0
    "$@" || status=$?
    echo "$status" >"$run/status.new"
    mv "$run/status.new" "$run/status" ;;
  follow)
    [ -e "$run/log" ] || fail "no stage was started here; start one by the action run"
    tail -n 100 -f -s 0.1 --pid="$(cat "$run/pid")" "$run/log" | sed -u "s|^|$worker: |" ;;
  logs)
    [ -e "$run/log" ] || fail "no stage was started here; start one by the action run"
    tail -n 40 "$run/log" | sed "s|^|$worker: |" ;;
  state)
    commit=$(cat "$code/COMMIT" 2>/dev/null || echo unknown)
    echo "$worker: $(state) | $commit | $(cat "$run/command" 2>/dev/null)" ;;
  stop)
    if [ "$(state)" != running ]; then echo "$worker: nothing runs"; exit 0; fi
    touch "$run/stopped"
    kill -TERM -- "-$(cat "$run/pid")"
    echo "$worker: asked to stop" ;;
  *) fail "action '${1:-}': expected install, start, follow, logs, state or stop" ;;
esac
