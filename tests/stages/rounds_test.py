"""Rounds of rejection sampling: what each round reads, what it trains on, and that a killed run goes on."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.judges import model
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.sampling.rejection import RejectionConfig
from libra_jax.stages import chain, judge, reject, rounds, sft
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

# How many of four judgements of t0, t1, t2 are right, by the judge; the other verdicts are the opposite.
RIGHT = {"base": (1, 0, 0), "round 1": (4, 2, 0), "round 2": (4, 4, 1)}
MESH = meshes.MeshConfig(data=1, fsdp=8)


def thought(judge, example, sample):
    """The first judgement of t0 has the same thought in every round; all others differ."""
    return "the same" if (example, sample) == ("t0", 0) else f"{judge} {example} {sample}"


@pytest.fixture
def config(tmp_path, tiny_checkpoint, monkeypatch):
    for name in ("t", "b"):
        records.write(tmp_path / f"{name}.jsonl", [
            JudgingExample(id=f"{name}{n}", problem_id=f"{name}{n}", question=f"{n}?", response="r", correct=n != 1,
                           policy="p", source="s") for n in range(3)])

    def verdicts(self, examples, *, skip=0):
        """A random model never gives a verdict. On the bench only b0 tells the judges apart."""
        words = {True: "correct", False: "incorrect"}
        rows = [Judgement(example_id=each.id, judge=self.name, sample=sample, num_tokens=9,
                          thought=thought(self.name, each.id, sample),
                          verdict=words[each.correct is (sample < RIGHT[self.name][int(each.id[1])])])
                for each in examples for sample in range(self.config.sampling.num_samples)]
        return iter(rows[skip:])

    monkeypatch.setattr(model.ModelJudge, "judge", verdicts)
    return rounds.Config(
        checkpoint=tiny_checkpoint, examples=str(tmp_path / "t.jsonl"), bench=str(tmp_path / "b.jsonl"),
        template="miniature",
        reject=reject.Config(sampling=SamplingConfig(num_samples=4), mesh=MESH,
                             rejection=RejectionConfig(max_per_example=9, easy_per_example=9, easy_fraction=1.0)),
        sft=sft.Config(sequence_length=192, batch_size=8, train=training.TrainConfig(num_steps=1, save_every=0)),
        judge=judge.Config(sampling=SamplingConfig(num_samples=2), mesh=MESH))


@pytest.fixture
def tunings(monkeypatch):
    """Stands for SFT: notes its configs, and exports the same weights with a note of what they were trained on."""
    seen = []

    def run(config, workdir):
        seen.append(config)
        if not (workdir / "export").exists():
            shutil.copytree(config.checkpoint, workdir / "export")
            note = workdir / "export/note.json"
            note.write_text(json.dumps([runs.fingerprint(pathlib.Path(config.checkpoint)),
                                        runs.fingerprint(pathlib.Path(config.kept))]))
            (workdir / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')

    monkeypatch.setattr(sft, "run", run)
    return seen


def kept(path):
    return [(each.judge, each.example_id, each.sample) for each in records.read(path, Judgement)]


def test_each_round_judges_with_the_judge_before_it_and_trains_it_on(config, tunings, tmp_path):
    out = tmp_path / "out"
    result = rounds.run(config, out)
    assert [each.checkpoint for each in tunings] == [config.checkpoint, str(out / "round_1/sft/export")]
    assert [each.kept for each in tunings] == [str(out / f"round_{n}/kept.jsonl") for n in (1, 2)]
    assert [each.train.seed for each in tunings] == [0, 1] and tunings[0].template == "miniature"
    assert kept(tunings[0].kept) == [("base", "t0", 0)]
    assert kept(tunings[1].kept) == [("round 1", "t0", n) for n in range(4)] + [("round 1", "t1", n) for n in (0, 1)]
    notes = [json.loads((out / f"round_{n}/reject/judgements.jsonl.config.json").read_text()) for n in (1, 2)]
    assert [note["sampling"]["seed"] for note in notes] == [0, 1]
    first, second = result["rounds"][1:]
    counts = ("judgements", "right", "kept", "trained_on", "never_right", "never_right_so_far")
    assert [first[name] for name in counts] == [12, 1, 1, 1, 2, 2]
    assert [second[name] for name in counts] == [12, 6, 6, 6, 1, 1]
    assert result["never_right"] == ["t2"]  # for RL
    # Two votes of the bench's three examples: base is right in 1 of 6, round 1 in 4, round 2 in 5.
    assert [row["accuracy"]["value"] for row in result["rounds"]] == pytest.approx([1 / 6, 4 / 6, 5 / 6])
    assert second["gain"]["value"] == pytest.approx(1 / 6)
    assert json.loads((out / "rounds.json").read_text()) == result
    assert (out / "bench/report.html").exists()
    rows = rounds.table(result).rows
    assert rows[0][:2] == (0, "") and rows[2][:6] == (2, "50.0%", 6, 6, 1, 1)
    assert rows[2][6].startswith("83.3%") and rows[2][7].startswith("+16.7%")


def test_from_the_base_a_round_trains_on_what_is_kept_of_all_rounds_so_far(config, tunings, tmp_path):
    result = rounds.run(dataclasses.replace(config, start="base"), tmp_path / "out")
    assert [each.checkpoint for each in tunings] == [config.checkpoint] * 2
    assert kept(tunings[1].kept) == ([("base", "t0", 0)] + [("round 1", "t0", n) for n in (5, 6, 7)]
                                     + [("round 1", "t1", n) for n in (4, 5)])  # one thought was there before
    assert [row["trained_on"] for row in result["rounds"][1:]] == [1, 6]
    assert [row["kept"] for row in result["rounds"][1:]] == [1, 6]


@pytest.mark.parametrize("dies", ["reject", "judge", "sft"])
def test_a_killed_run_goes_on_to_the_same_bytes(config, tunings, tmp_path, monkeypatch, dies):
    rounds.run(config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if dies == "sft":
            run = sft.run

            def tune(config, workdir):
                if "round_2" in str(workdir):
                    raise KeyboardInterrupt
                run(config, workdir)

            patch.setattr(sft, "run", tune)
        else:
            verdicts = model.ModelJudge.judge

            def some(self, examples, *, skip=0):
                """Dies in the midst of judging in round 2, or of measuring it."""
                for number, each in enumerate(verdicts(self, examples, skip=skip)):
                    if number == 3 and (each.judge, each.example_id[0]) == (
                            ("round 1", "t") if dies == "reject" else ("round 2", "b")):
                        raise KeyboardInterrupt
                    yield each

            patch.setattr(model.ModelJudge, "judge", some)
        rounds.run(config, tmp_path / "killed")
    rounds.run(config, tmp_path / "killed")
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.json*"))
    assert len(files) > 20
    for file in files:
        if file.name != "summary.json":  # which has its own path
            assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_real_training_and_a_larger_number_goes_on_from_the_rounds_that_are_there(config, tmp_path):
    out = tmp_path / "out"
    one = rounds.run(dataclasses.replace(config, rounds=1), out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    two = rounds.run(config, out)
    assert len(before) == 1 and all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert two["rounds"][1]["trained_on"] == one["rounds"][1]["trained_on"] == 1
    folders = (pathlib.Path(config.checkpoint), out / "round_1/sft/export", out / "round_2/sft/export")
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 3
    with pytest.raises(ValueError, match=r"round_2/sft/export was made with .*; use another --workdir"):
        rounds.run(dataclasses.replace(config, start="base"), out)


@pytest.mark.parametrize("change, message", [
    ({"bench": ""}, r"--config\.bench is empty"),
    ({"rounds": 0}, "rounds=0: expected at least 1"),
    ({"sft": sft.Config(kept="k.jsonl")}, r"--config\.sft\.kept='k\.jsonl': this stage sets it itself"),
    ({"reject": reject.Config(template="miniature")}, r"--config\.reject\.template='miniature': this stage"),
    ({"sft": sft.Config(batch_size=6)}, r"sft\.batch_size=6: expected a multiple of 8"),
    ({"sft": sft.Config(train=training.TrainConfig(num_steps=2, optimizer=OptimizerConfig(warmup_steps=3)))},
     "warmup_steps=3"),
    ({"reject": reject.Config(rejection=RejectionConfig(easy_fraction=2.0))}, r"easy_fraction=2\.0: expected a share"),
    ({"judge": judge.Config(judge="endpoint")}, r"--config\.judge\.judge='endpoint': this stage")])
def test_settings_that_cannot_be_are_refused(config, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        rounds.run(dataclasses.replace(config, **change), tmp_path / "out")
    assert not pathlib.Path(tmp_path / "out").exists()


def test_the_config_file_of_the_miniature_does_in_each_round_what_the_demo_does():
    made = configs.load(str(pathlib.Path(__file__).parents[2] / "configs/miniature_rounds.py"), rounds.Config)
    tuned = dataclasses.replace(made.sft, checkpoint=made.checkpoint, template=made.template)
    assert tuned == chain.sft_config(chain.Sizes(), chain.CHECKPOINT, "", "")
    assert made.reject.rejection == chain.REJECTION
    for sampling, number in ((made.reject.sampling, 4), (made.judge.sampling, 2)):
        assert sampling == chain.sampling(number, 0)
