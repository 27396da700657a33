import collections
import dataclasses
import json
import pathlib
import random

import jax
import pytest

from libra_jax import miniature, records
from libra_jax.judges import model
from libra_jax.miniature import arithmetic
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.sampling.rejection import RejectionConfig
from libra_jax.stages import judge, reject

WORDS = {"e0": "correct correct incorrect unparsed", "e1": "correct correct correct correct",
         "e2": "correct correct correct correct"}


@pytest.fixture
def config(tmp_path, tiny_checkpoint, monkeypatch):
    examples = [JudgingExample(id=f"e{number}", problem_id="p", question="q", response="r", correct=number != 1,
                               policy="p", source="s") for number in range(3)]
    records.write(tmp_path / "examples.jsonl", examples)

    def verdicts(self, examples, *, skip=0):
        rows = [Judgement(example_id=each.id, judge=self.name, sample=sample, thought=f"{sample}", verdict=word,
                          num_tokens=9 - sample)
                for each in examples for sample, word in enumerate(WORDS[each.id].split())]
        return iter(rows[skip:])

    monkeypatch.setattr(model.ModelJudge, "judge", verdicts)  # a random model never gives a verdict
    return reject.Config(examples=str(tmp_path / "examples.jsonl"), checkpoint=tiny_checkpoint, template="miniature",
                         sampling=SamplingConfig(num_samples=4), rejection=RejectionConfig(easy_fraction=1.0))


def test_keeps_what_is_right_and_says_what_never_was(config, tmp_path):
    summary = reject.run(config, tmp_path / "out")
    assert len(list(records.read(tmp_path / "out" / "judgements.jsonl", Judgement))) == 12
    kept = list(records.read(tmp_path / "out" / "kept.jsonl", Judgement))
    assert [(row.example_id, row.sample) for row in kept] == [("e0", 0), ("e0", 1), ("e2", 3)]
    counts = json.loads((tmp_path / "out" / "rejection.json").read_text(encoding="utf-8"))
    assert counts["never_right"] == ["e1"] and counts["kept"] == 3 and counts["unparsed"] == 1
    assert summary["never_right"] == 1 and summary["always_right"] == 1


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(config, tmp_path):
    reject.run(config, tmp_path / "whole")
    killed = tmp_path / "killed"
    killed.mkdir()
    lines = (tmp_path / "whole" / "judgements.jsonl").read_bytes().splitlines(keepends=True)
    (killed / "judgements.jsonl.partial").write_bytes(b"".join(lines[:7]) + b"{")
    reject.run(config, killed)
    for name in ("judgements.jsonl", "kept.jsonl", "rejection.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_mesh_and_the_dtype_reach_the_judge(config, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(judge, "judge_file", lambda config, workdir: given.append(config) or 1 / 0)
    mesh = meshes.MeshConfig(data=2, fsdp=4)
    with pytest.raises(ZeroDivisionError):
        reject.run(dataclasses.replace(config, mesh=mesh, compute_dtype="bfloat16"), tmp_path)
    assert (given[0].mesh, given[0].compute_dtype) == (mesh, "bfloat16")


def test_another_selection_draws_nothing_again(config, tmp_path, monkeypatch):
    reject.run(config, tmp_path)
    monkeypatch.delattr(model.ModelJudge, "judge")
    again = dataclasses.replace(config, rejection=RejectionConfig(max_per_example=1, easy_fraction=0.0))
    assert reject.run(again, tmp_path)["kept"] == 1
    with pytest.raises(ValueError, match="num_samples"):
        reject.run(dataclasses.replace(config, sampling=SamplingConfig(num_samples=5)), tmp_path)


def test_enough_right_judgements_stop_the_drawing_and_are_the_first_of_a_whole_run(tmp_path):
    random_texts = random.Random(0)
    examples = []
    for number, problem in enumerate(arithmetic.problems(7, 12)):
        text, right = arithmetic.solution(problem.question, random_texts, slip=0.2)
        examples.append(JudgingExample(id=f"e{number}", problem_id=problem.id, question=problem.question, response=text,
                                       correct=right, policy="p", source="s"))
    records.write(tmp_path / "examples.jsonl", examples)
    checkpoint = pathlib.Path(miniature.__file__).parent / "checkpoint"
    whole = reject.Config(examples=str(tmp_path / "examples.jsonl"), checkpoint=str(checkpoint), template="miniature",
                          mesh=meshes.MeshConfig(data=1, fsdp=1),
                          sampling=SamplingConfig(num_samples=6, max_new_tokens=64, batch_size=16))
    one = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: one)  # so that bits are those of one device
        reject.run(whole, tmp_path / "whole")
        enough = dataclasses.replace(whole, enough=2)
        reject.run(enough, tmp_path / "enough")
        killed = tmp_path / "killed"
        killed.mkdir()
        lines = (tmp_path / "enough" / "judgements.jsonl").read_bytes().splitlines(keepends=True)
        (killed / "judgements.jsonl.partial").write_bytes(b"".join(lines[:7]))
        reject.run(enough, killed)
        assert (killed / "judgements.jsonl").read_bytes() == (tmp_path / "enough" / "judgements.jsonl").read_bytes()
        unlabelled = [dataclasses.replace(example, correct=None) for example in examples]
        records.write(tmp_path / "unlabelled.jsonl", unlabelled)
        with pytest.raises(ValueError, match="no example has a label"):
            reject.run(dataclasses.replace(enough, examples=str(tmp_path / "unlabelled.jsonl")), tmp_path / "none")
        made = judge.make(judge.Config(checkpoint=str(checkpoint), template="miniature", mesh=whole.mesh))
    labels = {example.id: "correct" if example.correct else "incorrect" for example in examples}
    wanted, right = [], collections.Counter()
    for row in records.read(tmp_path / "whole" / "judgements.jsonl", Judgement):
        if right[row.example_id] < 2:
            wanted.append(row)
        right[row.example_id] += row.verdict == labels[row.example_id]
    assert list(records.read(tmp_path / "enough" / "judgements.jsonl", Judgement)) == wanted
    assert len(wanted) < 60  # of 72
    for word in ("correct", "incorrect"):  # what the device looks for is what the host reads
        close = made.tokenizer.control("</think>")
        assert made.read([close, *made.verdict_tokens(word), made.tokenizer.stop_ids[0]])[1] == word
