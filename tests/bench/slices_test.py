"""Slices: who belongs where, and accuracy there by hand."""

import pytest

from libra_jax.bench import score, slices
from libra_jax.bench.significance import Bootstrap
from libra_jax.bench.slices import SliceConfig
from libra_jax.records import Judgement, JudgingExample

POLICIES = ["Qwen3-8B", "qwen3-32b", "DeepSeek-R1", "QwQ-32B"]


def examples(count=8):
    return [JudgingExample(id=f"{n}", problem_id=f"{n // 4}", question="q", response="r" * (n + 1),
                           correct=n in (0, 4, 5, 6), policy=POLICIES[n % 4], source="s") for n in range(count)]


def places(config=None, **known):
    return {each.kind: dict(zip(each.names, ([n for n, at in enumerate(each.places) if at == place]
                                             for place in range(len(each.names))), strict=True))
            for each in slices.divide(examples(), config or SliceConfig(), **known)}


def test_families_are_patterns_of_policy_names():
    found = places(SliceConfig(trained_on=("Qwen3-*", "deepseek-r?")))
    assert found["policy family"] == {"in training": [0, 1, 2, 4, 5, 6], "outside": [3, 7]}
    assert found["policy"]["QwQ-32B"] == [3, 7] and found["source"] == {"s": list(range(8))}
    assert "policy family" not in places() and "policy family" not in places(SliceConfig(trained_on=("*",)))


def test_families_come_from_a_file_too(tmp_path):
    (tmp_path / "families.txt").write_text("qwen3-*\n\nQwQ*\n")
    found = places(SliceConfig(trained_on=(f"@{tmp_path / 'families.txt'}",)))
    assert found["policy family"]["outside"] == [2, 6]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="no families"):
        places(SliceConfig(trained_on=(f"@{tmp_path / 'empty.txt'}",)))
    with pytest.raises(FileNotFoundError):
        places(SliceConfig(trained_on=("@nowhere",)))


def test_bands_of_length_are_of_equal_mass_and_keep_equal_lengths_together():
    assert places(SliceConfig(length_bands=2))["response length"] == {
        "1 to 4 characters": [0, 1, 2, 3], "5 to 8 characters": [4, 5, 6, 7]}
    assert "response length" not in places(SliceConfig(length_bands=0))
    same = [JudgingExample(id=f"{n}", problem_id="p", question="q", response="rr" if n < 6 else "rrr", correct=True,
                           policy="p", source="s") for n in range(8)]
    (length,) = [each for each in slices.divide(same) if each.kind == "response length"]
    assert length.names == ("2 to 2 characters", "3 to 3 characters") and length.places == (0,) * 6 + (1,) * 2
    with pytest.raises(ValueError, match="length_bands=-1"):
        SliceConfig(length_bands=-1)


def test_difficulty_is_the_share_of_right_responses_or_what_more_responses_say():
    assert places()["difficulty"] == {"hard: up to 1/3 right": [0, 1, 2, 3], "easy: over 2/3 right": [4, 5, 6, 7]}
    told = places(shares=slices.right_shares([("0", True), ("0", True), ("0", None), ("1", False)]))
    assert told["difficulty"] == {"hard: up to 1/3 right": [4, 5, 6, 7], "middle": [0, 1, 2, 3]}
    assert "difficulty" not in places(shares={"0": 0.5})  # one slice divides nothing


def test_levels_are_the_sources_own():
    assert places(levels={"0": "Level 5", "1": "Level 1"})["level"] == {
        "Level 1": [4, 5, 6, 7], "Level 5": [0, 1, 2, 3]}
    assert "level" not in places(levels={"0": "Level 5"}) and "level" not in places()


def test_accuracy_and_gap_by_hand():
    some = examples()
    right = [1, 1, 1, 0, 1, 0, 1, 0]
    judged = [Judgement(example_id=f"{n}", judge="j", sample=0, thought="", num_tokens=1,
                        verdict="correct" if each.correct == bool(right[n]) else "incorrect")
              for n, each in enumerate(some)]
    divided = slices.divide(some, SliceConfig(trained_on=("qwen3*",)))
    found = {each.kind: each for each in slices.measure(score.tabulate(some, judged), divided, Bootstrap())}
    family = found["policy family"]
    assert [(each.name, each.num_examples, each.accuracy.value) for each in family.slices] == [
        ("in training", 4, 3 / 4), ("outside", 4, 2 / 4)]
    assert family.gap.value == pytest.approx(1 / 4) and family.gap.low <= 1 / 4 <= family.gap.high
    assert found["policy"].gap is None
    whole = score.evaluate("j", some, judged)
    assert {each.name: each.accuracy for each in found["policy"].slices} == {
        name: estimate for name, (_, estimate) in whole.by_policy.items()}
