"""The data card: counts worked by hand, and Markdown that names from the data cannot break."""

import pytest

from libra_jax.judging import card
from libra_jax.judging.balance import Row, Tally

ROWS = [Row(key=str(n), id=str(n), problem_id=problem, source="s", policy=policy, correct=correct)
        for n, (problem, policy, correct) in enumerate([("p", "a", True), ("p", "b", False), ("q", "a", False)])]
TALLIES = [Tally(problem_id="p", policy="a", right=1, wrong=3), Tally(problem_id="p", policy="b", right=1, wrong=0),
           Tally(problem_id="q", policy="a", right=0, wrong=2), Tally(problem_id="r", policy="a", right=3, wrong=0)]


def test_counts_by_hand():
    counts = card.counts(ROWS, [("a rule", 2, 3)], TALLIES)
    assert (counts["problems"], counts["examples"], counts["correct"]) == (2, 3, 1)
    assert counts["by_policy"] == {"a": {"correct": 1, "incorrect": 1}, "b": {"correct": 0, "incorrect": 1}}
    assert counts["rules"] == [{"rule": "a rule", "removed": 2, "left": 3}]
    every, of_a = counts["difficulty"]["all"], counts["difficulty"]["by_policy"]["a"]
    assert {name: count for name, count in every["given"].items() if count} == {"0": 1, "0.4 to 0.6": 1, "1": 1}
    assert {name: count for name, count in every["kept"].items() if count} == {"0": 1, "0.4 to 0.6": 1}
    assert {name: count for name, count in of_a["given"].items() if count} == {"0": 1, "0.2 to 0.4": 1, "1": 1}


@pytest.mark.parametrize(("share", "name"), [(0, "0"), (0.01, "0 to 0.2"), (0.2, "0.2 to 0.4"), (0.59, "0.4 to 0.6"),
                                             (0.6, "0.6 to 0.8"), (0.999, "0.8 to 1"), (1.0, "1")])
def test_bins(share, name):
    assert card.histogram([share]) == {each: int(each == name) for each in card.SHARES}


def test_names_from_the_data_break_no_table():
    hostile = "a|b\n\n# <script>alert(1)</script> `x` [y](z)"
    rows = [Row(key="0", id="0", problem_id="p", source=hostile, policy=hostile, correct=True)]
    counts = {"problems_given": 1, **card.counts(rows, [("r", 0, 1)], [])}
    text = card.markdown({
        "train": counts, "bench": counts, "outputs": {"train.jsonl": "1", "bench.jsonl": "2"},
        "licences": {hostile: hostile}, "rollouts_of_unknown_problems": 0, "command": "libra\ncurate",
        "broken_lines": {"problems": 0, "rollouts": 0},
        "inputs": {"problems": [{"file": hostile, "sha256": "3"}], "rollouts": []}})
    assert "<script>" not in text and "](z)" not in text and text.count("\n# ") == 0
    assert text.endswith("\n    libra curate\n")
    columns = 0
    for line in text.split("\n"):
        pipes = line.replace("\\|", "").count("|")
        columns = pipes if not columns or not pipes else columns
        assert pipes == columns, line
