"""A watch: when it looks, that it changes nothing else, how it ends a run, and runs that are stopped in a look."""

import jax
import numpy as np
import pytest

from libra_jax.train import metrics, preemption, watching

EVERY = 4  # of 16 steps, with checkpoints after 3, 6, ...


def weight(step, params, rows):
    """Depends on all that a watch is given."""
    return {"held_out": float(np.asarray(params["w"])[0, 0]) + step, "before": sum(row.get("held_out", 0)
                                                                                   for row in rows)}


def never(*_):
    raise AssertionError("it looked again")


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The folder and the end of a watched run that was left in peace."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, toy.run(folder, watch=weight, watch_every=EVERY)


def test_it_stands_in_the_row_of_its_step_and_changes_nothing_else(toy, tmp_path, whole):
    alone = toy.run(tmp_path)
    same(alone, whole[1])
    rows, others = metrics.read(whole[0] / "metrics.jsonl"), metrics.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(17))
    looks = {row["step"]: row.pop("held_out") for row in rows if "held_out" in row}
    before = {row["step"]: row.pop("before") for row in rows if "before" in row}
    assert list(looks) == list(before) == [0, 4, 8, 12, 16]
    assert looks[16] == 16 + float(alone.params["w"][0, 0])
    assert before[0] == 0 and before[12] == looks[0] + looks[4] + looks[8]
    assert rows.pop(0) == {"step": 0}
    assert repr(rows) == repr(others)  # those of steps without a finite loss too


def test_between_the_ends_it_looks_only_when_told(toy, tmp_path):
    steps = []
    toy.run(tmp_path, watch=lambda step, params, rows: steps.append(step) or {})
    assert steps == [0, 16]
    with pytest.raises(ValueError, match="watch_every=-1: expected the steps between two looks, or 0"):
        toy.run(tmp_path / "other", watch=weight, watch_every=-1)


@pytest.mark.parametrize("how", [preemption.Preempted, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 4, 12, 16])
def test_a_run_that_ends_in_a_look_goes_on_to_the_same_bytes(toy, tmp_path, whole, at, how):
    cut = []

    def dies(step, params, rows):
        if step == at and not cut:
            cut.append(len(rows))
            raise how
        return weight(step, params, rows)

    with pytest.raises(how):
        toy.run(tmp_path, watch=dies, watch_every=EVERY)
    last = metrics.read(tmp_path / "metrics.jsonl")[-1]
    assert last["step"] == at and last[metrics.UNSEEN] == 1 and "held_out" not in last
    same(toy.run(tmp_path, watch=dies, watch_every=EVERY), whole[1])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


def test_it_ends_the_run_in_order(toy, tmp_path, capfd):
    def enough(step, params, rows):
        if step == 8:
            raise watching.Enough("held_out fell", {"held_out": 0.25})
        return {"held_out": 0.5}

    end = toy.run(tmp_path, watch=enough, watch_every=EVERY)
    assert int(end.step) == 8
    assert "toy: ends after step 8/16: held_out fell" in capfd.readouterr().err
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["held_out"] for row in rows if "held_out" in row] == [0.5, 0.5, 0.25] and len(rows) == 9
    assert watching.stopped(tmp_path) == {"step": 8, "reason": "held_out fell"}
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"6", "8"}
    # Killed before its export: it neither trains nor looks again.
    same(toy.run(tmp_path, watch=never, watch_every=EVERY), end)
    assert metrics.read(tmp_path / "metrics.jsonl") == rows


def test_a_note_of_a_step_that_the_run_does_again_does_not_count(toy, tmp_path):
    watching_from = {"calls": 0}

    def enough(step, params, rows):
        watching_from["calls"] += 1
        if step == 8 and watching_from["calls"] < 4:
            raise watching.Enough("so it was", {})
        return {}

    toy.run(tmp_path, watch=enough, watch_every=EVERY, save_every=0)
    assert watching.stopped(tmp_path)
    assert int(toy.run(tmp_path, watch=enough, watch_every=EVERY, save_every=0).step) == 16
    assert watching.stopped(tmp_path) == {}


def test_a_reason_at_the_last_step_ends_nothing_early(toy, tmp_path):
    def late(step, params, rows):
        if step == 16:
            raise watching.Enough("late", {"held_out": 1.0})
        return {}

    toy.run(tmp_path, watch=late)
    assert metrics.read(tmp_path / "metrics.jsonl")[-1]["held_out"] == 1.0 and watching.stopped(tmp_path) == {}
