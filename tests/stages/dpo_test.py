import dataclasses
import math

import jax
import numpy as np
import pytest

from libra_jax import records
from libra_jax.learning import looks
from libra_jax.model import hf, transformer
from libra_jax.model.lora import LoraConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.records import PreferencePair
from libra_jax.stages import dpo
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


@pytest.fixture
def config(tmp_path, tiny_checkpoint):
    pairs = [PreferencePair(problem_id=f"p{n}", question=f"{n}+1?", chosen=f"yes {n + 1}", chosen_score=1.0,
                            rejected=f"no, {n}!" * (n % 3 + 1), rejected_score=0.0) for n in range(11)]
    records.write(tmp_path / "pairs.jsonl", pairs)
    return dpo.Config(pairs=str(tmp_path / "pairs.jsonl"), checkpoint=tiny_checkpoint, template="miniature",
                      sequence_length=128, batch_size=8,
                      train=training.TrainConfig(num_steps=8, save_every=0,
                                                 optimizer=OptimizerConfig(learning_rate=3e-3)))


def test_the_margin_grows_from_nothing(config, tmp_path):
    summary = dpo.run(config, tmp_path / "out")
    rows = metrics.read(tmp_path / "out" / "metrics.jsonl")
    # The policy is its own reference at first, whatever program scored it.
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5) and abs(rows[0]["margin"]) < 1e-4
    assert rows[-1]["margin"] > 1 and rows[-1]["accuracy"] == 1.0 and rows[-1]["loss"] < 0.6
    assert summary["pairs"] == 11 and summary["too_long"] == 0 and hf.load(summary["path"])[0].num_layers == 1


def test_the_reference_of_adapters_is_what_they_are_added_to(config, tmp_path):
    train = dataclasses.replace(config.train, optimizer=OptimizerConfig(learning_rate=1e-2), lora=LoraConfig(rank=2))
    dpo.run(dataclasses.replace(config, train=train), tmp_path)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5) and abs(rows[0]["margin"]) < 1e-4
    assert rows[-1]["margin"] > 1 and rows[-1]["accuracy"] == 1.0


def test_spreading_layers_or_rows_over_devices_changes_nothing(config, tmp_path):
    ends = []
    for name, mesh in (("layers", meshes.MeshConfig(data=1, fsdp=1, tensor=8)), ("rows", meshes.MeshConfig())):
        train = dataclasses.replace(config.train, num_steps=2, mesh=mesh)
        dpo.run(dataclasses.replace(config, train=train), tmp_path / name)
        ends.append(metrics.read(tmp_path / name / "metrics.jsonl"))
    assert ends[0][0]["grad_norm"] == pytest.approx(ends[1][0]["grad_norm"], rel=1e-4)
    assert ends[0][1]["loss"] == pytest.approx(ends[1][1]["loss"], abs=1e-4)


def test_masked_sums_are_of_the_response_alone(tiny_checkpoint):
    model, params = hf.load(tiny_checkpoint)
    rows = {"tokens": np.array([[[1, 2, 3, 4], [1, 2, 5, 0]]]), "segment_ids": np.array([[[1] * 4, [1, 1, 1, 0]]]),
            "loss_mask": np.array([[[False, False, True, True], [False, False, True, False]]])}
    def logits(*tokens):
        given = np.array([tokens])
        return jax.nn.log_softmax(transformer.apply(model, params, given, positions=np.arange(len(tokens))[None])[0])

    wanted = [[logits(1, 2)[-1][3] + logits(1, 2, 3)[-1][4], logits(1, 2)[-1][5]]]
    np.testing.assert_allclose(dpo.summed(model, params, rows), wanted, rtol=1e-5)


def test_pairs_that_do_not_fit_are_counted(config, tmp_path):
    with open(config.pairs, "a", encoding="utf-8") as lines:
        lines.write('{"problem_id": "x"}\n')
        lines.write(records.to_json(PreferencePair(problem_id="long", question="?", chosen="a" * 200, rejected="b",
                                                   chosen_score=1.0, rejected_score=0.0)) + "\n")
    train = dataclasses.replace(config.train, num_steps=1)
    summary = dpo.run(dataclasses.replace(config, train=train), tmp_path / "out")
    assert (summary["pairs"], summary["too_long"], summary["broken_lines"]) == (11, 1, 1)
    with pytest.raises(ValueError, match=r"share=0\.01 of 12 pairs: expected above 0, up to 1, and at least one"):
        dpo.run(dataclasses.replace(config, share=0.01), tmp_path / "none")
    with pytest.raises(ValueError, match="no pair of at most sequence_length=4 tokens"):
        dpo.run(dataclasses.replace(config, sequence_length=4), tmp_path / "short")


