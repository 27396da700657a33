#!/usr/bin/env bash
# The tables of the paper at full size, row by row, from the configs in configs/paper/SIZE; docs/paper.md says what they
# ask. Each stage resumes, so a killed run is simply started again, and what one table made another one uses:
#
#   launch/paper.sh --size=8b --table=stages --policies=Qwen2.5-7B-Instruct,Llama-3.1-8B-Instruct --dry_run
#   launch/paper.sh --size=8b --table=stages --policies=Qwen2.5-7B-Instruct,Llama-3.1-8B-Instruct \
#       --name=libra --zone=us-east5-b --storage=/mnt/lab
#
# All lies in runs/paper/SIZE, where you put before: base/ and policy/, folders in Hugging Face format (the judge's
# start; for unlabelled and correlation, the policy that judges improve), and JSON lines of Problem, no problem in two
# of them: problems.jsonl (with answers: to judge), and what the table needs of other.jsonl (with answers: to solve),
# unanswered.jsonl and held_out.jsonl (with answers: they measure policies).
#
# flags:
#   --size=SIZE       32b (Qwen2.5-32B) or 8b (Qwen3-8B) (needed)
#   --table=NAME      thinking, stages, rejection, length, non_judging, transfer, unlabelled or correlation (needed)
#   --policies=A,B    folders of the checkpoints that answer problems.jsonl (needed)
#   --name=NAME, --zone=ZONE
#                     run on this TPU VM by launch/tpu_vm.sh, where the code is installed; without, on this machine
#   --storage=FOLDER  with --name: of the storage that all workers see; ~/libra_jax/runs becomes a link to FOLDER/runs
#   --with=STAGE:FLAG one more flag for a stage, as often as needed: --with=rl:--config.train.num_steps=100
#   --dry_run         print the commands and run nothing
# LIBRA names the libra command, by default .venv/bin/libra of this checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 2; }
size="" table="" policies="" name="" zone="" storage="" dry_run="" extra=()
for flag in "$@"; do
  case "$flag" in
    --size=*) size=${flag#*=} ;;
    --table=*) table=${flag#*=} ;;
    --policies=*) policies=${flag#*=} ;;
    --name=*) name=${flag#*=} ;;
    --zone=*) zone=${flag#*=} ;;
    --storage=*) storage=${flag#*=} ;;
    --with=*:--*) extra+=("${flag#--with=}") ;;
    --dry_run) dry_run=yes ;;
    --help|-h) sed -n '2,/^set /{/^set /!{s/^# \{0,1\}//;p;}}' launch/paper.sh; exit 0 ;;
    *) fail "flag '$flag' is not known; --help lists them" ;;
  esac
done
case "$size" in 32b|8b) ;; *) fail "--size='$size': expected 32b or 8b" ;; esac
case "$table" in
  thinking|stages|rejection|length|non_judging|transfer|unlabelled|correlation) ;;
  *) fail "--table='$table': expected thinking, stages, rejection, length, non_judging, transfer, unlabelled or" \
    "correlation" ;;
esac
[ -n "$policies" ] || fail "--policies is needed: folders of the checkpoints that answer problems.jsonl"
[ -z "$name$zone$storage" ] || { [ -n "$name" ] && [ -n "$zone" ] && [ -n "$storage" ]; } ||
  fail "--name, --zone and --storage belong together: give all three, or none"
IFS=, read -r -a answering <<<"$policies"
twice=$(printf '%s\n' "${answering[@]##*/}" | sort | uniq -d)
[ -z "$twice" ] || fail "--policies: two folders are named '$twice'; a policy is named by its folder, so rename one"
configs=configs/paper/$size runs=runs/paper/$size

do_it() {
  printf '%q ' "$@" | sed 's/ $//'; echo
  [ -n "$dry_run" ] || "$@"
}

# stage NAME FOLDER FLAGS...: runs one stage, once, with its own flags and those of --with.
declare -A begun
stage() {
  local name_of_stage=$1 folder=$2 command
  [ -z "${begun[$folder]:-}" ] || return 0
  begun[$folder]=yes
  command=("$1" --workdir="$runs/$folder" "${@:3}")
  for each in ${extra[@]+"${extra[@]}"}; do
    [ "${each%%:*}" != "$name_of_stage" ] || command+=("${each#*:}")
  done
  if [ -z "$name" ]; then
    do_it "${LIBRA:-.venv/bin/libra}" "${command[@]}"
  else
    local where=(--name="$name" --zone="$zone")
    case "$name_of_stage" in verify|curate|bench) where+=(--worker=0) ;; esac  # those that use no accelerator
    do_it launch/tpu_vm.sh run "${where[@]}" -- "${command[@]}"
  fi
  case "$name_of_stage" in
    sft|rl|dpo)  # asked to stop (SIGTERM) it ends well, but without its export; tpu_vm.sh tells by its exit status
      [ -n "$dry_run$name" ] || [ -e "$runs/$folder/export/config.json" ] ||
        { echo "$folder was stopped before its end; run the same command to go on" >&2; exit 0; } ;;
  esac
}

