"""Rows and pages: nothing is lost or held twice, prompts are prefilled once, and little memory only costs time."""

import numpy as np
import pytest

from libra_jax.model.cache import PAGE
from libra_jax.sampling.demand import Demand
from libra_jax.sampling.schedule import Schedule


def drive(schedule, lengths, ends, steps=64):
    """Plays the engine: every row draws `steps` tokens at a time until its sample's end; returns how samples went."""
    held = [{} for _ in range(schedule.ways)]  # the content of each device's pages: {page: what}
    done, prefills = {}, 0
    for _ in range(10_000):
        while True:
            fill = schedule.fill()
            for index, mine in enumerate(fill.prompts):
                prefills += len(mine)
                for prompt, pages in mine:
                    held[index].update({page: (prompt, place) for place, page in enumerate(pages)})
            for index, mine in enumerate(fill.copies):
                held[index].update({target: held[index][source] for source, target in mine})
            if not fill.rows:
                break
        for index in range(schedule.ways):
            for row in schedule.shard(index):
                if (mine := schedule.rows[row]) is not None and not mine.count:
                    for place in range(-(-(lengths[mine.prompt] - 1) // PAGE)):  # its prompt lies in its pages
                        assert held[index][mine.pages[place]] == (mine.prompt, place)
        if not schedule.live():
            return done, prefills
        schedule.grow(steps)
        for index in range(schedule.ways):
            rows = [row for row in schedule.shard(index) if schedule.rows[row] is not None]
            for row in rows:
                mine = schedule.rows[row]
                number = min(steps, ends[mine.prompt, mine.sample] - mine.count)
                assert len(mine.pages) * PAGE >= mine.position + number
                written = set(range(mine.position // PAGE, (mine.position + number - 1) // PAGE + 1))
                for other in rows:  # what it writes is nobody else's
                    if other != row:
                        theirs = schedule.rows[other].pages
                        assert not {mine.pages[place] for place in written} & set(theirs)
                mine.position, mine.count = mine.position + number, mine.count + number
        for row in schedule.live():
            mine = schedule.rows[row]
            if mine.count == ends[mine.prompt, mine.sample]:
                assert (mine.prompt, mine.sample) not in done
                done[mine.prompt, mine.sample] = mine.count
                schedule.end(row)
                schedule.demand.settle(mine.prompt, mine.sample, True)
    raise AssertionError("the schedule does not come to an end")


def make(num_prompts=20, num_samples=5, num_rows=8, ways=1, num_pages=800, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 300, num_prompts).tolist()
    budgets = [400] * num_prompts
    ends = {(prompt, sample): int(random.integers(1, 401)) for prompt in range(num_prompts)
            for sample in range(num_samples)}
    demand = Demand([range(num_samples)] * num_prompts)
    return Schedule(demand, lengths, budgets, num_rows=num_rows, ways=ways, num_pages=num_pages,
                    prompts_a_fill=4), lengths, ends


@pytest.mark.parametrize("settings", [{}, {"num_rows": 16, "ways": 2}, {"num_samples": 1}, {"num_rows": 64},
                                      {"num_prompts": 1, "num_samples": 40, "num_rows": 16, "ways": 4}])
def test_every_sample_is_drawn_once_and_all_pages_come_back(settings):
    schedule, lengths, ends = make(**settings)
    done, prefills = drive(schedule, lengths, ends)
    assert done == ends and schedule.num_preempted == 0
    assert all(len(pool) == 800 for pool in schedule.pools)
    if settings.get("ways", 1) == 1:
        assert prefills == sum(length > 1 for length in lengths)  # once for all samples of a prompt
    elif len(lengths) == 1:
        assert 1 < prefills <= 8  # its samples are divided among the devices


@pytest.mark.parametrize("seed", range(4))
def test_with_few_pages_rows_give_theirs_up_and_nothing_is_lost(seed):
    schedule, lengths, ends = make(num_pages=28, seed=seed)
    done, _ = drive(schedule, lengths, ends)
    assert done == ends and schedule.num_preempted > 0
    assert len(schedule.pools[0]) == 28


def test_the_row_that_drew_least_gives_way():
    demand = Demand([range(2)])
    schedule = Schedule(demand, [1], [400], num_rows=2, ways=1, num_pages=16, prompts_a_fill=4)
    schedule.fill()
    schedule.rows[0].count = schedule.rows[0].position = 300
    schedule.rows[1].count = schedule.rows[1].position = 200
    assert [(index, row.sample) for index, row in schedule.grow(64)] == [(1, 1)]
    assert len(schedule.rows[0].pages) == 12 and demand.take() == (0, [1])


def test_shrinking_keeps_rows_on_their_device():
    schedule, _, _ = make(num_rows=16, ways=2)
    schedule.fill()
    rows = list(schedule.rows)
    for row in (0, 1, 2, 3, 5, 8, 9, 10, 11, 12):
        schedule.end(row)
    assert schedule.shrink(4) is None  # three rows live on each device
    assert schedule.shrink(8) == [4, 6, 7, 0, 13, 14, 15, 8]
    assert schedule.rows == [rows[4], rows[6], rows[7], None, rows[13], rows[14], rows[15], None]
