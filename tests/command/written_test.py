"""What a run has written, in words."""

from __future__ import annotations

import os
import sys
import time

from libra_jax.command import written


def made(folder):
    (folder / "export").mkdir(parents=True)
    (folder / "export/config.json").write_text("{}")
    (folder / "export/model.safetensors").write_bytes(bytes(2500))
    (folder / "metrics.jsonl").write_text("x" * 900)
    (folder / "old.json").write_text("{}")
    os.utime(folder / "old.json", (1, 1))
    for name in ("log.txt", "run_config.json", "export.config.json"):
        (folder / name).write_text("{}")


def test_what_is_new_is_told_in_a_line(tmp_path, capsys):
    start = time.time()
    made(tmp_path / "w")
    written.tell("sft", tmp_path / "w", start)
    assert capsys.readouterr().err == f"done in 0.0 s: libra sft wrote export/, metrics.jsonl to {tmp_path / 'w'}\n"


def test_on_a_terminal_each_has_its_size(tmp_path, capsys, monkeypatch):
    start = time.time()
    made(tmp_path / "w")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    written.tell("sft", tmp_path / "w", start - 125)
    assert capsys.readouterr().err == (f"done in 2 min 5 s: libra sft wrote to {tmp_path / 'w'}:\n"
                                       "  export/           2.5 kB, 2 files\n  metrics.jsonl      900 B\n")


def test_a_run_that_was_done_already_says_so(tmp_path, capsys):
    made(tmp_path / "w")
    written.tell("sft", tmp_path / "w", time.time() + 60)
    assert "wrote nothing new: an earlier run had done it all" in capsys.readouterr().err
