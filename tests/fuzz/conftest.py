"""The hostile corpus, and how many examples hypothesis draws: few, always the same ones; with --slow many."""

import importlib.util
import pathlib
import time

import hypothesis
import pytest


def pytest_configure(config):
    slow = config.getoption("--slow")
    hypothesis.settings.register_profile(
        "libra", max_examples=1_000 if slow else 60, derandomize=not slow, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck))
    hypothesis.settings.load_profile("libra")


def _load(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_server = _load(pathlib.Path(__file__).parents[1] / "chat_server.py")
chat, server = _server.chat, _server.server


@pytest.fixture(scope="session")
def canary(tmp_path_factory) -> pathlib.Path:
    """A file that is there when something of the corpus was run."""
    return tmp_path_factory.mktemp("canary") / "it_ran"


@pytest.fixture(scope="session")
def corpus(canary, request) -> dict[str, str]:
    """The cases of hostile.py by name, up to 100,000 characters of each."""
    longest = None if request.config.getoption("--slow") else 100_000
    cases = _load(pathlib.Path(__file__).with_name("hostile.py")).corpus(str(canary))
    return {name: text[:longest] for name, text in cases.items()}


@pytest.fixture(autouse=True)
def nothing_ran(canary):
    """After every test: nothing of the corpus was executed."""
    yield
    assert not canary.exists()


@pytest.fixture
def bounded():
    """Asserts that a call ends within some seconds of this process's own time, whoever else is at work."""
    def call(seconds, name, function, *args):
        start = time.process_time()
        result = function(*args)
        assert time.process_time() - start < seconds, name
        return result

    return call
