"""The how-tos are run as a reader would, block after block, and print what they show; the rule is in pages.py.

`libra` runs in this process, since that saves loading JAX for each command; `libra serve` and `python` in their own.
Port 8000 of the pages becomes a free one. A page that begins where another ends says so by a link ("After [..](..)"),
and is run after it in the same folder.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import pages
import pytest
from pages import HOWTOS, ROOT

from libra_jax.stages import cli

AFTER = re.compile(r"^After \[[^]]+\]\((\w+\.md)\)", re.MULTILINE)
FIRST = {page: AFTER.search(page.read_text(encoding="utf-8")) for page in HOWTOS}
CHAINS = [[first, *(page for page in HOWTOS if FIRST[page] and FIRST[page][1] == first.name)]
          for first in HOWTOS if not FIRST[first]]


def pattern(shown, numbers_differ):
    """What is shown as a regular expression: any white space is one, `...` anything; numbers may differ."""
    parts = []
    for part in re.split(r"\s*\.\.\.\s*", shown.strip()):
        text = r"\s+".join(re.escape(word) for word in part.split())
        parts.append(re.sub(r"(\d|\\?[.,](?=\d))+", r"[\\d.,]+", text) if numbers_differ else text)
    return re.compile(r".*?".join(parts), re.DOTALL)


class Reader:
    """Types a page's blocks in a folder that looks like a checkout."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys, self.servers = folder, capsys, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        for name in ("libra_jax", "configs", "launch"):
            (folder / name).symlink_to(ROOT / name)

    def read(self, page):
        ran = 0
        for block in pages.blocks(page):
            text = block.text.replace(":8000", f":{self.port}")
            if block.note("file"):
                (self.folder / block.note("file")).write_text(text + "\n", encoding="utf-8")
            elif block.is_console and not block.note("needs"):
                for command in pages.commands(text):
                    said = self.type(command.words)
                    assert pattern(command.shown, block.note("numbers differ")).search(said), (
                        f"{block}: {command.text}\nshows\n{command.shown}\nand prints\n{said}")
                    ran += 1
        return ran

    def type(self, words):
        if words[:2] == ["libra", "serve"]:
            return self.serve([*words[1:], f"--config.port={self.port}"])
        if words[0] == "libra":
            status = cli.main(words)
            said = "".join(self.capsys.readouterr())
            assert (status == 2) == ("error: " in said), (words, status, said)
            return said
        assert words[0] == "python", f"{words[0]}: a how-to runs libra and python alone"
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=100, check=False,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def serve(self, words):
        command = [sys.executable, "-m", "libra_jax.stages.cli", *words]
        with open(self.folder / "server", "w") as said:
            self.servers.append(subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT,
                                                 env=os.environ | {"PYTHONPATH": str(ROOT)}))
        end = time.monotonic() + 200
        while time.monotonic() < end and "http://" not in (self.folder / "server").read_text():
            assert self.servers[-1].poll() is None, (self.folder / "server").read_text()
            time.sleep(0.1)
        return (self.folder / "server").read_text()

    def leave(self):
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            assert server.wait(timeout=60) == 0


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "+".join(page.stem for page in chain))
def test_a_howto_does_what_it_says(chain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path, capsys)
    try:
        ran = {page.stem: reader.read(page) for page in chain}
    finally:
        reader.leave()
    blocks = [block for page in chain for block in pages.blocks(page)]
    assert all(ran.values()) or all(block.note("needs") for block in blocks if block.is_console), ran


def test_every_chain_holds_each_page_once():
    assert sorted(page for chain in CHAINS for page in chain) == HOWTOS and len(HOWTOS) >= 8


def test_what_is_shown_must_be_printed():
    assert pattern("a=1 ... b\nc", False).search("so a=1\nx\nb c")
    assert not pattern("a=1", False).search("a=2") and pattern("a=1,000.5", True).search("a=2")
    assert not pattern("error: a", True).search("error: b")


def test_words_are_as_a_shell_takes_them():
    (command,) = pages.commands("$ libra x \\\n    --a='b c'")
    assert command.words == shlex.split("libra x --a='b c'")
