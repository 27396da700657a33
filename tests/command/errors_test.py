"""Which errors are the user's, also where the package is installed among the libraries."""

import json
import pathlib

import pytest

from libra_jax.command import errors
from libra_jax.judging import prompt


def raised(call) -> Exception:
    with pytest.raises(ValueError) as found:
        call()
    return found.value


@pytest.mark.parametrize("installed", [False, True])
def test_what_this_package_says_is_a_mistake_and_what_a_library_says_is_none(installed, monkeypatch):
    if installed:
        home = pathlib.Path(errors.__file__).parents[2]
        monkeypatch.setattr(errors, "_LIBRARIES", {*errors._LIBRARIES, str(home)})
    assert errors.is_mistake(raised(lambda: prompt.load_template("nope")))
    assert not errors.is_mistake(raised(lambda: json.loads("{")))
