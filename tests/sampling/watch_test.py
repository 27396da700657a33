"""Verdicts recognised inside the loop are those that the host reads, and stop what is needless."""

import itertools

import jax.numpy as jnp
import numpy as np

from libra_jax.sampling import watch

CLOSE, STOP, YES = 9, 0, (4, 5)


def play(streams, *, before=None, samples=None, enough=1, close=CLOSE):
    """Feeds each row its stream of tokens until its stop; returns (who was right, who was found needless when)."""
    rows = len(streams)
    verdict = np.full((rows, len(YES) + 1), -1, np.int32)
    verdict[:, : len(YES)] = YES
    state = watch.Watch(
        jnp.full(rows, -1 if close >= 0 else 0), jnp.asarray(verdict), jnp.zeros(rows, int),
        jnp.asarray(samples or range(rows)), jnp.zeros(rows, int) if before is None else jnp.asarray(before),
        jnp.int32(close), jnp.int32(enough))
    live, needless_at = np.ones(rows, bool), [None] * rows
    for time, drawn in enumerate(itertools.zip_longest(*streams, fillvalue=STOP)):
        stopped = np.array(drawn) == STOP
        state, needless = watch.step(state, jnp.asarray(drawn), jnp.asarray(live), jnp.asarray(stopped))
        for row in np.flatnonzero(np.asarray(needless)):
            needless_at[row] = time if needless_at[row] is None else needless_at[row]
        live &= ~(stopped | np.asarray(needless))
    return np.asarray(state.before), needless_at


def test_a_right_verdict_is_exactly_its_tokens_after_the_thought_and_a_stop():
    right = [7, CLOSE, *YES, STOP]
    for stream, counts in ((right, True), ([CLOSE, *YES, STOP], True), ([*YES, STOP], False),
                           ([CLOSE, *YES, 4, STOP], False), ([CLOSE, 4, STOP], False), ([CLOSE, 7, *YES, STOP], False),
                           ([CLOSE, 7, CLOSE, *YES, STOP], False), ([7, *YES, CLOSE, *YES, STOP], True)):
        before, _ = play([stream, [7] * 12])
        assert before.tolist() == [0, int(counts)], stream
    assert play([[*YES, STOP], [7] * 6], close=-1)[0].tolist() == [0, 1]  # without a thought


def test_only_later_samples_are_stopped_and_only_when_enough_are_right():
    right, slow = [CLOSE, *YES, STOP], [7] * 8
    before, at = play([slow, right, slow], samples=[0, 1, 2])
    assert before.tolist() == [0, 0, 1] and at == [None, None, 3]
    assert play([slow, right, slow], samples=[0, 1, 2], enough=2)[1] == [None] * 3
    assert play([slow, right, slow], samples=[0, 1, 2], enough=2, before=[1, 1, 1])[1] == [None, None, 3]
