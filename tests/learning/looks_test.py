"""What is seen of a run of RL: the held-out slice, when it is enough, the curves, and the pages of thoughts."""

import dataclasses
import pathlib
import types
import xml.etree.ElementTree

import numpy as np
import pytest

from libra_jax import records
from libra_jax.judges import model as judges
from libra_jax.judging.prompt import load_template
from libra_jax.learning import groups, looks, thoughts
from libra_jax.miniature import arithmetic
from libra_jax.records import JudgingExample
from libra_jax.sampling.engine import Sample, SamplingConfig
from libra_jax.stages import rl
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics, watching
from libra_jax.train import run as training

MINIATURE = pathlib.Path(arithmetic.__file__).parent / "checkpoint"


def examples(*names, correct=True):
    return [JudgingExample(id=f"{name}/{n}", problem_id=name, question=f"What is {n}+1?", correct=correct and not wrong,
                           response=f"A: {n + 1 + wrong}", policy="p", source="s")
            for name in names for n, wrong in ((3, 0), (4, 1))]


@pytest.fixture
def reader(tiny_checkpoint):
    return judges.ModelJudge(config=judges.ModelJudgeConfig(), model_config=None, params=None,
                             tokenizer=tokenizers.load(tiny_checkpoint), template=load_template("miniature"))


@pytest.fixture
def config(tmp_path, tiny_checkpoint):
    """RL on problems a and b, held out are c, d and e."""
    for name, some in (("train", examples("a", "b")), ("held", examples("c", "d", "e"))):
        records.write(tmp_path / f"{name}.jsonl", some)
    return rl.Config(checkpoint=tiny_checkpoint, template="miniature", groups=4, redraws=0, prompt_length=200,
                     examples=str(tmp_path / "train.jsonl"), held_out=str(tmp_path / "held.jsonl"),
                     sampling=SamplingConfig(num_samples=4, max_new_tokens=40, batch_size=16),
                     train=training.TrainConfig(num_steps=2, save_every=0))


def test_accuracy_and_its_error_by_hand():
    found = looks.score(examples("a", "b"), [0, 1, 2, 3], ["correct", "incorrect", "incorrect", "unparsed"],
                          [10, 20, 30, 40])
    assert found == {"held_out_accuracy": 0.5, "held_out_accuracy_stderr": 0.5, "held_out_unparsed": 0.25,
                     "held_out_tokens": 25.0}  # one problem is all right and the other all wrong
    mixed = looks.score(examples("a", "b"), [0, 1, 2, 3], ["correct", "correct"] * 2, [1] * 4)
    assert mixed["held_out_accuracy"] == 0.5 and mixed["held_out_accuracy_stderr"] == 0.0
    single = looks.score(examples("a"), [0, 1], ["correct", "unparsed"], [1, 1])
    assert "held_out_accuracy_stderr" not in single


