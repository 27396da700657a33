"""SeqIO tasks of rendered conversations: integer features, sharded by host. Imports seqio (TensorFlow) when called."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from libra_jax.data import shares


class Examples(Protocol):
    """Examples that are there, or are made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray]: ...


def task(name: str, examples: Examples, vocab_size: int, features: Sequence[str] = ()) -> Any:
    """A seqio.Task over `examples`, dicts of int32 vectors named `features`; it is not added to the registry.

    The shard of a host is every num_shards-th example, and no other is taken from `examples`, so that a sequence which
    makes its items when they are asked for makes only those of its host. (Without `features`, their names are those of
    the first example.)
    """
    seqio, tf = _load()
    names = list(features or examples[0])

    class Source(seqio.DataSource):
        """The examples in their order; rows are shuffled after packing."""

        supports_arbitrary_sharding = True

        def list_shards(self, split: str) -> list[str]:
            return [split]

        def get_dataset(self, split: str = "train", shuffle: bool = False, seed: int | None = None,
                        shard_info: seqio.ShardInfo | None = None, **_: Any) -> tf.data.Dataset:
            first, every = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)
            spec = {key: tf.TensorSpec([None], tf.int32) for key in names}
            return tf.data.Dataset.from_generator(
                lambda: (examples[index] for index in range(first, len(examples), every)), output_signature=spec)

    feature = seqio.Feature(seqio.PassThroughVocabulary(vocab_size), add_eos=False, dtype=tf.int32)
    return seqio.Task(name, source=Source(splits=["train"]), output_features={key: feature for key in names},
                      preprocessors=[])


def read(name: str, examples: Examples, vocab_size: int, *, shard: int = 0,
         num_shards: int = 1, batch_size: int = 0, features: Sequence[str] = ()) -> Iterator[dict[str, np.ndarray]]:
    """Streams the examples of host `shard` of `num_shards` through a task: every num_shards-th, disjoint, in order.

    With `batch_size`, vectors of one length are stacked, [batch_size, length], and the next batch is made while this
    one is used. `features` as in `task`. ValueError for no examples at all.
    """
    if not len(examples):
        raise ValueError(f"the task {name!r} has no examples; the stage before it kept nothing")
    seqio, _ = _load()
    dataset = task(name, examples, vocab_size, features).get_dataset(
        sequence_length=None, split="train", shuffle=False, try_in_mem_cache=False,
        shard_info=seqio.ShardInfo(index=shard, num_shards=num_shards) if num_shards > 1 else None)
    if batch_size:
        dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(1)
    yield from dataset.as_numpy_iterator()


def _load() -> tuple[Any, Any]:
    """The modules seqio and tensorflow, kept off the accelerators, which are JAX's.

    What their C++ writes to stderr as they are loaded (that there is no CUDA, as an error) is shown only if that fails.
    """
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            import seqio
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")
            tf.config.set_visible_devices([], "TPU")
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    return seqio, tf


def batch_indices(seed: int, number: int, batch_size: int, count: int) -> np.ndarray:
    """Indices [batch_size] of batch `number`: epochs of a new permutation each, joined; a function of its arguments."""
    return shares.indices(seed, number * batch_size, (number + 1) * batch_size, count)
