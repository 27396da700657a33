"""--dry_run of every stage: it names what would be read and written, and nothing is."""

from __future__ import annotations

import re
import shlex

import pytest

from libra_jax.stages import cli

MODEL = "--config.checkpoint=model --config.template=miniature"
SHORT = "--config.sampling.max_new_tokens=64"
RL = ("--config.rl.checkpoint=model --config.rl.template=miniature --config.rl.sampling.max_new_tokens=64 "
      "--config.rl.prompt_length=256")
COMMANDS = {
    "audit": "--config.examples=bench.jsonl --config.judgements=judgements.jsonl",
    "bench": "--config.examples=bench.jsonl --config.judgements=judgements.jsonl",
    "best_of": "--config.problems=problems.jsonl --config.rollouts=verified.jsonl",
    "compare": "--config.examples=bench.jsonl --config.judgements=judgements.jsonl,runs/used",
    "convert": "--config.checkpoint=model",
    "curate": "--config.problems=problems.jsonl --config.rollouts=verified.jsonl",
    "dataset": "--config.inputs=problems.jsonl",
    "demo": "",
    "downstream": "--config.problems=problems.jsonl --config.rollouts=rollouts.jsonl --config.by=majority",
    "dpo": f"{MODEL} --config.pairs=pairs.jsonl",
    "improve": f"--config.problems=problems.jsonl {RL} --config.reward=majority",
    "judge": f"{MODEL} {SHORT} --config.examples=bench.jsonl",
    "miniature": "",
    "paper": "",
    "plan": "--config.model=model",
    "reject": f"{MODEL} {SHORT} --config.examples=bench.jsonl",
    "rl": f"{MODEL} {SHORT} --config.examples=bench.jsonl",
    "rollout": f"{MODEL} {SHORT} --config.problems=problems.jsonl",
    "rounds": f"{MODEL} --config.examples=bench.jsonl --config.bench=bench.jsonl "
              "--config.reject.sampling.max_new_tokens=64",
    "serve": f"{MODEL} {SHORT} --config.service.longest=256",
    "sft": f"{MODEL} --config.examples=bench.jsonl --config.kept=kept.jsonl",
    "verify": "--config.problems=problems.jsonl --config.rollouts=rollouts.jsonl",
}


def everything(folder):
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*"))


@pytest.mark.parametrize("stage", cli.stages())
def test_a_dry_run_says_all_and_writes_nothing(stage, files, monkeypatch, capsys):
    assert stage in COMMANDS, "a stage needs a command here that would run"
    monkeypatch.chdir(files)
    before = everything(files)
    command = f"libra {stage} --workdir=runs/dry {COMMANDS[stage]}".strip()
    status = cli.main(shlex.split(f"{command} --dry_run"))
    said = capsys.readouterr()
    assert status == 0, said.err
    assert everything(files) == before
    assert f"dry run: libra {stage} would read" in said.out and "runs/dry (a new folder)" in said.out
    assert said.out.rstrip().endswith(command)
    for word in COMMANDS[stage].split():
        path = word.partition("=")[2]
        if path.endswith(".jsonl") or path == "model":
            assert path.split(",")[0] in said.out
    assert len(said.out.split("and write to")[1].split("\n")[1].split(", ")) >= 3  # something beside config and log


@pytest.mark.parametrize("stage", ["audit", "bench", "best_of", "compare", "convert", "curate", "dataset",
                                   "downstream", "judge", "verify"])
def test_what_a_dry_run_says_is_written_is_what_the_run_writes(stage, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(files)
    flags = COMMANDS[stage] if stage != "judge" else "--config.examples=bench.jsonl --config.judge=response_length"
    command = f"libra {stage} --workdir={tmp_path / 'w'} {flags}"
    assert cli.main(shlex.split(f"{command} --dry_run")) == 0
    said = capsys.readouterr().out.split("and write to")[1].split("\n")[1].strip().split(", ")
    assert cli.main(shlex.split(command)) == 0
    (wrote,) = re.findall(rf"done in .*: libra {stage} wrote (.*) to {tmp_path}", capsys.readouterr().err)
    assert set(said) == {*wrote.split(", "), "run_config.json", "log.txt"}


@pytest.mark.parametrize(("stage", "change", "message"), [
    ("judge", "--config.examples=verified.jsonl", "expected JSON lines of JudgingExample"),
    ("judge", "--config.examples=notes", "is a folder; expected a file of JudgingExample"),
    ("judge", "--config.examples=empty.jsonl", "is empty; expected JSON lines of JudgingExample"),
    ("judge", "--config.checkpoint=cut", "cut off: tensor 'model.embed_tokens.weight'"),
    ("judge", "--config.checkpoint=tokenless", "no tokenizer at tokenless"),
    ("judge", "--config.checkpoint=wordy", "expected the model's own tokenizer"),
    ("judge", "--config.checkpoint=mute", "the tokenizer is of no known chat family"),
    ("judge", "--config.sampling.max_new_tokens=500", "together expected at most the model's context of 512"),
    ("judge", "--config.mesh.tensor=3", "3 does not divide the number of devices, 8"),
    ("judge", "--workdir=bench.jsonl", "--workdir=bench.jsonl is a file"),
    ("sft", "--config.sequence_length=16", "sequence_length=16; raise it"),
    ("sft", "--config.kept=judgements.jsonl", "give the kept.jsonl of `libra reject`"),
    ("rl", "--config.prompt_length=16", "prompt_length=16; raise it"),
    ("dpo", "--config.batch_size=7", "expected a multiple of 8"),
    ("verify", "--config.rollouts=problems.jsonl", "expected JSON lines of Rollout"),
    ("bench", "--config.examples=judgements.jsonl", "expected JSON lines of JudgingExample"),
])
def test_a_dry_run_finds_what_would_stop_the_run(stage, change, message, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    before = everything(files)
    words = f"libra {stage} --workdir=runs/dry {COMMANDS[stage]} {change} --dry_run"
    assert cli.main(shlex.split(words)) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.endswith("nothing was written\n") and not said.out
    assert everything(files) == before


def test_a_dry_run_names_the_run_that_holds_the_folder(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    monkeypatch.setattr("libra_jax.command.log.holder", lambda workdir: "`libra sft`")
    assert cli.main(shlex.split(f"libra verify --workdir=runs/dry {COMMANDS['verify']} --dry_run")) == 2
    assert "runs/dry is in use by `libra sft`" in capsys.readouterr().err
