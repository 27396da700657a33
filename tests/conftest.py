"""Eight host devices on a CPU for every test, slow tests on demand, and the folder of real data, where there is one."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # tests compile more than they run
    " --xla_llvm_disable_expensive_passes=true"
)

import pytest


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too (minutes)")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; give --slow"))


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Real problems, rollouts and tokenizers; LIBRA_SHARED says where."""
    folder = pathlib.Path(os.environ.get("LIBRA_SHARED", pathlib.Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LIBRA_SHARED")
    return folder
