"""TPU topologies on a machine without TPUs: devices to compile for, never to run on, and what such chips have.

Memory is what the compiler enforces (measured with libtpu 0.0.42 and 0.0.52); speeds are those of Google's pages on
Cloud TPU versions, in bf16, for one device as JAX counts them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies

_QUIET = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5p-8", "TPU_WORKER_HOSTNAMES": "localhost",
          "TPU_WORKER_ID": "0", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_LOG_DIR": "disabled"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One device: bytes of memory, operations a second in bf16, bytes a second from memory."""

    memory: float
    flops: float
    bandwidth: float


CHIPS = {
    "v4": Chip(memory=15.25 * 2**30, flops=137.5e12, bandwidth=614e9),
    "v5e": Chip(memory=15.75 * 2**30, flops=197e12, bandwidth=819e9),
    "v5p": Chip(memory=95.73 * 2**30, flops=459e12, bandwidth=2765e9),
    "v6e": Chip(memory=31.24 * 2**30, flops=918e12, bandwidth=1640e9),
    "tpu7x": Chip(memory=94.74 * 2**30, flops=1153.5e12, bandwidth=3690e9),
}


def chip(topology: str) -> Chip:
    """The chip of a topology such as "v5p:4x4x4". ValueError names the generations there are."""
    generation = topology.partition(":")[0]
    if generation not in CHIPS or not re.fullmatch(r"\w+:\d+x\d+(x\d+)?", topology):
        raise ValueError(f"topology {topology!r}: expected a generation and its shape, such as v5p:4x4x4, v6e:8x8 or "
                         f"v5e:16x16; generations: {', '.join(CHIPS)}")
    return CHIPS[generation]


def devices(topology: str, slices: int = 1) -> list[jax.Device]:
    """The devices of `slices` slices of this topology. ValueError for a shape that no such TPU has, or no libtpu."""
    chip(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("libtpu is not installed, which compiles for TPUs; pip install 'libra_jax[tpu]' (it runs "
                         "on any machine), and set JAX_PLATFORMS=cpu where there is no TPU")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return list(topologies.get_topology_desc(topology, "tpu", num_slices=slices).devices)
    except Exception as error:  # what libtpu raises has no type of its own
        raise ValueError(f"topology {topology!r}, {slices} slices: {str(error).splitlines()[0]}") from error
