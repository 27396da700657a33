"""A run's numbers as TensorBoard events, of which none is lost or doubled when the run is killed and goes on.

tensorboardX's own SummaryWriter hands events to a thread, which may be behind when a checkpoint is saved; and it names
its file by the second. Here they are written at once, and are on disk before a checkpoint is.
"""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Mapping

WORDS = {  # what TensorBoard shows beside a curve
    "surprise": "Mean of -log p of the trained tokens under the policy that is trained, in nats a token.",
    "entropy": "Mean of -log p of the drawn tokens as the sampler gave p: an estimate of its entropy, in nats a token.",
    "kl": "KL divergence from the first policy, k3 estimator, in nats a token.",
    "tokens": "Mean length of the samples that were drawn, in tokens.",
    "reward": "Mean reward of the samples that were drawn, the length term included.",
    "right": "Share of the samples whose verdict is the label.",
    "unparsed": "Share of the samples without a verdict that can be read.",
    "cut_off": "Share of the samples that were as long as they may be.",
    "useful_groups": "Share of the groups whose rewards differ; the others teach nothing.",
    "sampler_mismatch": "Mean of |log p of the trainer - log p of the sampler| of the sampled tokens.",
    "clipped": "Share of the tokens whose ratio is clipped.",
    "held_out_accuracy": "Share of right verdicts on examples that are not trained on; unparsed ones are not right. Of "
                         "DPO: share of such pairs whose chosen response gained more than the other.",
    "held_out_margin": "Mean margin, over the reference, of pairs that are not trained on.",
    "held_out_loss": "Mean loss of pairs that are not trained on.",
    "tokens_per_second": "Tokens trained on by wall time, drawing included, looks not. Not in metrics.jsonl.",
    "learning_rate": "Of the step's last update. Not in metrics.jsonl.",
}


class Board:
    """Event files in `folder`; TensorBoard hides what earlier ones hold of steps from `first` on."""

    def __init__(self, folder: pathlib.Path, *, first: int):
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        self._scalar, self._event, self._described = summary.scalar, event_pb2.Event, set()
        # Later files must have later names, by which TensorBoard orders them.
        self._out = event_file_writer.EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._out.write_event(event_pb2.Event(step=first, wall_time=time.time(), session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one step; what is not finite is left out."""
        for name, value in values.items():
            if math.isfinite(value):
                words = "" if name in self._described else WORDS.get(name, "")
                self._described.add(name)
                summary = self._scalar(name, value, summary_description=words)
                if words:
                    summary.value[0].metadata.plugin_data.plugin_name = "scalars"
                self._out.write_event(self._event(step=step, wall_time=time.time(), summary=summary))

    def flush(self) -> None:
        """Returns when the disk has all that was written."""
        self._out.flush()

    def close(self) -> None:
        """As `flush`; nothing can be written afterwards."""
        self._out.close()
