"""launch/paper.sh: each table's stages, whose files connect, on this machine or on a TPU VM."""

import dataclasses
import importlib
import pathlib
import shlex
import shutil
import subprocess

import pytest

from libra_jax import config as configs
from libra_jax.stages import paper

ROOT = pathlib.Path(__file__).parents[2]
TABLES = ("thinking", "stages", "rejection", "length", "non_judging", "transfer", "unlabelled", "correlation")
GIVEN = ("base", "policy", "problems.jsonl", "other.jsonl", "unanswered.jsonl", "held_out.jsonl")
WRITES = {"rollout": ("rollouts.jsonl",), "verify": ("verified.jsonl",), "curate": ("train.jsonl", "bench.jsonl"),
          "reject": ("kept.jsonl", "judgements.jsonl"), "sft": ("export",), "rl": ("export",), "dpo": ("export",),
          "judge": ("judgements.jsonl",), "downstream": ("pairs.jsonl",), "bench": ()}


def commands(shell, size, table, *flags):
    """The words of each command that the script would run."""
    out, _ = shell(ROOT / "launch/paper.sh", f"--size={size}", f"--table={table}", "--policies=at/A,B", "--dry_run",
                   *flags)
    return [shlex.split(line) for line in out.splitlines()]


def read(words):
    """(stage, config, workdir) of the words behind libra."""
    stage, *flags = words
    flags = [f"--config={ROOT / flag.partition('=')[2]}" if flag.startswith("--config=") else flag for flag in flags]
    config, (workdir,) = configs.parse(flags, importlib.import_module(f"libra_jax.stages.{stage}").Config())
    return stage, config, workdir.removeprefix("--workdir=")


