"""What is wanted does not depend on how samples come in, and no more is begun than needed while there is other work."""

import numpy as np
import pytest

from libra_jax.sampling.demand import Demand


def wanted(outcomes, enough):
    """Samples one after another up to the `enough`-th right one."""
    found = []
    for sample in range(len(outcomes)):
        found.append(sample)
        if enough and sum(outcomes[: sample + 1]) == enough:
            break
    return found


@pytest.mark.parametrize("enough", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_endings_gives_what_one_after_another_gives(enough, seed):
    random = np.random.default_rng(seed)
    outcomes = random.random((30, 8)) < random.random((30, 1))
    demand = Demand([range(8)] * 30, enough)
    slots, begun = [], 0
    while True:
        while len(slots) < 10 and (taken := demand.take()) is not None:
            begun += len(taken[1])
            slots += [(taken[0], sample) for sample in taken[1]]
        if not slots:
            break
        prompt, sample = slots.pop(random.integers(len(slots)))
        if random.random() < 0.2:
            demand.put_back(prompt, [sample])
            begun -= 1
        elif demand.needed(prompt, sample):
            demand.settle(prompt, sample, bool(outcomes[prompt, sample]))
        else:
            demand.settle(prompt, sample, None)
    expected = [wanted(row, enough) for row in outcomes]
    assert [demand.wanted(prompt) for prompt in range(30)] == expected
    assert not demand.more()
    if enough:  # slots would have stayed empty only near the end
        assert begun < sum(map(len, expected)) + 20


def test_samples_that_cannot_be_wanted_any_more_are_given_up():
    demand = Demand([range(6)], 2)
    assert demand.take() == (0, [0, 1])  # two are needed for certain
    assert demand.take() == (0, [2, 3])  # nothing else to do
    demand.settle(0, 3, True)
    demand.settle(0, 1, True)
    assert demand.needed(0, 0) and demand.needed(0, 2)
    assert demand.wanted(0) is None  # sample 0 may be right, or sample 2, and then 3 is not wanted
    assert demand.take() is None
    demand.settle(0, 0, True)
    assert not demand.needed(0, 2) and demand.wanted(0) == [0, 1]
