"""Every mistake of docs/mistakes.md, made in process, is answered as the page shows: it cannot go stale.

The page is the table: under each heading a command behind "% " and the answer. The fixture `files` is what its commands
find, and PREPARED what else must be so for a heading. LIBRA_MISTAKES=FILE puts the answers of today into that page.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from libra_jax.stages import cli

PAGE = pathlib.Path(__file__).parents[2] / "docs/mistakes.md"
SECTIONS = re.findall(r"^### (.+)\n\n((?: {4}.*\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write("2026-01-01 12:00:00 --- libra sft --workdir=runs (process 7 on host)\\n")
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def parts(block):
    """The command of a section, and its answer with lines joined."""
    command, _, answer = "".join(line[4:] + "\n" for line in block.splitlines()).replace("\\\n", "").partition("\n")
    return command.removeprefix("% "), " ".join(answer.split())


def full(monkeypatch, error=errno.ENOSPC):
    """Files that are put in their place fail, as a full disk would make them."""
    def replace(self, target):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(pathlib.Path, "replace", replace)


def forbidden(monkeypatch):
    """Folders may not be made; root may do what others may not, so it is only played."""
    def mkdir(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(pathlib.Path, "mkdir", mkdir)


@contextlib.contextmanager
def held(folder):
    """Another process works in runs/held."""
    (folder / "runs/held").mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder / "runs/held/log.txt"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.stdin.close()


def no_network(monkeypatch):
    """What the Hub's client says where it reaches nobody."""
    hub = pytest.importorskip("huggingface_hub")

    def download(*_, **__):
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr(hub, "snapshot_download", download)


def no_tpu(monkeypatch):
    """What JAX says where JAX_PLATFORMS asks for what is not there (it had asked before this test)."""
    def devices(*_):
        raise RuntimeError("Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed: No TPUs found.")

    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setattr("jax.devices", devices)


def small(monkeypatch):
    """Devices whose memory is too small."""
    def load(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.")

    monkeypatch.setattr("libra_jax.model.hf.load", load)


PREPARED = {"A full disk": full, "A folder that you may not write": forbidden, "No TPU where one is asked for": no_tpu,
            "A model that is too large for the devices": small, "No network for the Hub": no_network}


def answer(title, command, folder, monkeypatch, capfd):
    """(exit status, what is said on stderr) of a command in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    shutil.rmtree(folder / "runs/x", ignore_errors=True)
    if title in PREPARED:
        PREPARED[title](monkeypatch)
    with held(folder) if "runs/held" in command else contextlib.nullcontext():
        status = cli.main(shlex.split(command))
    said = " ".join(capfd.readouterr().err.split())
    return status, said[max(0, said.find("error: ")):].replace(str(folder), "/home/you")  # without the progress before


@pytest.mark.parametrize(("title", "block"), SECTIONS, ids=[title for title, _ in SECTIONS])
def test_a_mistake_is_answered_as_the_page_shows(title, block, files, monkeypatch, capfd):
    command, shown = parts(block)
    status, said = answer(title, command, files, monkeypatch, capfd)
    if os.environ.get("LIBRA_MISTAKES"):
        rewrite(pathlib.Path(os.environ["LIBRA_MISTAKES"]), title, said)
        return
    assert said == shown
    assert status == 2 and "Traceback" not in said and "error: " in said


def rewrite(page, title, said):
    """Puts today's answer into the section of a page."""
    import textwrap

    text = page.read_text(encoding="utf-8")
    start = text.index("\n", text.index("    % ", text.index(f"### {title}\n")))
    while text[start - 1] == "\\":
        start = text.index("\n", start + 1)
    end = text.find("\n\n", start)
    lines = textwrap.wrap(said, 116, break_on_hyphens=False, break_long_words=False)
    page.write_text(text[:start + 1] + "\n".join(f"    {line}" for line in lines) + text[end:], encoding="utf-8")


def test_the_page_has_the_mistakes_that_people_make():
    assert len(SECTIONS) >= 30
    assert set(PREPARED) <= {title for title, _ in SECTIONS}


def test_debug_shows_the_traceback_too(files, monkeypatch, capfd):
    monkeypatch.chdir(files)
    assert cli.main(["libra", "judge", "--workdir=runs/x", "--config.examples=nothing", "--config.judge=always_correct",
                     "--debug"]) == 2
    assert "Traceback" in capfd.readouterr().err
