"""An objective of one's own, as CONTRIBUTING.md shows it: SimPO on the miniature, with all that training brings."""

import json
import pathlib

import pytest

import libra_jax.miniature
from libra_jax import config as configs
from libra_jax import records
from libra_jax.command import entry
from libra_jax.model import hf
from libra_jax.records import PreferencePair
from libra_jax.train import metrics

MINIATURE = pathlib.Path(libra_jax.miniature.__file__).parent / "checkpoint"


@pytest.fixture
def simpo(tmp_path, shown):
    """The module, and a command on pairs of which the right answer is to be preferred."""
    (tmp_path / "simpo.py").write_text(shown("An objective"))
    records.write(tmp_path / "pairs.jsonl", [
        PreferencePair(problem_id=f"p{n}", question=f"What is {n}+1?", chosen=f"{n}+1={n + 1}", chosen_score=1.0,
                       rejected=f"{n}+1={n + 3}", rejected_score=0.0) for n in range(16)])
    module = configs.execute(str(tmp_path / "simpo.py"), "simpo")

    def run(name: str, *flags: str) -> list[dict]:
        argv = ["simpo.py", f"--workdir={tmp_path / name}", f"--config.checkpoint={MINIATURE}",
                f"--config.pairs={tmp_path / 'pairs.jsonl'}", "--config.template=miniature", "--config.batch_size=16",
                "--config.train.num_steps=2", "--config.train.optimizer.learning_rate=3e-3", *flags]
        assert entry.main(module.run, module.Config(), argv) == 0
        return metrics.read(tmp_path / name / "metrics.jsonl")

    return run


def test_a_loss_of_ones_own_trains_in_parts_too_and_exports(simpo, tmp_path):
    whole, parts = simpo("whole"), simpo("parts", "--config.train.accumulation=2")
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-4)
    assert len(whole) == 2 and whole[1]["loss"] < whole[0]["loss"] and whole[0]["accuracy"] <= 1.0
    assert hf.load(tmp_path / "whole" / "export")[0].family == "qwen3"
    assert json.loads((tmp_path / "whole" / "run_config.json").read_text())["beta"] == 2.0
