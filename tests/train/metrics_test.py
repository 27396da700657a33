"""What a run leaves of its numbers: TensorBoard reads every step once, however often it was killed, and the line."""

import json
import pathlib
import struct

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto import event_pb2

from libra_jax.train import metrics, progress


def events(folder: pathlib.Path):
    """All events as TensorBoard reads them: files by name, and a start hides what was there from its step on."""
    shown = []
    for file in sorted(folder.glob("*tfevents*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            size, crc = struct.unpack_from("<QI", data, place)
            body = data[place + 12:place + 12 + size]
            last, = struct.unpack_from("<I", data, place + 12 + size)
            for part, wanted in ((data[place:place + 8], crc), (body, last)):
                plain = crc32c(part)
                assert (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF == wanted
            place += 16 + size
            event = event_pb2.Event.FromString(body)
            if event.session_log.status == event_pb2.SessionLog.START:
                shown = [each for each in shown if each.step < event.step]
            elif event.HasField("summary"):
                shown.append(event)
    return shown


def curves(folder):
    """{name: {step: value}}; a step that stands there twice fails."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            curve = found.setdefault(value.tag, {})
            assert event.step not in curve, (value.tag, event.step)
            curve[event.step] = value.simple_value
    return found


def watch(step, params, rows):
    return {"held_out_accuracy": step / 16}


@pytest.mark.parametrize("dies", [(), (1,), (5,), (9, 9, 14)])
def test_tensorboard_has_every_step_once_after_kills_between_checkpoints(toy, tmp_path, dies):
    """Checkpoints come after 3, 6, 9, ...; what an unplugged machine leaves of the files is not closed."""
    left = list(dies)

    def draw(number, params):
        if left and number == left[0]:
            left.pop(0)
            raise KeyboardInterrupt
        return toy.batch_at(number, params)

    options = {"watch": watch, "watch_every": 4, "batch_at": draw, "learning_rate": lambda step: step / 100}
    for _ in dies:
        with pytest.raises(KeyboardInterrupt):
            toy.run(tmp_path, **options)
    toy.run(tmp_path, **options)
    found, rows = curves(tmp_path / "tensorboard"), metrics.read(tmp_path / "metrics.jsonl")
    assert list(found["grad_norm"]) == [row["step"] for row in rows if row.get("grad_norm", 0) >= 0 and row["step"]]
    for row in rows:
        for name, value in row.items():
            if name != "step" and value == value:
                assert found[name][row["step"]] == pytest.approx(value, rel=1e-6), name
    assert list(found["held_out_accuracy"]) == [0, 4, 8, 12, 16]
    assert found["learning_rate"] == pytest.approx({step: step / 100 for step in range(1, 17)})
    assert "unseen" not in found and "step" not in found


def test_what_is_saved_is_on_disk_before_its_checkpoint(tmp_path):
    """No thread writes later, as tensorboardX's own writer does: a killed process loses no step before a checkpoint."""
    writer = metrics.Writer(tmp_path, label="t", first_step=0, num_steps=9)
    for step in (1, 2, 3):
        writer.write(metrics.row(step, {"reward": step}), num_tokens=50, keep=step == 3)
    found = curves(tmp_path / "tensorboard")  # not closed yet
    assert found["reward"] == {1: 1.0, 2: 2.0, 3: 3.0} and set(found["tokens_per_second"]) == {1, 2, 3}
    writer.close()


def test_curves_say_what_they_are_and_times_stay_out_of_the_lines(tmp_path):
    writer = metrics.Writer(tmp_path, label="t", first_step=0, num_steps=9, learning_rate=lambda step: 1e-3)
    for step in (1, 2):
        writer.write(metrics.row(step, {"surprise": 0.5}), num_tokens=50)
    writer.close()
    said = [value.metadata.summary_description for event in events(tmp_path / "tensorboard")
            for value in event.summary.value if value.tag == "surprise"]
    assert "nats a token" in said[0] and said[1] == ""
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0]) == {"step": 1, "surprise": 0.5}


ROW = {"no_signal": 0.0, "grad_norm": 0.5, "loss": -1e-9, "skipped": 0.0, "reward": 0.8125, "clipped": 0.01,
       "right": 0.875, "unparsed": 0.0, "tokens": 26.04, "draws": 1.0, "surprise": 0.3}


def test_the_line_has_what_matters_first_and_not_all():
    assert progress.shown(ROW) == ["reward 0.812", "right 87.5%", "tokens 26", "unparsed 0.0%", "surprise 0.3",
                                   "grad_norm 0.5"]
    assert progress.shown({"grad_norm": 2.0, "loss": 0.7, "skipped": 1.0}) == ["loss 0.7", "grad_norm 2", "skipped 1"]
    every = dict.fromkeys(progress.ORDER, 1.0)
    assert len(progress.shown(every)) == progress.MOST
    mixed = {"reward": 0.5, "ranking/right": 0.25, "judging/tokens": 9.0, "judging/right": 0.75}
    assert progress.shown(mixed) == ["reward 0.5", "ranking/right 25.0%", "judging/right 75.0%"]


def test_elsewhere_than_on_a_terminal_it_is_a_line_each_so_many_seconds(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    line = progress.Line("rl", first=0, total=5, every=5.0)
    line.step(1, ROW, 1234.5)
    line.step(2, ROW, 1234.5)
    line.watched(2, {"held_out_accuracy": 0.871, "held_out_accuracy_stderr": 0.0102, "held_out_tokens": 25.0})
    line.step(3, ROW, None)
    line.step(4, ROW, None)
    line.step(5, ROW, None)
    metrics_said = "reward 0.812, right 87.5%, tokens 26, unparsed 0.0%, surprise 0.3, grad_norm 0.5"
    assert capsys.readouterr().err.splitlines() == [
        f"rl: step 2/5, 9 s left, {metrics_said}, 1,234 tokens/s",
        "rl: step 2/5: held_out_accuracy 87.1% +- 1.0%, held_out_tokens 25",
        f"rl: step 4/5, 3 s left, held_out_accuracy 87.1% +- 1.0% at 2, {metrics_said}",
        f"rl: step 5/5, 0 s left, held_out_accuracy 87.1% +- 1.0% at 2, {metrics_said}"]


def test_on_a_terminal_it_is_written_over_and_other_lines_stand_free(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    clock = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    line = progress.Line("rl", first=0, total=5, every=5.0)
    line.step(1, ROW, None)
    line.step(2, ROW, None)
    line.say("saved")
    line.close()
    first, second = "rl: step 1/5, 4 s left, reward 0.812, ri", "rl: step 2/5, 3 s left, reward 0.812, ri"
    assert capsys.readouterr().err == f"\r{first[:39]}\x1b[K\r{second[:39]}\x1b[K\nsaved\n"