@pytest.fixture
def watched(config, tmp_path):
    """Of other problems, half of whose pairs are ordered as those that are trained on and half the other way round."""
    def pair(n):
        texts = (f"yes {n + 1}", f"no, {n}!")[::-1 if n % 2 else 1]
        return PreferencePair(problem_id=f"h{n}", question=f"{n}+1?", chosen=texts[0], chosen_score=1.0,
                              rejected=texts[1], rejected_score=0.0)

    records.write(tmp_path / "held_out.jsonl", [pair(n) for n in range(14)])
    return dataclasses.replace(config, held_out=str(tmp_path / "held_out.jsonl"),
                               watch=looks.WatchConfig(every=3, num_examples=10))


def test_held_out_pairs_are_watched_and_change_nothing(config, watched, tmp_path, capsys):
    summary = dpo.run(watched, tmp_path / "watched")
    rows = {row["step"]: row for row in metrics.read(tmp_path / "watched/metrics.jsonl")}
    looks = [step for step, row in rows.items() if "held_out_margin" in row]
    assert looks == [0, 3, 6, 8]
    assert rows[0]["held_out_accuracy"] == 0.5 and rows[0]["held_out_margin"] == 0.0
    assert rows[0]["held_out_loss"] == pytest.approx(math.log(2)) != rows[8]["held_out_loss"]
    assert summary["held_out_accuracy"] == rows[8]["held_out_accuracy"] > 0
    assert "dpo: step 0/8: held_out_accuracy 50.0% +- 0.0%, held_out_margin 0" in capsys.readouterr().err
    assert "held_out_margin" in (tmp_path / "watched/curves.svg").read_text()
    dpo.run(config, tmp_path / "plain")
    assert not (tmp_path / "plain/curves.svg").exists()
    for name in ("model.safetensors", "config.json"):
        files = [(tmp_path / folder / "export" / name).read_bytes() for folder in ("watched", "plain")]
        assert files[0] == files[1]
    plain = {row["step"]: row for row in metrics.read(tmp_path / "plain/metrics.jsonl")}
    assert all(plain[step] == {name: value for name, value in rows[step].items() if not name.startswith("held_out")}
               for step in range(1, 9))


def test_the_watch_of_held_out_pairs_may_end_a_run_on_a_share_of_the_pairs(watched, tmp_path):
    pairs = list(records.read(watched.held_out, PreferencePair))
    records.write(watched.held_out, [pair for n, pair in enumerate(pairs) if n % 2])  # all the other way round
    watch = looks.WatchConfig(every=1, patience=2)
    summary = dpo.run(dataclasses.replace(watched, watch=watch, share=0.5), tmp_path / "out")
    assert summary["pairs"] == 6  # the first half of eleven
    assert summary["stopped"].startswith("after step 2/8: held_out_accuracy was best after step 0 (50.0%)")
    assert summary["held_out_margin"] < 0 and hf.load(summary["path"])[0].num_layers == 1


@pytest.mark.parametrize("change, message", [
    ({"watch": looks.WatchConfig(num_samples=2)}, r"watch\.num_samples=2: DPO draws nothing"),
    ({"watch": looks.WatchConfig(thoughts=2)}, r"watch\.thoughts=2: DPO draws nothing"),
    ({"watch": looks.WatchConfig(patience=2), "held_out": ""}, r"watch\.patience=2 without held_out"),
    ({"sequence_length": 96}, r"held_out\.jsonl: no pair of at most sequence_length=96 tokens"),
    ({"held_out": "pairs"}, r"11 of its problems are trained on too, such as 'p0'; hold out pairs of other problems"),
])
def test_a_watch_that_cannot_be_is_refused(watched, tmp_path, change, message):
    if change.get("held_out") == "pairs":
        change = {"held_out": watched.pairs}
    if "sequence_length" in change:
        records.write(watched.held_out, [PreferencePair(problem_id="h", question="?", chosen="a" * 200, rejected="b",
                                                        chosen_score=1.0, rejected_score=0.0)])
    with pytest.raises(ValueError, match=message):
        dpo.run(dataclasses.replace(watched, **change), tmp_path / "out")
