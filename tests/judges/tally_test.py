"""Tokens and money, summed over retries and over runs."""

import pytest

from libra_jax import records
from libra_jax.judges import tally

ONE = tally.Request(example_id="e", sample=0, thought="t", verdict="correct", num_tokens=7, score=None, failure="",
                    attempts=3, prompt_tokens=300, completion_tokens=20)
FAILED = tally.Request(example_id="f", sample=1, thought="", verdict="unparsed", num_tokens=0, score=None,
                       failure="HTTP 500", attempts=2, prompt_tokens=0, completion_tokens=0)
ANSWERED = tally.Request(example_id="f", sample=1, thought="", verdict="unparsed", num_tokens=9, score=0.5, failure="",
                         attempts=1, prompt_tokens=100, completion_tokens=9)
PRICES = tally.Prices(input=2.5, output=10.0)


def test_sums_and_cost():
    sums = tally.of([ONE, FAILED])
    assert sums == tally.Tally(requests=2, failed=1, attempts=5, prompt_tokens=300, completion_tokens=20)
    assert sums.cost(PRICES) == pytest.approx(300 * 2.5e-6 + 20 * 10e-6)


@pytest.mark.parametrize("name", ["requests.jsonl", "requests.jsonl.partial"])
def test_a_summary_is_of_the_whole_log(tmp_path, name):
    records.write(tmp_path / name, [ONE, FAILED])
    found = tally.summary(tmp_path / "requests.jsonl", PRICES)
    assert found == {"attempts": 5, "retries": 3, "failed_requests": 1, "prompt_tokens": 300, "completion_tokens": 20,
                     "cost": 0.00095}
    records.write(tmp_path / name, [ONE, FAILED, ANSWERED])  # a later run got through
    found = tally.summary(tmp_path / "requests.jsonl", PRICES)
    assert found["failed_requests"] == 0 and found["attempts"] == 6 and found["prompt_tokens"] == 400


def test_no_log_is_no_cost(tmp_path):
    assert set(tally.summary(tmp_path / "requests.jsonl", PRICES).values()) == {0}


@pytest.mark.parametrize("prices", [{"input": -1.0}, {"output": float("nan")}])
def test_impossible_prices(prices):
    with pytest.raises(ValueError, match="at least 0"):
        tally.Prices(**prices)


def test_progress_says_rate_time_left_tokens_and_cost(capsys):
    show = tally.to_stderr("judge x", PRICES, every=0.0)
    show(tally.of([ONE]), 1, 4)
    show(tally.of([ONE, FAILED]), 2, 4)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("judge x: 1 of 4 judgements, ") and " s left, 2 retries, 0 failed, 300 + 20 tok" in first
    assert second.endswith("3 retries, 1 failed, 300 + 20 tokens, cost 0.0009")
    quiet = tally.to_stderr("judge x", PRICES)
    quiet(tally.of([ONE]), 1, 4)
    assert capsys.readouterr().err == ""
