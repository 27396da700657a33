"""Batches: order, hostile answers in bounded time and memory, workers that hang or die."""

import itertools
import time

import pytest

from libra_jax.verify import batch, workers

HOSTILE = ["9^{9^{9^{9}}}", "{" * 10_000 + "1" + "}" * 10_000, "x" * 1_000_000, "(10^9)!", r"2^{2^{2^{2^{2^{2}}}}}",
           r"\sum_{n=1}^{10^{12}} \frac{1}{n!}", r"\begin{pmatrix}" + "1&" * 400]


def test_each_hostile_answer_is_undecided_within_five_seconds():
    list(batch.decide([("A: 1+x", "x+1")]))  # the disk has the imports now
    for answer in HOSTILE:
        start = time.monotonic()
        (decision,) = batch.decide([(f"A: {answer}", "4")], num_workers=1, timeout=2.0)
        assert decision.correct is None, answer[:40]
        assert decision.why.startswith("undecided") and len(decision.why) < 300
        assert time.monotonic() - start < 2.0 + 3.0  # the worker's start included
        assert len(decision.extracted) <= batch.KEPT


def test_a_worker_that_hangs_is_replaced_and_order_is_kept():
    pairs = [("A: 1+x", "x+1"), ("A: 9^{9^{9^{9}}}", "1"), ("A: x-1", "x+1"), ("none", "1"), ("A: (10^9)!", "7"),
             ("A: 2+x", "x+2")]
    decisions = list(batch.decide(pairs, num_workers=1, timeout=1.0))
    assert [decision.correct for decision in decisions] == [True, None, False, False, None, True]
    assert decisions[3].why == "no final answer found" and decisions[3].extracted is None
    assert decisions[1].why == "undecided: no decision within 1 s"


@pytest.mark.parametrize("num_workers", [1, 3])
def test_thousands_keep_their_order_and_are_streamed(num_workers):
    taken = itertools.count()

    def pairs():
        for number in range(3000):
            next(taken)
            yield f"so\nA: {number}", str(number if number % 3 else number + 1)

    decisions = batch.decide(pairs(), num_workers=num_workers)
    first = next(decisions)
    assert first.correct is False and first.extracted == "0"
    assert next(taken) < 3000 or num_workers > 2  # not all was read before the first was given
    rest = list(decisions)
    assert [decision.correct for decision in rest] == [number % 3 > 0 for number in range(1, 3000)]


def test_memory_is_bounded(monkeypatch):
    worker = workers.Worker("compare", 20.0)
    worker.give([("1+x", "x+1")])
    while not worker.collect():
        worker.pipe.poll(0.1)
    limits = open(f"/proc/{worker._process.pid}/limits").read()
    worker.stop()
    assert str(workers.MEMORY) in next(line for line in limits.splitlines() if line.startswith("Max address space"))


def test_a_killed_worker_costs_one_pair():
    worker = workers.Worker("compare", 20.0)
    worker.give([("9^{9^{9^{9}}}", "1"), ("1+x", "x+1")])
    while not worker._greeted:
        assert worker.collect() == []
        worker.pipe.poll(0.1)
    worker._process.kill()
    answers = []
    while worker.pending:
        answers += worker.collect()
        if worker.pending:
            worker.pipe.poll(0.1)
    worker.stop()
    assert answers == [workers.BROKEN, True]


def test_compare_extracts_nothing():
    answers = [(r"\boxed{5}, 6", "5"), ("1/2", "0.5")]
    assert [decision.correct for decision in batch.compare(answers, num_workers=1)][1] is True
    with pytest.raises(ValueError, match="timeout=0"):
        list(batch.compare(answers, timeout=0))


def test_a_pool_serves_many_calls_with_the_same_processes():
    with batch.Pool(num_workers=2, timeout=2.0) as pool:
        pool.start()
        processes = [worker._process.pid for worker in pool._workers]
        for _ in range(3):
            assert [decision.correct for decision in pool.compare([("1+x", "x+1"), ("5", "6")])] == [True, False]
            assert [decision.correct for decision in pool.decide([("A: 5", "5"), ("hm", "5")])] == [True, False]
        assert [worker._process.pid for worker in pool._workers] == processes
    assert all(worker._process is None for worker in pool._workers)


def test_a_stream_left_early_leaves_nothing_behind_in_its_pool():
    with batch.Pool(num_workers=1, timeout=2.0) as pool:
        left = pool.compare((str(number), str(number)) for number in range(1000))
        assert next(left).correct is True
        with pytest.raises(ValueError, match="another stream"):
            next(pool.decide([("A: 5", "5")]))
        left.close()
        assert [decision.correct for decision in pool.compare([("5", "6"), ("7", "7")])] == [False, True]


@pytest.mark.parametrize("response, reference, correct, extracted, why", [
    (r"So \boxed{1/2}.", "0.5", True, "1/2", "'1/2' equals the reference '0.5'"),
    ("A: 7", "8", False, "7", "'7' differs from the reference '8'"), ("who knows", "8", False, None, "no final answer"),
    (r"\boxed{x^2+2x+1}", "(x+1)^2", True, "x^2+2x+1", "equals"),  # by computer algebra, in another process
    (r"\boxed{" + "(" * 50 + "1" + ")" * 50 + "}", "1", None, "(" * 50 + "1" + ")" * 50, "nested 50 deep"),
])
def test_one_answer(response, reference, correct, extracted, why):
    decision = batch.verify_answer(response, reference)
    assert (decision.correct, decision.extracted) == (correct, extracted) and why in decision.why
    assert [decision] == list(batch._own_worker().decide([(response, reference)]))


def test_one_answer_that_is_no_text():
    with pytest.raises(ValueError, match="reference is 54, a int; expected a text"):
        batch.verify_answer("A: 54", 54)
