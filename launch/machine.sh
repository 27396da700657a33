#!/usr/bin/env bash
# The machine that launch/tpu_vm.sh speaks of, by gcloud: made, described, filled with the code, deleted. tpu_vm.sh
# reads this file in first and sets these variables from its flags; on its own it does nothing.
name="" accelerator="" version="" reservation="" setup="" worker=all slices=1 wait=1440 poll=30
spot="" queued="" reserved="" dry_run="" create_flags=() connect_flags=()
where=()    # --zone and --project as gcloud takes them
scratch=""  # a folder for files of the moment
machine=""  # the state last seen
command=()  # what `connect` made

fail() { echo "error: $*" >&2; exit 2; }
say() { echo "tpu_vm.sh: $*" >&2; }

# Prints words so that a shell reads the same words again.
quote() {
  local word apostrophe="'" escaped="'\\''" between=""
  for word in "$@"; do
    case "$word" in
      ''|*[!A-Za-z0-9_./:=,@%+-]*) word="'${word//$apostrophe/$escaped}'" ;;
    esac
    printf '%s%s' "$between" "$word"
    between=" "
  done
}

# Prints a command as it could be typed and runs it; in a dry run it only prints, to stdout.
do_it() {
  if [ -n "$dry_run" ]; then { quote "$@"; echo; } >&3; return; fi
  { quote "$@"; echo; } >&2
  "$@"
}

# connect ssh|scp WORDS: sets `command` to gcloud's ssh or scp to the workers that --worker names.
connect() {
  local how=$1 kind=tpu-vm to=(--worker="$worker")
  shift
  # Without --batch-size=all gcloud would serve 64 workers and let the rest wait for them to end.
  [ "$slices" = 1 ] || { kind="queued-resources"; to=(--node=all --worker="$worker" --batch-size=all); }
  # A machine that is taken away may leave its connections open; this ends them after two minutes.
  [ "$how" = scp ] || to+=(--ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4)
  command=(gcloud compute tpus "$kind" "$how" "$@" "${where[@]}" "${to[@]}" \
    ${connect_flags[@]+"${connect_flags[@]}"})
}
on_workers() { connect ssh "$name" --command="$1"; do_it "${command[@]}"; }
copy() { connect scp "$1" "$name:$2"; do_it "${command[@]}"; }
ask() { on_workers "libra_jax/launch/on_worker.sh $(quote "$@")"; }

# describe KIND NAME FIELD: the field's value; ABSENT when there is no such thing; UNKNOWN when gcloud could not say.
describe() {
  local value asking=(gcloud compute tpus "$1" describe "$2" "${where[@]}" --format="value($3)")
  if [ -n "$dry_run" ]; then
    do_it "${asking[@]}"
  elif value=$("${asking[@]}" 2>"$scratch/error"); then
    echo "${value:-UNKNOWN}"
  elif grep -Eqi 'not.?found' "$scratch/error"; then
    echo ABSENT
  else
    cat "$scratch/error" >&2
    echo UNKNOWN
  fi
}

# The names of the TPU VMs: Google numbers the slices of a multislice request from 0.
nodes() {
  if [ "$slices" = 1 ]; then echo "$name"; else seq -f "$name-%.0f" 0 $((slices - 1)); fi
}

# The machine's state in one word: READY, ABSENT, UNKNOWN, or what Google calls it.
look() {
  local state node
  if [ -n "$queued" ]; then
    state=$(describe queued-resources "$name" state.state)
    [ "$state" = ACTIVE ] || [ -n "$dry_run" ] || { echo "$state"; return; }
  fi
  for node in $(nodes); do
    state=$(describe tpu-vm "$node" state)
    # The request stands, but its machine is gone: only deleting the request helps.
    if [ -n "$queued" ] && [ "$state" = ABSENT ]; then state=TERMINATED; fi
    [ "$state" = READY ] || [ -n "$dry_run" ] || { echo "$state"; return; }
  done
  echo READY
}