def texts(config):
    """Every text in a config, by field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from texts(value)
        else:
            yield from (each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, str))


@pytest.fixture(scope="module")
def planned():
    """{(size, table): [(stage, config, workdir), ...]} of all tables."""
    def shell(*words):
        return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout, ""
    return {(size, table): [read(words[1:]) for words in commands(shell, size, table)]
            for size in ("32b", "8b") for table in TABLES}


@pytest.mark.parametrize("size", ["32b", "8b"])
@pytest.mark.parametrize("table", TABLES)
def test_every_input_is_given_or_was_made_before(planned, size, table):
    runs = f"runs/paper/{size}/"
    there, folders = {runs + name for name in GIVEN}, []
    for stage, config, workdir in planned[size, table]:
        wanted = {text for text in texts(config) if text.startswith("runs/")}
        assert wanted and wanted <= there, (stage, workdir, wanted - there)
        assert workdir.startswith(runs) and workdir not in folders
        folders.append(workdir)
        there |= {f"{workdir}/{name}" for name in WRITES[stage]}


def test_tables_and_rows_are_those_of_the_miniature(planned):
    assert set(paper.TABLES) == set(TABLES)
    names = {"base, no thought": "base_no_thought", "base": "base", "SFT": "sft", "SFT, no thought": "sft_no_thought",
             "SFT on any judgement": "sft_any", "SFT, other data too": "sft_other_data", "RL alone": "rl_alone",
             "SFT + RL": "rl", "SFT + RL, no length term": "rl_no_length", "SFT + RL, length 16 to 40": "rl_short",
             "SFT + RL, other data too": "rl_other_data"}
    assert set(paper.ROWS) == {*names, *paper.TRAINED_ON.values()}
    judged = {workdir.rpartition("/")[2] for stage, _, workdir in planned["8b", "correlation"] if stage == "judge"}
    assert judged == {*names.values(), "sft_on_A", "sft_on_B"}


@pytest.mark.parametrize("size", ["32b", "8b"])
def test_rows_are_what_the_tables_say(planned, size):
    runs = f"runs/paper/{size}"

    def rows(table):
        return [workdir.rpartition("/")[2] for stage, _, workdir in planned[size, table] if stage == "judge"]

    assert rows("thinking") == ["base_no_thought", "base", "sft_no_thought", "sft"]
    assert rows("stages") == ["base", "sft", "rl_alone", "rl"]
    assert rows("rejection") == ["base", "sft_any", "sft"]
    assert rows("length") == ["sft", "rl_no_length", "rl", "rl_short"]
    assert rows("transfer") == ["sft_on_A", "sft_on_B"]
    assert rows("non_judging") == ["base", "sft", "sft_other_data", "rl", "rl_other_data"]
    for table in TABLES:
        for stage, config, workdir in planned[size, table]:
            if stage == "judge":
                name = workdir.rpartition("/")[2]
                assert config.thinking != name.endswith("_no_thought") and config.name == name
                assert config.checkpoint == f"{runs}/base" or config.checkpoint == f"{runs}/{name}/export"
            if stage == "downstream":
                assert config.judge.thinking != workdir.endswith("_no_thought")
    trained = {workdir.removeprefix(runs + "/"): config for stage, config, workdir in planned[size, "correlation"]
               if stage in ("sft", "rl")}
    assert trained["sft_on_B"].policies == ("B",) and trained["sft_any"].learn == "any"
    assert trained["sft_no_thought"].learn == "labels" and trained["sft_other_data"].solution_share == 0.2
    assert trained["rl_alone"].checkpoint == f"{runs}/base" and trained["rl"].checkpoint == f"{runs}/sft/export"
    lengths = {name: (config.grpo.length_expected, config.grpo.length_maximum) for name, config in trained.items()
               if name.startswith("rl")}
    assert lengths["rl_no_length"] == (12288, 12288) and lengths["rl_short"] == (2048, 8192)
    assert {lengths[name] for name in ("rl", "rl_alone", "rl_other_data")} == {(8192, 12288)}
    shares = [config.share for stage, config, _ in planned[size, "unlabelled"] if stage == "dpo"]
    assert shares == [0.25, 0.5, 1.0]
    solvers = [workdir for _, _, workdir in planned[size, "non_judging"] if "/right/" in workdir]
    assert len(solvers) == 5


def test_every_config_is_run_by_some_table(planned):
    used = {size: set() for size in ("32b", "8b")}
    for (size, _), found in planned.items():
        used[size] |= {workdir.split("/")[3] for _, _, workdir in found}
    for size, folders in used.items():
        names = {path.stem for path in (ROOT / f"configs/paper/{size}").glob("*.py")}
        at = {"policies": "rollout", "pairs": "pairs", "answers": "answers", "judge": "judge", "reject": "reject"}
        assert names - {"plan", "judge_no_thought"} <= {at.get(folder, folder) for folder in folders}


def test_on_a_tpu_vm_each_stage_runs_on_every_worker_but_those_without_accelerator(shell):
    found = commands(shell, "8b", "rejection", "--name=n", "--zone=z", "--storage=/mnt/lab",
                     "--with=sft:--config.train.num_steps=7")
    assert found[0][:2] == ["launch/tpu_vm.sh", "ssh"] and "ln -sfn '/mnt/lab/runs' libra_jax/runs" in found[0][-1]
    for words in found[1:]:
        stage = words[words.index("--") + 1]
        assert words[:4] == ["launch/tpu_vm.sh", "run", "--name=n", "--zone=z"]
        assert ("--worker=0" in words) == (stage in ("verify", "curate", "bench"))
        assert ("--config.train.num_steps=7" in words) == (stage == "sft")


def test_it_stops_where_a_stage_fails_or_was_asked_to_stop(shell, tmp_path):
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch/paper.sh", tmp_path / "launch/paper.sh")
    libra, calls = tmp_path / "libra", tmp_path / "libra.calls"
    libra.write_text('#!/bin/sh\necho $1 >>"$0.calls"\n[ $1 != verify ] || [ ! -e "$0.fails" ]\n')
    libra.chmod(0o755)
    command = (tmp_path / "launch/paper.sh", "--size=8b", "--table=rejection", "--policies=A")
    (tmp_path / "libra.fails").touch()
    shell(*command, status=1, LIBRA=str(libra))
    assert calls.read_text().split() == ["rollout", "verify"]
    (tmp_path / "libra.fails").unlink()
    calls.unlink()
    said = shell(*command, LIBRA=str(libra))[1]  # SFT ends well, without an export
    assert "sft_any was stopped before its end; run the same command" in said
    assert calls.read_text().split()[-1] == "sft"
    for name in ("sft_any", "sft"):
        (tmp_path / f"runs/paper/8b/{name}/export").mkdir(parents=True)
        (tmp_path / f"runs/paper/8b/{name}/export/config.json").write_text("{}")
    calls.unlink()
    shell(*command, LIBRA=str(libra))
    assert calls.read_text().split() == ["rollout", "verify", "curate", "judge", "reject", "sft", "judge", "sft",
                                         "judge", "bench"]


@pytest.mark.parametrize("flags, message", [
    (["--sice=8b"], "'--sice=8b' is not known"), (["--size=70b"], "--size='70b': expected 32b or 8b"),
    (["--size=8b", "--table=speed"], "--table='speed': expected thinking, stages"),
    (["--size=8b", "--table=stages"], "--policies is needed"),
    (["--size=8b", "--table=stages", "--policies=x/A,y/A"], "two folders are named 'A'"),
    (["--size=8b", "--table=stages", "--policies=A", "--name=n"], "belong together"),
])
def test_mistakes_are_named(shell, flags, message):
    assert message in shell(ROOT / "launch/paper.sh", *flags, "--dry_run", status=2)[1]
