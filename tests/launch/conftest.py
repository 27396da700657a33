"""A shell for the launch scripts, and a Google Cloud in a folder for launch/tpu_vm.sh."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# The tools that stand first on the PATH. gcloud writes its words to $CLOUD/calls, one call a line. A machine or request
# is a file with the states that `describe` answers one after the other; the last one stays. Two workers are two homes,
# where `ssh` runs the command by a shell, as sshd does.
GCLOUD = r"""#!/usr/bin/env bash
{ printf '%q ' "$@"; echo; } >>"$CLOUD/calls"
[ "$1" != alpha ] || shift
kind=$3 verb=$4 name=$5 command="" worker="*" count=1 sources=("${@:6}")
for word in "$@"; do
  case "$word" in
    --command=*) command=${word#*=} ;;
    --worker=[0-9]*) worker=${word#*=} ;;
    --node-count=*) count=${word#*=} ;;
  esac
done
boot() {
  echo x >>"$CLOUD/created"
  if [ "$count" = 1 ]; then cat "$CLOUD/nodes" >"$CLOUD/tpu-vm-$name"
  else for ((n = 0; n < count; n++)); do cat "$CLOUD/nodes" >"$CLOUD/tpu-vm-$name-$n"; done; fi
  mkdir -p "$CLOUD"/worker0 "$CLOUD"/worker1
}
case "$verb" in
  create)
    [ ! -e "$CLOUD/no_room" ] || { rm "$CLOUD/no_room"; echo "ERROR: no more capacity in the zone" >&2; exit 1; }
    [ "$kind" = tpu-vm ] || cat "$CLOUD/requests" >"$CLOUD/queued-resources-$name"
    boot ;;
  describe)
    file=$CLOUD/$kind-$name
    [ -e "$file" ] || { echo "ERROR: (gcloud) NOT_FOUND: Resource '$name' was not found." >&2; exit 1; }
    state=$(head -n 1 "$file")
    [ "$(wc -l <"$file")" = 1 ] || sed -i 1d "$file"
    [ "$state" != SILENT ] || { echo "ERROR: (gcloud) the network is down" >&2; exit 1; }
    echo "$state" ;;
  delete)
    [ -e "$CLOUD/$kind-$name" ] || { echo "ERROR: (gcloud) NOT_FOUND: Resource '$name' was not found." >&2; exit 1; }
    for pid in "$CLOUD"/worker*/libra_run/pid; do [ ! -e "$pid" ] || kill -KILL -- "-$(cat "$pid")" 2>/dev/null; done
    rm -rf "$CLOUD"/tpu-vm-* "$CLOUD"/queued-resources-* "$CLOUD"/worker* ;;
  scp)
    [ ! -e "$CLOUD/no_scp" ] || { echo "ERROR: scp: connection refused" >&2; exit 1; }
    for home in "$CLOUD"/worker*; do cp "$name" "$home/${sources[0]#*:}"; done ;;
  ssh)
    if head -qn 1 "$CLOUD/tpu-vm-$name"* | grep -qE 'PREEMPTED|TERMINATED'; then
      echo "ERROR: (gcloud) the TPU is in an unusable terminal state" >&2
      exit 1
    fi
    case "$command" in *follow) [ ! -e "$CLOUD/no_follow" ] || { rm "$CLOUD/no_follow"; exit 255; } ;; esac
    everywhere() {
      local pids=() status=0
      for home in "$CLOUD"/worker$worker; do
        (cd "$home" && WORKER=${home##*/} HOME=$home exec bash -c "$command" 3>&-) & pids+=($!)
      done
      for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
      return "$status"
    }
    case "$command" in *"on_worker.sh start"*) [ ! -e "$CLOUD/repeat" ] || { rm "$CLOUD/repeat"; everywhere; } ;; esac
    everywhere ;;
esac
"""
PYTHON = r"""#!/usr/bin/env bash
mkdir -p ~/.local/bin && cp "$CLOUD/bin/uv" ~/.local/bin/uv
"""
UV = r"""#!/usr/bin/env bash
[ ! -e "$CLOUD/no_install" ] || { echo "uv: no such version" >&2; exit 1; }
mkdir -p .venv/bin && cp "$CLOUD/bin/libra" .venv/bin/libra
"""
LIBRA = r"""#!/usr/bin/env bash
[ "$1" != --help ] || exit 0
{ printf '%q ' "$@"; echo; } >>~/ran
source "$CLOUD/stage"
"""
TOOLS = {"gcloud": GCLOUD, "python3": PYTHON, "uv": UV, "libra": LIBRA, "hostname": "#!/bin/sh\necho $WORKER\n",
         "sleep": '#!/bin/sh\necho "$1" >>"$CLOUD/slept"\nexec /bin/sleep 0.03\n'}


@pytest.fixture
def shell():
    """A function that runs a command and returns (stdout, stderr); it fails at another exit status."""
    def run(*command, status=0, **environment):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False,
                              env=os.environ | environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout, done.stderr
    return run


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A git checkout that holds launch/ and nothing else, with everything committed."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "launch", folder / "launch")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    return folder


class Cloud:
    """The folder, and launch/tpu_vm.sh run against it: cloud("create", "--accelerator=v6e-8") -> (stdout, stderr)."""

    def __init__(self, folder, checkout, shell):
        self.folder, self.checkout, self._shell = folder, checkout, shell
        (folder / "bin").mkdir()
        for name, text in TOOLS.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.write(nodes="READY", requests="ACTIVE", stage='echo "step 1"')

    def write(self, **files):
        """Sets files of the folder; a state file may hold several states, one a line."""
        for name, text in files.items():
            (self.folder / name).write_text(text + "\n")

    def __call__(self, action, *flags, status=0, poll=0):
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return self._shell(self.checkout / "launch/tpu_vm.sh", action, "--name=n", "--zone=z", f"--poll={poll}", *flags,
                           status=status, PATH=path, CLOUD=str(self.folder))

    def calls(self):
        """Every gcloud call so far, as "tpu-vm create" and the like, each run of the same ones once."""
        words = [shlex.split(line) for line in (self.folder / "calls").read_text().splitlines()]
        names = [" ".join(call[2 + (call[0] == "alpha"):][:2]) for call in words]
        return [name for number, name in enumerate(names) if name != (names[number - 1] if number else "")]

    def ran(self, worker):
        """What libra was started with on a worker, each time."""
        file = self.folder / f"worker{worker}/ran"
        return [shlex.split(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def cloud(tmp_path, checkout, shell):
    """A Google Cloud in a folder."""
    made = Cloud(tmp_path, checkout, shell)
    yield made
    for pid in tmp_path.glob("worker*/libra_run/pid"):
        try:
            os.killpg(int(pid.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass
