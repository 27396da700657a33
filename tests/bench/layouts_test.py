"""Published rows become the examples that they are, by hand; what does not fit is named."""

import pytest

from libra_jax.bench.layouts import LAYOUTS
from libra_jax.records import JudgingExample, RecordError

ROWS = {
    "libra_bench": {"index": 7, "question": "1+1?", "response": "2", "label": 1, "model": "QwQ-32B",
                    "subset": "AIME 2024"},
    "reward_bench_2": {"id": "tied:3", "prompt": "A prime?", "chosen": ["2", "3"], "rejected": ["4"],
                       "models": ["human"], "subset": "Ties"},
    "rm_bench": {"id": 8, "prompt": "Sort.", "chosen": ["a", "aa", "# aa"], "rejected": ["b", "bb", "# bb"],
                 "domain": "code"},
    "judge_bench": {"pair_id": "81ec", "source": "mmlu-pro-law", "question": "Q", "response_model": "gpt-4o",
                    "response_A": "So B.", "response_B": "So C.", "label": "B>A"},
    "process_bench": {"id": "gsm8k-0", "generator": "Qwen2-7B", "problem": "P", "steps": ["one", "two"], "label": 1},
}


def convert(name, **changes):
    row = ROWS[name] | changes
    assert set(LAYOUTS[name].columns) == set(ROWS[name])
    return LAYOUTS[name].convert(row)


def test_libra_bench_is_one_example_a_row():
    (example,) = convert("libra_bench")
    assert example == JudgingExample(
        id="libra_bench/7", problem_id="AIME 2024/cfe29f43bcc21dd4", question="1+1?", response="2", correct=True,
        policy="QwQ-32B", source="AIME 2024")
    (other,) = convert("libra_bench", index="x", label=0)
    assert (other.id, other.correct, other.problem_id) == ("libra_bench/x", False, example.problem_id)


def test_every_response_of_reward_bench_2_is_an_example_and_names_its_row():
    examples = convert("reward_bench_2")
    assert [(each.id, each.response, each.correct) for each in examples] == [
        ("reward_bench_2/Ties/tied:3/chosen.0", "2", True), ("reward_bench_2/Ties/tied:3/chosen.1", "3", True),
        ("reward_bench_2/Ties/tied:3/rejected.0", "4", False)]
    assert {(each.policy, each.source) for each in examples} == {("human", "Ties")}
    assert len({each.problem_id for each in examples}) == 1
    for models in (["a", "b", "c"], [], None):
        assert {each.policy for each in convert("reward_bench_2", models=models)} == {"unknown"}


def test_rm_bench_has_its_styles_for_policies():
    assert [(each.response, each.correct, each.policy) for each in convert("rm_bench")] == [
        ("a", True, "concise"), ("aa", True, "plain"), ("# aa", True, "markdown"),
        ("b", False, "concise"), ("bb", False, "plain"), ("# bb", False, "markdown")]
    with pytest.raises(RecordError, match="rejected has 2 responses: expected one in each of concise, plain, markdown"):
        convert("rm_bench", rejected=["b", "bb"])


@pytest.mark.parametrize("label, correct", [("A>B", [True, False]), ("B>A", [False, True])])
def test_the_right_one_of_a_pair_of_judge_bench_is_correct(label, correct):
    pair = convert("judge_bench", label=label)
    assert [each.id for each in pair] == ["judge_bench/81ec/A", "judge_bench/81ec/B"]
    assert [each.correct for each in pair] == correct and [each.response for each in pair] == ["So B.", "So C."]
    assert pair[0].problem_id == pair[1].problem_id


def test_process_bench_is_correct_when_every_step_is():
    (example,) = convert("process_bench")
    assert (example.response, example.correct, example.source) == ("one\n\ntwo", False, "gsm8k")
    assert convert("process_bench", label=-1)[0].correct


@pytest.mark.parametrize("name, changes, message", [
    ("libra_bench", {"label": "1"}, "label='1': expected 0"),
    ("libra_bench", {"label": None}, "label=None: expected 0"),
    ("libra_bench", {"question": None}, "question: expected text, found 'None'"),
    ("libra_bench", {"response": "\ud800"}, "response has half a surrogate pair"),
    ("libra_bench", {"index": 1.5}, "index: expected text"),
    ("reward_bench_2", {"chosen": "2"}, "chosen: expected a list of texts"),
    ("reward_bench_2", {"rejected": [4]}, "rejected: expected text"),
    ("judge_bench", {"label": "A=B"}, "label='A=B': expected 'A>B' or 'B>A'"),
    ("process_bench", {"label": 2}, "label=2: expected -1 .* one of the 2 steps"),
    ("process_bench", {"label": True}, "label=True: expected -1"),
    ("process_bench", {"steps": []}, "steps: expected a list of texts"),
])
def test_what_does_not_fit_is_named(name, changes, message):
    with pytest.raises(RecordError, match=message):
        convert(name, **changes)
