#!/usr/bin/env bash
# The two commands of the README, on a fresh machine with Python 3.11 or 3.12 and nothing else:
#   launch/local.sh demo [flags]   the whole method in miniature; results in runs/demo
#   launch/local.sh test [flags]   the tests, on up to four cores (flags go to pytest; -n 0 for one process)
# The first run makes .venv and installs into it (never into the system's Python); later runs use it again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
job=${1:-}
case "$job" in
  demo) extras="" ;;
  test) extras="[dev]" ;;
  *) echo "usage: launch/local.sh demo|test [flags]" >&2; exit 2 ;;
esac
shift

find_python() {
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3; do
    [ -n "$candidate" ] && "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 13))' \
      2>/dev/null && { echo "$candidate"; return; }
  done
  echo "error: no Python 3.11 or 3.12 found; install one, or set PYTHON=/path/to/python3.11" >&2
  exit 2
}

if [ ! -x .venv/bin/python ]; then
  python=$(find_python)
  "$python" -m venv .venv || {
    rm -rf .venv
    echo "error: $python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
  }
fi
# The stamp holds what was installed; the tests' environment serves the demo too.
want=$(cat setup.py pyproject.toml | cksum)
for stamp in .venv/installed"$extras" ".venv/installed[dev]"; do
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && ready=yes
done
if [ -z "${ready:-}" ]; then
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "error: .venv has no pip (its making was cut short?); remove the folder .venv and run this again" >&2
    exit 2
  fi
  echo "installing libra_jax$extras into .venv (several minutes the first time)" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extras"
  echo "$want" > ".venv/installed$extras"
fi

export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
# Large memory pages where Linux offers them: the demo's sampling and training on a CPU are a third faster.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
case "$job" in
  demo) exec .venv/bin/libra demo --workdir=runs/demo "$@" ;;
  test) exec .venv/bin/python -m pytest -q -n auto --maxprocesses=4 "$@" ;;
esac
