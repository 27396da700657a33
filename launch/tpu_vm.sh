#!/usr/bin/env bash
# A Cloud TPU VM, from nothing to a running stage, by gcloud (installed and logged in):
#
#   launch/tpu_vm.sh create  --name=libra --zone=us-east5-b --accelerator=v6e-8
#   launch/tpu_vm.sh install --name=libra --zone=us-east5-b
#   launch/tpu_vm.sh run     --name=libra --zone=us-east5-b -- sft --workdir=/mnt/runs/sft --config=configs/qwen3_1p7b_sft.py
#   launch/tpu_vm.sh logs    --name=libra --zone=us-east5-b
#   launch/tpu_vm.sh delete  --name=libra --zone=us-east5-b
#
# flags:
#   --name=NAME          the TPU VM (needed)
#   --zone=ZONE          where it is (needed)
#   --project=PROJECT    default: gcloud's own
#   --accelerator=TYPE   for create: v6e-8, v5litepod-16, v5p-32, v4-8, ...
#   --version=RUNTIME    for create; default: the one that fits the accelerator
#   --spot               for create: cheaper, may be taken away at any time (stages go on where they stopped)
#   --detach             for run: leave it running when the connection ends; read it with logs
#   --dry_run            print the commands and run nothing
#
# install copies the committed files of this checkout (git archive HEAD) to every worker and installs them there into
# ~/libra_jax/.venv. run starts `libra --distributed STAGE flags` on every worker. With more than one worker, paths in
# the flags must lie on storage that all of them see, such as a mounted Filestore or Cloud Storage bucket.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /!{s/^# \{0,1\}//;p;}}' "launch/tpu_vm.sh"; }

action=${1:-}
case "$action" in
  create|install|run|logs|delete) shift ;;
  --help|-h) usage; exit 0 ;;
  *) fail "action '$action': expected create, install, run, logs or delete; --help says more" ;;
esac
name="" zone="" project="" accelerator="" version="" spot="" detach="" dry_run=""
while [ $# -gt 0 ]; do
  case "$1" in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot) spot=yes ;;
    --detach) detach=yes ;;
    --dry_run) dry_run=yes ;;
    --) shift; break ;;
    *) fail "flag '$1' is not known; --help lists them, and what a stage gets stands after --" ;;
  esac
  shift
done
[ -n "$name" ] || fail "--name is needed: the name of the TPU VM"
[ -n "$zone" ] || fail "--zone is needed, such as --zone=us-east5-b"
where=(--zone="$zone")
[ -z "$project" ] || where+=(--project="$project")

# Prints a command as it could be typed, and runs it unless this is a dry run.
do_it() {
  printf '%q ' "$@" | sed 's/ $//'; echo
  [ -n "$dry_run" ] || "$@"
}
tpu() { do_it gcloud compute tpus tpu-vm "$@"; }
on_all() { tpu ssh "$name" "${where[@]}" --worker=all --command="$1"; }

case "$action" in
  create)
    [ -n "$accelerator" ] || fail "--accelerator is needed, such as --accelerator=v6e-8"
    if [ -z "$version" ]; then
      case "$accelerator" in
        v6e-*) version=v2-alpha-tpuv6e ;;
        v5p-*) version=v2-alpha-tpuv5 ;;
        v5litepod-*) version=v2-alpha-tpuv5-lite ;;
        v4-*) version=tpu-ubuntu2204-base ;;
        *) fail "--accelerator=$accelerator: no runtime is known for it; give one by --version" ;;
      esac
    fi
    tpu create "$name" "${where[@]}" --accelerator-type="$accelerator" --version="$version" ${spot:+--spot} ;;
  install)
    archive=$(mktemp -u -t libra_jax.XXXXXX).tar.gz
    trap 'rm -f "$archive"' EXIT
    do_it git archive --format=tar.gz --output="$archive" HEAD
    tpu scp "$archive" "$name:libra_jax.tar.gz" "${where[@]}" --worker=all
    # The images' own Python is 3.10; uv brings one that is new enough.
    on_all 'set -e; mkdir -p libra_jax; tar xzf libra_jax.tar.gz -C libra_jax; cd libra_jax;
python3 -m pip install --quiet --user uv; ~/.local/bin/uv venv --quiet --allow-existing --python 3.12 .venv;
~/.local/bin/uv pip install --quiet --python .venv/bin/python -e ".[tpu]"; .venv/bin/libra --help >/dev/null' ;;
  run)
    [ $# -gt 0 ] || fail "run needs a stage and its flags after --, such as: -- sft --workdir=/mnt/runs/sft"
    command="cd libra_jax && $(printf '%q ' .venv/bin/libra --distributed "$@" | sed 's/ $//')"
    [ -z "$detach" ] || command="cd libra_jax && (nohup ${command#*&& } >~/libra.log 2>&1 </dev/null &)"
    on_all "$command" ;;
  logs) on_all "tail -n 40 ~/libra.log" ;;
  delete) tpu delete "$name" "${where[@]}" --quiet ;;
esac