# lost N: looks up to N times whether the machine is still READY; true as soon as it is not, its state in `machine`.
lost() {
  local looks=$1 silent=0
  while [ "$looks" -gt 0 ]; do
    machine=$(look)
    case "$machine" in
      READY) looks=$((looks - 1)) ;;
      UNKNOWN)
        silent=$((silent + 1))
        [ "$silent" -lt 20 ] || fail "gcloud did not tell the state of $name in 20 tries; its error is above" ;;
      *) return 0 ;;
    esac
    [ "$looks" = 0 ] || sleep "$poll"
  done
  return 1
}

# True once the machine is READY; false when it never will be; an error after --wait minutes.
wait_ready() {
  local since=$SECONDS before=""
  while :; do
    machine=$(look)
    case "$machine" in
      READY) [ -n "$dry_run" ] || say "$name is READY"; return 0 ;;
      ABSENT|PREEMPTED|TERMINATED|FAILED|SUSPENDED) return 1 ;;
    esac
    [ "$machine" = "$before" ] || say "$name is $machine; waiting until it is READY"
    before=$machine
    [ $((SECONDS - since)) -lt $((wait * 60)) ] || fail "$name is $machine after --wait=$wait minutes, not READY;" \
      "wait longer, ask for another zone or accelerator, or delete it by the action delete"
    sleep "$poll"
  done
}

# False when the machine could not be had.
create() {
  if [ -z "$queued" ]; then
    do_it gcloud compute tpus tpu-vm create "$name" "${where[@]}" --accelerator-type="$accelerator" \
      --version="$version" ${spot:+--spot} ${reserved:+--reserved} ${create_flags[@]+"${create_flags[@]}"} || return 1
  else
    local nodes=(--node-id="$name") track=()
    [ "$slices" = 1 ] || nodes=(--node-count="$slices" --node-prefix="$name")
    [ -z "$reservation" ] || track=(alpha)
    do_it gcloud ${track[@]+"${track[@]}"} compute tpus queued-resources create "$name" "${where[@]}" "${nodes[@]}" \
      --accelerator-type="$accelerator" --runtime-version="$version" --valid-until-duration="${wait}m" ${spot:+--spot} \
      ${reserved:+--reserved} ${reservation:+--reservation="$reservation"} ${create_flags[@]+"${create_flags[@]}"} ||
      return 1
  fi
  wait_ready
}

delete() {
  local request=$queued
  # A machine that belongs to a queued resource goes only with it, whatever flags were given here.
  if [ -z "$dry_run" ]; then
    case "$(describe queued-resources "$name" state.state)" in
      ABSENT) request="" ;;
      UNKNOWN) fail "gcloud does not say whether $name is a queued resource; its error is above; nothing is deleted" ;;
      *) request=yes ;;
    esac
  fi
  if [ -n "$request" ]; then
    say "deleting the queued resource $name with its TPU VMs"
    do_it gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
  else
    say "deleting the TPU VM $name"
    do_it gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
  fi
}

install() {
  local commit archive=$scratch/libra_jax.tar.gz
  local busy="echo 'error: a stage is running here; wait for it, or end it by the action stop' >&2; exit 2"
  commit=$(git rev-parse HEAD)
  [ -z "$(git status --porcelain)" ] || say "warning: uncommitted changes are left out; installed is $commit"
  do_it git archive --format=tar.gz --output="$archive" HEAD || return 1
  if [ -n "$setup" ]; then
    copy "$setup" libra_setup.sh || return 1
    on_workers "bash libra_setup.sh" || return 1
  fi
  copy "$archive" libra_jax.tar.gz || return 1
  on_workers "set -e; mkdir -p libra_run libra_jax; exec 9>libra_run/lock; flock -n 9 || { $busy; };\
 find libra_jax -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +; tar xzf libra_jax.tar.gz -C libra_jax;\
 echo $commit >libra_jax/COMMIT; libra_jax/launch/on_worker.sh install"
}
