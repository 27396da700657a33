"""launch/pipeline.sh: every stage's flags, where it stops, and how it fails."""

import importlib
import pathlib
import shlex

import pytest

from libra_jax import config as configs

ROOT = pathlib.Path(__file__).parents[2]


def test_every_stage_of_the_pipeline_understands_its_flags(shell):
    out, _ = shell(ROOT / "launch/pipeline.sh", "--checkpoint=C", "--problems=p.jsonl", "--workdir=W a",
                   "--policies=A,B", "--with=rl:--config.groups=64", "--dry_run")
    lines = [shlex.split(line) for line in out.splitlines()]
    stages = [words[1] for words in lines]
    assert stages == ["rollout", "rollout", "verify", "curate", "judge", "reject", "sft", "judge", "rl", "judge",
                      "bench"]
    made = {}
    for words in lines:
        default = importlib.import_module(f"libra_jax.stages.{words[1]}").Config()
        made[words[1]], rest = configs.parse(words[2:], default)
        assert len(rest) == 1 and rest[0].startswith("--workdir=W a/")
    assert made["rl"].groups == 64 and made["rl"].checkpoint == "W a/sft/export"
    assert made["bench"].judgements == tuple(f"W a/judge/{name}/judgements.jsonl" for name in ("base", "sft", "rl"))


def test_the_pipeline_stops_at_the_first_stage_that_fails(shell, tmp_path):
    (tmp_path / "libra").write_text('#!/bin/sh\necho $1 >>"$0.calls"\n[ $1 != verify ]\n')
    (tmp_path / "libra").chmod(0o755)
    for name in ("A", "B"):
        (tmp_path / f"W/rollout/{'AB'.index(name)}").mkdir(parents=True)
        (tmp_path / f"W/rollout/{'AB'.index(name)}/rollouts.jsonl").write_text(f"{name}\n")
    shell(ROOT / "launch/pipeline.sh", "--checkpoint=C", "--problems=p", f"--workdir={tmp_path / 'W'}",
          "--policies=A,B", status=1, LIBRA=str(tmp_path / "libra"))
    assert (tmp_path / "libra.calls").read_text().split() == ["rollout", "rollout", "verify"]
    assert (tmp_path / "W/rollout/all.jsonl").read_text() == "A\nB\n"


def test_the_pipeline_stops_where_training_was_asked_to_stop(shell, tmp_path):
    (tmp_path / "libra").write_text('#!/bin/sh\necho $1 >>"$0.calls"\n[ ! -e "$0.$1" ] || exit 143\n')
    (tmp_path / "libra").chmod(0o755)
    (tmp_path / "W/rollout/0").mkdir(parents=True)
    (tmp_path / "W/rollout/0/rollouts.jsonl").write_text("A\n")
    command = (ROOT / "launch/pipeline.sh", "--checkpoint=C", "--problems=p", f"--workdir={tmp_path / 'W'}")
    (tmp_path / "libra.sft").touch()
    assert "sft was stopped before its end" in shell(*command, status=143, LIBRA=str(tmp_path / "libra"))[1]
    assert (tmp_path / "libra.calls").read_text().split()[-1] == "sft"
    (tmp_path / "libra.sft").unlink()
    shell(*command, LIBRA=str(tmp_path / "libra"))
    assert (tmp_path / "libra.calls").read_text().split()[-2:] == ["judge", "bench"]


@pytest.mark.parametrize("flags, message", [
    (["--chekpoint=C"], "'--chekpoint=C' is not known"), (["--checkpoint=C"], "--problems is needed"),
    (["--checkpoint=C", "--problems=p", "--workdir=W", "--policies=x/A,y/A"], "two folders are named 'A'"),
])
def test_mistakes_of_the_pipeline_are_named(shell, flags, message):
    assert message in shell(ROOT / "launch/pipeline.sh", *flags, "--dry_run", status=2)[1]
