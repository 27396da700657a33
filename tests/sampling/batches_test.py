import numpy as np

from libra_jax.sampling import batches


def test_plan_keeps_samples_of_a_prompt_together_where_they_fit():
    assert list(batches.plan(3, 2, 5)) == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(2, 0), (2, 1)]]
    assert list(batches.plan(2, 3, 2)) == [[(0, 0), (0, 1)], [(0, 2)], [(1, 0), (1, 1)], [(1, 2)]]


def test_sizes_go_down_by_quarters_and_divide_over_the_devices():
    assert batches.sizes(256, 1) == [256, 64, 16]
    assert batches.sizes(100, 8) == [104, 32]
    assert batches.sizes(6, 1) == [6]
    assert batches.at_least([256, 64, 16], 17) == 64


def test_buckets_grow_by_at_most_a_half():
    assert [batches.bucket(length) for length in (1, 32, 33, 48, 49, 65, 97, 129, 193)] == [
        32, 32, 48, 48, 64, 96, 128, 192, 256]


def test_rows_that_run_are_kept_in_order():
    done = np.array([True, False, True, False, True])
    assert batches.keep(done, 3).tolist() == [0, 1, 3]
