"""The labelling page: hostile text stays text, and in a real browser keys label, and the export is labels."""

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from libra_jax import records
from libra_jax.bench import labelling
from libra_jax.bench.audit import Item, Opinion
from libra_jax.records import HumanLabel

EVIL = ("</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'><!--<script>%%data%% "
        "\u2028 ${window.pwned = 3} `\"'\\")


def item(number, text="r", **kwargs):
    fields = {"id": f"p{number}/m/{number}", "problem_id": f"p{number}", "policy": "m", "sample": number,
              "source": "s", "question": text, "response": text, "reference": text, "correct": number % 2 == 0,
              "decided_by": "rule", "why": text, "kind": "rule says correct, all judges disagree", "weight": 2.0,
              "opinions": (Opinion(judge=text, verdict="incorrect", votes=(0, 1, 0), thought=text),)}
    return Item(**fields | kwargs)


def write(folder, items, title="T", show_reference=True):
    labelling.write(folder / "label.html", title=title, items=items, show_reference=show_reference)
    return folder / "label.html"


class Scripts(html.parser.HTMLParser):
    """Collects start tags, and what stands in script and style elements."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.inside = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inside.append(data)


def test_text_of_models_is_data(tmp_path):
    page = write(tmp_path, [item(0, EVIL)], title=EVIL).read_text()
    found = Scripts(page)
    assert [tag for tag, _ in found.tags].count("script") == 2 and "img" not in [tag for tag, _ in found.tags]
    assert not re.search(r"https?://", page) and page.count("<title>") == 1
    style, data, script = found.inside
    shown = json.loads(data)
    assert "<" not in data and shown["title"] == EVIL
    assert {shown["items"][0][name] for name in ("question", "response", "reference")} == {EVIL}
    (policy,) = [attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    for kind, text in (("style", style), ("script", script)):
        hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{hashed}'" in policy


def test_the_reference_is_shown_where_it_may_be(tmp_path):
    assert "secret" in write(tmp_path, [item(0, reference="secret")]).read_text()
    assert "secret" not in write(tmp_path, [item(0, reference="secret")], show_reference=False).read_text()


def test_equal_items_give_equal_bytes_and_others_another_key(tmp_path):
    def key(page):
        return re.search(r'data-key="(\w+)"', page)[1]

    first, again = (write(tmp_path, [item(0), item(1)]).read_text() for _ in range(2))
    assert first == again and key(first) != key(write(tmp_path, [item(1), item(0)]).read_text())


def test_long_text_is_cut_and_says_so(tmp_path):
    page = write(tmp_path, [item(0, response="x" * (labelling.LONGEST + 1500))]).read_text()
    assert "[... 1,500 more characters]" in page


class Browser:
    """Headless Chromium, driven by its DevTools protocol over two pipes: no port, and nothing to install."""

    def __init__(self, folder):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._buffer, self._number, self.session = b"", 0, None
        program = shutil.which("chromium") or shutil.which("google-chrome")
        words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
                 f"--user-data-dir={folder / 'profile'}", "--window-size=1200,800", "about:blank"]
        self.process = subprocess.Popen(  # Chromium reads descriptor 3 and writes descriptor 4
            ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", *words], pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                part = os.read(self._read, 1 << 16)
                assert part, "the browser has gone"
                self._buffer += part
            answer, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path):
        self.call("Page.navigate", url=path.as_uri())
        wait(lambda: self.value("document.readyState === 'complete' && location.protocol === 'file:'"))

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self, name):
        return self.value(f"document.getElementById('{name}').textContent")

    def keys(self, *keys):
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)


def wait(ready, seconds=20):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def browser(tmp_path):
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("neither chromium nor google-chrome is on the PATH")
    opened = Browser(tmp_path)
    yield opened
    opened.close()


def test_three_are_labelled_by_keys_and_exported(browser, tmp_path):
    page = write(tmp_path, [item(number, EVIL if number == 1 else f"text {number}") for number in range(4)])
    browser.open(page)
    assert browser.text("place") == "1 of 4" and browser.text("response") == "text 0"
    assert "Hidden" in browser.text("said") and "rule" not in browser.text("said")
    browser.keys("c")
    assert "rule: correct" in browser.text("said") and "text 0: incorrect" in browser.text("said")
    browser.keys("n", *"cx u!", "Enter")  # in a note the keys are letters
    assert browser.value("document.activeElement.id") == "main"  # which Page Down scrolls
    browser.keys("ArrowRight")
    assert browser.text("response") == EVIL and "Hidden" in browser.text("said")
    browser.keys("r")
    assert "incorrect" in browser.text("said") and browser.text("count") == "1 labelled, 3 left"
    browser.keys("c", "X", "Enter", "u", "ArrowRight", "x", "x", "ArrowLeft")  # a label again takes it back
    assert browser.text("place") == "3 of 4" and browser.text("count") == "3 labelled, 1 left"
    browser.open(page)
    assert browser.text("place") == "3 of 4" and browser.text("count") == "3 labelled, 1 left"  # kept
    browser.keys("e")
    wait((tmp_path / "labels.jsonl").is_file)
    assert list(records.read(tmp_path / "labels.jsonl", HumanLabel)) == [
        HumanLabel(problem_id="p0", policy="m", sample=0, correct=True, note="cx u!"),
        HumanLabel(problem_id="p1", policy="m", sample=1, correct=False),
        HumanLabel(problem_id="p2", policy="m", sample=2, correct=None)]
    assert browser.value("window.pwned") is None


def test_a_script_from_elsewhere_does_not_run(browser, tmp_path):
    page = write(tmp_path, [item(0)])
    page.write_text(page.read_text().replace("</body>", "<script>window.pwned = 1</script></body>"))
    browser.open(page)
    assert browser.text("place") == "1 of 1" and browser.value("window.pwned") is None
