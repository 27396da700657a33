#!/usr/bin/env bash
# The whole method on a checkpoint of yours, stage after stage; each resumes, so a killed pipeline is simply run again:
#
#   launch/pipeline.sh --checkpoint=Qwen3-1.7B --problems=problems.jsonl --workdir=runs/qwen
#
# problems -rollout-> responses -verify-> labels -curate-> train and bench -reject-> kept thoughts -sft-> -rl-> judges,
# each judged on the bench; report.html lies in WORKDIR/bench.
#
# flags:
#   --checkpoint=FOLDER   Hugging Face format: the judge to be trained (needed)
#   --problems=FILE       JSON lines of Problem with answers (needed)
#   --workdir=FOLDER      where results go, one folder a stage (needed)
#   --policies=A,B        folders of the checkpoints that answer the problems; default: the judge's own
#   --template=NAME       of judging/prompt.py; default: libra
#   --with=STAGE:FLAG     one more flag for a stage, as often as needed: --with=rl:--config.groups=64 or
#                         --with=sft:--config=configs/libra_rm_1p7b_sft.py
#   --dry_run             print the commands and run nothing
# LIBRA names the libra command, by default .venv/bin/libra of this checkout.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { echo "error: $*" >&2; exit 2; }
checkpoint="" problems="" workdir="" policies="" template=libra dry_run="" extra=()
for flag in "$@"; do
  case "$flag" in
    --checkpoint=*) checkpoint=${flag#*=} ;;
    --problems=*) problems=${flag#*=} ;;
    --workdir=*) workdir=${flag#*=} ;;
    --policies=*) policies=${flag#*=} ;;
    --template=*) template=${flag#*=} ;;
    --with=*:--*) extra+=("${flag#--with=}") ;;
    --dry_run) dry_run=yes ;;
    --help|-h) sed -n '2,/^set /{/^set /!{s/^# \{0,1\}//;p;}}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) fail "flag '$flag' is not known; --help lists them" ;;
  esac
done
[ -n "$checkpoint" ] || fail "--checkpoint is needed: a folder in Hugging Face format"
[ -n "$problems" ] || fail "--problems is needed: JSON lines of Problem"
[ -n "$workdir" ] || fail "--workdir is needed: a folder for the results"

# stage NAME FOLDER FLAGS...: runs one stage with its own flags and those of --with.
stage() {
  local name=$1 folder=$2
  shift 2
  local command=("${LIBRA:-$root/.venv/bin/libra}" "$name" --workdir="$workdir/$folder" "$@")
  for each in ${extra[@]+"${extra[@]}"}; do
    [ "${each%%:*}" != "$name" ] || command+=("${each#*:}")
  done
  printf '%q ' "${command[@]}" | sed 's/ $//'; echo
  [ -z "$dry_run" ] || return 0
  local status=0
  "${command[@]}" || status=$?
  [ "$status" != 143 ] || echo "$name was stopped before its end; run the same command to go on" >&2
  [ "$status" = 0 ] || exit "$status"
}

rollouts=()
IFS=, read -r -a answering <<<"${policies:-$checkpoint}"
twice=$(printf '%s\n' "${answering[@]##*/}" | sort | uniq -d)
[ -z "$twice" ] || fail "--policies: two folders are named '$twice'; a policy is named by its folder, so rename one"
for number in "${!answering[@]}"; do
  stage rollout "rollout/$number" --config.problems="$problems" --config.checkpoint="${answering[$number]}" \
    --config.template="$template"
  rollouts+=("$workdir/rollout/$number/rollouts.jsonl")
done
[ -n "$dry_run" ] || cat "${rollouts[@]}" >"$workdir/rollout/all.jsonl"
stage verify verify --config.problems="$problems" --config.rollouts="$workdir/rollout/all.jsonl"
stage curate curate --config.problems="$problems" --config.rollouts="$workdir/verify/verified.jsonl"
train=$workdir/curate/train.jsonl bench=$workdir/curate/bench.jsonl

# measure NAME CHECKPOINT: a judge on the bench.
measure() {
  stage judge "judge/$1" --config.examples="$bench" --config.checkpoint="$2" --config.name="$1" \
    --config.template="$template"
}
measure base "$checkpoint"
stage reject reject --config.examples="$train" --config.checkpoint="$checkpoint" --config.template="$template"
stage sft sft --config.checkpoint="$checkpoint" --config.examples="$train" --config.kept="$workdir/reject/kept.jsonl" \
  --config.template="$template"
measure sft "$workdir/sft/export"
stage rl rl --config.checkpoint="$workdir/sft/export" --config.examples="$train" --config.template="$template"
measure rl "$workdir/rl/export"
judge=$workdir/judge
stage bench bench --config.examples="$bench" \
  --config.judgements="$judge/base/judgements.jsonl,$judge/sft/judgements.jsonl,$judge/rl/judgements.jsonl" \
  --config.metrics="$workdir/sft/metrics.jsonl,$workdir/rl/metrics.jsonl"
