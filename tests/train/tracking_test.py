"""Weights & Biases by a module in its place: same run after kills, every step once, and no failure that stops a run."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import types

import pytest

from libra_jax.train import metrics, run, tracking
from libra_jax.train.tracking import WandbConfig


class Fake(types.ModuleType):
    """As much of wandb as is called; `broken` names the call that fails."""

    def __init__(self, broken=""):
        super().__init__("wandb")
        self.broken, self.given, self.logged, self.finished = broken, [], [], 0
        self.Settings = dict

    def _call(self, name):
        if self.broken == name:
            raise RuntimeError(f"{name}:\n no network")

    def init(self, **given):
        self._call("init")
        self.given.append(given)
        return self

    def log(self, values, *, step):
        self._call("log")
        self.logged.append((step, values))

    def finish(self):
        self._call("finish")
        self.finished += 1


@pytest.fixture
def fake(monkeypatch):
    def install(broken=""):
        module = Fake(broken)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module
    return install


def track(folder, **config):
    config = WandbConfig(project="p", **config)
    return lambda say: tracking.Tracker(config, folder, {"train": {"num_steps": 16}}, say)


def watch(step, params, rows):
    return {"held_out_accuracy": step / 16}


def test_a_killed_run_goes_on_in_the_same_run_with_every_number(toy, tmp_path, fake):
    wandb, left = fake(), [5]

    def draw(number, params):
        if left and number == left[0]:
            left.pop()
            raise KeyboardInterrupt
        return toy.batch_at(number, params)

    options = {"batch_at": draw, "watch": watch, "watch_every": 4, "track": track(tmp_path, mode="offline")}
    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path, **options)
    toy.run(tmp_path, **options)
    first, second = wandb.given
    assert first["id"] == second["id"] == json.loads((tmp_path / tracking.NOTE).read_text())["id"]
    assert first["resume"] == "allow" and first["mode"] == "offline" and first["name"] == tmp_path.name
    assert first["config"] == {"train": {"num_steps": 16}} and first["settings"]["disable_code"] is True
    assert wandb.finished == 2
    found = {}
    for step, values in wandb.logged:
        found.setdefault(step, {}).update(values)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert sorted(found) == [row["step"] for row in rows]
    for row in rows:
        shown = {name: value for name, value in row.items() if name != "step" and value == value}
        assert shown.items() <= found[row["step"]].items() and "unseen" not in found[row["step"]]


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_what_fails_there_is_told_once_and_the_run_is_the_same(toy, tmp_path, fake, capsys, broken):
    fake(broken)
    toy.run(tmp_path / "plain")
    capsys.readouterr()
    toy.run(tmp_path / "tracked", track=track(tmp_path / "tracked"))
    assert capsys.readouterr().err.count(f"wandb: {broken}: no network; the run goes on without it") == 1
    assert (tmp_path / "tracked/metrics.jsonl").read_bytes() == (tmp_path / "plain/metrics.jsonl").read_bytes()


def test_what_is_not_installed_ends_the_run_before_it_begins(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'wandb is not installed; pip install "libra_jax\[wandb\]", or leave it out'):
        tracking.check(WandbConfig(project="p"))
    tracking.check(WandbConfig())


def test_a_stage_s_config_has_it_and_a_run_may_change_it(tmp_path, monkeypatch, fake):
    """Asked for later, the run in the folder is still the same run."""
    from libra_jax import runs

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        checkpoint: str = ""
        train: run.TrainConfig = run.TrainConfig()

    fake()
    claimed = []
    monkeypatch.setattr(tracking, "check", lambda config: None)
    monkeypatch.setattr(runs, "claim", lambda note, config, *, inputs, begun: claimed.append(config))
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").touch()
    (tmp_path / "metrics.jsonl").touch()
    for project in ("", "p"):
        config = Config(train=run.TrainConfig(wandb=WandbConfig(project=project)))
        run.fit(config, None, None, "sft", tmp_path, inputs=())
    assert claimed == [Config(), Config()]


def test_wandb_itself_takes_an_offline_run_twice(tmp_path):
    pytest.importorskip("wandb", reason='needs pip install "libra_jax[wandb]"')
    code = ("import sys, pathlib; from libra_jax.train import tracking\n"
            "t = tracking.Tracker(tracking.WandbConfig(project='p', mode='offline'), pathlib.Path(sys.argv[1]), "
            "{'a': (1, 2)}, lambda line: sys.exit(line))\n"
            "for step in map(int, sys.argv[2:]): t.write(step, {'loss': 1 / (1 + step), 'bad': float('nan')})\n"
            "t.close()")
    for steps in ("012", "1234"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *steps], capture_output=True, text=True,
                              check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    number = json.loads((tmp_path / tracking.NOTE).read_text())["id"]
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))) == 2
