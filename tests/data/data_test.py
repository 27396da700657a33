"""Packing and SeqIO tasks: nothing is lost, nothing crosses, hosts read disjoint shards."""

import numpy as np
import pytest

from libra_jax.data import packing, shares, tasks

EXAMPLES = [([n] * n, [False] + [True] * (n - 1)) for n in (3, 7, 2, 5, 8, 1)]


def test_packing_keeps_every_example_whole_in_a_segment_of_its_own():
    rows = packing.pack(EXAMPLES, 8)
    found = []
    for row in range(len(rows["tokens"])):
        for segment in range(1, rows["segment_ids"][row].max() + 1):
            here = rows["segment_ids"][row] == segment
            found.append(rows["tokens"][row][here].tolist())
            np.testing.assert_array_equal(rows["positions"][row][here], np.arange(here.sum()))
            assert not rows["loss_mask"][row][here][0]
    assert sorted(found) == sorted(tokens for tokens, _ in EXAMPLES)
    assert len(rows["tokens"]) == 4  # 8; 7+1; 5+3; 2
    assert not rows["loss_mask"][rows["segment_ids"] == 0].any()


def test_an_example_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="example 4 has 8 tokens, more than length=7"):
        packing.pack(EXAMPLES, 7)


def test_hosts_read_disjoint_shards_of_integer_features():
    examples = [{"tokens": np.arange(n + 1, dtype=np.int32), "example": np.array([n], np.int32)} for n in range(7)]
    shards = [[int(item["example"][0]) for item in tasks.read("t", examples, 100, shard=i, num_shards=2)]
              for i in (0, 1)]
    assert sorted(shards[0] + shards[1]) == list(range(7))
    assert not set(shards[0]) & set(shards[1])
    whole = list(tasks.read("t", examples, 100))
    assert [item["tokens"].tolist() for item in whole] == [list(range(n + 1)) for n in range(7)]
    assert whole[0]["tokens"].dtype == np.int32
    rows = [{"row": np.full(3, n)} for n in range(7)]
    stacked = list(tasks.read("t", rows, 100, shard=1, num_shards=2, batch_size=2))
    assert [batch["row"][:, 0].tolist() for batch in stacked] == [[1, 3]]  # 5 is alone, and left out
    with pytest.raises(ValueError, match="no examples"):
        next(tasks.read("t", [], 100))


def test_a_host_makes_no_example_but_its_own():
    made = []

    class Examples(list):
        def __getitem__(self, index):
            made.append(index)
            return {"n": np.array([index], np.int32)}

    read = tasks.read("t", Examples(range(7)), 100, shard=1, num_shards=3, features=["n"])
    assert [int(item["n"][0]) for item in read] == [1, 4] == made


def test_batches_cover_each_epoch_once():
    drawn = np.concatenate([tasks.batch_indices(0, number, 4, 6) for number in range(3)])
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))
    assert not np.array_equal(drawn[:6], drawn[6:])
    assert not np.array_equal(drawn, np.concatenate([tasks.batch_indices(1, number, 4, 6) for number in range(3)]))
    assert shares.indices(1, 0, 8, 6, shuffle=False).tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
