"""The short list of shapes."""

import pytest

from libra_jax.sampling import batches


@pytest.mark.parametrize("full, ways, tile, expected", [
    (64, 1, 0, [64, 32, 16, 8, 4]), (128, 16, 0, [128, 64]), (5, 4, 0, [8]), (100, 8, 0, [104, 48]),
    (64, 1, 16, [64]), (1, 1, 16, [16]), (20, 1, 16, [32])])
def test_batches_shrink_by_halves_and_tiles_do_not(full, ways, tile, expected):
    assert batches.sizes(full, ways, tile) == expected


def test_buckets_are_a_short_list():
    assert sorted({batches.bucket(length) for length in range(1, 1000)}) == [64, 96, 128, 192, 256, 384, 512, 768, 1024]
    assert all(batches.bucket(length) >= length for length in range(1, 1000))