# sets/train.jsonl and sets/bench.jsonl, from every policy's answers.
sets() {
  local policy rollouts=""
  for policy in "${answering[@]}"; do
    stage rollout "policies/${policy##*/}" --config="$configs/rollout.py" --config.checkpoint="$policy" \
      --config.policy="${policy##*/}"
    stage verify "verified/${policy##*/}" --config.problems="$runs/problems.jsonl" \
      --config.rollouts="$runs/policies/${policy##*/}/rollouts.jsonl"
    rollouts+=${rollouts:+,}$runs/verified/${policy##*/}/verified.jsonl
  done
  stage curate sets --config.problems="$runs/problems.jsonl" --config.rollouts="$rollouts"
}

# The base's own solutions of problems that are not for judging.
other() {
  stage rollout other_answers --config="$configs/rollout.py" --config.problems="$runs/other.jsonl" \
    --config.checkpoint="$runs/base" --config.policy=base
  stage verify other --config.problems="$runs/other.jsonl" --config.rollouts="$runs/other_answers/rollouts.jsonl"
}

# row NAME: trains the judge of a row, after those that it starts from.
row() {
  sets
  case "$1" in
    sft|sft_any|sft_other_data|sft_on_*) stage reject reject --config="$configs/reject.py" ;;
    rl|rl_no_length|rl_short) row sft ;;
    rl_other_data) row sft_other_data ;;
  esac
  case "$1" in *_other_data) other ;; esac
  case "$1" in
    base|base_no_thought) ;;
    sft_on_*) stage sft "$1" --config="$configs/sft.py" --config.policies="${1#sft_on_}" ;;
    sft*) stage sft "$1" --config="$configs/$1.py" ;;
    rl*) stage rl "$1" --config="$configs/$1.py" ;;
  esac
}
checkpoint() { case "$1" in base|base_no_thought) echo "$runs/base" ;; *) echo "$runs/$1/export" ;; esac; }

# judged TITLE ROW...: the rows on the bench, and their report in bench/TITLE.
judged() {
  local title=$1 each judge judgements=""
  shift
  for each in "$@"; do
    row "$each"
    case "$each" in *_no_thought) judge=judge_no_thought ;; *) judge=judge ;; esac
    stage judge "judge/$each" --config="$configs/$judge.py" --config.checkpoint="$(checkpoint "$each")" \
      --config.name="$each"
    judgements+=${judgements:+,}$runs/judge/$each/judgements.jsonl
  done
  stage bench "bench/$title" --config.examples="$runs/sets/bench.jsonl" --config.judgements="$judgements"
}

# solves NAME CHECKPOINT: how many of held_out.jsonl it solves, in right/NAME/summary.json.
solves() {
  stage rollout "solved/$1" --config="$configs/answers.py" --config.problems="$runs/held_out.jsonl" \
    --config.checkpoint="$2" --config.policy="$1"
  stage verify "right/$1" --config.problems="$runs/held_out.jsonl" --config.rollouts="$runs/solved/$1/rollouts.jsonl"
}

# improved ROW [SHARE]: what the pairs of a row's judge, or a share of them, are worth to the policy.
improved() {
  local key=$1${2:+_$2} how=()
  row "$1"
  stage rollout answers --config="$configs/answers.py"
  solves before "$runs/policy"
  case "$1" in *_no_thought) how=(--config.judge.thinking=false) ;; esac
  stage downstream "pairs/$1" --config="$configs/pairs.py" --config.judge.checkpoint="$(checkpoint "$1")" \
    ${how[@]+"${how[@]}"}
  stage dpo "dpo/$key" --config="$configs/dpo.py" --config.pairs="$runs/pairs/$1/pairs.jsonl" \
    ${2:+"--config.share=$2"}
  solves "$key" "$runs/dpo/$key/export"
}

transferred=("${answering[@]##*/}")
transferred=("${transferred[@]/#/sft_on_}")
every=(base_no_thought base sft_no_thought sft_any sft sft_other_data rl_alone rl rl_no_length rl_short rl_other_data
       "${transferred[@]}")
[ -z "$name" ] || do_it launch/tpu_vm.sh ssh --name="$name" --zone="$zone" -- \
  "mkdir -p '$storage/runs' && ln -sfn '$storage/runs' libra_jax/runs"
case "$table" in
  thinking) judged thinking base_no_thought base sft_no_thought sft ;;
  stages) judged stages base sft rl_alone rl ;;
  rejection) judged rejection base sft_any sft ;;
  length) judged length sft rl_no_length rl rl_short ;;
  transfer) judged transfer "${transferred[@]}" ;;
  non_judging)
    judged non_judging base sft sft_other_data rl rl_other_data
    for each in base sft sft_other_data rl rl_other_data; do solves "judge_$each" "$(checkpoint "$each")"; done ;;
  unlabelled) for share in 0.25 0.5 1.0; do improved rl "$share"; done ;;
  correlation)
    judged correlation "${every[@]}"
    for each in "${every[@]}"; do improved "$each"; done ;;
esac
