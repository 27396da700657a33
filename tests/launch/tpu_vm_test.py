"""launch/tpu_vm.sh, step by step: which gcloud commands it gives, what reaches the workers, and how it fails."""

import importlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from libra_jax import config as configs

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch/tpu_vm.sh"
ON = ["--name=n", "--zone=z"]
V6E = "--accelerator=v6e-8"


def wait_for(condition):
    """Waits until condition() is true; fails after 20 seconds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# What a dry run prints.


def gcloud(shell, action, *flags):
    """The gcloud commands of a dry run, as words; everything else that it prints is git's or a comment."""
    out, _ = shell(SCRIPT, action, *ON, *flags, "--dry_run")
    assert all(line.startswith(("gcloud ", "git archive ", "# ")) for line in out.splitlines()), out
    return [shlex.split(line) for line in out.splitlines() if line.startswith("gcloud ")]


NODE = ["compute", "tpus", "tpu-vm", "create", "n", "--zone=z"]
QUEUE = ["compute", "tpus", "queued-resources", "create", "n", "--zone=z"]
NODE_END = ["--accelerator-type=v6e-8", "--version=v2-alpha-tpuv6e"]
QUEUE_END = ["--accelerator-type=v6e-8", "--runtime-version=v2-alpha-tpuv6e", "--valid-until-duration=1440m"]


@pytest.mark.parametrize("flags, words", [
    ([], NODE + NODE_END),
    (["--spot"], [*NODE, *NODE_END, "--spot"]),
    (["--reserved", "--create_flag=--network=lab"], [*NODE, *NODE_END, "--reserved", "--network=lab"]),
    (["--queued"], [*QUEUE, "--node-id=n", *QUEUE_END]),
    (["--queued", "--spot"], [*QUEUE, "--node-id=n", *QUEUE_END, "--spot"]),
    (["--queued", "--reserved", "--wait=60"],
     [*QUEUE, "--node-id=n", *QUEUE_END[:2], "--valid-until-duration=60m", "--reserved"]),
    (["--reservation=r"], ["alpha", *QUEUE, "--node-id=n", *QUEUE_END, "--reservation=r"]),
    (["--slices=2", "--project=p"], [*QUEUE, "--project=p", "--node-count=2", "--node-prefix=n", *QUEUE_END]),
])
def test_create_in_every_mode(shell, flags, words):
    first, *looks = gcloud(shell, "create", V6E, *flags)
    assert first == ["gcloud", *words]
    assert all("describe" in look for look in looks)


@pytest.mark.parametrize("accelerator, runtime", [("v6e-8", "v2-alpha-tpuv6e"), ("v5litepod-16", "v2-alpha-tpuv5-lite"),
                                                  ("v5p-32", "v2-alpha-tpuv5"), ("v4-8", "tpu-ubuntu2204-base")])
def test_create_knows_the_runtime_of_an_accelerator(shell, accelerator, runtime):
    assert f"--version={runtime}" in gcloud(shell, "create", f"--accelerator={accelerator}")[0]
    assert "--version=mine" in gcloud(shell, "create", f"--accelerator={accelerator}", "--version=mine")[0]


def test_the_workers_of_slices_are_reached_through_their_request(shell):
    for words in gcloud(shell, "install", "--slices=2", "--connect_flag=--internal-ip"):
        assert words[3] == "queued-resources" and words[4] in ("scp", "ssh")
        assert {"--node=all", "--worker=all", "--batch-size=all", "--internal-ip"} <= set(words)
    looks = gcloud(shell, "status", "--slices=2")
    assert [words[5] for words in looks] == ["n", "n-0", "n-1", "n"]
    assert [words[3] for words in gcloud(shell, "install")] == ["tpu-vm", "tpu-vm"]