def test_the_error_is_that_of_drawing_problems_again():
    chance, errors, means = np.random.default_rng(0), [], []
    for _ in range(400):
        rights = chance.random(40) < 0.7  # a problem's two judgements go together
        verdicts = [("correct", "incorrect")[place % 2] if rights[place // 2] else "unparsed" for place in range(80)]
        found = looks.score(examples(*map(str, range(40))), range(80), verdicts, [1] * 80)
        errors.append(found["held_out_accuracy_stderr"])
        means.append(found["held_out_accuracy"])
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_the_slice_is_fixed_and_of_other_problems(config, reader, tmp_path):
    def chosen(some=(), **changes):
        how = {name: changes.pop(name) for name in ("num_examples", "patience") if name in changes}
        changed = dataclasses.replace(config, watch=looks.WatchConfig(**how), **changes)
        trained = {each.problem_id for each in some}
        return [each.id for each in looks.slice_of(changed.held_out, changed.watch, trained, reader, tmp_path,
                                                   longest=changed.prompt_length)]

    assert sorted(chosen()) == ["c/3", "c/4", "d/3", "d/4", "e/3", "e/4"]
    assert chosen(num_examples=4) == chosen()[:4] and chosen(held_out="") == []
    with pytest.raises(ValueError, match="1 of its problems are trained on too, such as 'd'; hold out"):
        chosen(examples("a", "d"))
    with pytest.raises(ValueError, match=r"held.jsonl: no prompt of at most 3 tokens"):
        chosen(prompt_length=3)
    with pytest.raises(ValueError, match=r"watch.patience=2 without held_out"):
        chosen(held_out="", patience=2)
    records.write(tmp_path / "held.jsonl", [dataclasses.replace(examples("c")[0], correct=None)])
    with pytest.raises(ValueError, match="'c/3' has no label; accuracy needs one"):
        chosen()
    with pytest.raises(ValueError, match="num_examples=0"):
        chosen(num_examples=0)


@pytest.mark.parametrize("accuracies, patience, ends", [
    ([0.5, 0.6, 0.6, 0.55], 2, True), ([0.5, 0.6, 0.6, 0.55], 3, False), ([0.5, 0.6, 0.6, 0.61], 2, False),
    ([0.5, 0.4], 1, True), ([0.5], 1, False), ([0.5, 0.4, 0.3, 0.2], 0, False)])
def test_when_it_is_enough(accuracies, patience, ends):
    rows = [{"step": 10 * place, looks.ACCURACY: value} for place, value in enumerate(accuracies)]
    last = rows.pop()
    rows.insert(1, {"step": 5, "reward": 1.0})
    why = looks.exhausted(rows, last["step"], last, patience)
    assert bool(why) == ends and (not ends or f"best after step {10 * np.argmax(accuracies)} (" in why)


def test_a_look_draws_with_the_same_seeds_and_ends_the_run_when_it_is_enough(config, reader, tmp_path):
    asked = []

    def sample(prompts, sampling, *, ids):
        asked.append((prompts, sampling, ids))
        text = reader.tokenizer.encode(" </think> incorrect")
        return [Sample(place, 0, np.array(text), np.zeros(len(text)), "stop") for place in range(len(prompts))]

    config = dataclasses.replace(config, watch=looks.WatchConfig(every=5, num_samples=3, seed=9, patience=1))
    look = looks.watch(config.watch, config.sampling, examples("c"), reader, tmp_path)
    found = look(types.SimpleNamespace(step=0, rows=(), sample=sample))
    assert found["held_out_unparsed"] == 1.0  # plain text closes no thought
    with pytest.raises(watching.Enough, match=r"best after step 0 .* in 1 looks since") as enough:
        look(types.SimpleNamespace(step=5, rows=({"step": 0, **found},), sample=sample))
    assert enough.value.metrics == found and asked[0] == asked[1]
    prompts, sampling, ids = asked[0]
    assert sampling == dataclasses.replace(config.sampling, num_samples=3, seed=9)
    assert prompts == [reader.prompt(each) for each in examples("c")] and ids == [judges.stable_id("c/3"),
                                                                                judges.stable_id("c/4")]


def test_nothing_is_watched_by_default(config, reader, tmp_path):
    plain = dataclasses.replace(config, held_out="")
    assert looks.watch(plain.watch, plain.sampling, [], reader, tmp_path) is None
    assert thoughts.show(plain, [], reader, tmp_path) is None


def test_the_curves_are_a_picture_and_the_same_for_the_same_rows(tmp_path):
    rows = [{"step": step, "reward": step / 9, "grad_norm": float("nan"), "draws": 1.0} for step in range(1, 9)]
    rows[3] |= {"held_out_accuracy": 0.5, "held_out_accuracy_stderr": 0.1}
    looks.draw(tmp_path, rows)
    first = (tmp_path / "curves.svg").read_bytes()
    assert xml.etree.ElementTree.fromstring(first).tag.endswith("svg")
    looks.draw(tmp_path, rows)
    assert (tmp_path / "curves.svg").read_bytes() == first
    looks.draw(tmp_path, rows[:2])
    assert (tmp_path / "curves.svg").read_bytes() != first


def test_a_page_at_each_look_of_groups_that_train(config, reader, tmp_path):
    train = training.TrainConfig(num_steps=7)
    config = dataclasses.replace(config, train=train, watch=looks.WatchConfig(every=3, thoughts=1))
    show = thoughts.show(config, examples("a", "b"), reader, tmp_path)
    close = reader.tokenizer.control("</think>")
    spoken = [reader.tokenizer.encode("so it is"), [*reader.tokenizer.encode("no <b>"), close,
                                                    *reader.tokenizer.encode("Verdict: incorrect")]]
    samples = [Sample(0, n, np.array(text), np.zeros(len(text)), "stop") for n, text in enumerate(spoken)]
    some = [groups.Group((1,), samples, np.array([0.0, 1.0], np.float32), 3)] * 2
    for step in range(1, 8):
        show(step, some)
    pages = {path.name: path.read_text() for path in (tmp_path / "thoughts").iterdir()}
    assert sorted(pages) == ["step-000001.html", "step-000003.html", "step-000006.html", "step-000007.html"]
    page = pages["step-000003.html"]
    assert "b/4" in page and "label: incorrect" in page and "1 of the 2 groups" in page
    assert "reward 0.000, advantage -1.000" in page and "reward 1.000, advantage +1.000" in page
    assert "✗ unparsed" in page and "✓ incorrect" in page and "no &lt;b&gt;" in page and "so it is" in page
    show(3, [groups.Group((1,), samples, np.array([0.0, 1.0], np.float32), 4, 1), *some])  # of another kind
    assert (tmp_path / "thoughts" / "step-000003.html").read_text() == page
    show(3, [])
    assert "0 of the 0 groups" in (tmp_path / "thoughts" / "step-000003.html").read_text()


def test_the_slice_is_judged_as_libra_judge_does(config, tmp_path):
    """On the miniature, which answers; the last look and a judge of the export agree."""
    config = dataclasses.replace(config, checkpoint=str(MINIATURE),
                                 watch=looks.WatchConfig(num_samples=2, thoughts=2))
    summary = rl.run(config, tmp_path / "out")
    rows = metrics.read(tmp_path / "out" / "metrics.jsonl")
    assert [row["step"] for row in rows if "held_out_accuracy" in row] == [0, 2]
    sampling = dataclasses.replace(config.sampling, num_samples=2)
    judge = judges.load(tmp_path / "out" / "export", judges.ModelJudgeConfig(sampling=sampling),
                        load_template("miniature"))
    some = examples("c", "d", "e")
    said = list(judge.judge(some))
    labels = {each.id: "correct" if each.correct else "incorrect" for each in some}
    assert summary["held_out_accuracy"] == np.mean([each.verdict == labels[each.example_id] for each in said])
    assert summary["held_out_tokens"] == np.mean([each.num_tokens for each in said]) > 5
    assert (tmp_path / "out" / "curves.svg").exists()
    assert sorted(path.name for path in (tmp_path / "out" / "thoughts").iterdir()) == ["step-000001.html",
                                                                                      "step-000002.html"]
