"""The load test, against a server that refuses, answers, and answers differently."""

import importlib.util
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("chat_server", ROOT / "tests/chat_server.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


def load(answer):
    server = _module.start()
    server.answer = answer
    try:
        return subprocess.run(
            [sys.executable, "benchmarks/serve.py", f"--url={server.url}", "--clients=4", "--requests=30",
             "--distinct=6", "--votes=2"], cwd=ROOT, capture_output=True, text=True, check=False), server
    finally:
        _module.stop(server)


def scored(score):
    return {"scores": [score], "usage": {"completion_tokens": 7}}


def test_refused_requests_are_asked_again_and_none_is_lost():
    def answer(request, handler):
        with handler.server.lock:
            busy = len(handler.server.requests) % 4 == 0
        return (429, {"Retry-After": "0"}, b"") if busy else scored(1.0)

    done, server = load(answer)
    assert done.returncode == 0, done.stderr
    assert "4 clients, 30 requests of 2 votes" in done.stdout
    assert ", 0 lost, 0 of 6 pairs with two answers" in done.stdout
    assert "429: " in done.stdout and len(server.requests) > 30
    assert len({json.dumps(request["items"]) for request in server.requests}) == 6


def test_lost_and_unlike_answers_are_told():
    done, _ = load(lambda request, handler: (500, {}, b"{}"))
    assert done.returncode == 1 and "30 lost" in done.stdout
    done, _ = load(lambda request, handler: scored(len(handler.server.requests) / 100))
    assert done.returncode == 1 and "6 of 6 pairs with two answers" in done.stdout
