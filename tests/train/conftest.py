"""The toy run, which is also a program of its own."""

import importlib.util
import pathlib

import pytest


@pytest.fixture(scope="session")
def toy():
    spec = importlib.util.spec_from_file_location("toy_runs", pathlib.Path(__file__).with_name("toy_runs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