def test_a_dry_run_of_up_prints_the_whole_way_and_runs_nothing(cloud):
    out, _ = cloud("up", V6E, "--dry_run", "--", "sft", "--workdir=/a b")
    verbs = [shlex.split(line)[4] for line in out.splitlines() if line.startswith("gcloud ")]
    assert verbs == ["describe", "create", "describe", "scp", "ssh", "ssh", "ssh", "ssh", "delete"]
    cloud("delete", "--dry_run")
    assert (cloud.folder / "calls").read_text() == ""


@pytest.mark.parametrize("flags, message", [
    (["crate"], "expected create, install"), (["create", *ON], "--accelerator is needed"),
    (["create", *ON, "--accelerator=v9-8"], "no runtime is known"), (["delete"], "--name is needed"),
    (["delete", "--name=n"], "--zone is needed"), (["logs", "--nmae=n"], "'--nmae=n' is not known"),
    (["run", *ON], "run needs a stage"), (["ssh", *ON], "ssh needs a shell command"),
    (["delete", *ON, "--", "x"], "delete takes nothing after --"), (["create", *ON, "--slices=two"], "--slices=two"),
    (["create", *ON, "--slices=0"], "--slices=0: expected 1 or more"),
    (["create", *ON, V6E, "--spot", "--reserved"], "exclude each other"),
    (["up", *ON, V6E, "--worker=0", "--", "sft"], "up starts the stage on every worker"),
])
def test_mistakes_are_named_before_anything_runs(shell, flags, message):
    out, error = shell(SCRIPT, *flags[:1], "--dry_run", *flags[1:], status=2)
    assert message in error and out == ""


def test_without_gcloud_it_says_so(shell, tmp_path):
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    _, error = shell(SCRIPT, "delete", *ON, status=2, PATH=str(tmp_path))
    assert "no gcloud on the PATH" in error


def commands(text):
    """Every launch/tpu_vm.sh command of a text, as words; continued lines are joined."""
    lines = re.sub(r"\\\n[# ]*", " ", text).splitlines()
    lines = [line.lstrip("# ").strip() for line in lines if re.match(r"(    |#   )launch/tpu_vm\.sh ", line)]
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("page", ["launch/tpu_vm.sh", "docs/tpu.md"])
def test_every_command_that_is_written_down_is_understood(shell, page):
    found = commands((ROOT / page).read_text(encoding="utf-8"))
    assert len(found) >= 4
    for words in found:
        split = words.index("--") if "--" in words else len(words)
        own, stage = [word for word in words[1:split] if not word.startswith("--setup=")], words[split + 1:]
        assert shell(SCRIPT, *own, "--dry_run", *words[split:])[0]
        if own[0] in ("run", "up"):
            default = importlib.import_module(f"libra_jax.stages.{stage[0]}").Config()
            _, rest = configs.parse([word.replace("--config=", f"--config={ROOT}/") for word in stage[1:]], default)
            assert [word.split("=")[0] for word in rest] == ["--workdir"], rest


def test_help_is_the_head_of_the_script(shell):
    out, _ = shell(SCRIPT, "--help")
    assert out.startswith("Cloud TPU VMs") and "--max_restarts=N" in out and "set -euo" not in out
    flags = set(re.findall(r"^ +(--\w+)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)) - {"--help"}
    assert len(flags) > 15 and all(re.search(rf"^  {flag}\b", out, re.MULTILINE) for flag in flags)


# Against the Cloud in a folder.


def test_create_waits_until_the_request_is_active_and_the_machine_ready(cloud):
    cloud.write(requests="WAITING_FOR_RESOURCES\nPROVISIONING\nSILENT\nACTIVE", nodes="CREATING\nREADY")
    _, error = cloud("create", V6E, "--queued")
    states = re.findall(r"n is (\w+)", error)
    assert states == ["WAITING_FOR_RESOURCES", "PROVISIONING", "UNKNOWN", "CREATING", "READY"]
    assert "the network is down" in error


def test_create_says_how_it_failed(cloud):
    cloud.write(requests="PROVISIONING\nFAILED")
    _, error = cloud("create", V6E, "--queued", status=2)
    assert "n is FAILED, not READY" in error and "action delete" in error
    cloud.write(no_room="")
    _, error = cloud("create", V6E, status=2)
    assert "no more capacity" in error and "--queued waits for it" in error


def test_create_waits_no_longer_than_told(cloud):
    cloud.write(requests="WAITING_FOR_RESOURCES")
    _, error = cloud("create", V6E, "--queued", "--wait=0", status=2)
    assert "n is WAITING_FOR_RESOURCES after --wait=0 minutes" in error


def test_install_brings_the_committed_files_to_every_worker(cloud):
    cloud("create", V6E)
    cloud("install")
    out, _ = cloud("install")
    commit = (cloud.folder / "worker0/libra_jax/COMMIT").read_text().strip()
    assert sorted(out.splitlines()) == [f"worker{number}: installed {commit}" for number in (0, 1)]
    for number in (0, 1):
        home = cloud.folder / f"worker{number}/libra_jax"
        assert (home / ".venv/bin/libra").exists() and os.access(home / "launch/on_worker.sh", os.X_OK)
    (cloud.folder / "worker1/libra_jax/launch/gone.sh").write_text("of an older commit")
    (cloud.checkout / "uncommitted").write_text("")
    try:
        _, error = cloud("install")
    finally:
        (cloud.checkout / "uncommitted").unlink()
    assert f"uncommitted changes are left out; installed is {commit}" in error
    assert not (cloud.folder / "worker1/libra_jax/launch/gone.sh").exists()


def test_the_setup_runs_on_every_worker_before_the_code_comes(cloud, tmp_path):
    cloud("create", V6E)
    (tmp_path / "mount.sh").write_text('echo "$WORKER: $(ls)"\n')
    out, _ = cloud("install", f"--setup={tmp_path}/mount.sh")
    assert "worker0: libra_setup.sh" in out.splitlines() and "worker1: libra_setup.sh" in out.splitlines()
    (tmp_path / "mount.sh").write_text("exit 5\n")
    cloud("install", f"--setup={tmp_path}/mount.sh", status=2)
    assert "--setup=/no/file: no such file" in cloud("install", "--setup=/no/file", status=2)[1]


def test_install_fails_where_copying_or_installing_fails(cloud):
    cloud("create", V6E)
    cloud.write(no_install="")
    assert "no such version" in cloud("install", status=2)[1]
    cloud.write(no_scp="")
    assert "connection refused" in cloud("install", status=2)[1]


@pytest.fixture
def installed(cloud):
    """The Cloud with a machine that has everything."""
    cloud("create", V6E)
    cloud("install")
    return cloud


def test_a_stage_gets_its_words_unchanged_and_its_log_comes_back(installed):
    words = ["--workdir=/a b", "--config.name=it's \"$HOME\" & `x` \\ *", "", "tail"]
    out, _ = installed("run", "--", "sft", *words)
    assert installed.ran(0) == installed.ran(1) == [["--distributed", "sft", *words]]
    assert {"worker0: step 1", "worker1: step 1"} <= set(out.splitlines())
    assert "worker0: step 1" in installed("logs")[0]
    assert "worker1: finished | " in installed("status")[0]


def test_the_status_of_run_is_the_stages_own(installed):
    installed.write(stage='[ "${HOME##*/}" = worker0 ] || { echo "error: no such config" >&2; exit 2; }')
    out, error = installed("run", "--", "sft", status=2)
    assert "worker1: error: no such config" in out and "failed with exit status 2" in error
    assert "worker1: failed 2 | " in installed("status")[0]
    assert len(installed.ran(0)) == 1


def test_run_before_install_says_so(cloud):
    cloud("create", V6E)
    assert "comes the action install" in cloud("run", "--", "sft", status=2)[1]


def test_a_stage_starts_once_though_gcloud_repeats_a_command_whose_connection_broke(installed):
    installed.write(repeat="")
    installed("run", "--", "sft")
    assert not (installed.folder / "repeat").exists()
    assert installed.ran(0) == installed.ran(1) == [["--distributed", "sft"]]
    installed("run", "--", "sft")  # while another run is another start
    assert len(installed.ran(0)) == 2


def test_a_detached_stage_goes_on_can_be_followed_and_stopped(installed):
    installed.write(stage="""trap 'echo sft: stopped by SIGTERM after step 7/9; exit 0' TERM; echo waiting
        until [ -e "$CLOUD/go" ]; do /bin/sleep 0.02; done""")
    out, _ = installed("run", "--detach", "--", "sft")
    assert sorted(out.splitlines()) == ["worker0: started", "worker1: started"]
    logs = [installed.folder / f"worker{number}/libra_run/log" for number in (0, 1)]
    wait_for(lambda: all("waiting" in log.read_text() for log in logs))
    status = installed("status")[0]
    assert "n is READY" in status and "worker1: running | " in status and "libra --distributed sft" in status
    assert "a stage is running here" in installed("run", "--", "rl", status=2)[1]
    assert "a stage is running here" in installed("install", status=2)[1]
    assert installed.ran(0) == [["--distributed", "sft"]]
    installed("stop", "--worker=1")
    wait_for(lambda: "worker1: stopped | " in installed("status")[0])
    installed.write(go="")
    out, _ = installed("logs", "--follow")
    assert "worker0: waiting" in out and "worker1: sft: stopped by SIGTERM after step 7/9" in out
    assert "worker0: finished | " in installed("status")[0]
    assert "worker0: nothing runs" in installed("stop")[0]


def test_the_end_of_training_by_a_signal_is_read_from_the_words_that_training_prints():
    (words,) = re.findall(r"grep -q '([^']+)'", (ROOT / "launch/on_worker.sh").read_text(encoding="utf-8"))
    assert words in (ROOT / "libra_jax/train/loop.py").read_text(encoding="utf-8")


def test_an_interrupt_ends_the_watching_and_not_the_stage(installed):
    installed.write(stage="echo waiting; until [ -e \"$CLOUD/go\" ]; do /bin/sleep 0.02; done")
    words, environment = installed.command("run", "--", "sft")
    # Tests that run in the background have inherited that this signal is ignored.
    heard = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", heard, *words], env=os.environ | environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        try:
            assert any("waiting" in line for line in run.stdout)
            run.send_signal(signal.SIGINT)
            _, error = run.communicate(timeout=20)
        finally:
            run.kill()
    assert run.returncode == 130 and "no longer watching; what was started goes on" in error
    assert "worker0: running | " in installed("status")[0]


def test_one_worker_runs_a_stage_alone_on_its_cpus(installed):
    installed.write(stage='echo "on $JAX_PLATFORMS"')
    out, _ = installed("run", "--worker=1", "--", "curate")
    assert "worker1: on cpu" in out and installed.ran(0) == [] and installed.ran(1) == [["curate"]]


def test_ssh_runs_a_command_on_every_worker(cloud):
    cloud("create", V6E)
    out, _ = cloud("ssh", "--", 'echo "$WORKER is $(basename "$PWD")"')
    assert sorted(out.splitlines()) == ["worker0 is worker0", "worker1 is worker1"]


def test_delete_takes_the_request_with_the_machine(cloud):
    cloud("create", V6E, "--queued")
    _, error = cloud("delete")  # whatever flags it was made with
    assert "deleting the queued resource n with its TPU VMs" in error
    assert cloud.calls()[-1] == "queued-resources delete" and "--force" in (cloud.folder / "calls").read_text()
    assert not list(cloud.folder.glob("worker*"))
    cloud("create", V6E)
    assert "deleting the TPU VM n" in cloud("delete")[1]
    assert cloud.calls()[-1] == "tpu-vm delete"


def test_delete_does_nothing_while_gcloud_does_not_answer(cloud):
    cloud("create", V6E, "--queued")
    (cloud.folder / "queued-resources-n").write_text("SILENT\n")
    assert "nothing is deleted" in cloud("delete", status=2)[1]
    assert (cloud.folder / "tpu-vm-n").exists()
